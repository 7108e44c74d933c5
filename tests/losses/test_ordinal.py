"""The ordinal likelihood: value and gradient of the naive formula, and finite where that one is not."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.losses.ordinal import ordinal_log_probabilities


def naive(logits: torch.Tensor) -> torch.Tensor:
    """Differences of sigmoids: P(class = k) = P(class > k - 1) - P(class > k)."""
    ends = torch.ones(len(logits), 1, dtype=logits.dtype)
    above = torch.cat([ends, torch.sigmoid(logits), 0 * ends], dim=1)
    return torch.log(above[:, :-1] - above[:, 1:])


def falling(seed: int, rows: int, classes: int, spread: float, shift: float = 0.0) -> torch.Tensor:
    """Cumulative logits of random gaps, [rows, classes - 1] float64."""
    generator = torch.Generator().manual_seed(seed)
    gaps = spread * torch.rand(rows, classes - 1, generator=generator, dtype=torch.float64) + 1e-3
    return shift + torch.randn(rows, 1, generator=generator, dtype=torch.float64) - gaps.cumsum(1)


@given(seed=st.integers(0, 1000), classes=st.integers(2, 8), spread=st.sampled_from([0.05, 1.0, 3.0]))
@settings(max_examples=40)
def test_value_and_gradient_equal_the_naive_formula(seed, classes, spread):
    logits = falling(seed, 6, classes, spread)
    places = torch.randint(0, classes, (6, 1), generator=torch.Generator().manual_seed(seed))
    results = []
    for formula in (ordinal_log_probabilities, naive):
        leaf = logits.clone().requires_grad_()
        loss = -formula(leaf).gather(1, places).sum()
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(ordinal_log_probabilities(logits).exp().sum(1), torch.ones(6, dtype=torch.float64))


def test_the_gradient_equals_finite_differences():
    logits = falling(3, 4, 5, 1.0).requires_grad_()
    assert torch.autograd.gradcheck(ordinal_log_probabilities, (logits,))


@pytest.mark.parametrize("shift", [-200.0, 40.0, 200.0])
def test_far_from_the_cutpoints_the_likelihood_stays_finite_and_has_a_gradient(shift):
    """The difference of two sigmoids is 0 there; the loss falls by 1 for each unit that the score is nearer."""
    logits = falling(0, 3, 4, 2.0, shift).float().requires_grad_()
    inner = ordinal_log_probabilities(logits)[:, 1:3]
    assert torch.isinf(naive(logits)[:, 1:3]).any()
    assert torch.isfinite(inner).all()
    inner.sum().backward()
    assert torch.isfinite(logits.grad).all()
    torch.testing.assert_close(logits.grad.sum(1), torch.full((3,), -2.0 * math.copysign(1, shift)), atol=0.3, rtol=0)


def test_two_classes_are_a_binary_task():
    logits = torch.linspace(-5, 5, 11, dtype=torch.float64)[:, None]
    expected = torch.cat([torch.nn.functional.logsigmoid(-logits), torch.nn.functional.logsigmoid(logits)], 1)
    torch.testing.assert_close(ordinal_log_probabilities(logits), expected)
