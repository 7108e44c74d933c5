"""Candidate lists of sampled protocols: one positive and n negatives for each user, drawn once and kept in a file.

Fixed lists make figures of different models comparable: every model sorts the same candidates.
Shape letters: R lists, N events, U users, C items of the catalogue, S (list, item) pairs already taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import model_validator

from moerec.config import Config
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.errors import DatasetError

# Drawing and rejecting is fast while few items are taken; what is missing after these rounds is drawn from the rest.
_ROUNDS = 16

Integers = NDArray[np.int64]


class CandidateConfig(Config):
    """The rule of candidate lists."""

    split: str
    """Name of the split whose events are the positives."""
    part: Literal["test", "valid"] = "test"
    """Part of the split: a user's first event in it is the user's positive."""
    negatives: int = 100
    """Items that the user has at no time an event with, drawn without replacement from the catalogue."""
    sampling: Literal["uniform", "popularity"] = "uniform"
    """uniform; or popularity: in proportion to the item's train events, so items without any are never drawn."""
    seed: int = 0
    """Seed of the draw."""

    @model_validator(mode="after")
    def _check(self) -> CandidateConfig:
        if self.negatives < 1:
            raise ValueError("negatives must be at least 1")
        if self.seed < 0:
            raise ValueError("seed must not be negative")
        return self

    def describe(self) -> str:
        """The rule in words, as reports print it."""
        how = "uniformly" if self.sampling == "uniform" else "by train popularity"
        return (
            f"the first {self.part} event of each user (split '{self.split}') against {self.negatives} items "
            f"that the user never met, drawn {how} from the catalogue (seed {self.seed})"
        )


@dataclass(frozen=True)
class _Draw:
    """What the draw needs: items are counted from 0 here, list r belongs to row r."""

    catalogue: int
    taken: Integers  # [S] sorted, distinct: row * catalogue + item
    wanted: Integers  # [R]
    weights: Integers | None  # [C] train events of each item; None for uniform
    random: np.random.Generator


def draw_candidates(
    config: CandidateConfig,
    user_offsets: Integers,
    event_items: NDArray[np.int32],
    parts: NDArray[np.int8],
    num_items: int,
) -> pl.DataFrame:
    """Draw the lists.

    Args:
        config: the rule.
        user_offsets: [U + 1], where each user's events start.
        event_items: [N] item index of each event.
        parts: [N] the split.
        num_items: size of the catalogue.

    Returns:
        `user` int32 and `items` list of int32, ordered by user; the positive stands first in its list.

    Raises:
        DatasetError: no event in that part.
    """
    users, positives = _first_events(user_offsets, event_items, parts, Part[config.part.upper()])
    if users.size == 0:
        raise DatasetError(f"candidates: split '{config.split}' has no {config.part} events; choose another split")
    weights = None
    if config.sampling == "popularity":
        weights = np.bincount(event_items[parts == Part.TRAIN] - FIRST_ITEM, minlength=num_items).astype(np.int64)
    taken = _seen_pairs(users, user_offsets, event_items, num_items)
    available = _available(taken, users.size, num_items, weights)
    draw = _Draw(
        catalogue=num_items,
        taken=taken,
        wanted=np.minimum(config.negatives, available),
        weights=weights,
        random=np.random.default_rng(config.seed),
    )
    rows, items = _draw_rounds(draw)
    rows = np.concatenate([np.arange(users.size), rows])
    items = np.concatenate([positives, items + FIRST_ITEM])
    order = np.argsort(rows, kind="stable")
    lengths = 1 + draw.wanted
    return pl.DataFrame(
        {
            "user": pl.Series(users, dtype=pl.Int32),
            "items": _lists(items[order], lengths),
        }
    )


def count_short_lists(config: CandidateConfig, lists: pl.DataFrame) -> int:
    """How many lists have fewer negatives than asked for."""
    return int((lists["items"].list.len() <= config.negatives).sum())


def _lists(values: Integers, lengths: Integers) -> pl.Series:
    """A list column from its values one after another; every list holds at least one."""
    rows = np.repeat(np.arange(lengths.size), lengths)
    frame = pl.DataFrame({"row": rows, "items": pl.Series(values, dtype=pl.Int32)})
    return frame.group_by("row", maintain_order=True).agg("items")["items"]


def _first_events(
    user_offsets: Integers, event_items: NDArray[np.int32], parts: NDArray[np.int8], part: Part
) -> tuple[Integers, Integers]:
    """Users with an event in a part [R], and the item of the first one [R]."""
    events = np.flatnonzero(parts == part)
    event_users = np.searchsorted(user_offsets, events, side="right") - 1
    users, first = np.unique(event_users, return_index=True)
    return users, event_items[events[first]].astype(np.int64)


def _seen_pairs(users: Integers, user_offsets: Integers, event_items: NDArray[np.int32], num_items: int) -> Integers:
    """Sorted keys of the items that each list's user has an event with, at any time."""
    counts = np.diff(user_offsets)[users]  # [R]
    rows = np.repeat(np.arange(users.size), counts)
    within = np.arange(rows.size) - np.repeat(np.cumsum(counts) - counts, counts)
    items = event_items[user_offsets[users][rows] + within].astype(np.int64) - FIRST_ITEM
    return _distinct(rows * num_items + items)


def _available(taken: Integers, lists: int, catalogue: int, weights: Integers | None) -> Integers:
    """How many items can still be drawn for each list, [R]."""
    rows, items = np.divmod(taken, catalogue)
    if weights is None:
        return catalogue - np.bincount(rows, minlength=lists)
    drawable = weights > 0
    return int(drawable.sum()) - np.bincount(rows[drawable[items]], minlength=lists)


def _draw_rounds(draw: _Draw) -> tuple[Integers, Integers]:
    """Rows and items of all negatives, each row's in the order drawn.

    A draw of a taken item is thrown away and made again, which equals drawing one after another without replacement.
    """
    taken, missing = draw.taken, draw.wanted.copy()
    drawn: list[Integers] = []
    for _ in range(_ROUNDS):
        if not missing.any():
            break
        rows = np.repeat(np.arange(missing.size), missing)
        keys = rows * draw.catalogue + _draw_items(draw, rows.size)
        _, first = np.unique(keys, return_index=True)
        keys = keys[np.sort(first)]
        keys = keys[~_contains(taken, keys)]
        taken = np.sort(np.concatenate([taken, keys]), kind="stable")
        missing -= np.bincount(keys // draw.catalogue, minlength=missing.size)
        drawn.append(keys)
    drawn.extend(_draw_from_rest(draw, taken, int(row), int(missing[row])) for row in np.flatnonzero(missing))
    keys = np.concatenate([np.zeros(0, dtype=np.int64), *drawn])
    rows, items = np.divmod(keys, draw.catalogue)
    return rows, items


def _draw_items(draw: _Draw, size: int) -> Integers:
    if draw.weights is None:
        return draw.random.integers(draw.catalogue, size=size)
    cumulative = np.cumsum(draw.weights)
    return np.searchsorted(cumulative, draw.random.integers(cumulative[-1], size=size), side="right")


def _draw_from_rest(draw: _Draw, taken: Integers, row: int, missing: int) -> Integers:
    """Keys of the last negatives of one list, drawn from the items it may still have.

    Exponential times with the items' weights as rates; the first to ring are a weighted draw without replacement
    (Efraimidis and Spirakis, 2006).
    """
    start, end = np.searchsorted(taken, [row * draw.catalogue, (row + 1) * draw.catalogue])
    rates = np.ones(draw.catalogue) if draw.weights is None else draw.weights.astype(np.float64)
    rates[taken[start:end] - row * draw.catalogue] = 0.0
    items = np.flatnonzero(rates)
    times = draw.random.exponential(size=items.size) / rates[items]
    return row * draw.catalogue + items[np.argsort(times, kind="stable")[:missing]]


def _distinct(keys: Integers) -> Integers:
    """Distinct keys in their order; by sorting, because the hash table of np.unique is slow on keys of this pattern."""
    ordered = np.sort(keys)
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if keys.size else ordered


def _contains(ordered: Integers, keys: Integers) -> NDArray[np.bool_]:
    """Whether each key is in an ordered array."""
    if ordered.size == 0:
        return np.zeros(keys.size, dtype=bool)
    return ordered[np.minimum(np.searchsorted(ordered, keys), ordered.size - 1)] == keys
