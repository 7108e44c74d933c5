"""What to change where a table is read wrongly from its first line on: the separator, or the unit of the times."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import polars as pl

from moerec.dataset.sources.columns import LINE, ROW, Column, TimestampUnit, convert

_SEPARATORS = {";": "';'", "\t": r'"\t"', ",": "','", "|": "'|'", "::": "'::'", " ": "' '"}
"""What may stand between fields, and how YAML writes it."""
_ONE_FIELD = re.compile(r"expected \d+ fields, found 1\b")


def separator_hint(names: Sequence[str], wanted: str, named: bool) -> str:
    """The separator to set where the first line was read as one field that holds the wanted name; else nothing.

    Args:
        names: the columns as they were read.
        wanted: a column that is not among them.
        named: whether the first line names the columns.
    """
    if len(names) != 1:
        return ""
    if not named:
        return "the first line is one field, set `separator`"
    for separator, written in _SEPARATORS.items():
        if wanted in (part.strip().strip("\"'") for part in names[0].split(separator)):
            return f"the first line is one field, set `separator: {written}`"
    return ""


def refusal_hint(reason: str, cells: Mapping[str, Any], columns: Sequence[Column]) -> str:
    """What to set where not one row was good, from the first of them; nothing where it is not clear.

    Args:
        reason: why the row was refused.
        cells: its cells by column, where they can be told apart.
        columns: what was to be read.
    """
    if _ONE_FIELD.match(reason):
        return "set `separator`"
    for column in columns:
        if column.kind == "timestamp" and reason.startswith(f"{column.name} is ") and column.name in cells:
            # Dates written out first: no number is one.
            for unit in sorted(get_args(TimestampUnit), key=lambda unit: unit != "iso"):
                if unit != column.unit and _is_readable(cells[column.name], replace(column, unit=unit)):
                    return f"set `timestamp_unit: {unit}`"
    return ""


def _is_readable(cell: Any, column: Column) -> bool:
    row = pl.DataFrame({column.name: [cell], LINE: [1], ROW: [""]})
    return convert(row, [column], "").frame.height == 1
