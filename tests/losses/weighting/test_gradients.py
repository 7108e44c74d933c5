"""Gradients of tasks kept apart: equal to one backward pass for each task, whatever they share."""

import numpy as np
import pytest
import torch
from torch import nn

from moerec.losses.weighting.gradients import TaskGradients, cosines


def three_tasks() -> tuple[dict[str, nn.Parameter], list]:
    """Losses of three tasks: `all` is shared by all, `pair` by two, the others belong to one."""
    torch.manual_seed(0)
    names = ("all", "pair", "first", "third", "unused")
    made = {name: nn.Parameter(torch.randn(4, 3)) for name in names}

    def losses(x: torch.Tensor) -> list[torch.Tensor]:
        common = torch.tanh(x @ made["all"])
        both = common @ made["pair"].T
        return [
            (both.sin() @ made["first"]).square().sum(),
            both.cos().sum(),
            (common * 2).exp().sum() + (x @ made["third"]).square().sum(),
        ]

    return made, [losses, torch.randn(5, 4), torch.randn(2, 4)]


def flat(parameters, one_loss) -> np.ndarray:
    found = torch.autograd.grad(one_loss, parameters, allow_unused=True)
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for p, g in zip(parameters, found, strict=True)
        ]
    ).numpy()  # fmt: skip


def test_products_and_sums_equal_whole_gradients():
    made, (losses, *batches) = three_tasks()
    gradients = TaskGradients(list(made.values()), 3)
    for batch in batches:
        gradients.add(losses(batch))
    whole = [
        sum(flat([made["all"], made["pair"]], losses(batch)[task]) for batch in batches) for task in range(3)
    ]  # fmt: skip
    np.testing.assert_allclose(gradients.inner_products(), np.array(whole) @ np.array(whole).T, rtol=1e-5)
    gradients.add_to_parameters(np.array([2.0, -1.0, 0.5]))
    combined = 2 * whole[0] - whole[1] + 0.5 * whole[2]
    found = torch.cat([made["all"].grad.flatten(), made["pair"].grad.flatten()])
    np.testing.assert_allclose(found, combined, rtol=1e-4, atol=1e-6)
    for name, task in (("first", 0), ("third", 2)):
        own = sum(flat([made[name]], losses(batch)[task]) for batch in batches)
        np.testing.assert_allclose(made[name].grad.flatten(), own, rtol=1e-5)
    assert made["unused"].grad is None


def test_one_tensor_given_to_two_parameters_is_not_shared():
    """The gradient of a sum is the same tensor for both; what one gets must not reach the other."""
    one, other = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    gradients = TaskGradients([one, other], 1)
    for _ in range(2):
        gradients.add([(one + other).square().sum()])
    gradients.add_to_parameters(np.ones(1))
    one.grad.mul_(0)
    torch.testing.assert_close(other.grad, torch.full((3,), 8.0))


def test_a_task_that_reaches_only_what_is_frozen_gives_nothing():
    one = nn.Parameter(torch.ones(2))
    gradients = TaskGradients([one], 2)
    gradients.add([torch.tensor(3.0), one.sum()])
    gradients.add_to_parameters(np.array([1.0, 1.0]))
    torch.testing.assert_close(one.grad, torch.ones(2))


def test_what_a_task_reaches_without_moving_it_is_not_shared():
    """As where the gates of all tasks are stacked: each has a gradient of zero on those of the others."""
    common, own = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    stacked = torch.stack([common * own, common * 1])
    gradients = TaskGradients([common, own], 2)
    gradients.add([stacked[0].sum(), stacked[1].sum()])
    np.testing.assert_allclose(gradients.inner_products(), [[2, 2], [2, 2]])
    gradients.add_to_parameters(np.array([5.0, 7.0]))
    torch.testing.assert_close(common.grad, torch.full((2,), 12.0))
    torch.testing.assert_close(own.grad, torch.ones(2))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_cosines_do_not_hang_on_lengths(scale):
    vectors = np.array([[1.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]]) * scale
    found = cosines(vectors @ vectors.T)
    np.testing.assert_allclose(found[0, 1], np.sqrt(0.5))
    np.testing.assert_allclose(found[0, 2], -1)
    assert np.isnan(found[3]).all()
