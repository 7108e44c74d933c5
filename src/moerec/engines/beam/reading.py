"""Raw files to rows in a Beam pipeline: lines with their numbers, reviews and products, and what is refused.

A file is read by one worker, since a line is numbered by those before it; its lines go to all workers in blocks, where
they are parsed. Reading knows every file system that Beam knows.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from moerec.dataset.sources.amazon_columns import review_table
from moerec.dataset.sources.amazon_rows import ITEM_SCHEMA, Year, item_row, json_or_python
from moerec.dataset.sources.json_lines import LineBlock, blocks_of, table_of_lines
from moerec.dataset.sources.source_files import unpacked
from moerec.engines.spill import TEXTS

BLOCK_BYTES = 1 << 22
"""Bytes of lines that are handed to a worker together."""

EXAMPLES = "examples"
"""Tag of the output that holds examples; they are written into the folder of this name."""
REJECTS = "rejects"
"""Tag of the output that holds refused rows: source, line, reason, row; and the folder of the table."""
WRITTEN = "written"
"""Tag of the output that holds what else stands in a review."""
GOOD_REVIEWS = "good reviews"
"""Counts with this path are those of the files."""
COUNTED_REJECTS = "moerec.rejects"
"""Namespace of the counters of refused rows; the name is the reason."""
COUNTS = "counts"
"""Tag of the output that holds pairs of a path in the manifest and a number."""

Block = tuple[int, LineBlock]
"""Lines of a file, with the file's number."""


@dataclass(frozen=True)
class RawFile:
    """One file to read."""

    path: str
    """Path or address."""

    @property
    def name(self) -> str:
        """The file's own name, as it stands in the rejects."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


def refused(source: str, line: int, reason: str, row: str) -> Any:
    """A refused row for the output of rejects; it is counted."""
    Metrics.counter(COUNTED_REJECTS, reason).inc()
    return beam.pvalue.TaggedOutput(REJECTS, (source, line, reason, row))


class ReadLines(beam.DoFn):
    """From the numbers of files to blocks of their lines."""

    def __init__(self, files: tuple[RawFile, ...]) -> None:
        self._files = files

    def process(self, number: int) -> Iterator[Block]:
        """Read one file."""
        stored = FileSystems.open(self._files[number].path, compression_type=CompressionTypes.UNCOMPRESSED)
        buffered = stored if hasattr(stored, "read1") else io.BufferedReader(stored)
        with buffered, unpacked(buffered) as content:
            for block in blocks_of(content, BLOCK_BYTES):
                yield number, block


class ParseReviews(beam.DoFn):
    """From blocks of lines to reviews by item: `(item_id, (file, line, user_id, timestamp, rating))`.

    What is not needed to join the products goes to the output WRITTEN, by user: `(user_id, (file, line, verified,
    helpful, title, text))`, the last two only with `texts`.
    """

    def __init__(self, files: tuple[RawFile, ...], year: Year, texts: bool) -> None:
        self._files, self._year, self._texts = files, year, texts

    def process(self, block: Block) -> Iterator[Any]:
        """Parse one block."""
        number, lines = block
        table = review_table(lines, self._files[number].name, self._year)
        for reject in table.rejects.iter_rows():
            yield refused(*reject)
        frame = table.frame if self._texts else table.frame.drop(TEXTS)
        for user, item, timestamp, rating, *written, line in frame.iter_rows():
            yield item, (number, line, user, timestamp, rating)
            yield beam.pvalue.TaggedOutput(WRITTEN, (user, (number, line, *written)))
        yield beam.pvalue.TaggedOutput(COUNTS, ((GOOD_REVIEWS, str(number)), frame.height))


class ParseProducts(beam.DoFn):
    """From blocks of lines to products by item: `(item_id, (file, line, row))`, the row in the order of ITEM_SCHEMA."""

    def __init__(self, files: tuple[RawFile, ...], year: Year) -> None:
        self._files = files
        self._loads: Callable[[str], Any] = json_or_python if year == 2014 else json.loads

    def process(self, block: Block) -> Iterator[Any]:
        """Parse one block."""
        number, lines = block
        nulled: Counter[str] = Counter()
        row_of = partial(item_row, nulled=nulled)
        table = table_of_lines(lines.lines(), self._files[number].name, ITEM_SCHEMA, row_of, self._loads)
        for reject in table.rejects.iter_rows():
            yield refused(*reject)
        for item, *others, line in table.frame.iter_rows():
            yield item, (number, line, (item, *others))
        for what, count in (+nulled).items():
            yield beam.pvalue.TaggedOutput(COUNTS, (("left_empty", what), count))
