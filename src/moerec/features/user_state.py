"""UserState: what is kept of one user between events, for serving, streams and federated clients.

Shape letters: C candidates of one request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.errors import ConfigError, DatasetError
from moerec.features.feature import Event, FeatureConfig, FeatureState

Features = Mapping[str, tuple[FeatureConfig, FeatureState]]
"""Computed features by name, each with what it learned from the train events."""


@dataclass(frozen=True)
class UserState:
    """The one store of a user: the memory of every feature, and the events that no request may see yet.

    An event is visible to requests at strictly later times alone. So the events of the last time stay pending, and
    enter the memories when something later comes.
    """

    memories: Mapping[str, dict[str, Any]]
    """Per feature: its memory after all events before `last`; JSON data."""
    last: int | None = None
    """Time of the last event in milliseconds; None before the first."""
    pending: tuple[Event, ...] = ()
    """The events at `last`, in the order of arrival."""

    @classmethod
    def empty(cls, features: Features) -> UserState:
        """A user without any event."""
        return cls({name: feature.start() for name, (feature, _) in features.items()})

    def update(self, event: Event, features: Features) -> UserState:
        """The state after one more event; events come in the order of time.

        Raises:
            ConfigError: the state was made for other features.
            DatasetError: the event is earlier than the last one.
        """
        later = self.at(event.timestamp, features)
        return UserState(later.memories, event.timestamp, (*later.pending, event))

    def read(self, items: NDArray[np.int64], timestamp: int, features: Features) -> dict[str, NDArray[Any]]:
        """The columns of all features for candidates at one time, [C] each; events at that time are not seen.

        Args:
            items: [C] item indices.
            timestamp: time of the request in milliseconds, not before the last event.
            features: those of `empty`.

        Raises:
            ConfigError: the state was made for other features.
            DatasetError: the request is earlier than the last event.
        """
        memories = self.at(timestamp, features).memories
        columns: dict[str, NDArray[Any]] = {}
        for name, (feature, state) in features.items():
            columns |= feature.read(memories[name], items, timestamp, state)
        return columns

    def at(self, timestamp: int, features: Features) -> UserState:
        """The same user at a later time: pending events that are over by then are in the memories.

        Raises:
            ConfigError: the state was made for other features.
            DatasetError: the time is before the last event.
        """
        if self.memories.keys() != features.keys():
            kept, asked = ", ".join(sorted(self.memories)) or "none", ", ".join(sorted(features)) or "none"
            raise ConfigError(f"user state: it was made for the features {kept}, not {asked}; fold the events again")
        if self.last is None or timestamp == self.last:
            return self
        if timestamp < self.last:
            raise DatasetError(
                f"user state: time {timestamp} is before the user's last event at {self.last}; "
                "give events and requests in the order of time"
            )
        memories = dict(self.memories)
        for name, (feature, state) in features.items():
            for event in self.pending:
                memories[name] = feature.update(memories[name], event, state)
        return UserState(memories, self.last)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON data."""
        pending = [{"item": event.item, "labels": dict(event.labels)} for event in self.pending]
        return {"last": self.last, "pending": pending, "memories": dict(self.memories)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> UserState:
        """The state that `to_json` wrote."""
        pending = tuple(Event(event["item"], data["last"], event["labels"]) for event in data["pending"])
        return cls(data["memories"], data["last"], pending)
