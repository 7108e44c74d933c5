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
from typing import IO, Any
from uuid import uuid4

import apache_beam as beam
import polars as pl
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows

from moerec.dataset.schema import REJECT_COLUMNS
from moerec.engines.beam.paths import delete
from moerec.engines.beam.reading import EXAMPLES, GOOD_REVIEWS, REJECTS, RawFile
from moerec.engines.manifest import MANIFEST, add_counts, count_parts, manifest_of
from moerec.engines.partitions import part_name
from moerec.engines.state_files import state_contents
from moerec.errors import DatasetError
from moerec.features.reviews import ReviewState, example_schema

UNKNOWN = ("without product", "without category", "without price", "items without product")
"""What the manifest counts of what is not known."""

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


def in_global_window(output: Any) -> Any:
    """What is given at the end of a bundle needs its window; the pipeline is bounded, so there is but one."""
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
        delete([temporary])
        raise
    FileSystems.rename([temporary], [target])


class WriteParquet(beam.PTransform):
    """Write `(shard, Arrow bytes)` into a folder; gives `{folder name: {file name: rows}}` for each file."""

    def __init__(self, out: str, folder: str) -> None:
        self._write = WriteShard(out, folder)

    def expand(self, frames: Any) -> Any:
        """Group by shard, then write."""
        return frames | "Group by shard" >> beam.GroupByKey() | "Write" >> beam.ParDo(self._write)


class WriteShard(beam.DoFn):
    """Write the frames of one shard, each as a row group."""

    def __init__(self, out: str, folder: str) -> None:
        self._out, self._folder = out, folder

    def process(self, group: tuple[int, Iterable[bytes]]) -> Iterator[dict[str, dict[str, int]]]:
        """Write one file."""
        shard, frames = group
        name = part_name(shard)
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
    """Write what was fitted into the folder `state`, in the files that `load_state` reads."""

    def __init__(self, out: str) -> None:
        self._out = out

    def process(self, state: ReviewState) -> Iterator[dict[str, dict[str, int]]]:
        """Write the only one."""
        for name, content in state_contents(state).items():
            with whole_file(FileSystems.join(self._out, "state", name)) as stream:
                stream.write(content)
        yield {}


class WriteManifest(beam.DoFn):
    """Write manifest.json once all files are there, and tables without a row; a folder without it is not whole."""

    def __init__(self, out: str, reviews: tuple[RawFile, ...], inputs: dict[str, Any]) -> None:
        self._out, self._reviews, self._inputs = out, reviews, inputs

    def process(
        self,
        element: None,
        files: list[dict[str, dict[str, int]]],
        counts: list[tuple[tuple[str, ...], int]],
        categories: tuple[str, ...],
    ) -> Iterator[dict[str, Any]]:
        """Write the only one.

        Raises:
            DatasetError: there is a file without one good review.
        """
        self._require_reviews(dict(counts))
        written: dict[str, dict[str, int]] = {}
        for file in files:
            for folder, names in file.items():
                written.setdefault(folder, {}).update(names)
        # Without a row there is no frame, so no worker has written a file; whoever reads a table needs its columns.
        for folder, schema in ((EXAMPLES, example_schema(len(categories))), (REJECTS, REJECT_COLUMNS)):
            if folder not in written:
                written[folder] = {part_name(0): 0}
                with whole_file(FileSystems.join(self._out, folder, part_name(0))) as stream:
                    pl.DataFrame(schema=schema).write_parquet(stream, compression="zstd")
        manifest = manifest_of(
            **self._inputs,
            categories=list(categories),
            reviews=dict(counts).get(("reviews",), 0),
            examples=count_parts(
                (path[1], int(path[2] == "negatives"), count) for path, count in counts if path[0] == "examples"
            ),
            rejects=_named(counts, "rejects"),
            unknown=dict.fromkeys(UNKNOWN, 0) | _named(counts, "unknown"),
            left_empty=_named(counts, "left_empty"),
            written={folder: dict(sorted(names.items())) for folder, names in sorted(written.items())},
        )
        with whole_file(FileSystems.join(self._out, MANIFEST)) as stream:
            stream.write((json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
        yield manifest

    def _require_reviews(self, counts: dict[tuple[str, ...], int]) -> None:
        for number, file in enumerate(self._reviews):
            if not counts.get((GOOD_REVIEWS, str(number))):
                raise DatasetError(f"{file.path}: not one good review (rejects/ says why); get the file again")


def _named(counts: Iterable[tuple[tuple[str, ...], int]], kind: str) -> dict[str, int]:
    """The counts of one kind, the largest first."""
    return add_counts({path[1]: count} for path, count in counts if path[0] == kind)
