"""Feature columns of users or items as arrays: fitted on the rows of the train split, applied to all rows.

Shape letters: R rows of the arrays, M the most values in one cell.
For items R is the item index (two reserved rows, which are missing, then the catalogue); for users it is their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.config import Config
from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSide, FeatureSpec
from moerec.modalities.cells import require_columns, several_values, single_values

MISSING = 0
"""Code of an empty cell; in a multi column, of an unused place."""
UNKNOWN = 1
"""Code of a value that the train rows do not have, or have too rarely."""
FIRST_VALUE = 2
"""Code of the first known value."""

_COLUMN_KINDS = ("categorical", "multi", "dense")
# A spread this small beside the values themselves is rounding, not information.
_LEAST_SPREAD = 1e-9
# No train value can be further from the mean than the square root of their number; this cuts only what is seen
# after training, where a column that was nearly constant would otherwise give astronomic inputs.
_MOST_DEVIATIONS = 1e4


class FittedColumn(Config):
    """What was learned of one column."""

    spec: FeatureSpec
    """The feature that it belongs to."""
    values: tuple[str, ...] = ()
    """categorical and multi: known values, the most frequent first; value i has code i + 2."""
    mean: float = 0.0
    """dense: mean over the train rows, after the logarithm if there is one."""
    deviation: float = 1.0
    """dense: standard deviation (population) over the train rows; 1 if there is no spread."""

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
    """[R] transformed numbers, 0 where missing; cut at 10,000 deviations."""
    present: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """[R] whether the dense feature has a number."""


def fit_columns(
    specs: Sequence[FeatureSpec], table: pl.DataFrame, trained: NDArray[np.bool_], split: str = ""
) -> ColumnState:
    """Learn vocabularies, means and deviations from the rows of the train split alone.

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
    if spec.transform == "none":
        _numbers(spec, rows)
        return FittedColumn(spec=spec)
    numbers = _numbers(spec, rows)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) == 0:
        return FittedColumn(spec=spec)
    # Exact sums: the result is the same in any order of the rows. Scaled, so that squares cannot overflow.
    scale = float(np.abs(numbers).max()) or 1.0
    scaled = numbers / scale
    mean = math.fsum(scaled) / len(scaled)
    deviation = math.sqrt(math.fsum((scaled - mean) ** 2) / len(scaled))
    return FittedColumn(spec=spec, mean=mean * scale, deviation=deviation * scale if deviation > _LEAST_SPREAD else 1.0)


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
    numbers = _numbers(entry.spec, table)
    present = np.zeros(reserved + table.height, np.bool_)  # [R]
    present[reserved:] = np.isfinite(numbers)
    if entry.spec.transform == "none":
        limit = float(np.finfo(np.float32).max)
    else:
        limit = _MOST_DEVIATIONS
        with np.errstate(over="ignore"):
            numbers = (numbers - entry.mean) / entry.deviation
    array = np.zeros(reserved + table.height, np.float32)  # [R]
    array[reserved:] = np.where(present[reserved:], np.clip(numbers, -limit, limit), 0.0)
    return array, present


def _numbers(spec: FeatureSpec, table: pl.DataFrame) -> NDArray[np.float64]:
    """The column as float64, NaN where there is no finite number; after log1p if the transform says so."""
    where, column = f"features.{spec.name}", table[spec.source_column]
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
    if spec.transform == "log":
        if (numbers < 0).any():
            raise ConfigError(f"{where}: {numbers[numbers < 0][0]:g} has no logarithm; use transform standardise")
        numbers = np.log1p(numbers)
    return numbers
