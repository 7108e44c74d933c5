"""Feature columns of users or items as arrays: fitted on the rows of the train split, applied to all rows.

Shape letters: R rows of the arrays, M the most values in one cell.
For items R is the item index (two reserved rows, which are missing, then the catalogue); for users it is their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import model_validator

from moerec.config import Config
from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSide, FeatureSpec
from moerec.features.transforms import DenseTransform, apply_transform, fit_transform
from moerec.modalities.cells import require_columns, several_values, single_values

MISSING = 0
"""Code of an empty cell; in a multi column, of an unused place."""
UNKNOWN = 1
"""Code of a value that the train rows do not have, or have too rarely."""
FIRST_VALUE = 2
"""Code of the first known value."""

_COLUMN_KINDS = ("categorical", "multi", "dense")


class FittedColumn(Config):
    """What was learned of one column."""

    spec: FeatureSpec
    """The feature that it belongs to."""
    values: tuple[str, ...] = ()
    """categorical and multi: known values, the most frequent first; value i has code i + 2."""
    transform: DenseTransform = DenseTransform()
    """dense: what was learned of the train rows."""

    @model_validator(mode="before")
    @classmethod
    def _from_first_form(cls, data: Any) -> Any:
        """The first form of a state had `mean` and `deviation` here and knew no other transform."""
        if not isinstance(data, Mapping) or not {"mean", "deviation"} & data.keys():
            return data
        learned = {name: data[name] for name in ("mean", "deviation") if name in data}
        rest = {name: value for name, value in data.items() if name not in learned}
        return {**rest, "transform": {"kind": FeatureSpec.model_validate(rest.get("spec")).transform, **learned}}

    @property
    def cardinality(self) -> int:
        """Number of codes, missing and unknown included: the height of an embedding table."""
        return len(self.values) + FIRST_VALUE


class ColumnState(Config):
    """What was learned of the columns of one table; plain data, saved with the model."""

    side: FeatureSide
    """user or item."""
    columns: tuple[FittedColumn, ...] = ()
    """One entry for each feature, in the order of the features."""
    rows: int = 0
    """Train rows it was fitted on."""
    split: str = ""
    """The split it was fitted on, as the caller names it; states of different splits are not to be joined."""

    def column(self, name: str) -> FittedColumn:
        """The entry of one feature.

        Raises:
            ConfigError: the state has no such feature.
        """
        for entry in self.columns:
            if entry.spec.name == name:
                return entry
        known = ", ".join(entry.spec.name for entry in self.columns)
        raise ConfigError(f"features.{name}: the fitted state has only: {known or 'nothing'}; fit the columns again")


@dataclass(frozen=True)
class ColumnArrays:
    """Arrays by name of the feature."""

    categorical: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    """[R] codes."""
    multi: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    """[R, M] codes, each at most once in a row, padded with 0 on the right; M is at least 1."""
    dense: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    """[R] transformed numbers, 0 where missing; see `apply_transform`."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """[R] whether the dense feature has a number."""


def fit_columns(
    specs: Sequence[FeatureSpec], table: pl.DataFrame, trained: NDArray[np.bool_], split: str = ""
) -> ColumnState:
    """Learn vocabularies and dense transforms from the rows of the train split alone.

    The order of the rows does not matter, and rows outside the train split change nothing.

    Args:
        specs: categorical, multi and dense features of one side.
        table: users or items.
        trained: which rows of the table occur in the train split.
        split: name of that split, kept in the state.

    Raises:
        ConfigError: a column is missing or of the wrong type; a feature is not a column; names repeat.
    """
    side = _side(specs)
    if trained.shape != (table.height,) or trained.dtype != np.bool_:
        raise ValueError(f"trained must be bool [{table.height}]")
    _require(specs, table)
    rows = table.filter(pl.Series(trained))
    fitted = tuple(_fit_dense(spec, rows) if spec.kind == "dense" else _fit_values(spec, rows) for spec in specs)
    return ColumnState(side=side, columns=fitted, rows=rows.height, split=split)


def apply_columns(specs: Sequence[FeatureSpec], table: pl.DataFrame, state: ColumnState) -> ColumnArrays:
    """Arrays of all rows of a table by a fitted state.

    Args:
        specs: the features wanted; each must be in the state, unchanged.
        table: users or items, also others than those it was fitted on.
        state: from `fit_columns`.

    Raises:
        ConfigError: a column is missing or of the wrong type; the state was fitted for other features.
    """
    if _side(specs, state.side) != state.side:
        raise ConfigError(f"features: the state was fitted on the {state.side}s, these features are of the other side")
    _require(specs, table)
    reserved = FIRST_ITEM if state.side == "item" else 0
    arrays = ColumnArrays()
    for spec in specs:
        entry = state.column(spec.name)
        if entry.spec != spec:
            raise ConfigError(f"features.{spec.name}: it was fitted with other settings; fit the columns again")
        if spec.kind == "categorical":
            arrays.categorical[spec.name] = _categorical(entry, table, reserved)
        elif spec.kind == "multi":
            arrays.multi[spec.name] = _multi(entry, table, reserved)
        else:
            arrays.dense[spec.name], arrays.present[spec.name] = _dense(entry, table, reserved)
    return arrays


def _side(specs: Sequence[FeatureSpec], default: FeatureSide = "item") -> FeatureSide:
    for spec in specs:
        if spec.kind not in _COLUMN_KINDS or spec.side not in ("user", "item"):
            raise ConfigError(f"features.{spec.name}: {spec.kind} of side {spec.side} is no column of users or items")
        if spec.side != specs[0].side:
            raise ConfigError(f"features.{spec.name}: fit the features of users and of items apart")
    names = [spec.name for spec in specs]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"features.{repeated[0]}: two features have this name; rename one")
    return specs[0].side if specs else default


def _require(specs: Sequence[FeatureSpec], table: pl.DataFrame) -> None:
    for spec in specs:
        require_columns(table, [spec.source_column], f"features.{spec.name}")


def _values(spec: FeatureSpec, table: pl.DataFrame) -> pl.DataFrame:
    """The non-empty values as rows `row`, `value`."""
    column, where = table[spec.source_column], f"features.{spec.name}"
    if spec.kind == "multi":
        return several_values(column, spec.separator, where)
    frame = pl.DataFrame({"row": pl.int_range(len(column), dtype=pl.UInt32, eager=True)})
    return frame.with_columns(single_values(column, where).alias("value")).drop_nulls("value")


def _fit_values(spec: FeatureSpec, rows: pl.DataFrame) -> FittedColumn:
    counts = _values(spec, rows).group_by("value").len().filter(pl.col("len") >= spec.minimum_count)
    ordered = counts.sort(["len", "value"], descending=[True, False])
    return FittedColumn(spec=spec, values=tuple(ordered["value"].to_list()))


def _fit_dense(spec: FeatureSpec, rows: pl.DataFrame) -> FittedColumn:
    numbers = read_numbers(rows[spec.source_column], f"features.{spec.name}")
    return FittedColumn(spec=spec, transform=fit_transform(spec, numbers))


def _codes(entry: FittedColumn, table: pl.DataFrame) -> pl.DataFrame:
    """Values of the table as rows `row`, `code`; each code at most once for a row."""
    known = pl.DataFrame(
        {"value": entry.values, "code": range(FIRST_VALUE, entry.cardinality)},
        schema={"value": pl.String, "code": pl.Int32},
    )
    coded = _values(entry.spec, table).join(known, on="value", how="left", maintain_order="left")
    return coded.select("row", pl.col("code").fill_null(UNKNOWN)).unique(maintain_order=True, keep="first")


def _categorical(entry: FittedColumn, table: pl.DataFrame, reserved: int) -> NDArray[np.int32]:
    coded = _codes(entry, table)
    array = np.full(reserved + table.height, MISSING, np.int32)  # [R]
    array[coded["row"].to_numpy() + reserved] = coded["code"].to_numpy()
    return array


def _multi(entry: FittedColumn, table: pl.DataFrame, reserved: int) -> NDArray[np.int32]:
    place = pl.int_range(pl.len()).over("row").alias("place")
    coded = _codes(entry, table).with_columns(place)
    width = int(coded["place"].to_numpy().max(initial=0)) + 1
    array = np.full((reserved + table.height, width), MISSING, np.int32)  # [R, M]
    array[coded["row"].to_numpy() + reserved, coded["place"].to_numpy()] = coded["code"].to_numpy()
    return array


def _dense(entry: FittedColumn, table: pl.DataFrame, reserved: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    where = f"features.{entry.spec.name}"
    array = np.zeros(reserved + table.height, np.float32)  # [R]
    present = np.zeros(reserved + table.height, np.bool_)  # [R]
    numbers = read_numbers(table[entry.spec.source_column], where)
    array[reserved:], present[reserved:] = apply_transform(entry.transform, numbers, where)
    return array, present


def read_numbers(column: pl.Series, where: str) -> NDArray[np.float64]:
    """A column of numbers, or of texts that are numbers, as float64 with NaN where there is no finite number.

    Raises:
        ConfigError: a text that is no number, or a column of another type.
    """
    if column.dtype == pl.String:
        text = single_values(column, where)
        column = text.cast(pl.Float64, strict=False)
        wrong = text.filter(text.is_not_null() & column.is_null())
        if len(wrong):
            raise ConfigError(f"{where}: '{wrong[0]}' in column '{text.name}' is no number; use kind categorical")
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise ConfigError(f"{where}: column '{column.name}' has type {column.dtype}; kind dense needs numbers")
    numbers = column.cast(pl.Float64).fill_null(math.nan).to_numpy().copy()
    numbers[~np.isfinite(numbers)] = math.nan
    return numbers
