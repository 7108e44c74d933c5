"""One text for each item, composed from the columns of the item table. Pure functions, no I/O, no torch."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Any

import polars as pl
from pydantic import field_validator

from moerec.config import Config
from moerec.modalities.cells import require_columns, several_values

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# Soft hyphen, zero-width space, word joiner, byte order mark: invisible, and they split a word for a tokenizer.
# The zero-width joiners stay, for emoji and several scripts need them.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")


class TextField(Config):
    """One column in the text of an item."""

    column: str
    """Column of the item table; text, a number, or a list."""
    label: str | None = None
    """What stands before the value, as in `title: Toy Story`; the column's name by default, '' for none."""
    separator: str | None = None
    """What stands between several values in one cell, for instance '|'; they are joined by ', '."""

    @field_validator("separator")
    @classmethod
    def _not_empty(cls, value: str | None) -> str | None:
        if value == "":
            raise ValueError("separator must not be empty")
        return value

    @property
    def shown_label(self) -> str:
        """The label with its colon, or nothing."""
        label = self.column if self.label is None else self.label
        return f"{label}: " if label else ""


class TextConfig(Config):
    """Which columns make up the text of an item, in which order; the most telling first, for encoders cut the end."""

    fields: tuple[TextField, ...]
    """The fields in order; a plain string stands for a field with that column."""

    @field_validator("fields", mode="before")
    @classmethod
    def _plain_names(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [{"column": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @field_validator("fields")
    @classmethod
    def _at_least_one(cls, value: tuple[TextField, ...]) -> tuple[TextField, ...]:
        if not value:
            raise ValueError("name at least one field")
        return value


def normalise_text(text: str) -> str:
    """Resolve HTML entities, apply NFKC, drop control and invisible characters, collapse white space.

    Applying it twice changes nothing: entities that were escaped twice (`&amp;amp;`) are resolved to the end.
    """
    while True:
        result = unicodedata.normalize("NFKC", html.unescape(text))
        result = _INVISIBLE.sub("", _CONTROL.sub(" ", result))
        result = " ".join(result.split())
        if result == text or "&" not in result:
            # Dropping an invisible character may have brought a letter and its accent together.
            return unicodedata.normalize("NFKC", result)
        text = result


def compose_texts(items: pl.DataFrame, config: TextConfig, where: str = "modalities.text") -> pl.Series:
    """One text for each row: `title: Toy Story. year: 1995. genres: Animation, Comedy`.

    A field that is null or empty is left out.

    Args:
        items: the item table.
        config: fields, labels, separators.
        where: key path for messages.

    Returns:
        a string series named `text`, as long as the table; null where every field is empty.

    Raises:
        ConfigError: a column is missing or has no plain text.
    """
    require_columns(items, (field.column for field in config.fields), where)
    parts = [_field_text(items[field.column], field, where).alias(str(i)) for i, field in enumerate(config.fields)]
    joined = pl.concat_str(pl.all(), separator=". ", ignore_nulls=True)
    texts = pl.DataFrame(parts).select(joined.alias("text")).to_series()
    return texts.set(texts == "", None)


def _field_text(column: pl.Series, field: TextField, where: str) -> pl.Series:
    """The labelled value of each row, or null."""
    values = several_values(column, field.separator, where)
    texts = values["value"].map_elements(normalise_text, return_dtype=pl.String)
    joined = (
        values.with_columns(texts.alias("value"))
        .filter(pl.col("value") != "")
        .group_by("row", maintain_order=True)
        # The full stop that ends a field is the separator's: 'Dr. year', never 'Dr.. year'.
        .agg(pl.col("value").str.join(", ").str.strip_suffix(".").str.strip_chars_end())
        .filter(pl.col("value") != "")
        .select("row", (pl.lit(field.shown_label) + pl.col("value")).alias("text"))
    )
    rows = pl.DataFrame({"row": pl.int_range(column.len(), dtype=pl.UInt32, eager=True)})
    return rows.join(joined, on="row", how="left", maintain_order="left")["text"]
