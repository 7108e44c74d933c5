"""Reading shards by number, by key, or in the order of an epoch; nothing is scanned, nothing is copied.

A shard on this machine is mapped into memory. One from elsewhere is copied into a cache of limited size first; those
that come next are fetched by a thread meanwhile. A reader is plain data until it reads, so it can be sent to spawned
processes, and each opens its own files.
"""

from __future__ import annotations

import hashlib
import mmap
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.download import cache_directory
from moerec.dataset.shards.ahead import FetchAhead
from moerec.dataset.shards.cache import FileCache
from moerec.dataset.shards.examples import ShardExample, example_of
from moerec.dataset.shards.index import ShardIndex, ShardOffsets, StoredFile, hash_of
from moerec.dataset.shards.order import EpochOrder, Remainder, ShardOrder
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError
from moerec.files import sha256_of_file

CACHE_BYTES = 20 * 2**30
OPEN_SHARDS = 64
"""Shards on this machine that a reader keeps mapped."""
WINDOW_SHARDS = 8
"""Shards that are shuffled together, unless the window is given in examples."""
AHEAD = 4


@dataclass(frozen=True)
class _OpenShard:
    offsets: ShardOffsets
    content: memoryview

    def example(self, row: int) -> ShardExample:
        members = {
            ending: self.content[span[0] : span[0] + span[1]]
            for ending, spans in self.offsets.members.items()
            if (span := spans[row]) is not None
        }
        return example_of(self.offsets.keys[row], members)


class ShardReader:
    """The examples of a set. Arrays that come out are read-only views of the files."""

    def __init__(
        self, url: str, *, cache_folder: Path | None = None, cache_bytes: int = CACHE_BYTES, ahead: int = AHEAD
    ) -> None:
        """Read the index; no shard is opened yet.

        Args:
            url: the folder that was written to.
            cache_folder: for shards from elsewhere, by default `shards` beside the downloads in the folder
                MOEREC_CACHE.
            cache_bytes: what the cache may take.
            ahead: shards that are fetched before they are needed.

        Raises:
            DatasetError: no index is there, or it is damaged.
        """
        self.storage = Storage(url)
        self.index = ShardIndex.read(self.storage)
        self.cache: FileCache | None = None
        if self.storage.local is None:
            self.cache = FileCache(cache_folder or cache_directory().parent / "shards", cache_bytes)
        self.ahead = ahead
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._table: NDArray[np.uint64] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files: another process opens its own."""
        return self.__dict__ | {"_open": OrderedDict(), "_table": None}

    def __len__(self) -> int:
        return int(self.index.starts[-1])

    def __getitem__(self, number: int) -> ShardExample:
        """The example of a number, in the order of writing.

        Raises:
            IndexError: there is none.
            DatasetError: its shard is missing or damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"there is no example {number} of {len(self)}")
        return next(self._at(np.array([number])))

    def read(self, numbers: Iterable[int] | NDArray[np.int64]) -> list[ShardExample]:
        """Several examples, in the order given.

        Raises:
            IndexError: one of them is not there.
            DatasetError: a shard is missing or damaged.
        """
        asked = np.fromiter(numbers, dtype=np.int64)
        if len(asked) and not (asked.min() >= 0 and asked.max() < len(self)):
            raise IndexError(f"there are only {len(self)} examples")
        return list(self._at(asked))

    def find(self, key: str) -> int | None:
        """The number of an example by its key, or None; looked up in a sorted table, of which little is read."""
        if self._table is None:
            self._table = self._retried(self.index.keys, _mapped_array)
        hashes, numbers = self._table
        wanted = np.uint64(hash_of(key))
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            ((shard, row),) = self._places(numbers[place : place + 1].astype(np.int64))
            if self._shard(shard).offsets.keys[row] == key:
                return int(numbers[place])
            place += 1
        return None

    def by_key(self, key: str) -> ShardExample:
        """The example of a key.

        Raises:
            KeyError: there is none.
        """
        number = self.find(key)
        if number is None:
            raise KeyError(key)
        return self[number]

    def order(
        self,
        seed: int | None,
        *,
        rank: int = 0,
        ranks: int = 1,
        window: int | None = None,
        remainder: Remainder = "keep",
    ) -> ShardOrder:
        """How the examples are put in order and shared out; see `ShardOrder`.

        Args:
            seed: None for the order of writing.
            rank: which part of the examples.
            ranks: of how many.
            window: examples that are shuffled together, by default as many as eight shards hold.
            remainder: what becomes of examples that do not divide by the ranks.

        Raises:
            DatasetError: the cache cannot hold the shards of a window.
        """
        counts = self.index.counts
        largest = int(counts.max(initial=1))
        chosen = WINDOW_SHARDS * largest if window is None else window
        if self.cache is not None and len(counts):
            room = self.cache.max_bytes // max(entry.shard.size + entry.offsets.size for entry in self.index.shards)
            # At worst a window takes the smallest shards whole, and one example of a shard at each end.
            whole = int(np.searchsorted(np.cumsum(np.sort(counts)), chosen - 2, side="right"))
            needed = min(len(counts), whole + 2 + self.ahead)
            if room < needed:
                raise DatasetError(
                    f"{self.storage.url}: a cache of {self.cache.max_bytes:,} bytes holds {room} shards, a window of "
                    f"{chosen:,} examples needs {needed}; make the cache larger or the window smaller"
                )
        return ShardOrder(counts, seed, rank, ranks, chosen, remainder)

    def examples(
        self, order: EpochOrder, start: int = 0, *, worker: int = 0, workers: int = 1, block: int = 1
    ) -> Iterator[ShardExample]:
        """The examples of an epoch from a place on; with workers, those of every `workers`-th block.

        Args:
            order: what `ShardOrder.epoch` gave.
            start: place in the order of this rank: how many examples of the epoch all workers have read.
            worker: which of the workers this is.
            workers: how many there are.
            block: examples that one worker reads before the next is due.
        """
        blocks = order.order.blocks(block, worker, workers)
        with closing(self.fetching(order, start)) as fetching:
            for number in blocks:
                if (number + 1) * block > start:
                    yield from self.read_ahead(order, fetching, max(start, number * block), (number + 1) * block)

    def fetching(self, order: EpochOrder, start: int = 0) -> FetchAhead:
        """What fetches the shards that are needed from a place on, to be closed; nothing if the shards are here."""
        shards = order.shards_from(start) if self.cache is not None else iter(())
        return FetchAhead(shards, self._fetch, self.ahead)

    def read_ahead(self, order: EpochOrder, fetching: FetchAhead, start: int, stop: int) -> Iterator[ShardExample]:
        """The examples of some places, while the next shards are fetched."""
        return self._at(order.numbers(start, stop), fetching)

    def verify(self) -> None:
        """Read everything and compare checksums.

        Raises:
            DatasetError: a file is missing or is not what was written.
        """
        for file in [self.index.keys, *(file for entry in self.index.shards for file in (entry.shard, entry.offsets))]:
            if sha256_of_file(self._copy(file)) != file.sha256:
                raise DatasetError(f"{self.storage.address(file.name)}: its content is not what was written")

    def close(self) -> None:
        """Let go of all files; they are opened again when they are needed."""
        self._open.clear()
        self._table = None

    def _at(self, numbers: NDArray[np.int64], fetching: FetchAhead | None = None) -> Iterator[ShardExample]:
        for shard, row in self._places(numbers):
            if self.cache is not None and fetching is not None:
                fetching.used(shard)
            yield self._shard(shard).example(row)

    def _places(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Shard, and row in the shard, of each example."""
        shards = np.searchsorted(self.index.starts, numbers, side="right") - 1
        return zip(shards.tolist(), (numbers - self.index.starts[shards]).tolist(), strict=True)

    def _shard(self, shard: int) -> _OpenShard:
        found = self._open.get(shard)
        if found is not None:
            self._open.move_to_end(shard)
            return found
        most = OPEN_SHARDS
        if self.cache is not None:
            # A copy that is mapped keeps its room on the disk when the cache has removed it.
            most = min(most, max(1, self.cache.max_bytes // self.index.shards[shard].shard.size))
        while len(self._open) >= most:
            self._open.popitem(last=False)
        entry = self.index.shards[shard]
        content = self._read_small(entry.offsets)
        where = self.storage.address(entry.offsets.name)
        found = self._open[shard] = _OpenShard(ShardOffsets.from_bytes(content, where), self._map(entry.shard))
        return found

    def _read_small(self, file: StoredFile) -> bytes:
        content = self._retried(file, Path.read_bytes)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DatasetError(f"{self.storage.address(file.name)}: it belongs to other shards; write them again")
        return content

    def _map(self, file: StoredFile) -> memoryview:
        content = self._retried(file, _mapped)
        if len(content) != file.size:
            raise DatasetError(
                f"{self.storage.address(file.name)}: it has {len(content):,} bytes, expected {file.size:,}; "
                "write the shards again"
            )
        return content

    def _retried(self, file: StoredFile, use: Any) -> Any:
        """What `use` makes of the file's path; a copy that the cache has removed meanwhile is fetched again."""
        while True:
            path = self._copy(file)
            try:
                return use(path)
            except FileNotFoundError:
                if self.cache is None:
                    raise DatasetError(f"{path}: a shard is missing; write the shards again") from None

    def _copy(self, file: StoredFile) -> Path:
        if self.storage.local is not None:
            return self.storage.local / file.name
        assert self.cache is not None
        return self.cache.get(self.storage, file)

    def _fetch(self, shard: int) -> None:
        entry = self.index.shards[shard]
        self._copy(entry.offsets)
        self._copy(entry.shard)


def _mapped_array(path: Path) -> NDArray[np.uint64]:
    table: NDArray[np.uint64] = np.load(path, mmap_mode="r", allow_pickle=False)
    return table


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
