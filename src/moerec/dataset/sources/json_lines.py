"""JSON lines to typed rows, chunk by chunk, with the line number of every row that is refused.

No more than one chunk of lines is held as Python objects, whatever the size of the file.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, cast

import polars as pl

from moerec.dataset.progress import bytes_progress
from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.columns import LINE, LONGEST_RAW_ROW, Table
from moerec.dataset.sources.lines import SHOWN_FROM_BYTES
from moerec.dataset.sources.source_files import SourceFile

BLOCK_BYTES = 1 << 18
CHUNK_LINES = 10_000
LONGEST_LINE = 1 << 24
"""Bytes; a longer line is most likely a file of another kind, and is refused without being held."""

NOT_JSON = "not valid JSON"
NOT_AN_OBJECT = "no JSON object"
NOT_UTF_8 = "not UTF-8"
CUT_LINE = "the file ends within this line"
CUT_ARCHIVE = "the compressed file is damaged or cut off here"
TOO_LONG = f"the line is longer than {LONGEST_LINE >> 20} MiB"


class RowRefusedError(Exception):
    """A record cannot become a row; the message is the reason that stands in the rejects."""


@dataclass(frozen=True)
class Line:
    """One line of a file."""

    number: int
    """1 is the first."""
    content: bytes
    """Without the line end."""
    problem: str | None = None
    """Why it is refused before anyone has looked into it."""
    is_open: bool = False
    """Whether the file ends here without a line end."""


@dataclass(frozen=True)
class LineBlock:
    """Some following lines of a file, as bytes."""

    number: int
    """Of the first line; 1 is the first of the file."""
    content: bytes
    """Lines that are whole, without the end of the last one."""
    last: Line | None = None
    """A line behind them that is open, too long, or damaged."""

    def lines(self) -> Iterator[Line]:
        """The lines that are not blank."""
        contents = self.content.split(b"\n")
        return self.lines_at(range(len(contents)), contents)

    def lines_at(self, places: Iterable[int], contents: Sequence[bytes]) -> Iterator[Line]:
        """Those of the lines that are not blank, and the last one if it is apart.

        Args:
            places: 0 is the first line; ascending.
            contents: all lines, as split at their ends.
        """
        for place in places:
            content, number = contents[place], self.number + place
            if len(content) > LONGEST_LINE:
                yield Line(number, content[: 4 * LONGEST_RAW_ROW], TOO_LONG)
            elif content.strip():
                yield Line(number, content.removesuffix(b"\r"))
        if self.last is not None:
            yield self.last


def read_json_lines(
    file: SourceFile,
    schema: Mapping[str, Any],
    row_of: Callable[[dict[str, Any]], tuple[Any, ...]],
    loads: Callable[[str], Any] = json.loads,
) -> Iterator[Table]:
    """Typed rows and rejects of a file, one table for each chunk of lines.

    A compressed file that is damaged counts up to the damage; what follows is one reject.

    Args:
        file: what to read, plain or gzipped.
        schema: the columns that come out; `LINE` is added.
        row_of: the values of a record in the order of the schema; raises `RowRefusedError`.
        loads: from a line to a record; raises ValueError.

    Raises:
        DatasetError: missing, or not readable.
    """
    lines = numbered_lines(file)
    while chunk := list(islice(lines, CHUNK_LINES)):
        yield table_of_lines(chunk, file.name, schema, row_of, loads)


def table_of_lines(
    lines: Iterable[Line],
    source: str,
    schema: Mapping[str, Any],
    row_of: Callable[[dict[str, Any]], tuple[Any, ...]],
    loads: Callable[[str], Any] = json.loads,
) -> Table:
    """Typed rows and rejects of some lines.

    Args:
        lines: of one file.
        source: name of the file, for the rejects.
        schema: as in `read_json_lines`.
        row_of: as there.
        loads: as there.
    """
    rows: list[tuple[Any, ...]] = []
    refused: list[tuple[str, int, str, str]] = []
    for line in lines:
        try:
            rows.append((*row_of(record_of(line, loads)), line.number))
        except RowRefusedError as reason:
            refused.append((source, line.number, str(reason), shown(line)))
    return Table(
        pl.DataFrame(rows, schema={**schema, LINE: pl.Int64}, orient="row"),
        pl.DataFrame(refused, schema=REJECT_COLUMNS, orient="row"),
    )


def numbered_lines(file: SourceFile) -> Iterator[Line]:
    """The lines of a file that are not blank; of a damaged gzip file, those before the damage, then one problem."""
    for block in line_blocks(file, BLOCK_BYTES):
        yield from block.lines()


def line_blocks(file: SourceFile, size: int) -> Iterator[LineBlock]:
    """The lines of a file in blocks of about so many bytes; where they are cut hangs on the content alone.

    Args:
        file: what to read, plain or gzipped.
        size: bytes that are read at once.

    Raises:
        DatasetError: missing, or not readable.
    """
    with file.open() as stream, _progress(file) as tell:
        yield from blocks_of(stream, size, tell)


def blocks_of(stream: IO[bytes], size: int, tell: Callable[[int], None] = lambda count: None) -> Iterator[LineBlock]:
    """The same, of content that is open; `tell` is given the size of each block."""
    number, rest, is_skipping, is_over = 1, b"", False, False
    while not is_over:
        data, is_over, is_damaged = _next_bytes(stream, size)
        tell(len(data))
        if is_skipping:  # behind a line that was too long
            _, end, data = data.partition(b"\n")
            number, is_skipping = number + len(end), not end
        whole, end, data = data.rpartition(b"\n")
        if end:
            yield LineBlock(number, rest + whole)
            number, rest = number + whole.count(b"\n") + 1, b""
        rest += data
        if is_damaged:
            yield LineBlock(number, b"", Line(number, rest, CUT_ARCHIVE))
            return
        if len(rest) > LONGEST_LINE:
            yield LineBlock(number, b"", Line(number, rest[: 4 * LONGEST_RAW_ROW], TOO_LONG))
            rest, is_skipping = b"", True
    if rest.strip():
        yield LineBlock(number, b"", Line(number, rest, is_open=True))


def _next_bytes(stream: IO[bytes], size: int) -> tuple[bytes, bool, bool]:
    """Up to so many bytes, whether the file ends behind them, and whether it is damaged there."""
    parts: list[bytes] = []
    while size > 0:
        try:
            # Not `read`: it would lose what was unpacked before the damage.
            part = cast(Any, stream).read1(size)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return b"".join(parts), True, True
        if not part:
            return b"".join(parts), True, False
        parts.append(part)
        size -= len(part)
    return b"".join(parts), False, False


def _progress(file: SourceFile) -> AbstractContextManager[Callable[[int], None]]:
    """A bar for the files that take a while."""
    if file.size < SHOWN_FROM_BYTES:
        return nullcontext(lambda count: None)
    return bytes_progress(f"reading {file.name}", None if file.name.endswith(".gz") else file.size)


def shown(line: Line) -> str:
    """The start of a line, as it stands in the rejects."""
    return line.content[: 4 * LONGEST_RAW_ROW].decode("utf-8", "replace")[:LONGEST_RAW_ROW]


def record_of(line: Line, loads: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    """The object that a line holds.

    Raises:
        RowRefusedError: it holds none.
    """
    if line.problem is not None:
        raise RowRefusedError(line.problem)
    try:
        text = line.content.decode("utf-8")
        record = loads(text.removeprefix("\ufeff") if line.number == 1 else text)
    except UnicodeDecodeError:
        raise RowRefusedError(NOT_UTF_8) from None
    except (ValueError, RecursionError):
        raise RowRefusedError(CUT_LINE if line.is_open else NOT_JSON) from None
    if not isinstance(record, dict):
        raise RowRefusedError(NOT_AN_OBJECT)
    return record
