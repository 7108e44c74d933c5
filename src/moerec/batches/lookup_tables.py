"""Inputs that hang on the user or on the item alone: one row for each, looked up by the examples, never copied.

Shape letters: U users, I the item index, R rows of a table, V width of a vector, M values of a multi-valued feature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.batches.examples import Gathered
from moerec.config import near_match
from moerec.dataset.schema import FIRST_ITEM, PADDING, UNKNOWN
from moerec.errors import ConfigError
from moerec.features.columns import ColumnState, apply_columns, fit_columns
from moerec.features.spec import FeatureSide, FeatureSpec

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Vectors = Mapping[str, tuple[NDArray[np.float32], Bools]]
"""Per modality: vectors [I, V] and which rows are present [I]."""

UNKNOWN_USER = 1
"""Code of a user without train event."""
FIRST_USER = 2
"""Code of user 0."""


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Columns of users (row 0 stands for one outside the data set, user u has row u + 1) or of the item index."""

    side: FeatureSide
    """user or item."""
    specs: tuple[FeatureSpec, ...]
    """The inputs."""
    sizes: Mapping[str, int]
    """See ExampleSchema.sizes."""
    columns: Mapping[str, NDArray[Any]]
    """[R], [R, M] or [R, V] by input."""
    present: Mapping[str, Bools]
    """[R] of dense and vector inputs."""
    state: ColumnState
    """What was fitted to make the columns."""

    def gather(self, rows: Ints) -> tuple[dict[str, Gathered], dict[str, Gathered]]:
        """Columns and presence of examples, by their rows [N] of the table."""
        columns = {name: Gathered(values, rows) for name, values in self.columns.items()}
        return columns, {name: Gathered(values, rows) for name, values in self.present.items()}

    def with_rows(self, table: pl.DataFrame) -> LookupTable:
        """The same table of users with the rows of further ones, who have columns and no train event.

        Raises:
            ConfigError: a column is missing or of the wrong type.
        """
        fitted = {entry.spec.name for entry in self.state.columns}
        arrays = apply_columns([spec for spec in self.specs if spec.name in fitted], table, self.state)
        added: dict[str, NDArray[Any]] = {**arrays.categorical, **arrays.multi, **arrays.dense}
        for name in self.columns.keys() - fitted:  # the user's own id
            added[name] = np.full(table.height, UNKNOWN_USER, np.int32)
        columns = {name: _joined(values, added[name]) for name, values in self.columns.items()}
        present = {name: np.concatenate([values, arrays.present[name]]) for name, values in self.present.items()}
        return replace(self, columns=columns, present=present)


def user_codes(trained: Bools) -> NDArray[np.int32]:
    """The code of each row of the user table, [U + 1]: one for all users without train event."""
    codes = np.where(trained, np.arange(len(trained)) + FIRST_USER, UNKNOWN_USER)
    return np.concatenate([[UNKNOWN_USER], codes]).astype(np.int32)


def item_codes(trained: Bools) -> NDArray[np.int32]:
    """The code of each item index, [I]: its own, UNKNOWN for items without train event, PADDING for padding."""
    codes = np.where(trained, np.arange(len(trained)), UNKNOWN).astype(np.int32)
    codes[PADDING] = PADDING
    return codes


def fit_table(
    side: FeatureSide,
    specs: Sequence[FeatureSpec],
    table: pl.DataFrame,
    trained: Bools,
    split: str,
    vectors: Vectors,
    id_name: str | None,
) -> LookupTable:
    """Fit the columns of users or of items on the rows with a train event.

    Args:
        side: user or item.
        specs: features of that side; those of kind vector read the modality that their `column` names.
        table: users or items.
        trained: [U] users or [I] items with a train event.
        split: name of the split, kept in the state.
        vectors: the modalities.
        id_name: name of the id as an input; None to leave it out.

    Raises:
        ConfigError: a column or modality is missing or of the wrong type, or users are to have vectors.
    """
    plain = [spec for spec in specs if spec.kind != "vector"]
    state = ColumnState(side=side, split=split)
    if plain:
        state = fit_columns(plain, table, trained[FIRST_ITEM:] if side == "item" else trained, split)
    arrays = apply_columns(plain, table, state)
    columns: dict[str, NDArray[Any]] = {**arrays.categorical, **arrays.multi, **arrays.dense}
    present = dict(arrays.present)
    if side == "user":  # rows of items have their reserved ones already
        columns = {name: _with_empty_row(values) for name, values in columns.items()}
        present = {name: _with_empty_row(values) for name, values in present.items()}
    sizes = {spec.name: 1 if spec.kind == "dense" else state.column(spec.name).cardinality for spec in plain}
    for spec in specs:
        if spec.kind == "vector":
            values, there = _modality(spec, vectors, len(trained))
            columns[spec.name], present[spec.name], sizes[spec.name] = values, there, values.shape[1]
    inputs = list(specs)
    if id_name is not None:
        inputs.insert(0, FeatureSpec(name=id_name, kind="categorical", side=side))
        columns[id_name] = user_codes(trained) if side == "user" else item_codes(trained)
        sizes[id_name] = len(trained) + (FIRST_USER if side == "user" else 0)
    return LookupTable(side, tuple(inputs), sizes, columns, present, state)


def _joined(above: NDArray[Any], below: NDArray[Any]) -> NDArray[Any]:
    """Rows of two arrays; those of a multi column may have different numbers of places."""
    if above.ndim == 2:
        width = max(above.shape[1], below.shape[1])
        above, below = (np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in (above, below))
    return np.concatenate([above, below])


def _with_empty_row(values: NDArray[Any]) -> NDArray[Any]:
    """The same rows after one of zeros, which means missing in every kind of column."""
    return np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values])


def _modality(spec: FeatureSpec, vectors: Vectors, num_indices: int) -> tuple[NDArray[np.float32], Bools]:
    if spec.side == "user":
        raise ConfigError(f"features.{spec.name}: modalities belong to items; give it side: item")
    if spec.source_column not in vectors:
        hint = near_match(spec.source_column, vectors, "modalities") if vectors else "there are no modalities"
        raise ConfigError(f"features.{spec.name}: no modality '{spec.source_column}'; {hint}")
    values, present = vectors[spec.source_column]
    if values.ndim != 2 or len(values) != num_indices or present.shape != (num_indices,):
        raise ValueError(f"vectors of '{spec.source_column}' must be [{num_indices}, V], with a mask of as many rows")
    return values.astype(np.float32, copy=False), present
