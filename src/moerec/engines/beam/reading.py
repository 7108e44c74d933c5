"""Raw files to rows in a Beam pipeline: lines with their numbers, reviews and products, and what is refused.

A file is read by one worker, since a line is numbered by those before it; its lines go to all workers in chunks, where
they are parsed. Reading knows every file system that Beam knows.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from moerec.dataset.sources.amazon_rows import REVIEW_NAMES, Year, item_row, json_or_python, review_row
from moerec.dataset.sources.json_lines import Line, RowRefusedError, lines_of, record_of, shown
from moerec.dataset.sources.source_files import unpacked

CHUNK_LINES = 1_000
CHUNK_BYTES = 1 << 22
"""A chunk ends at that many lines or bytes, so that long reviews do not make it large."""

REJECTS = "rejects"
"""Tag of the output that holds refused rows: source, line, reason, row."""
TEXTS = "texts"
"""Tag of the output that holds what a user wrote."""
COUNTED_REJECTS = "moerec.rejects"
"""Namespace of the counters of refused rows; the name is the reason."""
COUNTED_EMPTY = "moerec.left_empty"
"""Namespace of the counters of values that were left empty."""

Chunk = tuple[int, list[tuple[int, bytes, str | None, bool]]]
"""Number of the file; of each line number, content, problem, and whether the file ends within it."""


@dataclass(frozen=True)
class RawFile:
    """One file to read."""

    path: str
    """Path or address."""
    category: str
    """Category whose reviews or products it holds."""

    @property
    def name(self) -> str:
        """The file's own name, as it stands in the rejects."""
        return self.path.rstrip("/").rsplit("/", 1)[-1]


def refused(file: RawFile, line: int, reason: str, row: str) -> Any:
    """A refused row for the output of rejects; it is counted."""
    Metrics.counter(COUNTED_REJECTS, reason).inc()
    return beam.pvalue.TaggedOutput(REJECTS, (file.name, line, reason, row))


class ReadLines(beam.DoFn):
    """From the numbers of files to chunks of their lines."""

    def __init__(self, files: tuple[RawFile, ...]) -> None:
        self._files = files

    def process(self, number: int) -> Iterator[Chunk]:
        """Read one file."""
        chunk: list[tuple[int, bytes, str | None, bool]] = []
        size = 0
        stored = FileSystems.open(self._files[number].path, compression_type=CompressionTypes.UNCOMPRESSED)
        buffered = stored if hasattr(stored, "read1") else io.BufferedReader(stored)
        with buffered, unpacked(buffered) as content:
            for line in lines_of(content):
                chunk.append((line.number, line.content, line.problem, line.is_open))
                size += len(line.content)
                if len(chunk) == CHUNK_LINES or size >= CHUNK_BYTES:
                    yield number, chunk
                    chunk, size = [], 0
        if chunk:
            yield number, chunk


class ParseReviews(beam.DoFn):
    """From chunks to reviews by item: `(item_id, (file, line, user_id, timestamp, rating))`.

    What is not needed to join the products goes to the output TEXTS, by user: `(user_id, (file, line, verified,
    helpful, title, text))`.
    """

    def __init__(self, files: tuple[RawFile, ...], year: Year) -> None:
        self._files = files
        self._names = REVIEW_NAMES[year]

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """Parse one chunk."""
        number, lines = chunk
        for parts in lines:
            line = Line(*parts)
            try:
                row = review_row(record_of(line), self._names)
            except RowRefusedError as reason:
                yield refused(self._files[number], line.number, str(reason), shown(line))
                continue
            user, item, timestamp, rating, *written = row
            yield item, (number, line.number, user, timestamp, rating)
            yield beam.pvalue.TaggedOutput(TEXTS, (user, (number, line.number, *written)))


class ParseProducts(beam.DoFn):
    """From chunks to products by item: `(item_id, (file, line, row))`, the row in the order of ITEM_SCHEMA."""

    def __init__(self, files: tuple[RawFile, ...], year: Year) -> None:
        self._files = files
        self._loads: Callable[[str], Any] = json_or_python if year == 2014 else json.loads

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """Parse one chunk."""
        number, lines = chunk
        left_empty: Counter[str] = Counter()
        for parts in lines:
            line = Line(*parts)
            try:
                row = item_row(record_of(line, self._loads), left_empty)
            except RowRefusedError as reason:
                yield refused(self._files[number], line.number, str(reason), shown(line))
                continue
            yield row[0], (number, line.number, row)
        for what, count in (+left_empty).items():
            Metrics.counter(COUNTED_EMPTY, what).inc(count)
