"""Cross-entropy over the whole catalogue in bounded memory.

Shape letters: T events with something to predict, N items, D width, C events of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.autograd.function import once_differentiable

from moerec.losses.retrieval.base import NextItems, SoftmaxFamilyConfig
from moerec.losses.retrieval.focal import focal
from moerec.losses.retrieval.precision import accurate_dtype, plain_arithmetic, product_dtype
from moerec.losses.retrieval.seen import SeenItems


class FullSoftmaxConfig(SoftmaxFamilyConfig):
    """Cross-entropy over the whole catalogue."""

    chunk: int = Field(default=384, ge=1)
    """Events whose logits are held at once, which bounds that part of the memory; it does not change the result."""
    memory_mb: int = Field(default=512, ge=1)
    """MiB that logits may take at once; with many items it makes the chunk smaller. One event is always held."""

    def __call__(self, events: NextItems) -> Tensor:
        """Sum over events of the cross-entropy of each event's next item."""
        users, items = self.vectors(events)
        chunk = min(self.chunk, max(1, self.memory_mb * 2**20 // self._event_bytes(users, events)))
        return _FullSoftmax.apply(  # type: ignore[no-untyped-call]
            users, items, events.positives, events.seen, events.weights, self.focal_gamma, chunk
        )

    def _event_bytes(self, users: Tensor, events: NextItems) -> int:
        """Bytes that the logits of one event take at the most, with what is made of them."""
        wide, narrow = accurate_dtype(users).itemsize, product_dtype(users).itemsize
        # While met items leave: logits, when each item was met by the sequences and by the events in 16 bits, by the
        # events in numbers. Afterwards: logits, weights, and these in 16 bits.
        leaving = 0 if events.seen is None else 2 * wide + 4
        return len(events.items) * max(leaving, 2 * wide + (narrow if narrow < wide else 0))


class _FullSoftmax(torch.autograd.Function):
    """Chunked cross-entropy whose gradients are made in the forward pass, so no logits outlive their chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        positives: Tensor,
        seen: SeenItems | None,
        event_weights: Tensor | None,
        gamma: float,
        chunk: int,
    ) -> Tensor:
        narrow, wide = product_dtype(users), accurate_dtype(users)
        with plain_arithmetic(users):
            columns = items.to(narrow)  # [N, D]
            users_gradient = torch.empty_like(users, dtype=wide)  # [T, D]
            items_gradient = torch.zeros_like(items, dtype=wide)  # [N, D]
            pulls = users.to(wide)  # [T, D] how each event pulls its positive
            if event_weights is not None or gamma:
                pulls = pulls.clone()
            total = users.new_zeros((), dtype=wide)
            for start in range(0, len(users), chunk):
                part = users[start : start + chunk].to(narrow)  # [C, D]
                wanted = positives[start : start + chunk, None]  # [C, 1]
                logits = (part @ columns.T).to(wide)  # [C, N]
                if seen is not None:
                    seen.leave_out(logits, start, wanted)
                wanted_logits = logits.gather(1, wanted)  # [C, 1]
                highest = logits.amax(1, keepdim=True)  # [C, 1]
                weights = torch.softmax(logits, dim=1)  # [C, N]
                del logits
                # The largest weight is at least 1 / N, so its logarithm gives that of the sum.
                losses = highest - weights.amax(1, keepdim=True).log() - wanted_logits  # [C, 1]
                factor = None
                if event_weights is not None or gamma:
                    losses, factor = _modulated(losses, event_weights, gamma, start)
                    part = (part * factor).to(narrow)
                    pulls[start : start + chunk] *= factor
                total += losses.sum()
                # The gradient of the logits is the weights, less one at the positive, which is taken off afterwards.
                weights = weights.to(narrow)
                gradient = weights @ columns - items[wanted.squeeze(1)]  # [C, D]
                users_gradient[start : start + chunk] = gradient if factor is None else gradient * factor
                if narrow == wide:
                    items_gradient.addmm_(weights.T, part)
                else:
                    items_gradient += weights.T @ part
                del weights  # else they would live until the next chunk has its own
            items_gradient.index_add_(0, positives, pulls, alpha=-1)
        ctx.save_for_backward(users_gradient.to(users.dtype), items_gradient.to(items.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users_gradient, items_gradient = ctx.saved_tensors
        return users_gradient * gradient, items_gradient * gradient, None, None, None, None, None


def _modulated(losses: Tensor, weights: Tensor | None, gamma: float, start: int) -> tuple[Tensor, Tensor]:
    """Losses [C, 1] with focal factor and weights, and their derivative by the plain losses."""
    slope = torch.ones_like(losses)  # [C, 1]
    if gamma:
        losses, slope = focal(losses.clamp(min=0), gamma)
    if weights is not None:
        factor = weights[start : start + len(losses), None].to(losses.dtype)  # [C, 1]
        losses, slope = losses * factor, slope * factor
    return losses, slope
