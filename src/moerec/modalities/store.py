"""ModalityStore: one vector for each item of the catalogue and a mask that says which items have one.

Shape letters: N items of the catalogue, D width of the vectors.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import DatasetError
from moerec.files import atomic_file

FORMAT_VERSION = 1
_METADATA_KEY = "moerec"
_HEADER_LIMIT = 100_000_000
_EXAMPLES_PER_REASON = 3


@dataclass(frozen=True)
class ModalityStore:
    """Vectors of one modality. The mask is what counts: an absent row is zeros, and means nothing."""

    vectors: NDArray[np.float32]  # [N + 2, D]
    """Row of item index i; rows 0 (padding) and 1 (unknown) are absent."""
    present: NDArray[np.bool_]  # [N + 2]
    """Whether the item has this modality."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Plain data: what made the vectors, counts, reasons of absence, fingerprint."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32:
            raise ValueError(
                f"vectors must be float32 [items + 2, D], got {self.vectors.dtype} {list(self.vectors.shape)}"
            )
        if self.present.dtype != np.bool_ or self.present.shape != (len(self.vectors),):
            raise ValueError("present must be bool [items + 2]")
        if len(self.present) < FIRST_ITEM or self.present[:FIRST_ITEM].any():
            raise ValueError("rows 0 and 1 stand for padding and the unknown item, and are absent")

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.vectors) - FIRST_ITEM

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    @property
    def num_present(self) -> int:
        """Number of items that have this modality."""
        return int(self.present.sum())

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole or not at all."""
        from safetensors.numpy import save_file

        metadata = {_METADATA_KEY: json.dumps({"format": FORMAT_VERSION, **self.metadata}, sort_keys=True)}
        with atomic_file(path) as temporary:
            tensors = {"vectors": np.ascontiguousarray(self.vectors), "present": np.ascontiguousarray(self.present)}
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: Path, num_items: int | None = None) -> ModalityStore:
        """Open a saved store; the vectors stay on disk until they are read (copy on write).

        Args:
            path: the file.
            num_items: size of the catalogue that the vectors must belong to; None skips this check.

        Raises:
            DatasetError: no such file, a cut or foreign file, or the vectors of another catalogue.
        """
        header, start = _read_header(path)
        try:
            metadata = json.loads(header.get("__metadata__", {})[_METADATA_KEY])
            vectors = _map(path, start, header["vectors"], np.dtype(np.float32), 2)
            present = np.array(_map(path, start, header["present"], np.dtype(np.bool_), 1))
            store = cls(vectors, present, {key: value for key, value in metadata.items() if key != "format"})
        except (KeyError, ValueError, TypeError) as error:
            raise DatasetError(
                f"{path}: not a modality store ({error}); delete it, and it will be made again"
            ) from None
        if metadata.get("format") != FORMAT_VERSION:
            raise DatasetError(
                f"{path}: store format {metadata.get('format')}, this version reads {FORMAT_VERSION}; delete it"
            )
        if num_items is not None and store.num_items != num_items:
            raise DatasetError(
                f"{path}: has vectors of {store.num_items} items, the catalogue has {num_items} items; build it again"
            )
        return store


def store_from_rows(
    vectors: NDArray[np.float32],
    reasons: Sequence[str | None],
    item_ids: Sequence[str],
    metadata: Mapping[str, Any],
) -> ModalityStore:
    """A store from the rows of the catalogue alone; the two reserved rows are put in front.

    Args:
        vectors: [N, D] float32; rows of absent items are ignored.
        reasons: why each item has no vector; None where it has one.
        item_ids: ids of the catalogue.
        metadata: plain data; `dim`, `counts`, `absence` (how many items for each reason, and the first few of them)
            and `fingerprint` (SHA-256 of mask and vectors, 16 digits) are added.

    Raises:
        DatasetError: a present vector is not finite, or no item has a vector at all.
    """
    present = np.array([reason is None for reason in reasons], np.bool_)
    absence = _absence(item_ids, reasons)
    if not present.any():
        why = ", ".join(f"{reason}: {count}" for reason, count in list(absence["reasons"].items())[:3])
        raise DatasetError(
            f"no item has this modality ({why or 'the catalogue is empty'}); correct its source or leave it out"
        )
    if not np.isfinite(vectors[present]).all():
        raise DatasetError("some vectors hold NaN or infinity; correct them, or mark their items absent")
    rows = np.zeros((FIRST_ITEM + len(present), vectors.shape[1]), np.float32)
    rows[FIRST_ITEM:][present] = vectors[present]
    mask = np.concatenate([np.zeros(FIRST_ITEM, np.bool_), present])
    digest = hashlib.sha256(mask.tobytes())
    digest.update(rows.data)
    described = {
        **metadata,
        "dim": int(vectors.shape[1]),
        "counts": {"items": len(present), "present": int(present.sum()), "absent": int((~present).sum())},
        "absence": absence,
        "fingerprint": digest.hexdigest()[:16],
    }
    return ModalityStore(rows, mask, described)


def catalogue_ids(items: pl.DataFrame) -> list[str]:
    """The ids of the item table, whose row i is item index i + 2.

    Raises:
        DatasetError: no column `item_id`, or the rows are not in the order of the item index.
    """
    if "item_id" not in items.columns:
        raise DatasetError("the item table has no column 'item_id'; open it with Dataset, which adds it")
    if "item" in items.columns:
        expected = pl.int_range(FIRST_ITEM, FIRST_ITEM + items.height, eager=True)
        if not (items["item"].cast(pl.Int64) == expected).all():
            raise DatasetError("the item table is not in the order of the item index; sort it by 'item'")
    return items["item_id"].cast(pl.String).to_list()


def _absence(item_ids: Sequence[str], reasons: Sequence[str | None]) -> dict[str, Any]:
    """How many items lack the modality for each reason, and the first few of them."""
    counts = Counter(reason for reason in reasons if reason is not None)
    examples: dict[str, list[str]] = {reason: [] for reason in counts}
    for item_id, reason in zip(item_ids, reasons, strict=True):
        if reason is not None and len(examples[reason]) < _EXAMPLES_PER_REASON:
            examples[reason].append(item_id)
    return {"reasons": dict(counts.most_common()), "examples": examples}


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The safetensors header, and the byte at which the data begin; the file's length must agree with it."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such modality file; build the modality first")
    size = path.stat().st_size
    damaged = DatasetError(f"{path}: the file is cut short or damaged; delete it, and it will be made again")
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise damaged
        try:
            header = json.loads(stream.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise damaged from None
    if 8 + length + max(ends, default=0) != size:
        raise damaged
    return header, 8 + length


def _map(path: Path, start: int, entry: Mapping[str, Any], dtype: np.dtype[Any], rank: int) -> NDArray[Any]:
    """A tensor of the file as a memory map; changes stay in memory."""
    names = {np.dtype(np.float32): "F32", np.dtype(np.bool_): "BOOL"}
    shape = tuple(int(size) for size in entry["shape"])
    begin, end = entry["data_offsets"]
    if entry["dtype"] != names[dtype] or len(shape) != rank or end - begin != int(np.prod(shape)) * dtype.itemsize:
        raise ValueError(f"tensor of type {entry['dtype']} and shape {list(shape)}")
    if end == begin:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="c", offset=start + begin, shape=shape)
