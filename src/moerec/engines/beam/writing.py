"""Output of a Beam pipeline: Parquet in shards on any file system, each file whole or absent, and the manifest last.

Which shard a row stands in depends on its user, its product or its line alone, so a file holds the same rows whatever
the bundles were. A file is written beside its place and renamed, so a worker that fails leaves no half of it; one that
is tried again replaces it by the same.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import IO, Any
from uuid import uuid4

import apache_beam as beam
import numpy as np
import polars as pl
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows
from safetensors.numpy import save

from moerec.features.reviews import ReviewState

MANIFEST = "manifest.json"
"""Written last."""
TEMPORARY = ".*.tmp-*"
"""Names of files that are being written."""

ROWS_IN_GROUP = 50_000
"""Rows are gathered up to that many for a row group of a file, where they come one by one."""


def packed(frame: pl.DataFrame) -> bytes:
    """A frame as Arrow bytes, which every coder knows."""
    buffer = io.BytesIO()
    frame.write_ipc(buffer, compression="lz4")
    return buffer.getvalue()


def unpacked_frame(data: bytes) -> pl.DataFrame:
    """The frame of Arrow bytes."""
    return pl.read_ipc(io.BytesIO(data))


def shard_of(name: str, shards: int) -> int:
    """The shard of a user, a product or a line."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") % shards


def sharded(frame: pl.DataFrame, column: str, shards: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows of a frame by shard, in their order."""
    names = frame.select(pl.col(column).unique())
    numbers = names.with_columns(
        shard=pl.Series([shard_of(name, shards) for name in names[column].to_list()], dtype=pl.Int32)
    )
    placed = frame.join(numbers, on=column, how="left", maintain_order="left")
    for (shard,), rows in placed.partition_by("shard", as_dict=True, include_key=False).items():
        yield int(shard), rows


def in_global_window(output: Any) -> Any:
    """What is given at the end of a bundle needs its window; the pipeline is bounded, so there is but one."""
    if isinstance(output, beam.pvalue.TaggedOutput):
        return beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
    return GlobalWindows.windowed_value(output)


@contextmanager
def whole_file(target: str) -> Iterator[IO[bytes]]:
    """A stream whose content takes the target's place only if the block ends without an error."""
    folder, name = FileSystems.split(target)
    temporary = FileSystems.join(folder, f".{name}.tmp-{uuid4().hex}")
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            yield stream
    except BaseException:
        FileSystems.delete([temporary])
        raise
    FileSystems.rename([temporary], [target])


class WriteParquet(beam.PTransform):
    """Write `(shard, Arrow bytes)` into a folder; gives `{folder name: {file name: rows}}` for each file."""

    def __init__(self, out: str, folder: str, shards: int) -> None:
        self._write = WriteShard(out, folder, shards)

    def expand(self, frames: Any) -> Any:
        """Group by shard, then write."""
        return frames | "GroupByShard" >> beam.GroupByKey() | "Write" >> beam.ParDo(self._write)


class WriteShard(beam.DoFn):
    """Write the frames of one shard, each as a row group."""

    def __init__(self, out: str, folder: str, shards: int) -> None:
        self._out, self._folder, self._shards = out, folder, shards

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[dict[str, dict[str, int]]]:
        """Write one file."""
        shard, frames = group
        name = f"part-{shard:05d}-of-{self._shards:05d}.parquet"
        rows = 0
        with whole_file(FileSystems.join(self._out, self._folder, name)) as stream:
            writer = None
            for data in frames:
                table = unpacked_frame(data).to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or pq.ParquetWriter(stream, table.schema, compression="zstd")
                writer.write_table(table)
                rows += table.num_rows
            if writer is not None:
                writer.close()
        yield {self._folder: {name: rows}}


class FrameRows(beam.DoFn):
    """From rows `(shard, values)` to frames `(shard, Arrow bytes)` of a bounded size."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._rows: dict[int, list[tuple[Any, ...]]] = {}
        self._count = 0

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._rows, self._count = {}, 0

    def process(self, element: tuple[int, tuple[Any, ...]]) -> Iterator[tuple[int, bytes]]:
        """Keep a row, and give all that are kept when they are many."""
        shard, row = element
        self._rows.setdefault(shard, []).append(row)
        self._count += 1
        if self._count >= ROWS_IN_GROUP:
            yield from self._frames()

    def finish_bundle(self) -> Iterator[Any]:
        """Give what is left."""
        for element in self._frames():
            yield in_global_window(element)

    def _frames(self) -> Iterator[tuple[int, bytes]]:
        for shard, rows in self._rows.items():
            yield shard, packed(pl.DataFrame(rows, schema=self._schema, orient="row"))
        self._rows, self._count = {}, 0


class WriteState(beam.DoFn):
    """Write what was fitted into the folder `state`: its plain values as JSON, its arrays as safetensors."""

    def __init__(self, out: str) -> None:
        self._out = out

    def process(self, state: ReviewState) -> Iterator[dict[str, dict[str, int]]]:
        """Write the only one."""
        plain = state.to_feature_state()
        contents = {
            "state.json": (json.dumps(plain.values, indent=2, ensure_ascii=False) + "\n").encode(),
            "state.safetensors": save({name: np.ascontiguousarray(array) for name, array in plain.arrays.items()}),
        }
        for name, content in contents.items():
            with whole_file(FileSystems.join(self._out, "state", name)) as stream:
                stream.write(content)
        yield {"state": dict.fromkeys(contents, 1)}


class WriteManifest(beam.DoFn):
    """Write manifest.json once all files are there; a folder without it is not whole."""

    def __init__(self, out: str, fixed: dict[str, Any]) -> None:
        self._out, self._fixed = out, fixed

    def process(
        self, element: None, files: list[dict[str, dict[str, int]]], counts: list[tuple[tuple[str, ...], int]]
    ) -> Iterator[dict[str, Any]]:
        """Write the only one."""
        written: dict[str, dict[str, int]] = {}
        for file in files:
            for folder, names in file.items():
                written.setdefault(folder, {}).update(names)
        listed = {folder: dict(sorted(names.items())) for folder, names in sorted(written.items())}
        manifest = self._fixed | _nested(counts) | {"files": listed}
        with whole_file(FileSystems.join(self._out, MANIFEST)) as stream:
            stream.write((json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
        yield manifest


def _nested(counts: Iterable[tuple[tuple[str, ...], int]]) -> dict[str, Any]:
    """Numbers by their paths, as nested objects."""
    nested: dict[str, Any] = {}
    for path, count in sorted(counts):
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = count
    return nested
