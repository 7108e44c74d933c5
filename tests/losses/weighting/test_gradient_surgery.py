"""PCGrad, CAGrad and MGDA: against the words of the papers, and on quadratics whose Pareto set is known.

Shape letters: K tasks, D numbers of a gradient.
"""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from moerec.losses.weighting.mgda import shortest_mean
from tests.losses.weighting.updates import build, optimise, tasks

NAMES = ("a", "b", "c", "d", "e")

gradients_of_tasks = st.builds(
    lambda seed, count, width, spread: (
        np.random.default_rng(seed).normal(size=(count, width))
        * 10.0 ** np.random.default_rng([seed, 1]).uniform(-spread, spread, (count, 1))
    ),
    st.integers(0, 10**6),
    st.integers(2, 5),
    st.integers(2, 6),
    st.sampled_from([0, 1, 2]),
)


def coefficients(kind: str, gradients: np.ndarray, **fields: object) -> np.ndarray:
    weighting = build(kind, tasks(*NAMES[: len(gradients)]), **fields)
    return weighting.coefficients(gradients @ gradients.T)


def literal_pcgrad(gradients: np.ndarray) -> np.ndarray:
    """Algorithm 1 of the paper, on the vectors themselves."""
    projected = []
    for one, gradient in enumerate(gradients):
        vector = gradient.copy()
        for other in torch.randperm(len(gradients)).tolist():
            if other != one and vector @ gradients[other] < 0:
                vector = vector - (vector @ gradients[other]) / (gradients[other] @ gradients[other]) * gradients[other]
        projected.append(vector)
    return np.sum(projected, axis=0)


@given(gradients_of_tasks)
@settings(max_examples=60)
def test_pcgrad_equals_the_algorithm_on_vectors(gradients):
    torch.manual_seed(7)
    expected = literal_pcgrad(gradients)
    torch.manual_seed(7)
    found = coefficients("pcgrad", gradients) @ gradients
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8 * np.abs(gradients).max())


def test_pcgrad_leaves_gradients_alone_that_do_not_conflict():
    gradients = np.abs(np.random.default_rng(0).normal(size=(4, 3)))
    np.testing.assert_array_equal(coefficients("pcgrad", gradients), np.ones(4))


def test_pcgrad_draws_the_order_of_projections():
    """With three tasks the order matters; a fixed one would favour the tasks that come last."""
    gradients = np.array([[1.0, 0.0, 0.2], [-0.6, 1.0, 0.0], [-0.6, -0.9, 0.3]])
    torch.manual_seed(0)
    assert len({tuple(coefficients("pcgrad", gradients).round(9)) for _ in range(30)}) > 1


@given(gradients_of_tasks)
@settings(max_examples=60)
def test_mgda_is_the_shortest_mean(gradients):
    """A point of a convex hull is the shortest exactly if no corner lies nearer to the origin in its direction."""
    weights = shortest_mean(gradients @ gradients.T)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    shortest, longest = weights @ gradients, np.linalg.norm(gradients, axis=1).max()
    assert (gradients @ shortest >= shortest @ shortest - 1e-7 * longest**2).all()
    np.testing.assert_allclose(coefficients("mgda", gradients), len(gradients) * weights)


@given(gradients_of_tasks)
@settings(max_examples=40)
def test_mgda_of_two_tasks_has_a_closed_form(gradients):
    one, other = gradients[:2]
    share = np.clip(other @ (other - one) / ((one - other) @ (one - other)), 0, 1)
    np.testing.assert_allclose(shortest_mean(gradients[:2] @ gradients[:2].T), [share, 1 - share], atol=1e-6)


@given(gradients_of_tasks, st.sampled_from([0.1, 0.5, 0.9]))
@settings(max_examples=60)
def test_cagrad_is_optimal_by_its_dual(gradients, c):
    """What the worst-off task gains equals the value of the dual at some weights, so nothing gains more."""
    count, mean = len(gradients), gradients.mean(0)
    found = coefficients("cagrad", gradients, c=c)
    direction, radius = found @ gradients / count, c * np.linalg.norm(mean)
    assert np.linalg.norm(direction - mean) <= radius * (1 + 1e-6)
    weights = (found - 1) / (found - 1).sum()
    assert weights.min() >= -1e-9
    bound = weights @ gradients @ mean + radius * np.linalg.norm(weights @ gradients)
    largest = np.linalg.norm(gradients, axis=1).max()
    assert (gradients @ direction).min() == pytest.approx(bound, abs=1e-5 * largest * np.linalg.norm(mean))


@pytest.mark.parametrize("seed", range(4))
def test_cagrad_gains_as_much_as_the_best_of_many_tries(seed):
    generator = np.random.default_rng(seed)
    gradients = generator.normal(size=(3, 3)) * [[1], [1], [20]]
    mean = gradients.mean(0)
    tries = generator.normal(size=(50_000, 3))
    tries = mean + 0.5 * np.linalg.norm(mean) * tries / np.linalg.norm(tries, axis=1, keepdims=True)
    best = (tries @ gradients.T).min(1).max()
    ours = (gradients @ (coefficients("cagrad", gradients) @ gradients / 3)).min()
    assert best <= ours + 1e-9 * abs(ours)
    assert ours == pytest.approx(best, rel=0.02, abs=0.02)


@given(gradients_of_tasks)
@settings(max_examples=20)
def test_cagrad_without_a_radius_is_the_sum(gradients):
    np.testing.assert_array_equal(coefficients("cagrad", gradients, c=0), np.ones(len(gradients)))


@pytest.mark.parametrize("kind", ["pcgrad", "cagrad", "mgda"])
@pytest.mark.parametrize(
    "gradients",
    [np.zeros((2, 3)), np.array([[1.0, 2.0], [-1.0, -2.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]), np.ones((3, 2))],
)
def test_degenerate_gradients_give_finite_coefficients(kind, gradients):
    assert np.isfinite(coefficients(kind, gradients)).all()


# --- two quadratics: 100 |x - (1, 0)|^2 and |x - (-1, 0.5)|^2 with a steep second coordinate


CORNERS = {"large": torch.tensor([1.0, 0.0]), "small": torch.tensor([-1.0, 0.5])}
SCALES = {"large": 100.0, "small": 1.0}
STEEP = torch.tensor([1.0, 3.0])


def losses_at(point: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name: SCALES[name] * (STEEP * (point - corner).square()).sum() for name, corner in CORNERS.items()}


@cache
def end_of_descent(kind: str) -> torch.Tensor:
    torch.manual_seed(0)
    point = nn.Parameter(torch.tensor([0.3, 1.2]))
    weighting = build(kind, tasks(*CORNERS))
    for rate in (0.06, 0.006, 0.0006):
        optimise(weighting, lambda: losses_at(point), [point], steps=70, learning_rate=rate)
    return point.detach()


@pytest.mark.parametrize("kind", ["pcgrad", "cagrad", "mgda"])
def test_descent_ends_where_no_task_gains_without_loss_of_the_other(kind):
    """The Pareto set of two quadratics of one shape is the segment between their minima."""
    point = end_of_descent(kind)
    along = ((point - CORNERS["small"]) / (CORNERS["large"] - CORNERS["small"])).tolist()
    assert along[0] == pytest.approx(along[1], abs=0.01)
    assert -0.01 < along[0] < 1.01


def test_cagrad_ends_at_the_minimum_of_the_mean_loss():
    expected = (100 * CORNERS["large"] + CORNERS["small"]) / 101
    torch.testing.assert_close(end_of_descent("cagrad"), expected, atol=2e-3, rtol=0)
