"""What a user's own events before a moment show: how many, how lately, and how they judged.

Each is found in two ways that give the same whole numbers: from a log of whole users, and from one user's memory.

Shape letters: N events, E examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from moerec.features.fixed_point import Bools, FixedPoint, Floats, Ints
from moerec.features.prefixes import MILLISECONDS_OF_A_DAY, Ranges, UserLog, blocks, prefix_sums, sums_between
from moerec.features.settings import Days


@dataclass(frozen=True, eq=False)
class Activity:
    """What is known of a user's earlier events at a moment."""

    count: Ints
    """[E] events."""
    first: Ints
    """[E] time of the first; any number if there is none."""
    last: Ints
    """[E] time of the last; any number if there is none."""
    recent: list[Ints]
    """Per window, [E]: events in it."""

    @classmethod
    def of(cls, log: UserLog, ranges: Ranges, recent_days: Days) -> Activity:
        """From the log, for a block of examples."""
        recent = [ranges.stop - log.since(ranges, days * MILLISECONDS_OF_A_DAY) for days in recent_days]
        return cls(ranges.stop - ranges.start, log.first(ranges), log.last(ranges), recent)

    @classmethod
    def remembered(cls, memory: Mapping[str, Any], timestamp: int, recent_days: Days) -> Activity:
        """From the memory of one user, E = 1."""
        count, first, last = (np.array([memory[name]]) for name in ("count", "first", "last"))
        times = np.array(memory["recent"], np.int64)
        recent = [np.array([(times >= timestamp - days * MILLISECONDS_OF_A_DAY).sum()]) for days in recent_days]
        return cls(count, first, last, recent)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What is known of one label over a user's earlier events, each [E]; sums are in units of the label."""

    known: Ints
    sums: Ints
    squares: Ints
    recent_known: Ints
    recent_sums: Ints
    residuals: Ints

    @classmethod
    def remembered(cls, memory: Mapping[str, Any]) -> Judgement:
        """From the memory of one user, E = 1."""
        recent = [number for number in memory["recent"] if number is not None]
        numbers = (memory["known"], memory["sum"], memory["squares"], len(recent), sum(recent), memory["residuals"])
        return cls(*(np.array([number], np.int64) for number in numbers))


@dataclass(frozen=True, eq=False)
class LabelEvents:
    """One label of events, in its units."""

    units: FixedPoint
    numbers: Ints
    """[N] 0 where there is none."""
    known: Bools
    """[N] whether there is one."""
    residuals: Ints
    """[N] how much it is above what its item had shown."""

    @classmethod
    def of(cls, units: FixedPoint, values: Floats) -> LabelEvents:
        """From the label's column [N]; residuals are to be filled in."""
        numbers, residuals = np.empty(len(values), np.int64), np.empty(len(values), np.int64)  # [N], [N]
        known = np.empty(len(values), np.bool_)  # [N]
        for block in blocks(len(values), small=True):
            numbers[block], known[block] = units.whole(values[block])
        return cls(units, numbers, known, residuals)

    def __getitem__(self, rows: slice) -> LabelEvents:
        return LabelEvents(self.units, self.numbers[rows], self.known[rows], self.residuals[rows])


@dataclass(frozen=True, eq=False)
class LabelLog:
    """Prefix sums of one label over events, each [N + 1]."""

    units: FixedPoint
    known: Ints
    """[0] if every event has the label."""
    sums: Ints
    squares: Ints
    residuals: Ints

    @classmethod
    def of(cls, events: LabelEvents) -> LabelLog:
        """Sum up what stands by user and time."""
        known = np.zeros(0, np.int64) if events.known.all() else prefix_sums(events.known)
        squares = prefix_sums(events.numbers * events.numbers)
        return cls(events.units, known, prefix_sums(events.numbers), squares, prefix_sums(events.residuals))

    def judgement(self, ranges: Ranges, recent_events: int) -> Judgement:
        """For a block of examples."""
        start, stop = ranges.start, ranges.stop
        recent = np.maximum(start, stop - recent_events)  # [E]
        return Judgement(
            sums_between(self.known, start, stop),
            sums_between(self.sums, start, stop),
            sums_between(self.squares, start, stop),
            sums_between(self.known, recent, stop),
            sums_between(self.sums, recent, stop),
            sums_between(self.residuals, start, stop),
        )
