"""Delimited text to typed rows, fast, with the line number of every row that is refused.

Rows are split by Polars, block by block. From the first block that holds a quote character on, Python's
csv reader takes over, so that quoted fields may hold separators and line ends.
"""

from __future__ import annotations

import codecs
import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain

import polars as pl

from moerec.dataset.progress import bytes_progress
from moerec.dataset.sources.columns import LINE, PROBLEM, ROW, Column, Table, convert, join_tables, require_rows
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

BLOCK_BYTES = 1 << 24
SHOWN_FROM_BYTES = 1 << 26
RECORDS_PER_BLOCK = 100_000


@dataclass(frozen=True)
class Delimited:
    """How a text file is written."""

    separator: str
    """Between two fields; one character or more."""
    encoding: str = "utf-8"
    """Encoding of the bytes; a byte order mark is skipped."""
    quote: str | None = None
    """Character around fields that hold separators or line ends; None if there is none."""
    header: bool = False
    """Whether the first line names the columns."""


@dataclass(frozen=True)
class _Block:
    """Whole lines of a file."""

    first_line: int
    text: str
    """Without the line end of the last line."""


def read_delimited(
    file: SourceFile, form: Delimited, names: Sequence[str], columns: Sequence[Column], unique: str | None = None
) -> Table:
    """Read a delimited file; rows of a wrong field count, or with wrong cells, become rejects.

    Args:
        file: what to read.
        form: how it is written.
        names: the names of all its fields, in order (`header_of` gives those of a header).
        columns: which of them to take, and as what.
        unique: resulting column whose values may stand only once.

    Raises:
        DatasetError: missing, damaged, of another encoding, empty, or not one good row.
    """
    blocks: Iterable[pl.DataFrame] = _cells(file, form, names)
    if unique:
        # A value can repeat in another block, so uniqueness needs the rows of all blocks at once.
        together = list(blocks)
        blocks = [pl.concat(together)] if together else []
    parts = [convert(block, columns, file.name, unique) for block in blocks]
    if not parts:
        raise DatasetError(f"{file.path if file.member is None else file.name}: the file is empty")
    return require_rows(join_tables(parts), file.name)


def header_of(file: SourceFile, form: Delimited, named: bool = True) -> list[str]:
    """The fields of the first line.

    Args:
        file: what to look into.
        form: how it is written.
        named: whether they are the names of columns, none of which may stand there twice.

    Raises:
        DatasetError: the file is empty, or a name stands twice.
    """
    block = next(_blocks(file, form, 1 << 16), None)
    if block is None or not block.text.strip():
        raise DatasetError(f"{file.path if file.member is None else file.name}: the file is empty")
    first = block.text.split("\n", 1)[0]
    names = [field.strip() for field in fields_of(first, form)]
    for name in names:
        if named and names.count(name) > 1:
            raise DatasetError(f"{file.name}, line 1: the header has the column '{name}' twice")
    return names


def fields_of(row: str, form: Delimited) -> list[str]:
    """The fields of one row, which may be several lines where a quote holds line ends."""
    if form.quote and form.quote in row:
        return next(csv.reader([row], delimiter=form.separator, quotechar=form.quote))
    return row.split(form.separator)


def _cells(file: SourceFile, form: Delimited, names: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Frames of strings with the columns `names`, LINE, ROW and PROBLEM."""
    blocks = _blocks(file, form, BLOCK_BYTES)
    header_pending = form.header
    for block in blocks:
        if form.quote and form.quote in block.text:
            yield from _quoted_cells(chain([block], blocks), form, names, header_pending)
            return
        cells = _plain_cells(block, form.separator, names)
        if header_pending:
            cells = cells.filter(pl.col(LINE) > 1)
            header_pending = False
        yield cells


def _plain_cells(block: _Block, separator: str, names: Sequence[str]) -> pl.DataFrame:
    rows = pl.DataFrame({ROW: block.text.split("\n")}).select(
        pl.int_range(block.first_line, block.first_line + pl.len(), dtype=pl.Int64).alias(LINE),
        pl.col(ROW).str.strip_suffix("\r"),
    )
    # A line of blanks alone is no row; one of separators alone is a row of empty fields.
    rows = rows.filter(pl.col(ROW).str.strip_chars(" \r") != "")
    found = pl.col(ROW).str.count_matches(separator, literal=True) + 1
    return rows.with_columns(
        pl.when(found != len(names)).then(_wrong_count(len(names), found)).alias(PROBLEM),
        pl.col(ROW).str.split_exact(separator, len(names) - 1).struct.rename_fields(names).alias("__fields__"),
    ).unnest("__fields__")


def _wrong_count(expected: int, found: pl.Expr) -> pl.Expr:
    return pl.format(f"expected {expected} fields, found {{}}", found)


class _Lines:
    """Lines for the csv reader, which can be given back, and which know their numbers."""

    def __init__(self, blocks: Iterator[_Block]) -> None:
        self._blocks = blocks
        self._waiting: deque[tuple[int, str]] = deque()
        self.taken: list[tuple[int, str]] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if not self._waiting:
            block = next(self._blocks)  # StopIteration here is the end of the file
            lines = block.text.split("\n")
            self._waiting.extend(zip(range(block.first_line, block.first_line + len(lines)), lines, strict=True))
        self.taken.append(self._waiting.popleft())
        return self.taken[-1][1].removesuffix("\r") + "\n"

    def give_back_all_but_first(self) -> None:
        """Offer all taken lines again, save the first."""
        self._waiting.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def _quoted_cells(
    blocks: Iterator[_Block], form: Delimited, names: Sequence[str], header_pending: bool
) -> Iterator[pl.DataFrame]:
    """Records by the csv reader; a record with an unclosed quote costs its first line only."""
    names_with_hidden = [LINE, ROW, PROBLEM, *names]
    rows: list[list[object]] = []
    for line, raw, fields, problem in _records(_Lines(blocks), form, len(names)):
        if header_pending:
            header_pending = False
            continue
        rows.append([line, raw, problem, *(fields if problem is None else [None] * len(names))])
        if len(rows) == RECORDS_PER_BLOCK:
            yield _string_frame(rows, names_with_hidden)
            rows = []
    if rows:
        yield _string_frame(rows, names_with_hidden)


def _string_frame(rows: list[list[object]], names: list[str]) -> pl.DataFrame:
    schema = {name: pl.Int64 if name == LINE else pl.String for name in names}
    return pl.DataFrame(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), schema=schema)


def _records(lines: _Lines, form: Delimited, width: int) -> Iterator[tuple[int, str, list[str], str | None]]:
    """(first line, raw text, fields, problem) of each record."""

    def reader() -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=form.separator, quotechar=form.quote, strict=True)

    records = reader()
    while True:
        lines.taken.clear()
        problem = None
        fields: list[str] = []
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"a quote is not closed, or stands in a wrong place ({error})"
        if problem is None and len(fields) < 2 and not "".join(fields).strip():
            continue  # a line of blanks alone is no row
        if problem is None and len(fields) != width:
            problem = f"expected {width} fields, found {len(fields)}"
            if len(lines.taken) > 1:
                problem += "; a quote may not be closed"
        if problem is not None:
            # Otherwise one stray quote would swallow all that follows it.
            lines.give_back_all_but_first()
            records = reader()
        yield lines.taken[0][0], "\n".join(text for _, text in lines.taken), fields, problem


def _blocks(file: SourceFile, form: Delimited, block_bytes: int) -> Iterator[_Block]:
    """Decode a file into blocks of whole lines."""
    try:
        decoder = codecs.getincrementaldecoder(form.encoding)()
    except LookupError:
        raise DatasetError(f"unknown encoding {form.encoding!r}; set `encoding` to one that Python knows") from None
    line, rest = 1, ""
    first = True
    with file.open() as stream, _progress(file) as tell:
        while True:
            data = stream.read(block_bytes)
            try:
                text = rest + decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                raise _wrong_encoding(file, form.encoding, error, line) from None
            tell(len(data))
            if first and text:
                text, first = text.removeprefix("\ufeff"), False
            whole, end, rest = text.rpartition("\n") if data else (text, "", "")
            if end or (not data and whole):
                yield _Block(line, whole)
                line += whole.count("\n") + 1
            if not data:
                return


def _progress(file: SourceFile) -> AbstractContextManager[Callable[[int], None]]:
    """A bar for the files that take a while."""
    if file.size < SHOWN_FROM_BYTES:
        return nullcontext(lambda count: None)
    return bytes_progress(f"reading {file.name}", None if file.name.endswith(".gz") else file.size)


def _wrong_encoding(file: SourceFile, encoding: str, error: UnicodeDecodeError, line: int) -> DatasetError:
    line += error.object[: error.start].count(b"\n")
    shown = error.object[error.start : error.start + 1].hex()
    other = "utf-8" if encoding.lower().replace("_", "-") != "utf-8" else "latin-1"
    return DatasetError(
        f"{file.name}, line {line}: byte 0x{shown} is not {encoding}; set `encoding: {other}`, or what the file is in"
    )
