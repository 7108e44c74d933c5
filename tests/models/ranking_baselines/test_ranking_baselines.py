"""What every registered baseline of ranking must keep."""

from dataclasses import replace

import numpy as np
import pytest

from moerec.batches.examples import Gathered
from moerec.config import discover, implementations
from moerec.models.baselines.base import Choice, Range
from moerec.models.ranking_baselines import base
from moerec.tasks import Target, TaskStatistics

from .tables import KIND, LIKE, RATING, SIZES, SPECS, STARS, fit, make_table, plain_table, target_of

KINDS = sorted(implementations("ranking_baseline"))
SETTINGS = {
    "means": {},
    "logistic_regression": {"components": 3, "minimum_count": 2},
    "gradient_boosting": {"components": 3, "iterations": 8, "leaf_rows": 5, "feature_share": 0.5},
}
TRAIN, OTHERS = np.arange(0, 140), np.arange(140, 200)
every_task = pytest.mark.parametrize("task", [LIKE, RATING, STARS, KIND], ids=lambda task: task.name)


@pytest.fixture(params=KINDS)
def config(request):
    """Each baseline with settings that use every input it has."""
    return discover("ranking_baseline", {"kind": request.param} | SETTINGS[request.param])


@every_task
def test_rows_that_are_not_train_change_nothing(config, task):
    table = make_table()
    wanted = fit(config, table, TRAIN, task).predict(table, TRAIN)
    generator = np.random.default_rng(5)
    columns = {}
    for spec in SPECS:
        values = table.column(spec.name, np.arange(len(table))).copy()
        values[OTHERS] = values[OTHERS] * 3 if spec.kind in ("dense", "vector") else values[OTHERS] % 2
        columns[spec.name] = values
    labels = table.labels["rating"].copy()
    labels[OTHERS] = generator.integers(1, 6, len(OTHERS))
    users, items = table.users.copy(), table.items.copy()
    users[OTHERS], items[OTHERS] = 99, 98
    present = {
        name: (column.take(np.arange(len(table))) if isinstance(column, Gathered) else column.copy())
        for name, column in table.present.items()
    }
    for values in present.values():
        values[OTHERS] = False
    changed = replace(table, columns=columns, labels={"rating": labels}, users=users, items=items, present=present)
    # Columns that were looked up now lie as they are, and are added up in another order.
    np.testing.assert_allclose(fit(config, changed, TRAIN, task).predict(changed, TRAIN), wanted, rtol=1e-9)


@every_task
def test_masked_rows_count_nowhere(config, task):
    table = make_table()
    target = target_of(table, task)
    mask = target.mask.copy()
    mask[100:140] = False
    hidden = Target(np.where(mask, target.values, 0), mask, target.classes)
    wanted = fit(config, table, np.arange(100), task).predict(table, OTHERS)
    statistics = TaskStatistics.of(target.take(np.arange(100)))
    found = config.fit(table, TRAIN, task, hidden, statistics, 0).predict(table, OTHERS)
    np.testing.assert_array_equal(found, wanted)


@every_task
def test_a_prediction_does_not_depend_on_the_company(config, task, monkeypatch):
    table = make_table()
    predictor = fit(config, table, TRAIN, task)
    whole = predictor.predict(table, OTHERS)
    assert whole.shape == (len(OTHERS), *((task.num_classes,) if task.num_classes else ()))
    assert whole.dtype == np.float64
    assert np.isfinite(whole).all()
    assert predictor.predict(table, OTHERS[:0]).shape == (0, *whole.shape[1:])
    shuffled = np.random.default_rng(1).permutation(len(OTHERS))
    np.testing.assert_allclose(predictor.predict(table, OTHERS[shuffled]), whole[shuffled], rtol=1e-12)
    monkeypatch.setattr(base, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(predictor.predict(table, OTHERS), whole, rtol=1e-12)


@every_task
def test_it_learns(config, task):
    table = make_table(600)
    target = target_of(table, task)
    train, others = np.arange(400), np.arange(400, 600)
    found = fit(config, table, train, task).predict(table, others)
    values = np.asarray(target.classes)[target.values.astype(int)] if task.num_classes else target.values
    said = found @ np.asarray(task.values) if task.num_classes else found
    assert np.corrcoef(said[others - 400], values[others])[0, 1] > 0.2
    if task is LIKE:
        assert ((found > 0) & (found < 1)).all()
    if task.num_classes:
        np.testing.assert_allclose(found.sum(1), 1)
        assert (found >= 0).all()
        assert (found[:, task.values.index(9)] < 1e-4).all() if task is KIND else (found > 0).all()


@every_task
def test_unknown_users_items_and_codes_are_predicted(config, task):
    table = make_table()
    predictor = fit(config, table, TRAIN, task)
    ones = np.ones(len(table), np.int64)
    strange = replace(
        table,
        users=-ones,
        items=ones,
        columns=table.columns
        | {"user": ones, "device": ones * 4000, "city": ones * 4000, "genres": np.full((len(table), 5), 4000)},
    )
    assert np.isfinite(predictor.predict(strange, OTHERS)).all()
    assert np.isfinite(predictor.predict(replace(strange, users=ones * 4000, items=ones * 4000), OTHERS)).all()


@every_task
def test_labels_that_do_not_differ_give_a_constant(config, task):
    table = make_table(40)
    same = replace(table, labels={"rating": np.full(40, 5.0)})
    found = fit(config, same, np.arange(30), task).predict(same, np.arange(40))
    of_class = np.tile(np.array(task.values) == 5, (40, 1))
    np.testing.assert_array_equal(found, {"binary": 1, "regression": 5}.get(task.type, of_class))
    unknown = replace(table, labels={"rating": np.full(40, np.nan)})
    found = fit(config, unknown, np.arange(30), task).predict(unknown, np.arange(40))
    np.testing.assert_array_equal(found, np.full(found.shape, 1 / task.num_classes if task.num_classes else 0.5))


@every_task
def test_examples_without_features_are_predicted(config, task):
    table = plain_table(np.arange(60) % 7, np.arange(60) % 11 + 2, np.arange(60) % 5 + 1.0)
    assert np.isfinite(fit(config, table, np.arange(40), task).predict(table, np.arange(60))).all()


def test_equal_seeds_give_equal_predictions(config):
    table = make_table()
    first, again = (fit(config, table, TRAIN, LIKE, seed=3).predict(table, OTHERS) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_stay_in_the_search_space(kind):
    config_type = type(discover("ranking_baseline", {"kind": kind}))
    generator = np.random.default_rng(0)
    space = config_type.search_space()
    assert set(space) <= set(config_type.model_fields)
    for _ in range(100):
        config = config_type.sample(generator)
        assert config_type.model_validate(config.model_dump()) == config
        for name, values in space.items():
            value = getattr(config, name)
            if isinstance(values, Range):
                assert values.low <= value <= values.high
            else:
                assert isinstance(values, Choice)
                assert value in values.values


def test_tables_that_do_not_fit_into_memory_are_refused():
    table = make_table(20)
    refusals = {kind: type(discover("ranking_baseline", {"kind": kind})).refusal for kind in KINDS}
    assert all(refusal(table, 10_000) is None for refusal in refusals.values())
    assert refusals["means"](table, 10**9) is None
    for kind in ("logistic_regression", "gradient_boosting"):
        assert "GiB and the limit is 4 GiB" in refusals[kind](table, 10**9)


def test_trees_refuse_examples_with_nothing_to_split_by():
    specs = tuple(spec for spec in SPECS if spec.name in ("user", "history"))
    refusal = type(discover("ranking_baseline", {"kind": "gradient_boosting"})).refusal
    assert "no feature but ids" in refusal(make_table(20, specs=specs), 20)
    assert set(SIZES) == {spec.name for spec in SPECS}
