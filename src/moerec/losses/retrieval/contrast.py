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

CHUNK_SCORES = 2**18
"""Numbers of a chunk: 1 MiB in 32 bits, about the cache of a core."""


class Rule(Protocol):
    """What a loss makes of scores."""

    def __call__(self, positive: Tensor, negative: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Losses and their derivatives.

        Args:
            positive: [C] score of each event's positive.
            negative: [C, N] scores of negatives, -inf for what is none; may be overwritten.
            part: which events these are.

        Returns:
            [C] losses, [C] their derivatives by `positive`, [C, N] and by `negative`, 0 where the score is -inf.
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
            for part in _parts(len(users), scorer.numbers):
                vectors, wanted = users[part], positives[part]  # [C, D], [C]
                wanted_vectors = items[wanted].to(wide)  # [C, D]
                positive = (vectors.to(wide) * wanted_vectors).sum(1)  # [C]
                negative = scorer.scores(vectors.to(narrow), part)  # [C, N]
                negative.masked_fill_(scorer.no_negatives(wanted, part), -torch.inf)
                losses, by_positive, by_negative = rule(positive, negative, part)
                if weights is not None:
                    factor = weights[part].to(wide)  # [C]
                    losses, by_positive = losses * factor, by_positive * factor
                    by_negative = by_negative.mul_(factor[:, None])
                total += losses.sum()
                users_gradient[part] = scorer.backward(by_negative.to(narrow), vectors.to(narrow), part)
                users_gradient[part] += by_positive[:, None] * wanted_vectors
                items_gradient.index_add_(0, wanted, by_positive[:, None] * vectors.to(wide))
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
        self.seen = None if seen is None else seen.of(rows)
        self.numbers = len(rows)

    def scores(self, users: Tensor, part: slice) -> Tensor:
        return (users @ self.vectors.T).to(self.wide)  # [C, N]

    def no_negatives(self, positives: Tensor, part: slice) -> Tensor:
        same = positives[:, None] == self.rows  # [C, N]
        return same if self.seen is None else same.logical_or_(self.seen.mask(part.start, part.stop))

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
        self.items, self.rows, self.seen, self.wide = items, rows, seen, wide
        self.gradient = torch.zeros_like(items, dtype=wide)  # [M, D]
        self.numbers = rows.shape[1] * items.shape[1]

    def scores(self, users: Tensor, part: slice) -> Tensor:
        self.vectors = self.items[self.rows[part]]  # [C, N, D]
        return torch.bmm(self.vectors, users[:, :, None]).squeeze(2).to(self.wide)  # [C, N]

    def no_negatives(self, positives: Tensor, part: slice) -> Tensor:
        rows = self.rows[part]  # [C, N]
        same = positives[:, None] == rows  # [C, N]
        return same if self.seen is None else same.logical_or_(self.seen.mask_own(part.start, part.stop, rows))

    def backward(self, by_score: Tensor, users: Tensor, part: slice) -> Tensor:
        pushed = by_score[:, :, None] * users[:, None, :]  # [C, N, D]
        self.gradient.index_add_(0, self.rows[part].flatten(), pushed.flatten(0, 1).to(self.wide))
        return torch.bmm(by_score[:, None, :], self.vectors).squeeze(1).to(self.wide)  # [C, D]

    def add_gradient(self, items_gradient: Tensor) -> None:
        items_gradient += self.gradient


def _parts(events: int, numbers: int) -> Iterator[slice]:
    """Chunks of events that have `numbers` numbers each."""
    size = max(16, CHUNK_SCORES // max(1, numbers))
    return (slice(start, min(start + size, events)) for start in range(0, events, size))
