"""Mean and spread of a number over the items of a user's past, and how far a candidate lies from them.

Numbers are taken as whole multiples of a small unit (see `fixed_point`), so that sums are exact in any order.

Shape letters: I the item index, N events, E examples, e those of a block, C candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.dataset.schema import FIRST_ITEM
from moerec.features.columns import read_numbers
from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import FixedPoint, mean, sample_deviation
from moerec.features.prefixes import parts, prefix_sums
from moerec.features.spec import FeatureSpec, checked_name
from moerec.modalities.cells import require_columns

Ints = NDArray[np.int64]

_WHERE = "features.moments"


class MomentsConfig(FeatureConfig):
    """A user's mean and spread of a numeric item column such as year or price, and the candidate beside them.

    All are null where the user has no earlier event with a number; the spread and the distance also where there is
    only one; the distance also where the spread is 0 or the candidate has no number.
    """

    column: str = Field(min_length=1)
    """Numeric column of the items."""
    name: str | None = None
    """What the number is called in the names of the features; by default the column."""

    @model_validator(mode="after")
    def _check(self) -> MomentsConfig:
        checked_name(self._name)
        return self

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """user_<name>_mean and user_<name>_deviation (sample standard deviation) of the earlier events, in the
        column's unit; item_<name>_distance: the candidate's number minus the mean, in deviations.
        """
        return (
            FeatureSpec(name=f"user_{self._name}_mean", kind="dense", side="user"),
            FeatureSpec(name=f"user_{self._name}_deviation", kind="dense", side="user"),
            # A spread may be tiny, so the distance has far tails; its rank has none.
            FeatureSpec(name=f"item_{self._name}_distance", kind="dense", side="event", transform="quantile"),
        )

    @property
    def _name(self) -> str:
        return self.name or self.column

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """The items' numbers, in units that suit those of the train events.

        Raises:
            ConfigError: there is no such item column, or it holds no numbers.
        """
        require_columns(catalogue.items, [self.column], _WHERE)
        numbers = np.full(catalogue.num_indices, np.nan)  # [I]
        numbers[FIRST_ITEM:] = read_numbers(catalogue.items[self.column], _WHERE)
        fixed = FixedPoint.fitted(numbers[train["item"].to_numpy()], train.height)
        whole, known = fixed.whole(numbers)
        return FeatureState({"fixed_point": fixed.model_dump()}, {"whole": whole, "known": known})

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The moments of every example's user, and the example's item beside them.

        Raises:
            DatasetError: events have no time.
        """
        candidates = examples["item"].to_numpy()
        columns = {spec.name: np.empty(examples.height) for spec in self.specs}  # each [E]
        for part in parts(events, examples):
            items = part.events["item"].to_numpy()
            whole, known = state.arrays["whole"][items], state.arrays["known"][items]  # [N], [N]
            sums = [prefix_sums(numbers) for numbers in (known, whole, whole * whole)]  # each [N + 1]
            for rows, asked in part.asked:
                count, total, squares = (prefix[asked.stop] - prefix[asked.start] for prefix in sums)  # each [e]
                for name, values in self._columns(count, total, squares, candidates[rows], state).items():
                    columns[name][rows] = values
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No event."""
        return {"count": 0, "sum": 0, "squares": 0}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """The item's number is added to the sums."""
        whole = int(state.arrays["whole"][event.item])
        return {
            "count": memory["count"] + int(state.arrays["known"][event.item]),
            "sum": memory["sum"] + whole,
            "squares": memory["squares"] + whole * whole,
        }

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The columns of the candidates [C]."""
        count, total, squares = (np.full(len(items), memory[key]) for key in ("count", "sum", "squares"))
        return self._columns(count, total, squares, items, state)

    def _columns(
        self, count: Ints, total: Ints, squares: Ints, items: NDArray[np.integer], state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The columns [e] of sums over earlier events [e] and candidates [e]."""
        unit = FixedPoint(**state.values["fixed_point"]).unit
        centre, deviation = mean(count, total), sample_deviation(count, total, squares)
        candidate = np.where(state.arrays["known"][items], state.arrays["whole"][items], np.nan)
        distance = np.divide(candidate - centre, deviation, out=np.full(len(count), np.nan), where=deviation > 0)
        names = (spec.name for spec in self.specs)
        return dict(zip(names, (centre * unit, deviation * unit, distance), strict=True))
