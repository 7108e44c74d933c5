"""A positive against drawn negatives, in chunks, with gradients made in the forward pass.

No score outlives its chunk, and a chunk fits the cache of a core, which is what makes it fast. Shared negatives are
scored by one matrix product; only each event's own ones are gathered.

Shape letters: T events with something to predict, N shared negatives or negatives of each event, M items, D width,
B sequences, C events of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from moerec.losses.retrieval.negatives import Negatives
from moerec.losses.retrieval.precision import accurate_dtype, plain_arithmetic, product_dtype
from moerec.losses.retrieval.seen import SeenItems

CHUNK_SCORES = {"cpu": 2**18, "other": 2**25}
"""Numbers of a chunk: 1 MiB in 32 bits, about the cache of a core; accelerators want large products."""


class Rule(Protocol):
    """What a loss makes of scores."""

    def __call__(
        self, positive: Tensor, negative: Tensor, part: slice
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | float]:
        """Losses and their derivatives.

        Args:
            positive: [C] score of each event's positive.
            negative: [C, N] scores of negatives, -inf or nearly so for what is none; may be overwritten.
            part: which events these are.

        Returns:
            [C] losses, [C] their derivatives by `positive`, [C, N] and by `negative`, 0 for what is none; and a
            factor, one or [C], that these still lack, as it is cheaper to multiply the narrow side of a product.
        """


def contrast(
    users: Tensor,
    items: Tensor,
    positives: Tensor,
    negatives: Negatives,
    rule: Rule,
    seen: SeenItems | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Sum over events of a rule's losses.

    Args:
        users: [T, D] vectors.
        items: [M, D] vectors of positives and negatives.
        positives: [T] rows of `items`.
        negatives: rows of `items`; one that equals an event's positive is no negative of that event.
        rule: how scores become losses.
        seen: over the M items; what is no negative for an event.
        weights: [T] factor of each event's loss.
    """
    return _Contrast.apply(users, items, positives, negatives, rule, seen, weights)  # type: ignore[no-untyped-call]


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        positives: Tensor,
        negatives: Negatives,
        rule: Rule,
        seen: SeenItems | None,
        weights: Tensor | None,
    ) -> Tensor:
        narrow, wide = product_dtype(users), accurate_dtype(users)
        scoring = _Shared if negatives.shared else _Own
        with plain_arithmetic(users):
            scorer = scoring(items.to(narrow), negatives.items, seen, wide)
            users_gradient = torch.empty_like(users, dtype=wide)  # [T, D]
            items_gradient = torch.zeros_like(items, dtype=wide)  # [M, D]
            total = users.new_zeros((), dtype=wide)
            for part in _parts(users, scorer.numbers):
                vectors, wanted = users[part], positives[part]  # [C, D], [C]
                wanted_vectors = items[wanted].to(wide)  # [C, D]
                pushes = vectors.to(wide)  # [C, D]
                positive = (pushes * wanted_vectors).sum(1)  # [C]
                negative = scorer.scores(vectors.to(narrow), part)  # [C, N]
                scorer.leave_out(negative, wanted, part)
                losses, by_positive, by_negative, factor = rule(positive, negative, part)
                if weights is not None:
                    weight = weights[part].to(wide)  # [C]
                    losses, by_positive, factor = losses * weight, by_positive * weight, factor * weight
                total += losses.sum()
                items_gradient.index_add_(0, wanted, by_positive[:, None] * pushes)
                column = factor[:, None] if isinstance(factor, Tensor) else factor
                gradient = scorer.backward(by_negative.to(narrow), (pushes * column).to(narrow), part)  # [C, D]
                users_gradient[part] = gradient.mul_(column).addcmul_(by_positive[:, None], wanted_vectors)
                del negative, by_negative  # else they would live until the next chunk has its own
            scorer.add_gradient(items_gradient)
        ctx.save_for_backward(users_gradient.to(users.dtype), items_gradient.to(items.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        users_gradient, items_gradient = ctx.saved_tensors
        return users_gradient * gradient, items_gradient * gradient, None, None, None, None, None


class _Shared:
    """Scores of negatives that all events share."""

    def __init__(self, items: Tensor, rows: Tensor, seen: SeenItems | None, wide: torch.dtype) -> None:
        self.rows, self.wide = rows, wide
        self.vectors = items[rows]  # [N, D]
        self.gradient = torch.zeros_like(self.vectors, dtype=wide)  # [N, D]
        self.seen = None if seen is None else seen.table(rows)
        self.columns = torch.full((len(items),), -1, device=rows.device)  # [M] where each item is a negative
        self.columns[rows] = torch.arange(len(rows), device=rows.device)
        self.numbers = len(rows)

    def scores(self, users: Tensor, part: slice) -> Tensor:
        return (users @ self.vectors.T).to(self.wide)  # [C, N]

    def leave_out(self, scores: Tensor, positives: Tensor, part: slice) -> None:
        columns = self.columns[positives, None]  # [C, 1]
        there = columns.clamp(min=0)  # [C, 1]
        scores.scatter_(1, there, torch.where(columns < 0, scores.gather(1, there), -torch.inf))
        if self.seen is not None:
            self.seen.leave_out(scores, part.start)

    def backward(self, by_score: Tensor, users: Tensor, part: slice) -> Tensor:
        if by_score.dtype == self.wide:
            self.gradient.addmm_(by_score.T, users)
        else:
            self.gradient += by_score.T @ users
        return (by_score @ self.vectors).to(self.wide)  # [C, D]

    def add_gradient(self, items_gradient: Tensor) -> None:
        items_gradient.index_add_(0, self.rows, self.gradient)


class _Own:
    """Scores of each event's own negatives."""

    def __init__(self, items: Tensor, rows: Tensor, seen: SeenItems | None, wide: torch.dtype) -> None:
        self.items, self.rows, self.wide = items, rows, wide
        self.seen = None if seen is None else seen.table()
        self.gradient = torch.zeros_like(items, dtype=wide)  # [M, D]
        self.numbers = rows.shape[1] * items.shape[1]

    def scores(self, users: Tensor, part: slice) -> Tensor:
        self.vectors = self.items[self.rows[part]]  # [C, N, D]
        return torch.bmm(self.vectors, users[:, :, None]).squeeze(2).to(self.wide)  # [C, N]

    def leave_out(self, scores: Tensor, positives: Tensor, part: slice) -> None:
        rows = self.rows[part]  # [C, N]
        mask = positives[:, None] == rows  # [C, N]
        if self.seen is not None:
            mask |= self.seen.mask_own(part.start, part.stop, rows)
        scores.masked_fill_(mask, -torch.inf)

    def backward(self, by_score: Tensor, users: Tensor, part: slice) -> Tensor:
        pushed = by_score[:, :, None] * users[:, None, :]  # [C, N, D]
        self.gradient.index_add_(0, self.rows[part].flatten(), pushed.flatten(0, 1).to(self.wide))
        return torch.bmm(by_score[:, None, :], self.vectors).squeeze(1).to(self.wide)  # [C, D]

    def add_gradient(self, items_gradient: Tensor) -> None:
        items_gradient += self.gradient


def _parts(users: Tensor, numbers: int) -> Iterator[slice]:
    """Chunks of events that have `numbers` numbers each."""
    size = max(16, CHUNK_SCORES.get(users.device.type, CHUNK_SCORES["other"]) // max(1, numbers))
    return (slice(start, min(start + size, len(users))) for start in range(0, len(users), size))
