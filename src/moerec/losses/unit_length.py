"""Vectors of length 1."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_length(vectors: Tensor) -> Tensor:
    """Vectors [N, D] at their length 1; one of zeros stays, with the gradient of a vector of length 1.

    `torch.nn.functional.normalize` divides a zero vector by 1e-12 and so makes gradients of 1e12 times their size. What
    begins at zero here is the user without history, the unknown id, and content with `content_start: zero`.
    """
    lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)  # [N, 1]
    return vectors / torch.where(lengths > 0, lengths, 1.0)
