"""Negatives on a stream: items that the user had not met when the review arrived.

What a user meets later is not known yet. So a draw depends on the reviews that arrived before, in the order of the log,
and on nothing else: the size of micro-batches changes nothing. With `exclude: past` those of the review's own time do
not count, and the draws are the ones of the batch.

Shape letters: P positives, D negatives of a positive, M picks that are looked at, E pairs of positives and items met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.features.counter_random import Words, share, stream
from moerec.features.negative_supply import Supply
from moerec.features.negatives import Log, draw_items
from moerec.features.reviews.config import ReviewExamplesConfig
from moerec.features.reviews.examples import draw_keys
from moerec.features.reviews.keys import key_texts, key_words, negative_words
from moerec.features.reviews.state import ReviewState

Ints = NDArray[np.int64]

FEW_REVIEWS = 32
"""Up to so many reviews of a user are read whole; of more, only whether the user met what would be drawn."""
_MORE_PICKS = 4
_NO_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Past:
    """What a user had met when a review arrived."""

    reviews: int
    """How many reviews the store has of the user: those before this micro-batch."""
    has_met: Callable[[str, int], bool]
    """Whether an item is among them, at a time before a given one."""
    met: Callable[[int], set[str]]
    """All of their items, of times before a given one."""
    here: dict[str, tuple[int, int]] = field(default_factory=dict)
    """The items that the user reviews in this micro-batch: when each arrived first, and the time of that review."""

    def relevant(self, own: str, arrival: int, before: int, picks: Sequence[str], count: int) -> set[str]:
        """Of the items that must not be drawn, those that decide: all, or those among the picks if these suffice.

        Args:
            own: the item of the review.
            arrival: its place in the micro-batch.
            before: only reviews of earlier times count.
            picks: what the draw looks at first, in this order.
            count: how many items are drawn.
        """
        if self.reviews + len(self.here) > FEW_REVIEWS:
            met: set[str] = {own}
            free: set[str] = set()
            for item in picks:
                if item not in met and item not in free:
                    (met if self._is_here(item, arrival, before) or self.has_met(item, before) else free).add(item)
                    if len(free) == count:
                        return met  # the draw ends here, so nothing else matters
        return {own, *(item for item in self.here if self._is_here(item, arrival, before)), *self.met(before)}

    def _is_here(self, item: str, arrival: int, before: int) -> bool:
        first = self.here.get(item)
        return first is not None and first[0] <= arrival and first[1] < before


def with_negatives(
    positives: pl.DataFrame,
    arrivals: Ints,
    pasts: Mapping[str, Past],
    state: ReviewState,
    config: ReviewExamplesConfig,
    seed: int,
) -> pl.DataFrame:
    """Each positive and then its negatives.

    Args:
        positives: [P] examples without negatives.
        arrivals: [P] place of each in the micro-batch.
        pasts: what the users had met, by user id.
        state: from `merge`.
        config: the rule.
        seed: as of the positives.
    """
    if config.negatives is None or state.supply is None or not len(state.items) or not positives.height:
        return positives
    words = key_words(positives["key"])  # [P, 2]
    keys = draw_keys(words, seed)  # [P]
    times = positives["timestamp"].to_numpy()
    picks = _first_picks(state.supply, keys, times, config.negatives.count + _MORE_PICKS)  # [P, M]
    names = state.items.gather(np.maximum(picks, 0).ravel()).to_numpy().reshape(picks.shape)
    before = times if config.negatives.exclude == "past" else np.full(len(times), _NO_LIMIT)  # [P]
    columns = (positives["user_id"].to_list(), positives["item_id"].to_list(), arrivals.tolist(), before.tolist())
    met = [
        pasts[user].relevant(own, arrival, limit, names[row][picks[row] >= 0].tolist(), config.negatives.count)
        for row, (user, own, arrival, limit) in enumerate(zip(*columns, strict=True))
    ]
    drawn = draw_items(
        state.supply, config.negatives, _log(positives, met, state, config), np.arange(positives.height), keys
    )  # [P, D]
    return _interleaved(positives, words, drawn, state)


def _first_picks(supply: Supply, keys: Words, times: Ints, count: int) -> Ints:
    """[P, M] what each positive's stream of numbers points at, met or not; -1 where nothing exists yet."""
    existing = supply.existing(times)  # [P]
    some = np.flatnonzero(existing > 0)
    picks = np.full((len(keys), count), -1, np.int64)  # [P, M]
    for number in range(count):
        picks[some, number] = supply.pick(share(stream(keys[some], number)), times[some], existing[some])
    return picks


def _log(positives: pl.DataFrame, met: Sequence[set[str]], state: ReviewState, config: ReviewExamplesConfig) -> Log:
    """[P + E] the positives, each as if of a user of its own, and what was met by then."""
    times = positives["timestamp"].to_numpy()
    owner = np.repeat(np.arange(len(met)), [len(items) for items in met])  # [E]
    items = pl.concat(
        [positives["item_id"], pl.Series("item_id", [item for items in met for item in sorted(items)], dtype=pl.String)]
    )
    places = state.items.search_sorted(items).to_numpy().astype(np.int64)  # [P + E]
    known = np.zeros(len(places), np.bool_)
    inside = places < len(state.items)
    known[inside] = (state.items.gather(places[inside]) == items.filter(pl.Series(inside))).to_numpy()
    all_times = np.concatenate([times, times[owner] - 1])  # what was met counts, whichever rule there is
    return Log(
        np.concatenate([np.arange(len(met)), owner]),
        np.where(known, places, len(state.items)),
        all_times,
        all_times < config.train_end,
    )


def _interleaved(positives: pl.DataFrame, words: Words, drawn: Ints, state: ReviewState) -> pl.DataFrame:
    """Each positive and then its negatives as drawn, with keys and labels of their own."""
    owner, number = np.nonzero(drawn >= 0)
    rows = positives[owner].with_columns(
        key=key_texts(np.stack([negative_words(words, k + 1) for k in range(drawn.shape[1])], axis=1)[owner, number]),
        item_id=state.items.gather(drawn[owner, number]),
        negative=pl.lit(1, pl.Int8),
        rating=pl.lit(None, pl.Float64),
        good=pl.lit(0, pl.Int8),
        best=pl.lit(0, pl.Int8),
    )
    order = np.argsort(np.concatenate([np.arange(positives.height), owner]), kind="stable")
    return pl.concat([positives, rows])[order]
