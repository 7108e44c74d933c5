"""FittedSplit: which split something was fitted on, so that what does not belong together is not joined."""

from __future__ import annotations

import hashlib

from moerec.config import Config
from moerec.dataset.dataset import Dataset
from moerec.errors import ConfigError


class FittedSplit(Config):
    """The split that something was fitted on; what was fitted on different splits must not be joined."""

    name: str
    """Its name in the data set."""
    rule: str
    """The rule in words."""
    events: dict[str, int]
    """Events of each part."""
    digest: str
    """SHA-256 (16 digits) of users, items and parts of all events."""

    @classmethod
    def of(cls, dataset: Dataset, name: str) -> FittedSplit:
        """Describe one of the data set's splits."""
        parts = dataset.split(name)
        digest = hashlib.sha256()
        for array in (dataset.user_offsets, dataset.event_items, parts):
            digest.update(array.tobytes())
        entry = dataset.info.splits[name]
        return cls(name=name, rule=entry.rule, events=dict(entry.events), digest=digest.hexdigest()[:16])

    def check(self, other: FittedSplit, ours: str, theirs: str) -> None:
        """Refuse to join two things that were fitted on different splits.

        Args:
            other: the split of the other thing.
            ours: what was fitted on this split, for the message.
            theirs: what was fitted on the other one.

        Raises:
            ConfigError: the splits differ.
        """
        if other != self:
            raise ConfigError(
                f"{ours} were fitted on {self.describe()}, {theirs} on {other.describe()}; fit both on the same split"
            )

    def describe(self) -> str:
        """The split in words."""
        counts = ", ".join(f"{part} {count:,}" for part, count in self.events.items() if count)
        return f"split '{self.name}' ({self.rule}; {counts}; {self.digest})"
