"""Dropout by bytes: the share, the mean, the gradient, the seed."""

import pytest
import torch

from moerec.nn.dropout import Dropout


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_share_and_mean(share):
    torch.manual_seed(0)
    x = torch.ones(333, 301, requires_grad=True)
    out = Dropout(share)(x)
    assert float((out == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(out.detach().mean()) == pytest.approx(1, abs=0.02 / (1 - share) ** 0.5)
    assert len(out.unique()) == 2
    out.sum().backward()
    torch.testing.assert_close(x.grad, out.detach())


def test_every_place_is_drawn_on_its_own():
    """No place is dropped more often than others, nor together with its neighbours."""
    torch.manual_seed(0)
    dropped = torch.stack([Dropout(0.5)(torch.ones(64)) == 0 for _ in range(2000)]).float()
    assert (dropped.mean(0) - 0.5).abs().max() < 0.06
    assert (torch.corrcoef(dropped.T) - torch.eye(64)).abs().max() < 0.12


def test_the_seed_decides():
    x = torch.randn(50)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(Dropout(0.5)(x))
    assert torch.equal(outs[0], outs[1])
    assert not torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.5).eval()])
def test_nothing_is_dropped_without_a_share_or_in_evaluation(layer):
    x = torch.randn(50)
    assert layer(x) is x


def test_an_empty_batch():
    assert Dropout(0.5)(torch.zeros(0, 3)).shape == (0, 3)
