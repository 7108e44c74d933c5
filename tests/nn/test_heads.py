"""Heads start at what the train rows say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.examples import ExampleBatch
from moerec.losses.multitask import task_losses
from moerec.losses.ordinal import ordinal_log_probabilities
from moerec.nn.cutpoints import Cutpoints
from moerec.nn.heads import TaskHead, perceptron
from moerec.tasks import TaskConfig, TaskStatistics

LIKE = TaskConfig(name="like", label="like")
RATING = TaskConfig(name="rating", label="rating", type="regression")


@pytest.mark.parametrize(("share", "logit"), [(0.5, 0.0), (0.2, math.log(0.25)), (0.0, -9.21), (1.0, 9.21)])
def test_a_binary_head_of_nothing_says_the_share_of_positives(share, logit):
    head = TaskHead(LIKE, TaskStatistics(share, 1.0), 4, (3,), 0.0)
    torch.nn.init.zeros_(head.out.weight)
    torch.testing.assert_close(head(torch.randn(5, 4)), torch.full((5,), logit), atol=1e-2, rtol=0)


SHARES = st.lists(st.floats(0.0, 1), min_size=2, max_size=12).filter(lambda shares: sum(shares) > 0.1)


def of_nothing(task: TaskConfig, shares: tuple[float, ...]) -> torch.Tensor:
    """The probabilities of the classes that a head says before it reads anything."""
    head = TaskHead(task, TaskStatistics(0.5, 1.0, shares), 4, (3,), 0.0)
    torch.nn.init.zeros_(head.out.weight)
    output = head(torch.randn(5, 4)).double()
    return output.softmax(1) if task.type == "multiclass" else ordinal_log_probabilities(output).exp()


@pytest.mark.parametrize("kind", ["multiclass", "ordinal"])
@given(shares=SHARES)
@settings(max_examples=30)
def test_a_head_of_nothing_says_the_shares_of_the_classes(kind, shares):
    shares = np.array(shares) / sum(shares)
    task = TaskConfig(name="t", label="x", type=kind, values=range(len(shares)))
    found = of_nothing(task, tuple(shares.tolist()))
    np.testing.assert_allclose(found.detach(), np.tile(shares, (5, 1)), atol=2e-3)  # no class starts below 1e-4
    assert (found > 0).all()


@given(
    shares=SHARES,
    moves=st.lists(st.floats(-60, 60), min_size=11, max_size=11),
    score=st.floats(-50, 50),
)
@settings(max_examples=60)
def test_no_update_can_break_the_order_of_the_cutpoints(shares, moves, score):
    cutpoints = Cutpoints(shares)
    with torch.no_grad():
        cutpoints.first_and_steps.add_(torch.tensor(moves[: len(shares) - 1]))
    logits = cutpoints(torch.tensor([[score]]))
    assert (logits.diff(dim=1) <= 0).all()
    assert (cutpoints.double().values().diff() > 0).all()
    log_probabilities = ordinal_log_probabilities(logits).detach()
    assert torch.isfinite(log_probabilities).all()
    assert float(log_probabilities.exp().sum()) == pytest.approx(1, abs=1e-4)


def test_a_higher_score_moves_an_ordinal_head_to_higher_classes():
    task = TaskConfig(name="t", label="x", type="ordinal", values=range(4))
    head = TaskHead(task, TaskStatistics(0.0, 1.0, (0.1, 0.2, 0.3, 0.4)), 1, (), 0.0)
    torch.nn.init.ones_(head.out.weight)
    probabilities = ordinal_log_probabilities(head(torch.linspace(-4, 4, 30)[:, None])).exp()
    assert (((probabilities @ torch.arange(4.0)).diff()) > 0).all()
    assert probabilities[0].argmax() == 0
    assert probabilities[-1].argmax() == 3


def fitted(task: TaskConfig, x: torch.Tensor, labels: torch.Tensor) -> TaskHead:
    """A linear head at the optimum of the task's own loss."""
    shares = tuple((torch.bincount(labels, minlength=task.num_classes) / len(labels)).tolist())
    statistics = {task.name: TaskStatistics(0.0, 1.0, shares)}
    torch.manual_seed(0)
    head = TaskHead(task, statistics[task.name], x.shape[1], (), 0.0)
    batch = ExampleBatch(
        {"x": x}, labels={task.name: labels.float()}, masks={task.name: torch.ones(len(x), dtype=torch.bool)}
    )
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = task_losses({task.name: head(x)}, batch, [task], statistics)[task.name] / len(x)
        loss.backward()
        return loss

    optimizer.step(closure)
    return head


def test_an_ordinal_head_finds_planted_weights_and_cutpoints():
    generator = np.random.default_rng(0)
    x, weights, cuts = generator.normal(size=(20_000, 3)), np.array([2.0, -1.0, 0.0]), [-2.0, -0.5, 0.0, 3.0]
    labels = np.digitize(x @ weights + generator.logistic(size=20_000), cuts)
    task = TaskConfig(name="stars", label="x", type="ordinal", values=range(5))
    head = fitted(task, torch.from_numpy(x).float(), torch.from_numpy(labels))
    np.testing.assert_allclose(head.cutpoints.values().detach(), cuts, atol=0.12)
    np.testing.assert_allclose(head.out.weight.detach()[0], weights, atol=0.08)


def test_a_multiclass_head_finds_planted_weights():
    generator = np.random.default_rng(0)
    x, weights = generator.normal(size=(20_000, 2)), np.array([[2.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    logits = x @ weights.T + np.array([0.5, -0.5, 0.0])
    labels = (logits + generator.gumbel(size=logits.shape)).argmax(1)
    task = TaskConfig(name="kind", label="x", type="multiclass", values=range(3))
    head = fitted(task, torch.from_numpy(x).float(), torch.from_numpy(labels))
    found, bias = head.out.weight.detach().numpy(), head.out.bias.detach().numpy()
    np.testing.assert_allclose(found - found.mean(0), weights - weights.mean(0), atol=0.08)
    np.testing.assert_allclose(bias - bias.mean(), [0.5, -0.5, 0.0], atol=0.08)


def test_shares_and_values_must_fit():
    task = TaskConfig(name="stars", label="x", type="ordinal", values=range(4))
    with pytest.raises(ValueError, match="'stars': shares of 3 classes for 4 values"):
        TaskHead(task, TaskStatistics(0.0, 1.0, (0.2, 0.3, 0.5)), 1, (), 0.0)


def test_a_regression_head_speaks_in_the_unit_of_the_label():
    torch.manual_seed(0)
    plain = TaskHead(RATING, TaskStatistics(0.0, 1.0), 4, (3,), 0.0)
    scaled = TaskHead(RATING, TaskStatistics(50.0, 7.0), 4, (3,), 0.0)
    scaled.load_state_dict(plain.state_dict() | {"mean": torch.tensor(50.0), "deviation": torch.tensor(7.0)})
    x = torch.randn(5, 4)
    torch.testing.assert_close(scaled(x), 50 + 7 * plain(x))


def test_mean_and_deviation_are_saved_with_the_weights():
    head = TaskHead(RATING, TaskStatistics(50.0, 7.0), 4, (), 0.0)
    assert {name: float(head.state_dict()[name]) for name in ("mean", "deviation")} == {"mean": 50, "deviation": 7}
    assert not {"mean", "deviation"} & dict(head.named_parameters()).keys()


def test_a_perceptron_without_layers_is_the_identity():
    x = torch.randn(2, 3)
    torch.testing.assert_close(perceptron(3, (), 0.5)(x), x)
    assert perceptron(3, (8, 5), 0.0)(x).shape == (2, 5)
