"""Category shares: what a user's past consists of, and how a candidate fits into it.

Only counts and sums of whole numbers are kept, so they are exact in any order of the users and event by event.

Shape letters: K categories of the profile, I the item index, N events, E examples, e those of a block, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.dataset.schema import FIRST_ITEM
from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import FixedPoint, Floats, Ints, label_values, mean
from moerec.features.prefixes import parts, prefix_sums
from moerec.features.settings import Labels
from moerec.features.spec import FeatureSpec, checked_name
from moerec.modalities.cells import require_columns, several_values

_WHERE = "features.category_shares"


class CategorySharesConfig(FeatureConfig):
    """A user's profile over the categories of items, from the events strictly before the moment."""

    column: str = Field(min_length=1)
    """Column of the items that holds their category, or several in one cell."""
    separator: str | None = "|"
    """What stands between several categories in one cell; null takes a cell as one category."""
    name: str | None = None
    """What the categories are called in the names of the features; by default the column."""
    labels: Labels = ()
    """Label columns to average over earlier events that share categories with the candidate, such as `rating`."""
    top: int = Field(default=16, ge=1, le=256)
    """Categories of the profile: those that most train events have. Others count nowhere."""

    @model_validator(mode="after")
    def _check(self) -> CategorySharesConfig:
        checked_name(self._name)
        return self

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """The profile, and the candidate beside it; all null before the user's first event.

        - `user_<name>_share_<n>`: share of earlier events whose item has the n-th category; null if the train events
          have fewer categories.
        - `item_<name>_match`: mean of these shares over the candidate's categories; null if it has none.
        - `item_<name>_met`: share of the candidate's categories that the user has met; null if it has none.
        - `item_<name>_<label>_mean`: mean label of earlier events, each counted once for every category that it shares
          with the candidate; null if none shares any.
        """
        profile = [f"user_{self._name}_share_{place + 1}" for place in range(self.top)]
        beside = [f"item_{self._name}_{what}" for what in ("match", "met")]
        beside += [f"item_{self._name}_{label}_mean" for label in self.labels]
        return (
            *(FeatureSpec(name=name, kind="dense", side="user") for name in profile),
            *(FeatureSpec(name=name, kind="dense", side="event") for name in beside),
        )

    @property
    def _name(self) -> str:
        return self.name or self.column

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Find the most frequent categories and which items have them; nothing of any user is kept.

        Raises:
            ConfigError: there is no such item column, or a label column is missing or holds no numbers.
        """
        require_columns(catalogue.items, [self.column], _WHERE)
        met = np.bincount(train["item"].to_numpy(), minlength=catalogue.num_indices)[FIRST_ITEM:]
        pairs = several_values(catalogue.items[self.column], self.separator, _WHERE)
        pairs = pairs.with_columns(pl.Series("events", met[pairs["row"].to_numpy()]))
        counts = pairs.group_by("value").agg(pl.col("events").sum()).filter(pl.col("events") > 0)
        categories = counts.sort(["events", "value"], descending=[True, False])["value"].head(self.top).to_list()
        member = np.zeros((self.top, catalogue.num_indices), np.bool_)  # [K, I]
        for place, category in enumerate(categories):
            member[place, pairs.filter(pl.col("value") == category)["row"].to_numpy() + FIRST_ITEM] = True
        units = {
            label: FixedPoint.fitted(label_values(train, label, _WHERE), train.height).model_dump()
            for label in self.labels
        }
        return FeatureState({"categories": categories, "units": units}, {"member": member})

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The profile of every example's user, and the example's item beside it.

        Raises:
            ConfigError: a label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        candidates, units = examples["item"].to_numpy(), self._units(state)
        columns = {spec.name: np.empty(examples.height) for spec in self.specs}  # each [E]
        for part in parts(events, examples):
            items = part.events["item"].to_numpy()
            labels = [unit.whole(label_values(part.events, label, _WHERE)) for label, unit in units.items()]
            blocks = [
                (rows, asked, _Profile(state, self.labels, asked.stop - asked.start, candidates[rows]))
                for rows, asked in part.asked
            ]
            for place in range(self.top):
                has = state.arrays["member"][place][items]  # [N]
                sums = [prefix_sums(has)]  # each [N + 1]
                for whole, known in labels:
                    sums += [prefix_sums(has & known), prefix_sums(np.where(has, whole, 0))]
                for _, asked, profile in blocks:
                    profile.add(*(prefix[asked.stop] - prefix[asked.start] for prefix in sums))
            for rows, _, profile in blocks:
                for column, values in zip(columns.values(), profile.columns(units), strict=True):
                    column[rows] = values
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No event: all counts and sums are 0."""
        nothing = [0] * self.top
        labels = {label: {"known": nothing, "sums": nothing} for label in self.labels}
        return {"events": 0, "counts": nothing, "labels": labels}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """The event counts in each of its item's categories."""
        has = state.arrays["member"][:, event.item].tolist()
        labels = {}
        for label, unit in self._units(state).items():
            whole, known = unit.whole(np.array([event.labels.get(label, np.nan)]))  # [1], [1]
            before = memory["labels"][label]
            labels[label] = {
                "known": _increased(before["known"], has, int(known[0])),
                "sums": _increased(before["sums"], has, int(whole[0])),
            }
        return {"events": memory["events"] + 1, "counts": _increased(memory["counts"], has, 1), "labels": labels}

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The user's profile, and candidates [C] beside it."""
        sums = [memory["counts"]]
        for label in self.labels:
            sums += [memory["labels"][label]["known"], memory["labels"][label]["sums"]]
        profile = _Profile(state, self.labels, np.full(len(items), memory["events"], np.int64), items)
        for place in range(self.top):
            profile.add(*(np.full(len(items), of[place], np.int64) for of in sums))
        names = (spec.name for spec in self.specs)
        return dict(zip(names, profile.columns(self._units(state)), strict=True))

    def _units(self, state: FeatureState) -> dict[str, FixedPoint]:
        return {label: FixedPoint(**state.values["units"][label]) for label in self.labels}


def _increased(numbers: list[int], where: list[bool], amount: int) -> list[int]:
    return [number + amount if there else number for number, there in zip(numbers, where, strict=True)]


class _Profile:
    """What candidates [e] and their users' earlier events have in common, added up category by category."""

    def __init__(self, state: FeatureState, labels: Labels, events: Ints, items: NDArray[np.integer]) -> None:
        self.state = state
        self.events = events  # [e] earlier events of the user
        self.items = items  # [e] the candidates
        self.shares: list[Floats] = []
        self.held, self.met, self.shared = (np.zeros(len(items), np.int64) for _ in range(3))  # each [e]
        self.sums = [np.zeros(len(items), np.int64) for _ in range(2 * len(labels))]

    def add(self, shared: Ints, *sums: Ints) -> None:
        """The next category.

        Args:
            shared: [e] earlier events that have it.
            sums: per label in turn, [e] how many of them have the label, and [e] the sum of their labels in units.
        """
        place = len(self.shares)
        exists = place < len(self.state.values["categories"])
        self.shares.append(mean(self.events if exists else np.zeros_like(shared), shared))
        has = self.state.arrays["member"][place][self.items]  # [e]
        self.held += has
        self.met += has & (shared > 0)
        self.shared += has * shared
        for total, addend in zip(self.sums, sums, strict=True):
            total += has * addend

    def columns(self, units: dict[str, FixedPoint]) -> list[Floats]:
        """All columns [e] in the order of the specs, NaN where there is nothing to tell."""
        held = np.where(self.events > 0, self.held, 0)  # [e]
        pairs = zip(self.sums[::2], self.sums[1::2], strict=True)
        labels = [unit.unit * mean(known, sums) for unit, (known, sums) in zip(units.values(), pairs, strict=True)]
        return [*self.shares, mean(held * self.events, self.shared), mean(held, self.met), *labels]
