"""Losses of retrieval models.

Shape letters: T events with something to predict, N items, D width, B sequences, C events of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from moerec.config import Config


@dataclass(frozen=True)
class SeenItems:
    """Which items each event's user has met by then, without a T x N matrix."""

    first_seen: Tensor  # [B, N] int16
    """Place in the sequence at which the user first met the item; -1 before it, a huge number for never."""
    rows: Tensor  # [T] int64
    """Sequence of each event."""
    places: Tensor  # [T] int16
    """Place of each event in its sequence; -1 for one that has met nothing of the sequence."""

    def mask(self, start: int, end: int) -> Tensor:
        """[end - start, N] bool: what events start to end - 1 have met."""
        return self.first_seen[self.rows[start:end]] <= self.places[start:end, None]


class FullSoftmaxConfig(Config):
    """Cross-entropy over the whole catalogue."""

    exclude_seen: bool = True
    """Items that the user has met are no negatives, as they are no candidates when seen items are filtered."""
    chunk: int = Field(default=384, ge=1)
    """Events whose logits are held at once, which bounds that part of the memory; it does not change the result."""

    def __call__(self, users: Tensor, items: Tensor, positives: Tensor, seen: SeenItems | None = None) -> Tensor:
        """Sum over events of the cross-entropy of each event's next item.

        Args:
            users: [T, D] user vectors.
            items: [N, D] vectors of the items to be told apart.
            positives: [T] int64 row of `items` that came next.
            seen: what is no negative for an event; a positive counts all the same.
        """
        return _FullSoftmax.apply(users, items, positives, seen, self.chunk)  # type: ignore[no-untyped-call]


class _FullSoftmax(torch.autograd.Function):
    """Chunked cross-entropy whose gradients are made in the forward pass, so no logits outlive their chunk."""

    @staticmethod
    def forward(
        ctx: Any, users: Tensor, items: Tensor, positives: Tensor, seen: SeenItems | None, chunk: int
    ) -> Tensor:
        users_gradient = torch.empty_like(users)  # [T, D]
        items_gradient = torch.zeros_like(items)  # [N, D]
        total = users.new_zeros((), dtype=torch.float32)
        for start in range(0, len(users), chunk):
            part = users[start : start + chunk]  # [C, D]
            wanted = positives[start : start + chunk, None]  # [C, 1]
            logits = (part @ items.T).float()  # [C, N]
            if seen is not None:
                mask = seen.mask(start, start + len(part)).scatter_(1, wanted, value=False)  # [C, N]
                logits.masked_fill_(mask, -torch.inf)
            wanted_logits = logits.gather(1, wanted)  # [C, 1]
            highest = logits.amax(1, keepdim=True)  # [C, 1]
            weights = logits.sub_(highest).exp_()  # [C, N] softmax before it is normalised
            sums = weights.sum(1, keepdim=True)  # [C, 1]
            total += (sums.log() + highest - wanted_logits).sum()
            # The gradient of the logits is weights / sums, less one at the positive; the division and the one
            # are moved to the small side of each product.
            weights = weights.to(users.dtype)
            users_gradient[start : start + chunk] = (weights @ items) / sums - items[wanted.squeeze(1)]
            items_gradient.addmm_(weights.T, part / sums)
        items_gradient.index_add_(0, positives, users, alpha=-1)
        ctx.save_for_backward(users_gradient, items_gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        users_gradient, items_gradient = ctx.saved_tensors
        return users_gradient * gradient, items_gradient * gradient, None, None, None
