"""GradNorm: the gradient that the paper differentiates, its balance, and the layer that it looks at."""

import pytest
import torch
from torch import nn

from tests.losses.weighting.updates import build, optimise, tasks, update_of


def network() -> tuple[nn.Parameter, nn.Parameter, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4, 3)), torch.randn(20, 5), torch.randn(3, 20)


def task_losses(below, layer, x, y) -> dict[str, torch.Tensor]:
    out = torch.tanh(x @ below) @ layer
    return {name: size * (out[:, place] - y[place]).square().sum()
            for place, (name, size) in enumerate(zip("abc", (1, 10, 0.1), strict=True))}  # fmt: skip


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_the_gradient_of_the_factors_is_that_of_the_paper(alpha):
    """Differentiated through the gradient norms by autograd, with a constant target."""
    below, layer, x, y = network()
    weighting = build("gradnorm", tasks(*"abc"), alpha=alpha)
    weighting.log_factors.data = torch.tensor([0.3, -0.5, 0.1])
    first = torch.tensor([3.0, 15.0, 0.4])
    weighting.first_losses.copy_(first)
    update = update_of(task_losses(below, layer, x, y), dict.fromkeys("abc", 20), [below, layer], shared_layer=(layer,))
    weighting.backward(update)
    weighted = (weighting.factors() * torch.stack(list(task_losses(below, layer, x, y).values())) / 20).sum()
    for parameter, gradient in zip((below, layer), torch.autograd.grad(weighted, (below, layer)), strict=True):
        torch.testing.assert_close(parameter.grad, gradient)

    logs = weighting.log_factors.detach().clone().requires_grad_()
    means = torch.stack(list(task_losses(below, layer, x, y).values())) / 20
    norms = torch.stack(
        [
            torch.autograd.grad(logs[place].exp() * means[place], layer, create_graph=True)[0].norm()
            for place in range(3)
        ]
    )
    left = means.detach() / first
    target = (norms.mean() * (left / left.mean()) ** alpha).detach()
    (norms - target).abs().sum().backward()
    torch.testing.assert_close(weighting.log_factors.grad, logs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_norms_end_in_the_ratios_of_the_target(alpha):
    """Gradients of the lengths 1, 10 and 0.1, and losses of which constant shares are left."""
    layer = nn.Parameter(torch.zeros(3))
    lengths, left = torch.tensor([1.0, 10.0, 0.1]), torch.tensor([0.5, 0.25, 1.0])
    weighting = build("gradnorm", tasks(*"abc"), alpha=alpha, learning_rate=0.08)
    weighting.first_losses.copy_(1 / left)

    def losses() -> dict[str, torch.Tensor]:
        return {name: 1 + lengths[place] * (layer[place] - layer[place].detach()) for place, name in enumerate("abc")}

    optimise(weighting, losses, [layer], steps=150)
    pulls = weighting.factors() * lengths
    expected = left**alpha
    torch.testing.assert_close(pulls / pulls.mean(), expected / expected.mean(), rtol=0.1, atol=0)
    assert weighting.factors().sum() == pytest.approx(3, rel=1e-5)


def test_only_the_shared_layer_is_looked_at():
    """A task with a huge gradient elsewhere is not taken for a task that pulls hard."""
    shared, own = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    weighting = build("gradnorm", tasks("a", "b"))
    sums = {"a": shared.sum() + 1e6 * own.sum(), "b": shared.sum() * 1.0}
    weighting.backward(update_of(sums, {"a": 1, "b": 1}, [shared, own], shared_layer=(shared,)))
    assert (weighting.log_factors.grad == 0).all()


def test_the_first_loss_of_a_task_is_that_of_its_first_row():
    layer = nn.Parameter(torch.ones(2))
    weighting = build("gradnorm", tasks("a", "b"))
    for b, count in ((0.0, 0), (7.0, 2), (1.0, 1)):
        sums = {"a": 3 * layer.sum(), "b": b * layer.sum()}
        weighting.backward(update_of(sums, {"a": 1, "b": count}, [layer]))
        assert torch.isfinite(weighting.log_factors.grad).all()
    assert weighting.first_losses.tolist() == [6, 7]
