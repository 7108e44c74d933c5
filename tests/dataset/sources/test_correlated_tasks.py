"""Related regressions: the angle is that asked for, the shape is shared, the numbers reach a network unchanged."""

import numpy as np
import pytest

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.example_rows import examples_of
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.dataset.sources.correlated_tasks import CorrelatedTasksConfig, correlated_tasks
from moerec.dataset.splits import SplitConfig
from moerec.features.spec import FeatureSpec
from moerec.nn.example_inputs import ExampleInputs, ExampleInputsConfig

ANGLES = (-1.0, -0.4, 0.0, 0.5, 0.9, 1.0)


def weights(**settings) -> np.ndarray:
    """The two weight vectors, found from labels that are linear."""
    x, *labels = correlated_tasks(400, sines=0, noise=0, **settings)
    found, residuals, rank, _ = np.linalg.lstsq(x.astype(np.float64), np.stack(labels, axis=1), rcond=None)
    assert rank == x.shape[1]
    assert residuals.max() < 1e-18
    return found.T


@pytest.mark.parametrize("correlation", ANGLES)
def test_the_angle_and_the_length_of_the_weights_are_those_asked_for(correlation):
    first, second = weights(dimensions=30, correlation=correlation, scale=2.5)
    assert np.linalg.norm(first) == pytest.approx(2.5)
    assert np.linalg.norm(second) == pytest.approx(2.5)
    assert first @ second / 2.5**2 == pytest.approx(correlation, abs=1e-12)


@pytest.mark.parametrize("sines", [1, 6])
def test_both_labels_are_one_function_of_their_linear_form(sines):
    settings = {"dimensions": 5, "correlation": 0.3, "seed": 4}
    x, *labels = correlated_tasks(4000, sines=sines, noise=0, **settings)
    linear = np.concatenate([x @ each for each in weights(**settings)])  # [2 * N]
    values = np.concatenate(labels)
    assert np.abs(values - linear).max() <= sines
    assert np.abs(values - linear).max() > 0.9 * min(sines, 1)
    # Neighbours on the line have neighbouring labels, whichever task they are of; a frequency is at most 2.5.
    order = np.argsort(linear)
    steps = np.diff(values[order]) / np.maximum(np.diff(linear[order]), 1e-4)
    assert np.abs(steps).max() < 1 + 2.5 * sines + 0.1


def test_the_correlation_of_labels_grows_with_that_of_the_weights():
    found = []
    for correlation in ANGLES:
        _, y1, y2 = correlated_tasks(20_000, 10, correlation, noise=0)
        found.append(np.corrcoef(y1, y2)[0, 1])
    assert found == sorted(found)
    assert abs(found[2]) < 0.03
    assert found[-1] == pytest.approx(1)


def test_noise_is_added_to_each_label_on_its_own():
    (_, *clean), (_, *noisy) = (correlated_tasks(20_000, 3, noise=noise) for noise in (0, 0.1))
    noise = np.stack(noisy) - np.stack(clean)
    assert noise.std(axis=1) == pytest.approx(0.1, rel=0.02)
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03


def test_more_rows_begin_with_the_same_ones_and_another_seed_is_another_function():
    few, many, other = correlated_tasks(20, 4), correlated_tasks(50, 4), correlated_tasks(20, 4, seed=1)
    for one, more, different in zip(few, many, other, strict=True):
        np.testing.assert_array_equal(one, more[:20])
        assert not np.array_equal(one, different)


def test_the_numbers_of_a_row_reach_the_network_as_they_are():
    config = CorrelatedTasksConfig(rows=60, dimensions=7)
    x, y1, _ = config.arrays()
    dataset = Dataset.from_raw(config.read(), "tasks")
    dataset.validate()
    dataset.add_split("main", SplitConfig(kind="ratio"))
    specs = [
        FeatureSpec(name=f"x{number + 1}", kind="dense", side="user", transform="none", squash=False)
        for number in range(7)
    ]
    builder = ExampleBuilder.fit(dataset, "main", specs=specs, use_user_id=False, use_item_id=False)
    examples = examples_of(dataset, "main", Part.TRAIN, ["y1", "y2"])
    table = builder.build(examples)
    inputs = ExampleInputs(builder.schema, ExampleInputsConfig())
    read = inputs(table.batch(np.arange(len(table)))).numpy()
    rows = examples["user"].to_numpy()
    np.testing.assert_array_equal(read[:, :7], x[rows])
    assert not read[:, 7:].any(), "nothing is missing"
    np.testing.assert_array_equal(table.labels["y1"], y1[rows])
