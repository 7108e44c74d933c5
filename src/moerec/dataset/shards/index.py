"""What stands in a set of shards and where: `index.json`, one small file beside each archive, and `keys.npy`.

`index.json` lists the shards and is written last, so a folder with it is whole. The keys and byte offsets of a shard
stand in a file of its own: it says that this shard is finished while others are not, and whoever reads one shard does
not load the offsets of millions of examples.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec import __version__
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError

INDEX_FILE, KEYS_FILE = "index.json", "keys.npy"
FORMAT_VERSION = 1
Ints = NDArray[np.int64]


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:06d}.tar"


def offsets_name(shard: str) -> str:
    """The file beside a shard that tells its keys and offsets."""
    return shard.removesuffix(".tar") + ".json"


@dataclass(frozen=True)
class StoredFile:
    """A file of a set, and how to know that it is whole."""

    name: str
    size: int
    """Bytes."""
    sha256: str

    @classmethod
    def of(cls, name: str, content: bytes) -> StoredFile:
        """The entry of a small file."""
        return cls(name, len(content), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class ShardOffsets:
    """Keys of a shard, and where each member's content lies in the archive."""

    shard: StoredFile
    keys: tuple[str, ...]
    """Of each example, in the order of the archive."""
    members: Mapping[str, Sequence[tuple[int, int] | None]]
    """For each ending, of each example: first byte and number of bytes, or None if it has no such member."""

    def to_bytes(self) -> bytes:
        """JSON, the same for the same content."""
        values = {"shard": asdict(self.shard), "keys": self.keys, "members": self.members}
        return json.dumps(values, separators=(",", ":"), sort_keys=True).encode("ascii")

    @classmethod
    def from_bytes(cls, content: bytes, where: str) -> ShardOffsets:
        """What `to_bytes` gave.

        Raises:
            DatasetError: it is something else.
        """
        try:
            values = json.loads(content)
            members = {
                ending: [None if span is None else (int(span[0]), int(span[1])) for span in spans]
                for ending, spans in values["members"].items()
            }
            offsets = cls(StoredFile(**values["shard"]), tuple(values["keys"]), members)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DatasetError(f"{where}: damaged ({error}); remove it and write the shards again") from None
        if any(len(spans) != len(offsets.keys) for spans in members.values()):
            raise DatasetError(f"{where}: damaged (not as many offsets as keys); remove it and write the shards again")
        return offsets


@dataclass(frozen=True)
class ShardEntry:
    """A shard as the index lists it."""

    shard: StoredFile
    offsets: StoredFile
    examples: int


@dataclass(frozen=True)
class ShardIndex:
    """A whole set of shards."""

    shards: tuple[ShardEntry, ...]
    keys: StoredFile
    """All keys by their hash; see `key_table`."""
    members: Mapping[str, int]
    """How many examples have each kind of member."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """What the set was made from, as its writer said."""

    @cached_property
    def counts(self) -> Ints:
        """Examples of each shard, [S]."""
        return np.array([entry.examples for entry in self.shards], dtype=np.int64)

    @cached_property
    def starts(self) -> Ints:
        """Number of the first example of each shard, and that of all examples, [S + 1]."""
        return np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int64)

    def to_bytes(self) -> bytes:
        """JSON, the same for the same content."""
        values = {
            "format_version": FORMAT_VERSION,
            "created_by": f"moerec {__version__}",
            "examples": int(self.counts.sum()),
            "inputs": dict(self.inputs),
            "members": dict(self.members),
            "keys": asdict(self.keys),
            "shards": [asdict(entry) for entry in self.shards],
        }
        return (json.dumps(values, indent=1, ensure_ascii=False) + "\n").encode("utf-8")

    @classmethod
    def read(cls, storage: Storage) -> ShardIndex:
        """Read `index.json`.

        Raises:
            DatasetError: there is none, or one of another format.
        """
        where = storage.address(INDEX_FILE)
        try:
            values = json.loads(storage.read(INDEX_FILE))
            if values["format_version"] != FORMAT_VERSION:
                raise DatasetError(f"{where}: format {values['format_version']}, this program reads {FORMAT_VERSION}")
            shards = tuple(
                ShardEntry(StoredFile(**entry["shard"]), StoredFile(**entry["offsets"]), int(entry["examples"]))
                for entry in values["shards"]
            )
            return cls(shards, StoredFile(**values["keys"]), values["members"], values["inputs"])
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{where}: damaged ({error}); write the shards again") from None


def hash_of(key: str) -> int:
    """64 bits that stand for a key in `keys.npy`."""
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "little")


def key_table(keys: Iterable[Sequence[str]]) -> NDArray[np.uint64]:
    """Hashes of all keys in ascending order, and below each the number of its example, [2, examples].

    Args:
        keys: those of each shard, in order.
    """
    hashes = np.fromiter((hash_of(key) for some in keys for key in some), dtype=np.uint64)
    order = np.argsort(hashes, kind="stable")
    return np.stack([hashes[order], order.astype(np.uint64)])


def alike(table: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Pairs of examples whose keys have the same hash, so that they may be the same."""
    for first in np.flatnonzero(table[0, 1:] == table[0, :-1]):
        yield int(table[1, first]), int(table[1, first + 1])
