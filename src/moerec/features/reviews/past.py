"""What a user had reviewed strictly before a moment: whole numbers, so that any way to add them gives the same bits.

Shape letters: N reviews, U users, P examples, K categories, H reviews of a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from moerec.features.fixed_point import mean, sample_deviation
from moerec.features.prefixes import prefix_sums
from moerec.features.reviews.config import ReviewExamplesConfig
from moerec.features.reviews.schema import share_column

Ints = NDArray[np.int64]
Memory = dict[str, Any]
"""What is kept of a user between events, see `fold`."""
CENTS = 100


@dataclass(frozen=True, eq=False)
class Log:
    """Reviews of whole users by user, time and item, as arrays."""

    users: Ints
    """[N] number of the user."""
    first: Ints
    """[U] row of the user's first review."""
    times: Ints
    """[N] milliseconds."""
    categories: NDArray[np.int32]
    """[N] codes, 0 for unknown."""
    prices: NDArray[np.float64]
    """[N] NaN for unknown."""
    keys: pl.Series
    """[N]"""

    @classmethod
    def of(cls, events: pl.DataFrame) -> Log:
        """The arrays of events that stand in the order of EVENT_ORDER and have keys."""
        users = events["user_id"].rle_id().cast(pl.Int64).to_numpy()  # [N]
        first = np.flatnonzero(np.diff(users, prepend=-1))
        return cls(
            users,
            first,
            events["timestamp"].to_numpy(),
            events["category"].to_numpy(),
            events["price"].fill_null(float("nan")).to_numpy(),
            events["key"],
        )

    def behind_the_past(self) -> Ints:
        """[N] for each review the row behind the last one of its user that is strictly earlier."""
        tied = np.zeros(len(self.times), np.bool_)  # [N]
        tied[1:] = (self.times[1:] == self.times[:-1]) & (self.users[1:] == self.users[:-1])
        stop = np.arange(len(tied))
        stop[tied] = 0
        return np.maximum.accumulate(stop)


@dataclass(frozen=True, eq=False)
class Carried:
    """What was before the first row of each user, for instance what a memory holds."""

    count: Ints
    """[U]"""
    priced: Ints
    """[U] reviews with a price."""
    cents: Ints
    """[U]"""
    squares: Ints
    """[U] sum of the squared cents."""
    categories: Ints
    """[K, U]"""
    keys: pl.Series
    """Keys of the last reviews, of all users one after the other, newest first."""
    offsets: Ints
    """[U + 1] where those of each user begin."""

    @classmethod
    def nothing(cls, users: int, categories: int) -> Carried:
        """All reviews of the users stand in the log."""
        none = np.zeros(users, np.int64)
        counts = np.broadcast_to(none, (categories, users))
        return cls(none, none, none, none, counts, pl.Series(dtype=pl.String), np.zeros(users + 1, np.int64))

    @classmethod
    def of(cls, memories: Sequence[Memory | None], categories: int) -> Carried:
        """From the memories of the users in order; None for no memory."""
        numbers = np.zeros((4, len(memories)), np.int64)
        counts = np.zeros((categories, len(memories)), np.int64)
        lengths, keys = np.zeros(len(memories), np.int64), []
        for user, memory in enumerate(memories):
            if memory is not None:
                numbers[:, user] = [memory[name] for name in ("count", "priced", "cents", "squares")]
                for code, count in memory["categories"].items():
                    counts[int(code) - 1, user] = count
                lengths[user] = len(memory["history"])
                keys.extend(memory["history"])
        count, priced, cents, squares = numbers
        return cls(count, priced, cents, squares, counts, pl.Series(keys, dtype=pl.String), prefix_sums(lengths))


def cents_of(price: float, config: ReviewExamplesConfig) -> int:
    """A price in whole cents."""
    # As `whole_cents`, many times faster for a single number: both round halves to even.
    return 0 if isnan(price) else round(min(max(price, 0.0), config.highest_price) * CENTS)


def whole_cents(prices: NDArray[np.float64], config: ReviewExamplesConfig) -> Ints:
    """[N] prices in whole cents, 0 where there is none."""
    limited = np.clip(np.where(np.isfinite(prices), prices, 0.0), 0.0, config.highest_price)
    return np.rint(limited * CENTS).astype(np.int64)


def profiles(log: Log, rows: Ints, num_categories: int, config: ReviewExamplesConfig, carried: Carried) -> pl.DataFrame:
    """The profile of some reviews' users just before them, one row each.

    Args:
        log: the reviews of the users that are not carried.
        rows: [P] the reviews.
        num_categories: K.
        config: the rule.
        carried: what was before the log.
    """
    users = log.users[rows]  # [P]
    start, stop = log.first[users], log.behind_the_past()[rows]  # [P]
    cents = whole_cents(log.prices, config)  # [N]

    def total(numbers: NDArray[np.integer] | NDArray[np.bool_], before: Ints) -> Ints:
        sums = prefix_sums(numbers)
        return sums[stop] - sums[start] + before[users]

    known = total(np.isfinite(log.prices), carried.priced)  # [P]
    sums, squares = total(cents, carried.cents), total(cents * cents, carried.squares)  # [P]
    here = [total(log.categories == code, carried.categories[code - 1]) for code in range(1, num_categories + 1)]
    categorised = np.maximum(sum(here, np.zeros(len(rows), np.int64)), 1)  # [P]
    return pl.DataFrame(
        {
            "review_count": stop - start + carried.count[users],
            "price_mean": pl.Series(mean(known, sums) / CENTS, nan_to_null=True),
            "price_deviation": pl.Series(sample_deviation(known, sums, squares) / CENTS, nan_to_null=True),
            **{share_column(code): counts / categorised for code, counts in enumerate(here, 1)},
            "history": _history(log, users, start, stop, config.history, carried),
        }
    )


def _history(log: Log, users: Ints, start: Ints, stop: Ints, length: int, carried: Carried) -> pl.Series:
    """[P] lists of the keys of the last reviews, newest first."""
    rows = stop[:, None] - 1 - np.arange(length)  # [P, H]
    there = rows >= start[:, None]
    keys = log.keys
    if len(carried.keys):
        keys = pl.concat([keys, carried.keys.alias(keys.name)])
        # The carried keys stand behind those of the log; how far a row lies before the user's first tells which.
        place = carried.offsets[users][:, None] + (start[:, None] - 1 - rows)  # [P, H]
        earlier = ~there & (place < carried.offsets[users + 1][:, None])
        rows, there = np.where(earlier, len(log.times) + place, rows), there | earlier
    found = keys.gather(rows[there]).to_arrow().cast(pa.large_string())
    lists = pa.LargeListArray.from_arrays(pa.array(prefix_sums(there.sum(1))), found)
    return pl.Series("history", lists, dtype=pl.List(pl.String))
