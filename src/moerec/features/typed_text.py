"""The text of a user and of an item, made of typed fields: `[CAT] Toys`, `[TITLE] Kite`, `[PRICE] 9.99`.

Each field begins a line, so that no sentence reaches over two of them. A field's marker says what follows it,
and stands nowhere else: markers inside of what people wrote lose their brackets. An empty field has a word of its own,
so the form of a text never depends on its content. Reviews are given by key and joined here, when they are encoded;
examples carry none. Pure functions over Polars frames, no I/O, no torch.

Shape letters: E examples, K categories, R ranks of categories.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field, field_validator, model_validator

from moerec.config import Config
from moerec.errors import DatasetError
from moerec.features.text import NormaliserConfig, normalise
from moerec.modalities.cells import require_columns, several_values

SHARE = "category_share_"
_MARKER = re.compile(r"\[[A-Z][A-Z0-9_]*\]")
# A raw text is cut at this many times the length of its field before it is normalised: markup is longer than its text.
_RAW = 16
_PRICE_LIMIT = 1e12


class ItemField(Config):
    """One column in the text of an item."""

    column: str
    """Column of the item table: text, a number, or a list."""
    marker: str
    """What stands before the value: capitals in brackets, such as [TITLE]."""
    characters: int = Field(default=400, ge=1)
    """The longest value, in characters; it is cut at the end of a word."""
    decimals: int | None = Field(default=None, ge=0, le=6)
    """Write a number with so many decimals; null writes it as it is."""
    separator: str = ", "
    """What stands between the values of a list."""

    @field_validator("marker")
    @classmethod
    def _in_brackets(cls, value: str) -> str:
        return _checked_marker(value)


def _checked_marker(value: str) -> str:
    if not _MARKER.fullmatch(value):
        raise ValueError(f"'{value}' is no marker; write capitals in brackets, such as [TITLE]")
    return value


_ITEM_FIELDS = (
    ItemField(column="main_category", marker="[CAT]", characters=100),
    ItemField(column="title", marker="[TITLE]", characters=300),
    ItemField(column="brand", marker="[BRAND]", characters=100),
    ItemField(column="price", marker="[PRICE]", decimals=2),
    ItemField(column="features", marker="[FEATURES]", characters=600, separator=". "),
    ItemField(column="description", marker="[ABOUT]", characters=1500, separator=" "),
)


class ItemTextConfig(Config):
    """Which columns make up the text of an item, in which order; the most telling first."""

    fields: tuple[ItemField, ...] = _ITEM_FIELDS
    """The fields in order."""
    empty: str = "none"
    """What stands in the place of a value that is null, empty or nothing but markup."""
    normaliser: NormaliserConfig = NormaliserConfig()
    """What is made even in each value."""

    @model_validator(mode="after")
    def _distinct(self) -> ItemTextConfig:
        _check_markers([field.marker for field in self.fields], self.empty)
        return self


class UserTextConfig(Config):
    """The text of a user before an event: a profile in numbers, then the last reviews, newest first."""

    profile: str = "[PROFILE]"
    """Marker of the profile."""
    review: str = "[REVIEW]"
    """Marker of each review."""
    reviews: int = Field(default=3, ge=0)
    """How many of the last reviews at most."""
    categories: int = Field(default=3, ge=0)
    """How many of the categories with the largest shares."""
    title_characters: int = Field(default=200, ge=1)
    """The longest title of a review, in characters; it is cut at the end of a word."""
    text_characters: int = Field(default=1500, ge=1)
    """The longest text of a review, in characters; it is cut at the end of a word."""
    empty: str = "none"
    """What stands in the place of what is unknown: no review, no price, no category."""
    normaliser: NormaliserConfig = NormaliserConfig()
    """What is made even in titles and texts."""

    @model_validator(mode="after")
    def _distinct(self) -> UserTextConfig:
        _check_markers([self.profile, self.review], self.empty)
        for marker in (self.profile, self.review):
            _checked_marker(marker)
        return self


def _check_markers(markers: Sequence[str], empty: str) -> None:
    if not markers:
        raise ValueError("name at least one field")
    if len(set(markers)) < len(markers):
        raise ValueError(f"a marker stands twice among {', '.join(markers)}; give each field its own")
    if not empty.strip() or _MARKER.search(empty):
        raise ValueError("empty must be a word and no marker")


def item_texts(items: pl.DataFrame, config: ItemTextConfig, where: str = "item_text") -> pl.Series:
    """The text of each item, in the order of the rows.

    Raises:
        ConfigError: a column is missing (one line with near matches), or has no plain text.
    """
    require_columns(items, (field.column for field in config.fields), where)
    markers = [field.marker for field in config.fields]
    parts = []
    for number, field in enumerate(config.fields):
        value = _field_text(items[field.column], field, config.normaliser, markers, where)
        parts.append((field.marker + " " + _or_word(value, config.empty)).alias(str(number)))
    return _joined(parts, "\n", "text")


def user_texts(
    examples: pl.DataFrame,
    texts: pl.DataFrame,
    categories: Sequence[str],
    config: UserTextConfig,
    where: str = "user_text",
) -> pl.Series:
    """The text of each example's user before the example, in the order of the rows.

    Args:
        examples: key, positive, history, review_count, price_mean and a `category_share_<code>` for each category.
        texts: key, title and text of each review; more of them than are asked for do no harm.
        categories: the name of each code, from code 1 on.
        config: markers, counts, lengths.
        where: key path for messages.

    Raises:
        ConfigError: a column is missing.
        DatasetError: a history holds the review of its own example, or a review that `texts` does not have.
    """
    shares = [f"{SHARE}{code}" for code in range(1, len(categories) + 1)]
    require_columns(examples, ["key", "positive", "history", "review_count", "price_mean", *shares], where)
    require_columns(texts, ["key", "title", "text"], where)
    profile = _profile(examples, shares, categories, config)
    reviews = _reviews(examples, texts, config, where)
    return _joined([profile.alias("profile"), reviews.alias("reviews")], "\n", "text")


def _profile(examples: pl.DataFrame, shares: list[str], categories: Sequence[str], config: UserTextConfig) -> pl.Series:
    """`[PROFILE] reviews 12, mean price 23.10, categories Toys 60 %, Books 40 %`."""
    count = examples["review_count"].fill_null(0).cast(pl.Int64).cast(pl.String)
    price = _or_word(_decimals(examples["price_mean"], 2), config.empty)
    named = None
    if shares and config.categories and examples.height:
        named = _best_categories(examples.select(shares), categories, config)
    best = config.empty if named is None else _or_word(named, config.empty)
    return f"{config.profile} reviews " + count + ", mean price " + price + ", categories " + best


def _best_categories(shares: pl.DataFrame, categories: Sequence[str], config: UserTextConfig) -> pl.Series:
    """The largest shares in whole percents, `Toys 60 %, Books 40 %`; null where there is none. Ties by code."""
    wanted = min(config.categories, len(categories))
    markers = [config.profile, config.review]
    names = _clean(pl.Series([*categories], dtype=pl.String), 100, config.normaliser, markers)
    percents = np.nan_to_num(shares.fill_null(0.0).to_numpy(), nan=0.0) * 100  # [E, K]
    order = np.argsort(-percents, axis=1, kind="stable")[:, :wanted]  # [E, R]
    best = np.take_along_axis(percents, order, axis=1)  # [E, R]
    ranks = []
    for rank in range(wanted):
        percent = pl.Series(np.rint(best[:, rank]).astype(np.int64)).cast(pl.String)
        entry = names.gather(order[:, rank]) + " " + percent + " %"
        ranks.append(entry.set(pl.Series(best[:, rank] <= 0), None).alias(str(rank)))
    joined = _joined(ranks, ", ", "categories")
    return joined.set(joined == "", None)


def _reviews(examples: pl.DataFrame, texts: pl.DataFrame, config: UserTextConfig, where: str) -> pl.Series:
    """The last reviews of each example, each behind its marker; the word for none where there are none."""
    nothing = f"{config.review} {config.empty}"
    history = (
        examples.select("positive", pl.col("history").cast(pl.List(pl.String)).list.head(config.reviews))
        .with_row_index("row")
        .explode("history")
        .drop_nulls("history")
    )
    if (own := history.filter(pl.col("history") == pl.col("positive"))).height:
        raise DatasetError(
            f"{where}: the history of {own.height} examples holds the review that they are to predict, first "
            f"'{own['positive'][0]}'; make the examples again from strictly earlier reviews"
        )
    known = texts.lazy().join(history.lazy().select(key="history"), on="key", how="semi").collect()
    if known["key"].is_duplicated().any():
        raise DatasetError(f"{where}: a key stands twice among the texts; remove repeated reviews")
    written = known.select("key", _review_text(known, config).alias("review"))
    found = history.join(written, left_on="history", right_on="key", how="left", maintain_order="left")
    if missing := found["review"].null_count():
        key = found.filter(pl.col("review").is_null())["history"][0]
        raise DatasetError(f"{where}: {missing} reviews of histories have no text, first '{key}'; give their texts too")
    joined = found.group_by("row", maintain_order=True).agg(pl.col("review").str.join("\n"))
    rows = pl.DataFrame({"row": pl.int_range(examples.height, dtype=pl.UInt32, eager=True)})
    return rows.join(joined, on="row", how="left", maintain_order="left")["review"].fill_null(nothing)


def _review_text(texts: pl.DataFrame, config: UserTextConfig) -> pl.Series:
    """`[REVIEW] title. text`; the word for none if both are empty."""
    markers = [config.profile, config.review]
    title = _clean(texts["title"], config.title_characters, config.normaliser, markers)
    text = _clean(texts["text"], config.text_characters, config.normaliser, markers)
    # A title that ends a sentence by itself gets no second full stop.
    title = pl.select(
        pl.when(title.str.contains(r"[.!?]$") | text.is_null()).then(title).otherwise(title + ".")
    ).to_series()
    both = _joined([title.alias("title"), text.alias("text")], " ", "review")
    return f"{config.review} " + _or_word(both.set(both == "", None), config.empty)


def _field_text(
    column: pl.Series, field: ItemField, normaliser: NormaliserConfig, markers: list[str], where: str
) -> pl.Series:
    """The value of each row, clean and cut; null where there is none."""
    if field.decimals is not None and column.dtype.is_numeric():
        return _decimals(column, field.decimals)
    values = several_values(column, None, where)
    joined = values.group_by("row", maintain_order=True).agg(pl.col("value").str.join(field.separator))
    rows = pl.DataFrame({"row": pl.int_range(column.len(), dtype=pl.UInt32, eager=True)})
    texts = rows.join(joined, on="row", how="left", maintain_order="left")["value"]
    return _clean(texts, field.characters, normaliser, markers)


def _clean(texts: pl.Series, characters: int, normaliser: NormaliserConfig, markers: list[str]) -> pl.Series:
    """Normalised, without markers, at most so many characters; null where nothing is left."""
    texts = normalise(texts.cast(pl.String).str.slice(0, _RAW * characters), normaliser)
    # In any case, for many encoders read lower case alone, and with all brackets around it: [[TITLE]] holds no marker.
    words = "|".join(marker[1:-1] for marker in markers)
    texts = texts.str.replace_all(rf"(?i)\[+({words})\]+", "${1}")
    head = texts.str.slice(0, characters)
    inside = texts.str.slice(characters, 1).str.contains(r"^\S")
    whole_words = head.str.replace(r"\s\S*$", "")
    cut = pl.select(pl.when(inside).then(whole_words).otherwise(head)).to_series().str.strip_chars()
    return cut.set(cut == "", None)


def _decimals(column: pl.Series, decimals: int) -> pl.Series:
    """Numbers from 0 on with so many decimals, rounded half to even; null where there is none."""
    number = column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    known = (number >= 0) & (number < _PRICE_LIMIT)
    # numpy, for the rounding of Polars has changed between its versions.
    rounded = np.rint(np.where(known, number, 0) * 10.0**decimals).astype(np.int64)
    scaled = pl.Series(rounded).set(pl.Series(~known), None)
    whole = (scaled // 10**decimals).cast(pl.String)
    if decimals == 0:
        return whole
    return whole + "." + (scaled % 10**decimals).cast(pl.String).str.zfill(decimals)


def _or_word(texts: pl.Series, word: str) -> pl.Series:
    return texts.fill_null(word)


def _joined(parts: list[pl.Series], separator: str, name: str) -> pl.Series:
    frame: Any = pl.DataFrame(parts)
    result: pl.Series = frame.select(pl.concat_str(pl.all(), separator=separator, ignore_nulls=True).alias(name))[name]
    return result
