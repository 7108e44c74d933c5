"""VectorCache: vectors found again by content, so that a new item costs one encoding and an old one none.

Shape letters: n texts or images asked for, b those of one batch, D width of the vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moerec.errors import DatasetError
from moerec.files import atomic_file
from moerec.modalities.encoders import Progress

Vectors = NDArray[np.float32]
Encode = Callable[[list[int]], tuple[Vectors, NDArray[np.bool_]]]
"""Encodes the entries at these positions: vectors [b, D], and whether each could be encoded [b]."""

_SHARD_ROWS = 4096
_KEY_BYTES = 16


@dataclass(frozen=True)
class VectorCache:
    """A folder of safetensors shards of one encoder; a shard is written once and never changed."""

    folder: Path

    def read(self, wanted: set[bytes]) -> dict[bytes, Vectors]:
        """The vectors that are there, by key.

        Raises:
            DatasetError: a shard is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        found: dict[bytes, Vectors] = {}
        # A temporary file of an interrupted run begins with a dot, and is not a shard.
        for shard in sorted(self.folder.glob("[!.]*.safetensors")):
            try:
                tensors = load_file(shard)
                keys, vectors = tensors["keys"], tensors["vectors"]
            except (SafetensorError, KeyError, OSError) as error:
                raise DatasetError(f"{shard}: damaged cache of vectors ({error}); delete this file") from None
            raw = keys.tobytes()
            for row in range(len(vectors)):
                key = raw[row * _KEY_BYTES : (row + 1) * _KEY_BYTES]
                if key in wanted:
                    found[key] = vectors[row]
        return found

    def add(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Write one more shard, named by its keys."""
        from safetensors.numpy import save_file

        raw = b"".join(keys)
        table = np.frombuffer(raw, np.uint8).reshape(len(keys), _KEY_BYTES)
        with atomic_file(self.folder / f"{hashlib.sha256(raw).hexdigest()[:32]}.safetensors") as temporary:
            save_file({"keys": table.copy(), "vectors": np.ascontiguousarray(vectors)}, temporary)


def encode_once(
    keys: Sequence[bytes],
    sizes: Sequence[int],
    encode: Encode,
    batch_size: int,
    cache: VectorCache | None,
    progress: Progress | None,
) -> tuple[Vectors, NDArray[np.bool_]]:
    """Encode what the cache does not have; equal contents once.

    The longest come first, so that a batch holds entries of like length and the largest batch is met at once.
    What is encoded is written every few thousand entries and when the work is interrupted.

    Args:
        keys: name of the content of each entry, 16 bytes.
        sizes: length of each entry, for sorting.
        encode: the encoder.
        batch_size: entries in one call of `encode`.
        cache: where vectors are found and kept; None keeps nothing.
        progress: called with the number of distinct entries done and their total.

    Returns:
        vectors [n, D] (zeros where not encoded; D is 0 if nothing could be encoded) and whether each was encoded [n].
    """
    first = {key: position for position, key in reversed(list(enumerate(keys)))}
    found = cache.read(set(first)) if cache is not None else {}
    missing = sorted((p for key, p in first.items() if key not in found), key=lambda p: (-sizes[p], p))
    done = len(first) - len(missing)
    if progress is not None:
        progress(done, len(first))
    fresh: dict[bytes, Vectors] = {}
    try:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            vectors, encoded = encode(batch)
            found_now = {keys[p]: vectors[row] for row, p in enumerate(batch) if encoded[row]}
            found |= found_now
            fresh |= found_now
            if len(fresh) >= _SHARD_ROWS:
                _write(cache, fresh)
            if progress is not None:
                progress(done + start + len(batch), len(first))
    finally:
        _write(cache, fresh)
    return _gather(keys, found)


def _write(cache: VectorCache | None, fresh: dict[bytes, Vectors]) -> None:
    if cache is not None and fresh:
        cache.add(list(fresh), np.stack(list(fresh.values())))
    fresh.clear()


def _gather(keys: Sequence[bytes], found: dict[bytes, Vectors]) -> tuple[Vectors, NDArray[np.bool_]]:
    widths = {vector.shape[0] for vector in found.values()}
    if len(widths) > 1:
        raise DatasetError(f"vectors of widths {sorted(widths)} in one cache; delete the cache folder")
    vectors = np.zeros((len(keys), widths.pop() if widths else 0), np.float32)
    present = np.array([key in found for key in keys], np.bool_)
    for row, key in enumerate(keys):
        if key in found:
            vectors[row] = found[key]
    return vectors, present
