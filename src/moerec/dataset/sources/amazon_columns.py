"""Reviews of the Amazon files column by column: what `review_row` makes of each line, many times as fast.

Lines that are written as usual are parsed together, by a reader that refuses any value of another type. Whatever it
refuses, and each review with something unusual in it, goes through `review_row` one by one. So both ways give the same
table, which the tests compare.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.json

from moerec.dataset.schema import LATEST_TIMESTAMP
from moerec.dataset.sources.amazon_fields import EARLIEST_TIMESTAMP, MILLISECONDS_FROM
from moerec.dataset.sources.amazon_rows import REVIEW_NAMES, REVIEW_SCHEMA, ReviewNames, Year, review_row
from moerec.dataset.sources.columns import LINE, Table
from moerec.dataset.sources.json_lines import LineBlock, table_of_lines

GROUP_LINES = 4096
FEWEST_LINES = 16
"""So few lines, if one of them is broken, are read one by one."""
LONGEST_PLAIN_LINE = 4000
"""Bytes; Python refuses numbers of more than 4,300 digits."""
DEEPEST = 400
"""Brackets in a line; Python refuses objects that are nested about 1,000 times."""
# Arrow's reader takes a second value behind the first one of a line for a row of its own, and dies of a bare null; and
# it knows the number Inf, as Python does not. Inside texts such things are rare enough.
_SECOND_VALUE = re.compile(rb"\}[ \t\r]*[^ \t\r,\]}]")
_INF = re.compile(rb"[\[:,][ \t\r]*-?Inf[ \t\r]*[,}\]]")
BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""What `str.strip` takes away."""
_ODD = "__odd__"


def review_table(block: LineBlock, source: str, year: Year) -> Table:
    """Typed reviews and rejects of some lines, in their order: what `table_of_lines` gives with `review_row`.

    Args:
        block: of one file.
        source: name of the file, for the rejects.
        year: the release.
    """
    names = REVIEW_NAMES[year]
    schema = _arrow_schema(names, year)
    lines = block.content.split(b"\n")
    plain = [row for row, line in enumerate(lines) if _is_plain(line)]
    tables: list[pa.Table] = []
    together: list[int] = []
    for start in range(0, len(plain), GROUP_LINES):
        _read_group(lines, plain[start : start + GROUP_LINES], schema, tables, together)
    reviews = _reviews(pl.DataFrame(pa.concat_tables([schema.empty_table(), *tables])), names, year)
    numbers = pl.Series(LINE, np.array(together, np.int64) + block.number)
    fast = reviews.with_columns(numbers).filter(~pl.col(_ODD)).drop(_ODD)
    # Blank lines, lines that are not plain, those that failed together, and those with something unusual in them.
    is_odd = np.ones(len(lines), np.bool_)
    is_odd[fast[LINE].to_numpy() - block.number] = False
    odd = block.lines_at(np.flatnonzero(is_odd).tolist(), lines)
    slow = table_of_lines(odd, source, REVIEW_SCHEMA, partial(review_row, names=names))
    return Table(pl.concat([fast, slow.frame]).sort(LINE) if slow.frame.height else fast, slow.rejects)


def _is_plain(line: bytes) -> bool:
    """Whether a line looks like one object, of a size and depth that both readers take."""
    return (
        len(line) < LONGEST_PLAIN_LINE
        and line.startswith(b"{")
        and line.endswith(b"}")
        and line.count(b"[") < DEEPEST
        and (line.find(b"}") == len(line) - 1 or (line.count(b"{") < DEEPEST and _SECOND_VALUE.search(line) is None))
        and (b"Inf" not in line or _INF.search(line) is None)
    )


def _read_group(
    lines: list[bytes], rows: list[int], schema: pa.Schema, tables: list[pa.Table], together: list[int]
) -> None:
    """Append the tables of those of the lines that can be read together, and their rows."""
    table = _parsed(b"\n".join([lines[row] for row in rows]), schema)
    if table is not None and table.num_rows == len(rows):
        tables.append(table)
        together.extend(rows)
    elif len(rows) > FEWEST_LINES:
        _read_group(lines, rows[: len(rows) // 2], schema, tables, together)
        _read_group(lines, rows[len(rows) // 2 :], schema, tables, together)


def _parsed(content: bytes, schema: pa.Schema) -> pa.Table | None:
    """The lines as a table, or None if there is any that does not fit."""
    try:
        content.decode("utf-8")
        return pyarrow.json.read_json(
            pa.BufferReader(content),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(content) + 1),
            parse_options=pyarrow.json.ParseOptions(
                explicit_schema=schema, newlines_in_values=False, unexpected_field_behavior="ignore"
            ),
        )
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None


def _arrow_schema(names: ReviewNames, year: Year) -> pa.Schema:
    helpful = {2023: pa.int64(), 2018: pa.string(), 2014: pa.list_(pa.int64())}[year]
    columns: dict[str, Any] = dict.fromkeys((names.user, *names.items, names.title, names.text), pa.string())
    columns |= {names.rating: pa.float64(), names.time: pa.int64(), names.helpful: helpful}
    if names.verified is not None:
        columns[names.verified] = pa.bool_()
    return pa.schema(list(columns.items()))


def _reviews(raw: pl.DataFrame, names: ReviewNames, year: Year) -> pl.DataFrame:
    """The columns of REVIEW_SCHEMA, and which rows `review_row` must decide about."""
    time = pl.col(names.time)
    time = pl.when(time < MILLISECONDS_FROM).then(time * 1000).otherwise(time)
    items = pl.coalesce(_filled(name) for name in names.items)
    titles = [pl.col(name) for name in (names.title, names.text)]
    strange = [title.str.contains("&", literal=True).fill_null(False) for title in titles]
    helpful = pl.col(names.helpful)
    if year == 2018:
        strange.append(~helpful.str.contains(r"^[0-9]{1,9}$").fill_null(True))
        helpful = helpful.cast(pl.Int64, strict=False)
    elif year == 2014:
        helpful = helpful.list.get(0, null_on_oob=True)
    verified = pl.lit(None) if names.verified is None else pl.col(names.verified)
    good = [
        _filled(names.user).is_not_null(),
        items.is_not_null(),
        pl.col(names.rating).is_between(1, 5),
        time.is_between(EARLIEST_TIMESTAMP, LATEST_TIMESTAMP),
    ]
    return raw.select(
        _filled(names.user).alias("user_id"),
        items.alias("item_id"),
        time.alias("timestamp"),
        pl.col(names.rating).alias("rating"),
        verified.cast(pl.Int8).alias("verified"),
        pl.when(helpful.is_between(0, 2**31 - 1)).then(helpful).cast(pl.Int32).alias("helpful"),
        _filled(names.title).alias("review_title"),
        _filled(names.text).alias("review_text"),
        (~pl.all_horizontal([each.fill_null(False) for each in good]) | pl.any_horizontal(strange)).alias(_ODD),
    )


def _filled(name: str) -> pl.Expr:
    """A text without surrounding blanks; null if nothing is left."""
    stripped = pl.col(name).str.strip_chars(BLANKS)
    return pl.when(stripped != "").then(stripped)
