"""Parquet files to typed rows, with the row number of every row that is refused."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from moerec.dataset.sources.columns import LINE, Column, Table, convert, require_rows
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

MAGIC = b"PAR1"


def is_parquet(file: SourceFile) -> bool:
    """Whether the file begins as every Parquet file does, whatever its name."""
    with file.open_stored() as stream:
        return stream.read(len(MAGIC)) == MAGIC


def parquet_schema(file: SourceFile) -> dict[str, pl.DataType]:
    """Names and types of the columns.

    Raises:
        DatasetError: missing, damaged or cut off.
    """
    try:
        with file.open_stored() as stream:
            return dict(pl.read_parquet_schema(stream))
    except pl.exceptions.PolarsError as error:
        raise _damaged(file, error) from None


def read_parquet(file: SourceFile, columns: Sequence[Column], unique: str | None = None) -> Table:
    """Read columns of a Parquet file; rows with wrong cells become rejects, numbered from 1.

    Raises:
        DatasetError: missing, damaged, empty, or not one good row.
    """
    try:
        with file.open_stored() as stream:
            cells = pl.read_parquet(stream, columns=[column.name for column in columns])
    except pl.exceptions.PolarsError as error:
        raise _damaged(file, error) from None
    cells = cells.with_row_index(LINE, offset=1).with_columns(pl.col(LINE).cast(pl.Int64))
    return require_rows(convert(cells, columns, file.name, unique), file.name)


def _damaged(file: SourceFile, error: Exception) -> DatasetError:
    reason = str(error).splitlines()[0]
    return DatasetError(f"{file.path}: not a whole Parquet file ({reason}); get it again")
