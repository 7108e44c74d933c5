"""Feature: one definition of a computed input for batch, stream and serving.

An aggregate that belongs to an example sees events with strictly earlier timestamps and nothing else.

Shape letters: N examples, I the item index, V width of a vector, C candidates of one user.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.config import Config
from moerec.features.spec import FeatureSpec


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What features may know of the items."""

    items: pl.DataFrame
    """The rows of `items.parquet`; row r has the item index r + FIRST_ITEM."""
    num_indices: int
    """Size of the item index: the catalogue and the two reserved indices."""
    vectors: Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = field(default_factory=dict)
    """Per modality: vectors [I, V] and which rows are present [I]."""


@dataclass(frozen=True, eq=False)
class FeatureState:
    """What a feature learned from the train events; plain data, saved with the model."""

    values: dict[str, Any] = field(default_factory=dict)
    """JSON data."""
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Arrays by name."""


@dataclass(frozen=True)
class Event:
    """One event of a user, as it arrives."""

    item: int
    """Item index."""
    timestamp: int
    """Milliseconds since 1970."""
    labels: Mapping[str, float]
    """Label columns; a missing label is absent."""


class FeatureConfig(Config):
    """Base of computed features: `fit` on train, `apply` to whole frames, `update` and `read` event by event.

    Folding `update` over a user's log and reading gives exactly what `apply` gives (bit for bit).
    """

    @property
    @abstractmethod
    def specs(self) -> tuple[FeatureSpec, ...]:
        """What comes out: dense and categorical columns."""

    @property
    def cardinalities(self) -> dict[str, int]:
        """Number of codes of each categorical column that comes out; code 0 is 'missing'."""
        return {}

    @abstractmethod
    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Learn from the events of the train split alone.

        Args:
            train: columns user, item, timestamp and labels, by user and time.
            catalogue: the items.

        Raises:
            ConfigError: a column that the feature needs is not there.
        """

    @abstractmethod
    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The columns of `specs` for every example, in the order of the examples.

        Args:
            events: whole users' events (train and later), columns user, item, timestamp and labels, by user and time.
                Only those with a timestamp strictly before an example's own count for it.
            examples: columns user, item, timestamp, in any order; `examples is events` is the common case, and quick.
            state: from `fit`.

        Returns:
            One column for each spec: dense Float64, null where there is nothing to tell; categorical Int32 codes.
        """

    @abstractmethod
    def start(self) -> dict[str, Any]:
        """The memory of a user without any event; JSON data."""

    @abstractmethod
    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """The memory after one more event of the user; events come in the order of time."""

    @abstractmethod
    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The columns of `specs` for candidates, [C] each; dense float64 with NaN where null, categorical int32.

        Args:
            memory: after all events strictly before `timestamp`.
            items: [C] item indices.
            timestamp: time of the request in milliseconds.
            state: from `fit`.
        """
