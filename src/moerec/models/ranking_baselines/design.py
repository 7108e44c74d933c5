"""The sparse design matrix of linear baselines: what it holds is learned on train rows.

Shape letters: N examples, K train rows, R rows to apply to, M values of a multi-valued feature, W numbers that a
feature has in one row, C columns of the matrix.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from moerec.batches.examples import ExampleTable
from moerec.features.columns import MISSING
from moerec.models.ranking_baselines.base import ROWS_AT_ONCE, Floats, Ints
from moerec.models.ranking_baselines.components import PrincipalComponents, fit_components

USER_IDS, ITEM_IDS = "user id", "item id"
"""Names of the ids in a design; no feature can be called so."""
_ID_COLUMNS = frozenset({"user", "user_id", "item", "item_id"})

Entries = tuple[NDArray[np.int64], Floats]
"""Columns [R, W] within the feature's own block, and the numbers there [R, W]; 0 where there is none."""


class Block(ABC):
    """The columns of one feature."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of columns."""

    @abstractmethod
    def entries(self, table: ExampleTable, rows: Ints) -> Entries:
        """Where the rows have which numbers."""


@dataclass(frozen=True, eq=False)
class CodeBlock(Block):
    """One column for each frequent code: 1 where the row has it."""

    name: str
    columns: Ints
    """Column of each code, -1 for a code without one."""

    @property
    def width(self) -> int:
        """As many as there are frequent codes."""
        return int(self.columns.max(initial=-1)) + 1

    def entries(self, table: ExampleTable, rows: Ints) -> Entries:
        """A one for each code of the row."""
        found = _columns_of(self.columns, codes_of(table, self.name, rows))  # [R, M]
        return np.maximum(found, 0), (found >= 0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class DenseBlock(Block):
    """A standardised number, 0 where it is missing, and a column that says so if train rows miss it."""

    name: str
    mean: float
    deviation: float
    indicator: bool

    @property
    def width(self) -> int:
        """One or two columns."""
        return 1 + self.indicator

    def entries(self, table: ExampleTable, rows: Ints) -> Entries:
        """The number and the indicator."""
        values = numbers_of(table, self.name, rows)  # [R]
        missing = np.isnan(values)
        standardised = np.where(missing, 0.0, (values - self.mean) / self.deviation)
        parts = [standardised, missing.astype(np.float64)][: self.width]
        return np.tile(np.arange(self.width), (len(rows), 1)), np.stack(parts, axis=1)


@dataclass(frozen=True, eq=False)
class ComponentsBlock(Block):
    """The principal components of a vector, 0 where it is missing, and a column that says so."""

    components: PrincipalComponents

    @property
    def width(self) -> int:
        """The components and the indicator."""
        return self.components.directions.shape[1] + 1

    def entries(self, table: ExampleTable, rows: Ints) -> Entries:
        """The components and the indicator."""
        values = self.components.apply(table, rows)  # [R, W - 1]
        missing = ~np.asarray(table.presence(self.components.name, rows), dtype=bool)
        numbers = np.column_stack([np.nan_to_num(values), missing])
        return np.tile(np.arange(self.width), (len(rows), 1)), numbers


@dataclass(frozen=True)
class Design:
    """A fitted design matrix."""

    blocks: tuple[Block, ...]

    @property
    def width(self) -> int:
        """Number of columns."""
        return sum(block.width for block in self.blocks)

    def matrix(self, table: ExampleTable, rows: Ints) -> sparse.csr_matrix:
        """The rows as a sparse matrix, [R, C] float64."""
        starts = range(0, max(1, len(rows)), ROWS_AT_ONCE)
        return sparse.vstack([self._matrix(table, rows[start : start + ROWS_AT_ONCE]) for start in starts], "csr")

    def _matrix(self, table: ExampleTable, rows: Ints) -> sparse.csr_matrix:
        columns, numbers = [np.empty((len(rows), 0), np.int64)], [np.empty((len(rows), 0))]
        before = 0
        for block in self.blocks:
            places, values = block.entries(table, rows)
            columns.append(places + before)
            numbers.append(values)
            before += block.width
        joined, data = np.concatenate(columns, axis=1), np.concatenate(numbers, axis=1)  # [R, sum of W]
        filled = data != 0
        offsets = np.concatenate([[0], np.cumsum(filled.sum(1))])
        return sparse.csr_matrix((data[filled], joined[filled], offsets), shape=(len(rows), before))


def fit_design(
    table: ExampleTable, rows: Ints, *, ids: bool = True, components: int = 0, minimum_count: int = 1
) -> Design:
    """Learn what the columns are.

    Dense features are standardised over the train rows, so that one penalty fits all. Histories are not read.

    Args:
        table: all examples.
        rows: [K] train rows.
        ids: whether users and items have columns of their own.
        components: principal components of each vector; 0 leaves vectors out.
        minimum_count: a code that fewer train rows have gets no column.
    """
    blocks: list[Block] = []
    coded = [USER_IDS, ITEM_IDS] if ids else []
    for name in [*coded, *feature_names(table, ("categorical", "multi"))]:
        blocks.append(_fit_codes(table, name, rows, minimum_count))
    for name in feature_names(table, ("dense",)):
        blocks.append(_fit_dense(table, name, rows))
    for name in feature_names(table, ("vector",)) if components else []:
        blocks.append(ComponentsBlock(fit_components(table, name, rows, components)))
    return Design(tuple(blocks))


def feature_names(table: ExampleTable, kinds: Sequence[str]) -> list[str]:
    """The features of some kinds without those that are an id; ids are read from the table itself."""
    return [spec.name for spec in table.schema.specs if spec.kind in kinds and spec.source_column not in _ID_COLUMNS]


def codes_of(table: ExampleTable, name: str, rows: Ints) -> Ints:
    """The codes [R, M] of a categorical or multi feature or of ids; -1 in an unused place of a multi feature."""
    if name in (USER_IDS, ITEM_IDS):
        return (table.users if name == USER_IDS else table.items)[rows][:, None]  # [R, 1]
    codes = np.asarray(table.column(name, rows), dtype=np.int64)
    if codes.ndim == 1:
        return codes[:, None]  # [R, 1]
    return np.where(codes > MISSING, codes, -1)  # [R, M]


def code_counts(table: ExampleTable, name: str, rows: Ints) -> Ints:
    """Number of train rows that have each code, up to the highest there is."""
    codes = codes_of(table, name, rows)
    return np.bincount(codes[codes >= 0])


def numbers_of(table: ExampleTable, name: str, rows: Ints) -> Floats:
    """The numbers [R] of a dense feature, NaN where missing."""
    numbers = np.asarray(table.column(name, rows), dtype=np.float64)
    present = table.presence(name, rows)
    return numbers if present is None else np.where(present, numbers, np.nan)


def _fit_codes(table: ExampleTable, name: str, rows: Ints, minimum_count: int) -> CodeBlock:
    counts = code_counts(table, name, rows)
    kept = counts >= max(1, minimum_count)
    return CodeBlock(name, np.where(kept, np.cumsum(kept) - 1, -1))


def _fit_dense(table: ExampleTable, name: str, rows: Ints) -> DenseBlock:
    numbers = numbers_of(table, name, rows)
    known = numbers[np.isfinite(numbers)]
    if len(known) == 0:
        return DenseBlock(name, 0.0, 1.0, indicator=True)
    mean, deviation = float(known.mean()), float(known.std())
    # Rounding alone gives a constant column a tiny spread.
    spread = deviation if deviation > 1e-9 * max(1.0, abs(mean)) else 1.0
    return DenseBlock(name, mean, spread, indicator=len(known) < len(numbers))


def _columns_of(columns: Ints, codes: Ints) -> Ints:
    """The column of each code, -1 for one that has none."""
    known = (codes >= 0) & (codes < len(columns))
    return np.where(known, columns[np.where(known, codes, 0)], -1) if len(columns) else np.full(codes.shape, -1)
