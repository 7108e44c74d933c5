"""Negatives that are drawn for an update, and how often a draw is expected to hold each of them.

Shape letters: T events with something to predict, N shared negatives, K negatives of each event, I trained items,
V size of the item index.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from moerec.config import Config

POWER = {"popularity": 0.75, "mixed": 0.0}
"""Exponents of train counts where a recipe gives none: word2vec's for popularity; mixed adds uniform ones."""


@dataclass(frozen=True, eq=False)
class ItemPopulation:
    """What negatives are drawn from: the items with train events."""

    items: Tensor  # [I] int64
    """Index of each item."""
    counts: Tensor  # [V] int64
    """Train events of each index."""
    _cumulated: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, trained: Tensor, counts: Tensor) -> ItemPopulation:
        """The population of `trained` [V] bool items with these train counts [V]."""
        return cls(trained.nonzero().squeeze(1), counts)

    def __len__(self) -> int:
        return len(self.items)

    def draw(self, size: tuple[int, ...], power: float) -> Tensor:
        """Item indices of that shape, with replacement, each by its train count to the power."""
        if power == 0:
            return self.items[torch.randint(len(self), size, device=self.items.device)]
        cumulated = self._cumulate(power)  # [I]
        drawn = torch.rand(size, dtype=cumulated.dtype, device=cumulated.device) * cumulated[-1]
        # A product that is rounded up to the whole sum would stand behind the last item.
        return self.items[torch.searchsorted(cumulated, drawn, right=True).clamp_(max=len(self) - 1)]

    def log_probability(self, items: Tensor, power: float) -> Tensor:
        """Log of the chance of each item in one draw, in the shape of `items`."""
        weights = self.counts[items].to(torch.float32).pow(power)
        total = len(self) if power == 0 else self._cumulate(power)[-1]
        return (weights / total).log().to(torch.float32)

    def log_popularity(self, items: Tensor) -> Tensor:
        """Log of each item's share of the train events: how likely it is the positive of some event."""
        return self.log_probability(items, 1.0)

    def _cumulate(self, power: float) -> Tensor:
        if power not in self._cumulated:
            # 32 bits would run out of steps with many items; Apple's devices have no more.
            kind = torch.float32 if self.counts.device.type == "mps" else torch.float64
            self._cumulated[power] = self.counts[self.items].to(kind).pow(power).cumsum(0)  # [I]
        return self._cumulated[power]


@dataclass(frozen=True)
class Negatives:
    """The negatives of one batch, shared by its events or each event's own."""

    items: Tensor  # [N] or [T, K] int64
    """The items: indices, or rows of the item vectors that a loss is given. Shared ones are all different."""
    log_expected: Tensor  # [N] or [T, K] float32
    """Log of how often a draw is expected to hold each item."""
    population: int
    """How many items they were drawn from."""
    counts: Tensor | None = None  # [N]
    """How often the draw holds each of the shared items; None for once."""

    @property
    def shared(self) -> bool:
        """Whether all events have the same ones."""
        return self.items.dim() == 1

    @property
    def total(self) -> int:
        """How many each event has, repeats counted."""
        return self.items.shape[-1] if self.counts is None else int(self.counts.sum())

    def at(self, items: Tensor) -> Negatives:
        """The same with other numbers for the items."""
        return replace(self, items=items)


class NegativesConfig(Config):
    """What a positive is told apart from."""

    DRAWN: ClassVar[int] = 512
    """Negatives that are drawn where a recipe does not say how many."""
    SHARED: ClassVar[bool] = True
    """Whether events share drawn ones where a recipe does not say it."""

    kind: Literal["uniform", "popularity", "in_batch", "mixed"] = "uniform"
    """uniform; popularity: by train counts; in_batch: the batch's other positives; mixed: these and drawn ones."""
    count: int | None = Field(default=None, ge=1)
    """Negatives to draw; null for 512 (1 of bce and bpr, 256 of gbce, 512 of mixed); in_batch draws none."""
    shared: bool | None = None
    """Whether a batch shares them; each event's own cost far more time and memory; null for true (false: bce, bpr)."""
    power: float | None = Field(default=None, ge=0)
    """Train counts are drawn by this power; null for 0.75 of popularity, and for 0 (uniform) of what mixed adds."""

    @model_validator(mode="after")
    def _check(self) -> NegativesConfig:
        if self.kind == "in_batch" and self.count is not None:
            raise ValueError("in_batch draws nothing, so it has no count; use kind: mixed, or leave count out")
        if self.with_batch and self.shared is False:
            raise ValueError(f"{self.kind}: the positives of a batch are shared; leave shared out")
        if self.kind not in POWER and self.power is not None:
            raise ValueError(f"{self.kind} has no power; use kind: popularity or mixed, or leave power out")
        return self

    @property
    def with_batch(self) -> bool:
        """Whether the batch's other positives are negatives."""
        return self.kind in ("in_batch", "mixed")

    @property
    def drawn(self) -> int:
        """How many are drawn: for a batch, or for each event."""
        if self.kind == "in_batch":
            return 0
        return self.count or (NegativesConfig.DRAWN if self.kind == "mixed" else self.DRAWN)

    @property
    def is_shared(self) -> bool:
        """Whether all events of a batch have the same ones."""
        return self.with_batch or (self.SHARED if self.shared is None else self.shared)

    def draw(self, population: ItemPopulation, positives: Tensor) -> Negatives:
        """Negatives for a batch's positives [T] by torch's own generator, which the trainer seeds for each update."""
        power = POWER.get(self.kind, 0.0) if self.power is None else self.power
        count = self.drawn if self.is_shared else self.drawn * len(positives)
        items = population.draw((count,), power) if count else positives[:0]
        if not self.is_shared:
            expected = population.log_probability(items, power) + math.log(self.drawn)
            size = (len(positives), self.drawn)
            return Negatives(items.view(size), expected.view(size), len(population))
        if self.with_batch:
            items = torch.cat([positives, items])
        # What comes twice is scored once.
        items, counts = torch.unique(items, return_counts=True)
        return Negatives(items, self._log_expected(population, items, len(positives), power), len(population), counts)

    def _log_expected(self, population: ItemPopulation, items: Tensor, events: int, power: float) -> Tensor:
        """Log of how often a shared draw is expected to hold each item; both ways to come add up."""
        ways = []
        if self.with_batch:
            ways.append(population.log_popularity(items) + math.log(max(1, events)))
        if self.drawn:
            ways.append(population.log_probability(items, power) + math.log(self.drawn))
        return torch.logsumexp(torch.stack(ways), 0) if len(ways) > 1 else ways[0]
