"""Writing shards: each archive is whole or absent, a stopped writer goes on, and the same examples give the same bytes.

A shard counts once its file of offsets is there, which comes after the archive; the set counts once `index.json` is
there, which comes last. Several processes may write shards of one set, each its own numbers, and one of them finishes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.shards.archive import ArchiveWriter
from moerec.dataset.shards.examples import ShardExample, members_of
from moerec.dataset.shards.index import (
    INDEX_FILE,
    KEYS_FILE,
    ShardEntry,
    ShardIndex,
    ShardOffsets,
    StoredFile,
    alike,
    key_table,
    offsets_name,
    shard_name,
)
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError

STARTED_FILE = "started.json"
"""What a set is being made from; it goes when the set is whole."""
EXAMPLES_PER_SHARD = 1024


def write_shards(
    url: str,
    examples: Callable[[int], Iterable[ShardExample]],
    *,
    examples_per_shard: int = EXAMPLES_PER_SHARD,
    inputs: Mapping[str, Any] | None = None,
) -> ShardIndex:
    """Write a set of shards; what an earlier call has finished is kept, and a whole set is returned as it is.

    Args:
        url: folder, or address of one.
        examples: gives the examples from a number on, always in the same order; the number is how many are kept.
        examples_per_shard: of every shard but the last.
        inputs: plain data that decides the content; shards of other inputs are not continued.

    Raises:
        DatasetError: the folder holds something else, or an example cannot be written.
    """
    if examples_per_shard < 1:
        raise ValueError(f"examples_per_shard must be at least 1, got {examples_per_shard}")
    storage = Storage(url)
    done = start_set(storage, dict(inputs or {}) | {"examples_per_shard": examples_per_shard})
    if done is not None:
        return done
    number, kept = 0, 0
    while (offsets := finished_shard(storage, number)) is not None and len(offsets.keys) == examples_per_shard:
        number, kept = number + 1, kept + examples_per_shard
    waiting = iter(examples(kept))
    while chunk := list(islice(waiting, examples_per_shard)):
        write_shard(storage, number, chunk)
        number += 1
    return finish_set(storage, number)


def start_set(storage: Storage, inputs: Mapping[str, Any]) -> ShardIndex | None:
    """Claim a folder for a set; return the set if it is whole already.

    Raises:
        DatasetError: it holds a set of other inputs, or one that another release began.
    """
    plain = json.loads(json.dumps(inputs, sort_keys=True))
    index = _index_there(storage)
    if index is not None:
        if index.inputs != plain:
            raise DatasetError(f"{storage.url}: shards of other inputs are there; remove them or choose another folder")
        return index
    if storage.size(STARTED_FILE) is not None:
        if json.loads(storage.read(STARTED_FILE)) != plain:
            raise DatasetError(
                f"{storage.url}: unfinished shards of other inputs are there; remove them or choose another folder"
            )
        return None
    if any(name.startswith("shard-") for name in storage.names()):
        raise DatasetError(f"{storage.url}: shards of unknown origin are there; remove them or choose another folder")
    storage.write(STARTED_FILE, json.dumps(plain, sort_keys=True).encode("utf-8"))
    return None


def _index_there(storage: Storage) -> ShardIndex | None:
    if storage.size(INDEX_FILE) is None:
        return None
    try:
        return ShardIndex.read(storage)
    except DatasetError:
        if storage.size(STARTED_FILE) is None:
            raise
        return None  # not every store writes all or nothing, and this one was cut off


def write_shard(storage: Storage, number: int, examples: Iterable[ShardExample]) -> ShardOffsets:
    """Write one shard and then its offsets; a shard of that number is replaced.

    Raises:
        DatasetError: there is no example, one cannot be written, or a key stands there twice.
    """
    name = shard_name(number)
    keys: list[str] = []
    members: dict[str, list[tuple[int, int] | None]] = {}
    with storage.writing(name) as path:
        with path.open("wb") as stream:
            archive = ArchiveWriter(stream)
            for example in examples:
                for ending, content in members_of(example):
                    spans = members.setdefault(ending, [None] * len(keys))
                    spans.append((archive.add(f"{example.key}.{ending}", content), len(content)))
                keys.append(example.key)
                for spans in members.values():
                    if len(spans) < len(keys):
                        spans.append(None)
            checksum = archive.close()
        if not keys:
            raise DatasetError(f"{storage.address(name)}: a shard needs an example")
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DatasetError(f"{storage.address(name)}: the key '{twice}' stands there twice")
    offsets = ShardOffsets(StoredFile(name, archive.bytes, checksum), tuple(keys), members)
    storage.write(offsets_name(name), offsets.to_bytes())
    return offsets


def finished_shard(storage: Storage, number: int) -> ShardOffsets | None:
    """The offsets of a shard that is whole; None if it is not there, or was cut off while it was written."""
    name = shard_name(number)
    if storage.size(offsets_name(name)) is None:
        return None
    content = storage.read(offsets_name(name))
    try:
        offsets = ShardOffsets.from_bytes(content, storage.address(offsets_name(name)))
    except DatasetError:
        return None
    return offsets if storage.size(name) == offsets.shard.size else None


def finish_set(storage: Storage, shards: int) -> ShardIndex:
    """Write the index of shards 0 to `shards` - 1, all of which must be finished.

    Raises:
        DatasetError: one is missing, or a key stands in two.
    """
    entries: list[ShardEntry] = []
    members: dict[str, int] = {}
    table = key_table(map(partial(_enter, storage, entries, members), range(shards)))
    _require_distinct(storage, entries, table)
    stream = io.BytesIO()
    np.save(stream, table, allow_pickle=False)
    storage.write(KEYS_FILE, stream.getvalue())
    inputs = json.loads(storage.read(STARTED_FILE)) if storage.size(STARTED_FILE) is not None else {}
    keys = StoredFile.of(KEYS_FILE, stream.getvalue())
    index = ShardIndex(tuple(entries), keys, dict(sorted(members.items())), inputs)
    storage.write(INDEX_FILE, index.to_bytes())
    storage.remove(STARTED_FILE)
    if storage.local is not None:
        for left in storage.local.glob(".shard-*.tmp-*"):
            left.unlink(missing_ok=True)  # of a writer that was killed
    return index


def _enter(storage: Storage, entries: list[ShardEntry], members: dict[str, int], number: int) -> tuple[str, ...]:
    """Enter a shard into `entries` and `members`; return its keys."""
    offsets = finished_shard(storage, number)
    if offsets is None:
        raise DatasetError(f"{storage.address(shard_name(number))}: not finished; write it before the index")
    content = StoredFile.of(offsets_name(offsets.shard.name), offsets.to_bytes())
    entries.append(ShardEntry(offsets.shard, content, len(offsets.keys)))
    for ending, spans in offsets.members.items():
        members[ending] = members.get(ending, 0) + sum(span is not None for span in spans)
    return offsets.keys


def _require_distinct(storage: Storage, entries: Sequence[ShardEntry], table: NDArray[np.uint64]) -> None:
    ends = np.cumsum([entry.examples for entry in entries])

    def key(number: int) -> str:
        shard = int(np.searchsorted(ends, number, side="right"))
        offsets = finished_shard(storage, shard)
        assert offsets is not None
        return offsets.keys[number - int(ends[shard])]  # from the end of the shard

    for one, other in alike(table):
        if key(one) == key(other):
            raise DatasetError(
                f"{storage.url}: the key '{key(one)}' stands in two shards; each example needs one of its own"
            )
