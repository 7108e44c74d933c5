"""Transitions: how often users met the candidate soon after the items that this user met last.

Shape letters: N events, E examples, e some of them, M their distinct moments, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from moerec.errors import ConfigError
from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import Floats, Ints
from moerec.features.item_pairs import ItemPairs, Pairs
from moerec.features.prefixes import Ranges, UserLog, parts, stable_order
from moerec.features.spec import FeatureSpec


class TransitionsConfig(FeatureConfig):
    """How often the candidate came soon after the user's last items, among train events before the moment."""

    gap: int = Field(default=10, ge=1, le=1000)
    """Two events of a user are a pair if they lie at most so many places apart in the user's log."""
    last: int = Field(default=10, ge=1, le=1000)
    """How many of the user's last events the candidate is looked up for."""
    decay: float = Field(default=0.8, gt=0, le=1)
    """Weight of each event in the sum, as a multiple of that of the event after it."""
    smoothing: float = Field(default=5.0, gt=0)
    """So many events are added to those of an item before its pairs are divided by them."""
    both_directions: bool = False
    """Count each pair from the later event to the earlier one too; events of equal time always count both ways."""
    pairs: int = Field(default=200_000_000, ge=1, lt=2**31)
    """The most pairs that may be made; fitting takes about 50 bytes for each."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """Of the shares with which the candidate followed each of the last items; all null before the first event.

        - `item_follow_last`: the share of the latest item; the mean if several events have the latest time.
        - `item_follow_sum`: the sum over the last events, weighted by `decay`.
        - `item_follow_max`: the greatest.
        - `item_follow_count`: how many different ones of the last items the candidate followed at all.
        """
        shares = (
            FeatureSpec(name=f"item_follow_{name}", kind="dense", side="event", transform="quantile")
            for name in ("last", "sum", "max")
        )
        return (*shares, FeatureSpec(name="item_follow_count", kind="dense", side="event", transform="log"))

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Count pairs of items and events of items by time.

        Raises:
            ConfigError: there are more pairs than `pairs`.
            DatasetError: events have no time.
        """
        log, pairs = UserLog.of(train), Pairs(self.gap, self.both_directions)
        number = pairs.number(log)
        if number > self.pairs:
            raise ConfigError(
                f"features.transitions.gap: {train.height:,} train events make {number:,} pairs within {self.gap} "
                f"places, more than pairs = {self.pairs:,}; set a smaller gap, or raise pairs if there is memory"
            )
        items = train["item"].to_numpy().astype(np.int64)  # [N]
        return ItemPairs.of(log, items, catalogue.num_indices, pairs).state()

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The shares of every example.

        Raises:
            DatasetError: events have no time.
        """
        candidates = examples["item"].to_numpy().astype(np.int64)
        columns = {spec.name: np.empty(examples.height) for spec in self.specs}  # each [E]
        for part in parts(events, examples):
            items = part.events["item"].to_numpy().astype(np.int64)  # [N]
            history = _History.of(items, part.log.times, part.log.groups)
            for rows, asked in part.asked:
                for name, values in self._columns(candidates[rows], history, asked, state).items():
                    columns[name][rows] = values
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No event."""
        return {"items": [], "times": []}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """Keep as many last events as are looked at."""
        return {
            "items": [*memory["items"], event.item][-self.last :],
            "times": [*memory["times"], event.timestamp][-self.last :],
        }

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The shares of candidates [C]."""
        items_met, times = (np.array(memory[name], np.int64) for name in ("items", "times"))
        history = _History.of(items_met, times, np.zeros_like(times))
        zeros = np.zeros(len(items), np.int64)
        asked = Ranges(zeros, zeros + timestamp, zeros, zeros + len(times))
        return dict(self._columns(items, history, asked, state))

    def _columns(
        self, candidates: NDArray[np.int64], history: _History, asked: Ranges, state: FeatureState
    ) -> dict[str, Floats]:
        """The columns of candidates [e]; place by place, so that each sum has one order of its terms."""
        pairs = ItemPairs.from_state(state)
        first, moment = _moments(asked)  # [M], [e]
        start, stop, ranks = asked.start[first], asked.stop[first], pairs.ranks_of(asked.times[first])  # [M] each
        latest, total, greatest = (np.zeros(len(candidates)) for _ in range(3))  # [e] each
        followed, ties = np.zeros(len(candidates), np.int64), np.zeros(len(first), np.int64)  # [e], [M]
        for back in range(min(self.last, int((stop - start).max(initial=0)))):
            place = stop - 1 - back  # [M]
            seen = place >= start
            place = np.maximum(place, 0)
            sources = history.items[place]
            tied = seen & (history.times[place] == history.times[stop - 1])
            new = seen & (history.again[place] >= stop)
            smoothed = pairs.events(sources, ranks) + self.smoothing
            count = pairs.followed(sources[moment], candidates, ranks[moment])  # [e]
            share = np.where(seen[moment], count / smoothed[moment], 0.0)
            latest += np.where(tied[moment], share, 0.0)
            total += self.decay**back * share
            greatest = np.maximum(greatest, share)
            followed += (count > 0) & new[moment]
            ties += tied
        known = (stop > start)[moment]
        values = (latest / np.maximum(ties, 1)[moment], total, greatest, followed)  # [e] each
        return {spec.name: np.where(known, value, np.nan) for spec, value in zip(self.specs, values, strict=True)}


@dataclass(frozen=True, eq=False)
class _History:
    """Events by user and time."""

    items: Ints
    """[N] item index."""
    times: Ints
    """[N] milliseconds."""
    again: Ints
    """[N] the user's next event of the same item; N if there is none."""

    @classmethod
    def of(cls, items: Ints, times: Ints, groups: Ints) -> _History:
        """From columns of the log, each [N]."""
        order = stable_order(items)
        order = order[stable_order(groups[order])]
        same = (items[order[1:]] == items[order[:-1]]) & (groups[order[1:]] == groups[order[:-1]])
        again = np.full(len(items), len(items))  # [N]
        again[order[:-1][same]] = order[1:][same]
        return cls(items, times, again)


def _moments(asked: Ranges) -> tuple[Ints, Ints]:
    """[M] the first of the neighbouring examples that see the same at the same time; [e] which of them each is.

    Many candidates of one request thus share what does not depend on the candidate.
    """
    new = np.ones(len(asked.times), np.bool_)  # [e]
    new[1:] = False
    for part in (asked.times, asked.start, asked.stop):
        new[1:] |= part[1:] != part[:-1]
    return np.flatnonzero(new), np.cumsum(new) - 1
