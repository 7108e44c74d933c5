"""Length 1, equal to the usual function but for a vector of zeros."""

import torch
from torch.nn import functional as F

from moerec.losses.unit_length import unit_length


def test_it_is_the_usual_function_in_value_and_gradient() -> None:
    ours = torch.randn(7, 5, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    pull = torch.randn(7, 5)
    one, other = unit_length(ours), F.normalize(theirs, dim=1)
    assert torch.equal(one, other)
    (one * pull).sum().backward()
    (other * pull).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_vector_of_zeros_stays_and_can_leave() -> None:
    vectors = torch.zeros(2, 5, requires_grad=True)
    made = unit_length(vectors)
    assert torch.equal(made, torch.zeros(2, 5))
    pull = torch.randn(2, 5)
    (made * pull).sum().backward()
    torch.testing.assert_close(vectors.grad, pull)
