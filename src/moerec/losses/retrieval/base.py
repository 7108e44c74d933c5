"""What every loss of a retriever is given, and the two kinds: over the whole catalogue, and against drawn negatives.

Shape letters: T events with something to predict, N items, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pydantic import Field
from torch import Tensor

from moerec.config import Config
from moerec.losses.retrieval.contrast import Rule, contrast
from moerec.losses.retrieval.negatives import ItemPopulation, Negatives, NegativesConfig
from moerec.losses.retrieval.seen import SeenItems
from moerec.losses.unit_length import unit_length


@dataclass(frozen=True)
class NextItems:
    """Events and the items that came next."""

    users: Tensor  # [T, D]
    """The user's vector after each event."""
    items: Tensor  # [N, D]
    """Vectors of items: all that are to be told apart, or those that this batch needs."""
    positives: Tensor  # [T] int64
    """Row of `items` that came next."""
    seen: SeenItems | None = None
    """What is no negative for an event; a positive counts all the same."""
    weights: Tensor | None = None  # [T]
    """Weight of each event; None for 1."""
    negatives: Negatives | None = None
    """What was drawn, as rows of `items`; None for a loss over all items."""


class RetrievalLossConfig(Config, ABC):
    """Base of the losses of retrievers."""

    exclude_seen: bool = True
    """Items that the user has met are no negatives, as they are no candidates when seen items are filtered."""

    @property
    def needs_cosine(self) -> bool:
        """Whether scores are cosines, so that the item tower has to give vectors of length 1."""
        return False

    def draw(self, population: ItemPopulation, positives: Tensor) -> Negatives | None:
        """Negatives for positives [T], as item indices; None if the loss needs all items."""
        return None

    def vectors(self, events: NextItems) -> tuple[Tensor, Tensor]:
        """Users [T, D] and items [N, D] whose products are the scores that the loss compares."""
        return events.users, events.items

    @abstractmethod
    def __call__(self, events: NextItems) -> Tensor:
        """Sum over events of the loss, each times its weight."""


class SampledLossConfig(RetrievalLossConfig):
    """Base of the losses against drawn negatives; only the items that a batch needs are encoded."""

    negatives: NegativesConfig = NegativesConfig()
    """What a positive is told apart from; the positive itself is never its own negative."""

    def draw(self, population: ItemPopulation, positives: Tensor) -> Negatives:
        """See `RetrievalLossConfig`."""
        return self.negatives.draw(population, positives)

    @abstractmethod
    def rule(self, negatives: Negatives) -> Rule:
        """How scores become losses and gradients."""

    def __call__(self, events: NextItems) -> Tensor:
        """See `RetrievalLossConfig`."""
        if events.negatives is None:
            raise ValueError(f"{type(self).__name__} needs negatives; make them with draw()")
        users, items = self.vectors(events)
        return contrast(
            users, items, events.positives, events.negatives, self.rule(events.negatives), events.seen, events.weights
        )


class SoftmaxFamilyConfig(RetrievalLossConfig):
    """What all losses with a softmax have in common."""

    temperature: float = Field(default=1.0, gt=0)
    """Scores are divided by it; low makes the hardest negatives count most, and cosines need a low one."""
    normalize: bool = False
    """Scores are cosines; needs `normalize: true` of the item tower, so that the model ranks by what was trained."""
    focal_gamma: float = Field(default=0.0, ge=0)
    """Events with a positive of probability p count (1 - p) to this power: easy ones hardly; 0 for all alike."""

    @property
    def needs_cosine(self) -> bool:
        """See `RetrievalLossConfig`."""
        return self.normalize

    def vectors(self, events: NextItems) -> tuple[Tensor, Tensor]:
        """See `RetrievalLossConfig`."""
        users, items = events.users, events.items
        if self.normalize:
            users, items = unit_length(users), unit_length(items)
        return users if self.temperature == 1 else users / self.temperature, items
