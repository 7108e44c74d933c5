"""Reviews of a file, parsed chunk by chunk and laid down by partition: a user's reviews come together in one.

A chunk is one Arrow file with a batch for each partition, so that a partition is read without the others.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from moerec.dataset.rejects import count_rejects
from moerec.dataset.sources.amazon_columns import review_table
from moerec.dataset.sources.amazon_rows import Year
from moerec.dataset.sources.json_lines import LineBlock
from moerec.engines.jobs import Result
from moerec.files import atomic_file

FILE = "__file__"
"""Hidden column: number of the file of a row."""
TEXTS = ("review_title", "review_text")


def partition_of(name: str, partitions: int) -> int:
    """The partition of one user, or of whatever else has a name."""
    return zlib.crc32(name.encode()) % partitions


def partitions_of(user_ids: pl.Series, partitions: int) -> NDArray[np.int64]:
    """The partition of each user; the same in every process and for ever."""
    codes = [zlib.crc32(user.encode()) for user in user_ids.to_list()]
    return np.array(codes, np.int64) % partitions


@dataclass(frozen=True)
class SpillChunk:
    """A job: parse a chunk of reviews, and lay them down by partition."""

    block: LineBlock
    source: str
    """Name of the file."""
    file: int
    """Its number."""
    year: Year
    texts: bool
    """Whether titles and texts are kept."""
    partitions: int
    target: Path
    """The Arrow file; the rejects and the marker stand beside it."""

    @property
    def marker(self) -> Path:
        """See `Job`."""
        return self.target.with_suffix(".json")

    def run(self) -> Result:
        """Parse and write."""
        table = review_table(self.block, self.source, self.year)
        frame = table.frame.with_columns(pl.lit(self.file, pl.Int32).alias(FILE))
        if not self.texts:
            frame = frame.drop(TEXTS)
        place = partitions_of(frame["user_id"], self.partitions)
        ends = np.cumsum(np.bincount(place, minlength=self.partitions))
        rows = frame[np.argsort(place, kind="stable")].rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
        options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        with atomic_file(self.target) as path, pa.ipc.new_file(path, rows.schema, options=options) as writer:
            for start, end in zip(np.append(0, ends[:-1]).tolist(), ends.tolist(), strict=True):
                batches = rows[start:end].combine_chunks().to_batches()
                writer.write_batch(batches[0] if batches else _empty_batch(rows.schema))
        if table.rejects.height:
            with atomic_file(self.target.with_suffix(".parquet")) as path:
                table.rejects.write_parquet(path)
        return {"reviews": frame.height, "rejects": count_rejects(table.rejects)}


def read_partition(chunks: Sequence[Path], partition: int) -> pl.DataFrame:
    """The reviews of a partition, of all chunks."""
    frames = []
    for chunk in chunks:
        with pa.memory_map(str(chunk)) as content:
            batch = pa.ipc.open_file(content).get_batch(partition)
            frames.append(pl.DataFrame(pa.Table.from_batches([batch])))
    return pl.concat(frames)


def _empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
