"""The texts of examples: of each user before a review, and of each item; joined from reviews and products when asked.

A negative has the user text of its review, so user texts go by the key of the review.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from moerec.engines.example_folder import ExampleFolder
from moerec.examples_recipe import ExamplesConfig
from moerec.features.typed_text import item_texts, user_texts
from moerec.files import fingerprint
from moerec.modalities.token_store import TextPart

USER, ITEM = "user", "item"
"""Kinds of texts."""
_ITEMS_AT_ONCE = 50_000


def user_text_table(folder: ExampleFolder, file: Path, config: ExamplesConfig) -> pl.DataFrame:
    """The text of the user before each review of a file of examples: columns `key` and `text`."""
    reviews = pl.scan_parquet(file, glob=False).filter(pl.col("negative") == 0).collect()
    texts = folder.texts_of(file, reviews["history"].explode().drop_nulls())
    written = user_texts(reviews, texts, folder.categories, config.user_text, "examples.user_text")
    return reviews.select("key").with_columns(written.alias("text"))


def item_text_table(items: pl.DataFrame, config: ExamplesConfig) -> pl.DataFrame:
    """The text of each item: columns `key`, the id of the item, and `text`."""
    written = item_texts(items, config.item_text, "examples.item_text")
    return items.select(key="item_id").with_columns(written.alias("text"))


def item_blocks(folder: ExampleFolder) -> Iterator[pl.DataFrame]:
    """The products, so many at a time."""
    count = folder.items.select(pl.len()).collect().item()
    for start in range(0, count, _ITEMS_AT_ONCE):
        yield folder.items.slice(start, _ITEMS_AT_ONCE).collect()


def text_parts(folder: ExampleFolder, config: ExamplesConfig) -> dict[str, list[TextPart]]:
    """The texts of each kind as pieces of work for a token store."""
    rows = folder.manifest["fingerprint"]
    user, item = config.user_text.model_dump(mode="json"), config.item_text.model_dump(mode="json")
    count = folder.items.select(pl.len()).collect().item()

    def of_users(file: Path) -> TextPart:
        made_from = fingerprint({"rows": rows, "file": file.name, "settings": user})
        return TextPart(file.stem, made_from, lambda: user_text_table(folder, file, config))

    def of_items(start: int) -> TextPart:
        made_from = fingerprint({"rows": rows, "start": start, "settings": item})
        block = folder.items.slice(start, _ITEMS_AT_ONCE)
        return TextPart(f"part-{start:09d}", made_from, lambda: item_text_table(block.collect(), config))

    return {
        USER: [of_users(file) for file in folder.example_files],
        ITEM: [of_items(start) for start in range(0, count, _ITEMS_AT_ONCE)],
    }
