"""Uncertainty weighting: the likelihood, its optimum, and gradients from the first update on."""

import pytest
import torch
from torch import nn

from moerec.tasks import TaskConfig
from tests.losses.weighting.updates import build, optimise, tasks, update_of

MIXED = (
    TaskConfig(name="like", label="like"),
    TaskConfig(name="rating", label="rating", type="regression"),
    TaskConfig(name="hours", label="hours", type="regression", loss="huber"),
)


def test_the_loss_is_the_likelihood_written_out():
    """exp(-s) L + s / 2, and half of the first term for a squared error."""
    x, variances = nn.Parameter(torch.tensor([1.0, 2.0, 3.0])), torch.tensor([0.5, 2.0, 4.0])
    weighting = build("uncertainty", MIXED)
    weighting.log_variances.data = variances.log()
    sums = {task.name: 10 * x[place].square() for place, task in enumerate(MIXED)}
    weighting.backward(update_of(sums, {"like": 10, "rating": 5, "hours": 1}, [x], is_logged=True))
    means = torch.tensor([1.0, 2 * 4.0, 10 * 9.0])
    factors = torch.tensor([1.0, 0.5, 1.0]) / variances
    torch.testing.assert_close(weighting.log_variances.grad, -factors * means + 0.5)
    torch.testing.assert_close(x.grad, factors * torch.tensor([1.0, 2.0, 10.0]) * 2 * x.detach())
    recorded = weighting.record()["weights"]
    assert recorded == pytest.approx(dict(zip(recorded, factors.tolist(), strict=True)))


def test_constant_losses_get_the_weight_of_their_optimum():
    losses = {"like": torch.tensor(0.3), "rating": torch.tensor(0.8), "hours": torch.tensor(4.0)}
    losses = {name: loss.requires_grad_() for name, loss in losses.items()}
    weighting = build("uncertainty", MIXED, learning_rate=0.03)
    optimise(weighting, lambda: {name: loss * 1 for name, loss in losses.items()}, [], steps=300)
    for name, weight in weighting.record()["weights"].items():
        assert weight == pytest.approx(1 / (2 * float(losses[name].detach())), rel=0.01)


def test_the_variance_of_a_regression_is_that_of_its_noise():
    torch.manual_seed(0)
    x = torch.randn(5000)
    targets = torch.stack([2 * x + 0.5 * torch.randn(5000), -x + 3 * torch.randn(5000)])
    slopes = nn.Parameter(torch.zeros(2))
    weighting = build("uncertainty", tasks("quiet", "loud"), learning_rate=0.05)

    def losses() -> dict[str, torch.Tensor]:
        errors = (slopes[:, None] * x - targets).square().mean(1)
        return {"quiet": errors[0], "loud": errors[1]}

    optimise(weighting, losses, [slopes], steps=300, learning_rate=0.05)
    torch.testing.assert_close(weighting.log_variances.exp().sqrt(), torch.tensor([0.5, 3.0]), rtol=0.03, atol=0)


@pytest.mark.parametrize("size", [1e-4, 0.7, 1e4])
def test_the_first_update_moves_every_weight(size):
    """No clamp stands between a loss of any size and the variances."""
    losses = {task.name: torch.tensor(size, requires_grad=True) for task in MIXED}
    weighting = build("uncertainty", MIXED)
    optimise(weighting, lambda: {name: loss * 1 for name, loss in losses.items()}, [], steps=1)
    assert (weighting.log_variances != 0).all()


def test_a_task_without_a_row_keeps_its_variance():
    x = nn.Parameter(torch.ones(3))
    weighting = build("uncertainty", MIXED)
    sums = {task.name: x[place] * (task.name != "rating") for place, task in enumerate(MIXED)}
    weighting.backward(update_of(sums, {"like": 3, "rating": 0, "hours": 5}, [x]))
    assert weighting.log_variances.grad[1] == 0
    assert (weighting.log_variances.grad[[0, 2]] != 0).all()
