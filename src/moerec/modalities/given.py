"""Vectors that users already have: a matrix and a list that says which item each row belongs to.

Shape letters: R rows of the matrix, N items of the catalogue, D width of the vectors.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import ConfigError, DatasetError
from moerec.modalities.cells import require_columns, single_values
from moerec.modalities.encoders import first_line


def read_matrix(path: Path) -> NDArray[Any]:
    """A matrix [R, D] of numbers from `.npy` (memory-mapped) or `.pt` (one tensor).

    Raises:
        DatasetError: the file is missing, damaged, pickled, or holds something else.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file of vectors; correct the path")
    if path.suffix not in (".npy", ".pt"):
        raise DatasetError(f"{path}: vectors are read from .npy and .pt files, not from '{path.suffix}'")
    matrix = _read_npy(path) if path.suffix == ".npy" else _read_pt(path)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or matrix.shape[1] == 0:
        raise DatasetError(f"{path}: a matrix [rows, D] of numbers is needed, this is {matrix.dtype} {matrix.shape}")
    return matrix


def read_item_ids(path: Path, column: str) -> list[str]:
    """The item id of each row, as strings, from a JSON list, or from a column of a Parquet, CSV or TSV file.

    Raises:
        DatasetError: the file is missing or damaged, an id is empty, or occurs twice.
        ConfigError: there is no such column.
    """
    if not path.is_file():
        raise DatasetError(f"{path}: no such file of item ids; correct the path")
    try:
        ids = _ids_from_json(path) if path.suffix == ".json" else _ids_from_table(path, column)
    except (ValueError, OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{path}: item ids cannot be read ({first_line(error)})") from None
    for row, item_id in enumerate(ids):
        if not item_id:
            raise DatasetError(f"{path}: the id of row {row + 1} is empty; name the item of every row")
    repeated = [item_id for item_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DatasetError(f"{path}: item id '{repeated[0]}' stands for several rows; keep one")
    return [str(item_id) for item_id in ids]


def align(
    matrix: NDArray[Any],
    row_ids: Sequence[str],
    item_ids: Sequence[str],
    zero_rows: Literal["absent", "present"],
    where: str,
) -> tuple[NDArray[np.float32], list[str | None], int]:
    """Rows in the order of the catalogue.

    Args:
        matrix: [R, D].
        row_ids: item id of each row.
        item_ids: ids of the catalogue.
        zero_rows: whether a row of zeros is a vector, or the usual sign that there is none.
        where: the matrix's file, for messages.

    Returns:
        float32 [N, D], the reason of absence for each item (None where present), and the number of rows whose item
        is not in the catalogue.

    Raises:
        DatasetError: as many ids as rows are needed; no row belongs to an item of the catalogue.
    """
    if len(row_ids) != len(matrix):
        raise DatasetError(f"{where}: {len(matrix)} rows, but {len(row_ids)} item ids; each row needs one")
    row_of = {item_id: row for row, item_id in enumerate(row_ids)}
    rows = np.array([row_of.get(item_id, -1) for item_id in item_ids], np.int64)
    used = int((rows >= 0).sum())
    if used == 0:
        raise DatasetError(f"{where}: none of its item ids is in the catalogue (the first is '{(row_ids or [''])[0]}')")
    vectors = np.zeros((len(item_ids), matrix.shape[1]), np.float32)
    vectors[rows >= 0] = matrix[rows[rows >= 0]]
    finite: list[bool] = np.asarray(np.isfinite(vectors).all(axis=1)).tolist()
    filled: list[bool] = np.asarray(vectors.any(axis=1)).tolist()
    reasons: list[str | None] = [None] * len(item_ids)
    for position, row in enumerate(rows.tolist()):
        if row < 0:
            reasons[position] = "no row for that item id"
        elif not finite[position]:
            reasons[position] = "not finite"
        elif zero_rows == "absent" and not filled[position]:
            reasons[position] = "a row of zeros"
    return vectors, reasons, len(row_ids) - used


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DatasetError(f"{path}: not a .npy matrix, or cut short ({first_line(error)})") from None
    if not isinstance(loaded, np.ndarray):
        raise DatasetError(f"{path}: an archive of several arrays; save the one matrix with numpy.save")
    return loaded


def _read_pt(path: Path) -> NDArray[Any]:
    import torch

    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  on damaged bytes the restricted reader raises nearly anything
        raise DatasetError(f"{path}: not a tensor that can be read safely ({first_line(error)})") from None
    if not isinstance(tensor, torch.Tensor):
        raise DatasetError(f"{path}: holds a {type(tensor).__name__}; save the one tensor [rows, D] with torch.save")
    tensor = tensor.detach()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())


def _ids_from_json(path: Path) -> list[str]:
    ids = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(ids, list) or not all(isinstance(item_id, (str, int)) for item_id in ids):
        raise ValueError("a list of strings or whole numbers is needed")
    return [str(item_id) for item_id in ids]


def _ids_from_table(path: Path, column: str) -> list[str]:
    if path.suffix == ".parquet":
        table = pl.read_parquet(path, glob=False)
    elif path.suffix in (".csv", ".tsv"):
        # Everything as text: an id '0042' keeps its zeros.
        table = pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False, glob=False)
    else:
        raise ConfigError(f"{path}: item ids are read from .json, .parquet, .csv and .tsv files")
    if table.width != 1:
        require_columns(table, [column], str(path), hidden=())
    ids = table.to_series(0) if table.width == 1 else table[column]
    return single_values(ids, str(path)).fill_null("").to_list()
