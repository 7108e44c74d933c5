"""The event log: partitions of records in a fixed order, read from positions that somebody else keeps.

A log never keeps how far it was read. Whoever reads it keeps that in the same transaction as what came of the records,
and answers the question of the log where a partition is to be read from. So a log may lose and get partitions at any
time (new files, a rebalance of Kafka), and nothing is read twice or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Position:
    """Where a partition is to be read on."""

    offset: int
    """Of the next record; for files the byte where its line begins."""
    mark: str = ""
    """What the log needs to recognise the place, so that another content under the same name is noticed."""


@dataclass(frozen=True)
class Record:
    """One record of a log."""

    partition: str
    offset: int
    value: bytes
    problem: str | None = None
    """Why it is refused before anyone has looked into it; the value is then its beginning."""


@dataclass(frozen=True)
class Polled:
    """The records of one poll, and the stretch of each partition that they are; a record belongs to one poll."""

    records: list[Record]
    """By partition in the order of the log; partitions one after the other."""
    before: Mapping[str, Position | None]
    """Per partition that was read: the position before the records; None at its very beginning."""
    after: Mapping[str, Position]
    """Per partition that was read: the position after the records."""

    @classmethod
    def nothing(cls) -> Polled:
        """A poll that found nothing new."""
        return cls([], {}, {})


Positions = Callable[[str], Position | None]
"""The position that is kept of a partition; None if it was never read."""


class EventLog(Protocol):
    """What a stream reads."""

    @property
    def name(self) -> str:
        """What it is, for messages."""

    def poll(self, maximum: int, wait: float) -> Polled:
        """The next records, at most so many.

        Args:
            maximum: most records, at least 1.
            wait: seconds to wait for the first one.

        Raises:
            DatasetError: a partition is not what it was when its position was taken.
        """

    def at_end(self) -> bool:
        """Whether the last poll gave nothing because every partition is read to its end as it was then."""

    def rewind(self) -> None:
        """Read on from the positions that are kept: what was polled since then came to nothing."""

    def kept(self, after: Mapping[str, Position]) -> None:
        """Take note that these positions are kept; whoever watches the log from outside can be told."""

    def close(self) -> None:
        """Let go of files and connections."""
