"""The property checks themselves: a right feature passes, and each planted mistake is found by its check."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from moerec.features.feature import FeatureConfig, FeatureState
from moerec.features.prefixes import parts
from moerec.features.spec import FeatureSpec
from tests.features.properties import (
    check_contract,
    check_fold,
    check_future,
    check_partition,
    make_catalogue,
    make_events,
)

CHECKS = (check_contract, check_fold, check_future, check_partition)


class Watched(FeatureConfig):
    """Minutes that a user has been known for, by default without a mistake."""

    mistake: str = ""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return (FeatureSpec(name="minutes", kind="dense", side="user"),)

    def fit(self, train, catalogue) -> FeatureState:
        return FeatureState()

    def apply(self, events, examples, state) -> pl.DataFrame:
        found = np.zeros(examples.height)
        for part in parts(events, examples):
            for rows, ranges in part.asked:
                stop = ranges.stop
                if self.mistake == "own event":
                    stop = part.log.timelines.before(ranges.groups, ranges.times + 1)
                known = stop > ranges.start
                found[rows] = np.where(known, (ranges.times - part.log.first(ranges)) / 60_000, np.nan)
                if self.mistake == "last event":
                    found[rows] += np.where(known, part.log.times.max(initial=0) % 1001, 0)
        if self.mistake == "running sum":
            found = np.cumsum(np.nan_to_num(found))
        if self.mistake == "numbers of users":
            found += np.asarray(examples["user"])
        if self.mistake == "type":
            return pl.DataFrame({"minutes": found.astype(np.float32)})
        return pl.DataFrame([pl.Series("minutes", found, nan_to_null=True)])

    def start(self) -> dict[str, Any]:
        return {"first": None}

    def update(self, memory, event, state) -> dict[str, Any]:
        if self.mistake == "in place":
            memory["seen"] = memory.get("seen", 0) + 1
            return memory
        return {"first": event.timestamp if memory["first"] is None else memory["first"]}

    def read(self, memory, items, timestamp, state) -> dict[str, Any]:
        first = memory["first"]
        minutes = np.nan if first is None else (timestamp - first) / 60_000 * (1 + 1e-15 * (self.mistake == "bits"))
        return {"minutes": np.full(len(items), minutes)}


@pytest.mark.parametrize("check", CHECKS)
def test_a_right_feature_passes(check):
    check(Watched(), make_events(users=4), make_catalogue())


@pytest.mark.parametrize(
    ("mistake", "check"),
    [
        ("type", check_contract),
        ("in place", check_fold),
        ("bits", check_fold),
        ("own event", check_fold),
        ("own event", check_future),
        ("last event", check_future),
        ("running sum", check_partition),
        ("numbers of users", check_partition),
    ],
)
def test_a_mistake_is_found(mistake, check):
    with pytest.raises(AssertionError):
        check(Watched(mistake=mistake), make_events(users=4), make_catalogue())
