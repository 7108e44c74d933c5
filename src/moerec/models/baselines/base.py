"""What every baseline offers: a configuration that fits itself, and the space to search for a good one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from moerec.batches.histories import TrainHistories
from moerec.config import Config
from moerec.models.roles import Scorer

S = TypeVar("S", bound="SearchableConfig")


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; spread evenly, or evenly in their logarithm."""

    low: float
    """Lowest value; above 0 if `log`."""
    high: float
    """Highest value."""
    log: bool = False
    """Whether to draw evenly in the logarithm."""
    integer: bool = False
    """Whether to round to whole numbers."""

    def sample(self, generator: np.random.Generator) -> float | int:
        """Draw one value."""
        # Whole numbers get equal shares of the range, also the two at its ends.
        low, high = (self.low - 0.5, self.high + 0.5) if self.integer else (self.low, self.high)
        if self.log:
            value = math.exp(generator.uniform(math.log(low), math.log(high)))
        else:
            value = generator.uniform(low, high)
        return min(max(round(value), int(self.low)), int(self.high)) if self.integer else float(value)


@dataclass(frozen=True)
class Choice:
    """One of several values, each as likely."""

    values: tuple[Any, ...]
    """The values."""

    def sample(self, generator: np.random.Generator) -> Any:
        """Draw one value."""
        return self.values[int(generator.integers(len(self.values)))]


class SearchableConfig(Config):
    """A configuration that says what a search may change."""

    @classmethod
    @abstractmethod
    def search_space(cls) -> Mapping[str, Range | Choice]:
        """What tuning may change: {field: values}."""

    @classmethod
    def sample(cls: type[S], generator: np.random.Generator) -> S:
        """A random configuration from the search space."""
        return cls(**{name: values.sample(generator) for name, values in cls.search_space().items()})


class BaselineConfig(SearchableConfig):
    """Base of the baselines' configurations."""

    @abstractmethod
    def fit(self, train: TrainHistories) -> Scorer:
        """Fit on train events alone.

        Args:
            train: the users' train histories.

        Returns:
            A scorer: the two reserved indices get -inf, items without train events the lowest finite score.
        """

    @classmethod
    def refusal(cls, num_indices: int) -> str | None:
        """Why this baseline cannot be fitted on a catalogue of that size; None if it can."""
        return None
