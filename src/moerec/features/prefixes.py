"""Which events lie strictly before a moment, for whole tables at once.

Events stand by group (a user, or an item) and time. What a group did before a moment is then a range of rows, and any
sum over it is the difference of two prefix sums.

Sums are of int64 numbers: additions wrap around modulo 2**64, so a difference of prefixes is exact whenever the sum
of the range itself fits into int64, however long the table before it is. It follows that parts of the users, other
orders of the users and a fold event by event all give the same bits; floating-point prefixes would give none of this.

Shape letters: N events, G groups, E examples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import DatasetError

Ints = NDArray[np.int64]
Task = TypeVar("Task")

MILLISECONDS_OF_A_DAY = 86_400_000

# Rows worked on at once: so few that they stay in the processor's cache, or so many that look-ups in a large array,
# put in order, use most of what each read brings.
_PART_ROWS = 2**16
_BLOCK_ROWS = 2**19
# Below this a plain search is quicker than putting the queries in order first.
_FEW = 512
_DIGIT_BITS = 16


def prefix_sums(numbers: NDArray[np.integer] | NDArray[np.bool_]) -> Ints:
    """[N + 1] sums of the first 0, 1, ... N numbers; the sum of rows a to b - 1 is `sums[b] - sums[a]`."""
    sums = np.zeros(len(numbers) + 1, np.int64)  # [N + 1]
    np.cumsum(numbers, dtype=np.int64, out=sums[1:])
    return sums


def stable_order(numbers: Ints) -> Ints:
    """The order that sorts whole numbers from 0 on, equal ones in their order.

    A radix sort by 16 bits at a time: about three times as fast as sorting by comparison.
    """
    largest = int(numbers.max(initial=0))
    order = np.argsort(numbers.astype(np.uint16), kind="stable")  # [N]
    for shift in range(_DIGIT_BITS, largest.bit_length(), _DIGIT_BITS):
        order = order[np.argsort((numbers[order] >> shift).astype(np.uint16), kind="stable")]
    return order


def sums_between(sums: Ints, start: Ints, stop: Ints) -> Ints:
    """[E] sums of rows start to stop - 1. No prefix sums at all stand for those of a column of ones."""
    return sums[stop] - sums[start] if len(sums) else stop - start


def positions(ascending: Ints, queries: Ints) -> Ints:
    """For each query, how many of the ascending numbers are smaller: [E].

    Queries out of order are put in order first: a search that jumps through a large array waits for memory.
    """
    if len(queries) < _FEW or (queries[1:] >= queries[:-1]).all():
        return np.searchsorted(ascending, queries)
    order = stable_order(queries - queries.min())
    found = np.empty(len(queries), np.int64)  # [E]
    found[order] = np.searchsorted(ascending, queries[order])
    return found


def blocks(rows: int, *, small: bool = False) -> Iterator[slice]:
    """Slices that cover the rows; small ones for work that reads everything in order."""
    size = _PART_ROWS if small else _BLOCK_ROWS
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


@dataclass(frozen=True, eq=False)
class Timelines:
    """Times of events by group and time, searchable for all groups at once.

    Each event has a key that grows with (group, time): the time since the group's first event, behind the time that
    all groups before it span together. The sum of the spans is much less than groups times the whole span.
    """

    offsets: Ints
    """[G + 1] events of group g are offsets[g] to offsets[g + 1] - 1."""
    first: Ints
    """[G] time of the group's first event in milliseconds; 0 if it has none."""
    spans: Ints
    """[G] a number of milliseconds that is past the group's last event, counted from its first; 0 if it has none."""
    bases: Ints
    """[G] key of the group's first event."""
    keys: Ints
    """[N] keys, ascending."""

    @classmethod
    def of(cls, times: Ints, offsets: Ints) -> Timelines:
        """Timelines of events that stand by group and time.

        Args:
            times: [N] milliseconds, ascending within each group.
            offsets: [G + 1] where groups begin; a group may be empty.

        Raises:
            DatasetError: the times cannot be milliseconds.
        """
        counts = np.diff(offsets)  # [G]
        filled = counts > 0
        first, spans = np.zeros(len(counts), np.int64), np.zeros(len(counts), np.int64)  # [G]
        first[filled] = times[offsets[:-1][filled]]
        spans[filled] = times[offsets[1:][filled] - 1] - first[filled] + 1
        if (spans < 0).any() or spans.sum(dtype=np.float64) >= 2.0**62:
            raise DatasetError("events: the times span millions of years; timestamps must be milliseconds since 1970")
        bases = prefix_sums(spans)[:-1]  # [G]
        return cls(offsets, first, spans, bases, times + np.repeat(bases - first, counts))

    def before(self, groups: NDArray[np.integer], times: Ints) -> Ints:
        """[E] row behind the last event of the group strictly before the time; its first row if there is none."""
        return positions(self.keys, self.queries(groups, times))

    def queries(self, groups: NDArray[np.integer], times: Ints) -> Ints:
        """[E] the key that an event of that group and time would have; one value for all times past the last."""
        return self.bases[groups] + np.clip(times - self.first[groups], 0, self.spans[groups])


@dataclass(frozen=True, eq=False)
class Ranges:
    """For each example, the rows of its user's strictly earlier events: start to stop - 1."""

    groups: Ints
    """[E] group of the user; any group for a user without events."""
    times: Ints
    """[E] time of the example in milliseconds."""
    start: Ints
    """[E] first row of the user."""
    stop: Ints
    """[E] row behind the last earlier event; equal to `start` if there is none."""


@dataclass(frozen=True, eq=False)
class UserLog:
    """The events of whole users, by user and time."""

    users: NDArray[np.integer]
    """[G] the users."""
    groups: Ints
    """[N] group of each event."""
    times: Ints
    """[N] milliseconds."""
    timelines: Timelines
    """The times by group; a log without events has one empty group."""

    @classmethod
    def of(cls, events: pl.DataFrame) -> UserLog:
        """The log of a table with columns user and timestamp; the users may stand in any order.

        Raises:
            DatasetError: there are no times, or they are no milliseconds.
            ValueError: the rows of a user are not together, or not in the order of time.
        """
        users, times = events["user"].to_numpy(), event_times(events)
        begins = _first_rows(users)  # [G]
        earlier = np.flatnonzero(times[1:] < times[:-1]) + 1
        if not np.isin(earlier, begins).all():
            raise ValueError("the events of a user must stand in the order of time")
        offsets = np.append(begins if len(begins) else 0, len(users)).astype(np.int64)  # [G + 1]
        groups = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))  # [N]
        return cls(users[begins], groups, times, Timelines.of(times, offsets))

    def own_ranges(self) -> Ranges:
        """The events as examples of their own: each sees what stands before the first event of its time."""
        tied = np.zeros(len(self.times), np.bool_)  # [N]
        tied[1:] = (self.times[1:] == self.times[:-1]) & (self.groups[1:] == self.groups[:-1])
        stop = np.arange(len(tied))
        stop[tied] = 0
        return Ranges(self.groups, self.times, self.timelines.offsets[self.groups], np.maximum.accumulate(stop))

    def ranges(self, users: NDArray[np.integer], times: Ints) -> Iterator[tuple[Ints, Ranges]]:
        """The ranges of any examples in blocks, by user and time: rows of the examples, and what they see.

        A user without events has an empty range.

        Args:
            users: [E] users.
            times: [E] milliseconds.
        """
        groups, known = np.zeros(len(users), np.int64), np.zeros(len(users), np.bool_)  # [E], [E]
        if len(self.users):
            order = np.argsort(self.users)  # [G]
            groups = order[np.minimum(np.searchsorted(self.users[order], users), len(order) - 1)]
            known = self.users[groups] == users
        queries = self.timelines.queries(groups, times)  # [E]
        order = stable_order(queries)  # [E]
        for block in blocks(len(order)):
            rows = order[block]
            start = self.timelines.offsets[groups[rows]]
            stop = np.where(known[rows], np.searchsorted(self.timelines.keys, queries[rows]), start)
            yield rows, Ranges(groups[rows], times[rows], start, stop)

    def since(self, ranges: Ranges, milliseconds: int) -> Ints:
        """[E] where within each range the events begin that are at most so much earlier than the example."""
        begin = self.timelines.before(ranges.groups, ranges.times - milliseconds)
        return np.clip(begin, ranges.start, ranges.stop)

    def first(self, ranges: Ranges) -> Ints:
        """[E] time of the user's first event; only for ranges that are not empty."""
        return self.timelines.first[ranges.groups]

    def last(self, ranges: Ranges) -> Ints:
        """[E] time of the last event of each range; only for ranges that are not empty."""
        return self.times[np.maximum(ranges.stop - 1, 0)] if len(self.times) else ranges.times


@dataclass(frozen=True, eq=False)
class Part:
    """Whole users, and the examples that are theirs; looked up when asked for."""

    events: pl.DataFrame
    """The users' events, N rows."""
    rows: slice
    """Where they stand in the whole table."""
    examples: pl.DataFrame | None
    """The table of examples; None if the events are the examples."""

    @cached_property
    def log(self) -> UserLog:
        """The events as arrays."""
        return UserLog.of(self.events)

    @property
    def asked(self) -> Iterator[tuple[slice | Ints, Ranges]]:
        """Blocks of examples: their rows in the table of examples, and what they see of the log."""
        if self.examples is None:
            yield self.rows, self.log.own_ranges()
        else:
            yield from self.log.ranges(self.examples["user"].to_numpy(), event_times(self.examples))


def parts(events: pl.DataFrame, examples: pl.DataFrame) -> Iterator[Part]:
    """The examples in parts, each example once.

    Where `examples is events` the ranges follow from the order of the rows, and a part is as small as is quick.
    Other examples are one part, looked up in the order of user and time.

    Raises:
        DatasetError: there are no times, or they are no milliseconds.
        ValueError: the events do not stand by user and time.
    """
    if examples is not events:
        yield Part(events, slice(0, events.height), examples)
        return
    begins = _first_rows(events["user"].to_numpy())  # [G]
    wanted = np.searchsorted(begins, np.arange(_PART_ROWS, events.height, _PART_ROWS))
    cuts = np.unique([0, *np.append(begins, events.height)[wanted], events.height]).tolist()
    for start, stop in pairwise(cuts):
        yield Part(events[start:stop], slice(start, stop), None)


def on_threads(work: Callable[[Task], None], tasks: Iterable[Task]) -> None:
    """Do independent work on as many threads as Polars has (`POLARS_MAX_THREADS`); numpy's loops run side by side."""
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        for _ in pool.map(work, tasks):
            pass


def _first_rows(users: NDArray[np.integer]) -> Ints:
    """[G] the first row of each user.

    Raises:
        ValueError: the rows of a user are not together.
    """
    first = np.ones(len(users), np.bool_)  # [N]
    first[1:] = users[1:] != users[:-1]
    rows = np.flatnonzero(first)  # [G]
    if len(np.unique(users[rows])) != len(rows):
        raise ValueError("the events of a user must stand together")
    return rows


def event_times(events: pl.DataFrame) -> Ints:
    """The column timestamp, [N].

    Raises:
        DatasetError: times are missing.
    """
    column = events["timestamp"]
    if column.null_count():
        raise DatasetError("events: some have no timestamp; features of the past need the time of every event")
    return column.cast(pl.Int64).to_numpy()
