"""Splits: rules that send each event to train, valid, test or unused; a split is one int8 for each event.

Shape letters: N events in the order of `events.parquet`, U users, I item indices.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from moerec.config import Config
from moerec.dataset.frames import day_text
from moerec.dataset.schema import Part
from moerec.errors import DatasetError

SplitKind = Literal["leave_last_out", "user_time", "global_date", "ratio"]

LEAVE_LAST_OUT_MINIMUM = 3
"""Users with fewer events have no event to spare for valid and test: all of theirs train."""
_DEFAULT_SHARE = 0.1


class SplitConfig(Config):
    """The rule of a split."""

    kind: SplitKind = "leave_last_out"
    """leave_last_out (last event of a user), user_time (last share of a user's events), global_date, ratio (random)."""
    valid: float | None = None
    """Share of events for validation, rounded down; 0.1 by default, 0 for none. Not for leave_last_out or dates."""
    test: float | None = None
    """Share of events for the test, rounded down; 0.1 by default. Not for leave_last_out or dates."""
    valid_from: date | None = None
    """For global_date: events from this day on (UTC) are validation; no validation part when left out."""
    test_from: date | None = None
    """For global_date: events from this day on (UTC) are test."""
    withheld_items: float = 0.0
    """Share of the items with events, drawn at random, whose train events are left out: they are new in valid and test,
    and what is recommended of them rests on their content alone. With any kind."""
    seed: int | None = None
    """For ratio: which events are drawn; for withheld_items: which items. 0 by default."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """Write the kind's own defaults into the fields, so that equal rules are equal objects."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        kind = filled.get("kind", cls.model_fields["kind"].default)
        dated = filled.get("valid_from") is not None or filled.get("test_from") is not None
        if kind in ("user_time", "ratio") or (kind == "global_date" and not dated):
            for share in ("valid", "test"):
                if filled.get(share) is None:
                    filled[share] = _DEFAULT_SHARE
        if (kind == "ratio" or filled.get("withheld_items")) and filled.get("seed") is None:
            filled["seed"] = 0
        return filled

    @model_validator(mode="after")
    def _check(self) -> SplitConfig:
        shares = self.valid is not None or self.test is not None
        dates = self.valid_from is not None or self.test_from is not None
        if self.kind == "leave_last_out" and shares:
            raise ValueError("leave_last_out takes no shares; leave valid and test out, or choose user_time")
        if self.kind != "global_date" and dates:
            raise ValueError(f"valid_from and test_from belong to global_date, not to {self.kind}")
        if not 0 <= self.withheld_items < 1:
            raise ValueError("withheld_items must be at least 0 and below 1")
        if self.kind != "ratio" and not self.withheld_items and self.seed is not None:
            raise ValueError(f"seed belongs to ratio and withheld_items; {self.kind} draws nothing at random")
        if self.seed is not None and self.seed < 0:
            raise ValueError("seed must not be negative")
        if shares and dates:
            raise ValueError("give either dates (valid_from, test_from) or shares (valid, test), not both")
        if dates and self.test_from is None:
            raise ValueError("valid_from needs test_from")
        if self.valid_from is not None and self.test_from is not None and self.valid_from >= self.test_from:
            raise ValueError("valid_from must be before test_from")
        if self.valid is not None and self.test is not None:
            if not (0 <= self.valid < 1 and 0 < self.test < 1):
                raise ValueError("valid must be at least 0, test above 0, both below 1")
            if self.valid + self.test >= 1:
                raise ValueError("valid and test together must leave a share for train")
        return self

    @property
    def has_valid(self) -> bool:
        """Whether the rule makes a validation part."""
        return self.kind == "leave_last_out" or self.valid_from is not None or bool(self.valid)

    def describe(self) -> str:
        """The rule in words, as reports print it."""
        if not self.withheld_items:
            return self._describe_kind()
        return (
            f"{self._describe_kind()}; {self.withheld_items:.4g} of the items with events, drawn at random "
            f"(seed {self.seed}), lose their train events"
        )

    def _describe_kind(self) -> str:
        if self.kind == "leave_last_out":
            return (
                "leave-last-out: the last event of each user is test, the one before it valid; "
                f"users with fewer than {LEAVE_LAST_OUT_MINIMUM} events are in train only"
            )
        if self.test_from is not None:
            valid = f", from {self.valid_from} on valid" if self.valid_from else ", no validation part"
            return f"by date (UTC): events from {self.test_from} on are test{valid}, all earlier ones train"
        shares = f"{self.test:.4g} of the events test" + (f", {self.valid:.4g} valid" if self.valid else ", none valid")
        if self.kind == "global_date":
            return f"by time over all users: the latest {shares}; events of the same time stay together"
        if self.kind == "user_time":
            return f"by time within each user: the last {shares} (just before), rounded down"
        return f"at random over all events (seed {self.seed}): {shares}; earlier and later events are mixed"


def assign_parts(
    config: SplitConfig,
    user_offsets: NDArray[np.int64],
    timestamps: NDArray[np.int64] | None,
    items: NDArray[np.integer] | None = None,
) -> NDArray[np.int8]:
    """The part of each event.

    Args:
        config: the rule.
        user_offsets: [U + 1], where each user's events start; events stand by user, oldest first.
        timestamps: [N] milliseconds, or None if the source has none.
        items: [N] item index of each event; needed for `withheld_items` alone.

    Returns:
        [N] int8 codes of `Part`.

    Raises:
        DatasetError: the rule needs times and there are none, or it leaves a part empty.
    """
    rules: dict[SplitKind, Callable[[], NDArray[np.int8]]] = {
        "leave_last_out": lambda: _leave_last_out(user_offsets),
        "user_time": lambda: _user_time(config, user_offsets),
        "global_date": lambda: _global_date(config, timestamps),
        "ratio": lambda: _ratio(config, int(user_offsets[-1])),
    }
    parts = rules[config.kind]()
    if config.withheld_items:
        if items is None:
            raise ValueError("withheld_items needs the item of each event")
        parts[(parts == Part.TRAIN) & _withheld(config, items)[items]] = Part.UNUSED
    _refuse_empty_parts(config, parts, timestamps)
    return parts


def _leave_last_out(user_offsets: NDArray[np.int64]) -> NDArray[np.int8]:
    parts = np.full(user_offsets[-1], Part.TRAIN, dtype=np.int8)  # [N]
    ends = user_offsets[1:][np.diff(user_offsets) >= LEAVE_LAST_OUT_MINIMUM]
    parts[ends - 1] = Part.TEST
    parts[ends - 2] = Part.VALID
    return parts


def _user_time(config: SplitConfig, user_offsets: NDArray[np.int64]) -> NDArray[np.int8]:
    counts = np.diff(user_offsets)  # [U]
    test = _rounded_down(counts, config.test)
    valid = _rounded_down(counts, config.valid)
    from_end = np.repeat(user_offsets[1:], counts) - np.arange(user_offsets[-1])  # [N], 1 is the user's last event
    parts = np.full(user_offsets[-1], Part.TRAIN, dtype=np.int8)
    parts[from_end <= np.repeat(test + valid, counts)] = Part.VALID
    parts[from_end <= np.repeat(test, counts)] = Part.TEST
    return parts


def _global_date(config: SplitConfig, timestamps: NDArray[np.int64] | None) -> NDArray[np.int8]:
    if timestamps is None:
        raise DatasetError("split global_date needs timestamps and this data set has none; use leave_last_out or ratio")
    if config.test_from is not None:
        test_from = _midnight(config.test_from)
        valid_from = test_from if config.valid_from is None else _midnight(config.valid_from)
    else:
        test = int(_rounded_down(timestamps.size, config.test))
        valid = int(_rounded_down(timestamps.size, config.valid))
        if test == 0:
            raise DatasetError(f"split global_date: {timestamps.size} events are too few for a share of {config.test}")
        starts = (timestamps.size - test, timestamps.size - test - valid)
        ordered = np.partition(timestamps, starts)
        # Events of the boundary's own time go to the later part together, so no time stands on both sides.
        test_from, valid_from = int(ordered[starts[0]]), int(ordered[starts[1]])
    parts = np.full(timestamps.size, Part.TRAIN, dtype=np.int8)
    parts[timestamps >= valid_from] = Part.VALID
    parts[timestamps >= test_from] = Part.TEST
    return parts


def _ratio(config: SplitConfig, events: int) -> NDArray[np.int8]:
    test = int(_rounded_down(events, config.test))
    valid = int(_rounded_down(events, config.valid))
    order = np.random.default_rng(config.seed).permutation(events)
    parts = np.full(events, Part.TRAIN, dtype=np.int8)
    parts[order[:test]] = Part.TEST
    parts[order[test : test + valid]] = Part.VALID
    return parts


def _withheld(config: SplitConfig, items: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which items are drawn, [I] bool; each with events is as likely as the others, however popular."""
    withheld = np.zeros(int(items.max(initial=0)) + 1, dtype=bool)
    met = np.unique(items)
    count = int(_rounded_down(len(met), config.withheld_items))
    if count == 0:
        raise DatasetError(
            f"split.withheld_items: {config.withheld_items:.4g} of {len(met)} items with events is less than one item; "
            "withhold a larger share"
        )
    # Another stream than that of ratio, which may draw with the same seed.
    random = np.random.default_rng([1, config.seed or 0])
    withheld[random.choice(met, count, replace=False)] = True
    return withheld


def _rounded_down(counts: NDArray[np.int64] | int, share: float | None) -> NDArray[np.int64]:
    # The tiny addend keeps 0.29 * 100 = 28.999999999999996 at 29.
    return np.floor(np.multiply(counts, share or 0.0) + 1e-9).astype(np.int64)


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def _refuse_empty_parts(config: SplitConfig, parts: NDArray[np.int8], timestamps: NDArray[np.int64] | None) -> None:
    counts = np.bincount(parts, minlength=len(Part))
    needed = [Part.TRAIN, Part.TEST, *([Part.VALID] if config.has_valid else [])]
    empty = [part.name.lower() for part in needed if counts[part] == 0]
    if not empty:
        return
    if config.kind == "leave_last_out":
        remedy = f"no user has {LEAVE_LAST_OUT_MINIMUM} events; use global_date or ratio"
    elif config.test_from is not None and timestamps is not None:
        first, last = day_text(int(timestamps.min())), day_text(int(timestamps.max()))
        remedy = f"the events lie between {first} and {last}; move the dates"
    else:
        remedy = "give it a larger share, or leave it to another kind of split"
    if empty[0] == "train" and config.withheld_items:
        remedy = "withhold fewer items"
    raise DatasetError(f"split {config.kind}: no event falls into {empty[0]}; {remedy}")
