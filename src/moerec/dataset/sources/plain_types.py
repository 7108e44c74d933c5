"""Feature columns of any file as the few types that features know."""

from __future__ import annotations

import polars as pl

# What looks like a number but is a name: 02134 is a postcode.
_NUMBER = r"^[+-]?((0|[1-9]\d*)(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_WHOLE = r"^[+-]?(0|[1-9]\d{0,17})$"


def plain_types(frame: pl.DataFrame, key: str, guess: bool) -> pl.DataFrame:
    """Feature columns as text, numbers, truth values or lists of them.

    Lists of text are joined by `|`, dates become text, records JSON. With `guess`, a text column that holds
    nothing but numbers becomes numbers, unless one is written like a name (02134).
    """
    outputs = []
    for name, dtype in frame.schema.items():
        column = pl.col(name)
        if name != key:
            if dtype == pl.String:
                column = _stripped(frame[name], guess)
            elif isinstance(dtype, pl.List | pl.Array) and not dtype.inner.is_numeric():
                column = column.cast(pl.List(pl.String)).list.join("|")
            elif isinstance(dtype, pl.Struct):
                column = column.struct.json_encode()
            elif not (dtype.is_numeric() or dtype.is_nested() or dtype == pl.Boolean):
                column = column.cast(pl.String)
        outputs.append(column.alias(name))
    return frame.select(outputs)


def _stripped(cells: pl.Series, guess: bool) -> pl.Expr:
    """Text without surrounding blanks, empty as null; as numbers if that is what all of it is."""
    name = cells.name
    text = pl.when(pl.col(name).str.strip_chars() != "").then(pl.col(name).str.strip_chars())
    values = cells.str.strip_chars()
    values = values.filter(values.is_not_null() & (values != ""))
    if guess and len(values):
        if values.str.contains(_WHOLE).all():
            return text.cast(pl.Int64)
        if values.str.contains(_NUMBER).all():
            return text.cast(pl.Float64)
    return text
