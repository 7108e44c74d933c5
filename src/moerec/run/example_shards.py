"""Shards of each part: an example's labels, ids, profile and texts as JSON, its tokens and its picture beside them.

Shape letters: B rows, K categories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.dataset.schema import Part
from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.index import INDEX_FILE, ShardIndex
from moerec.dataset.shards.writer import STARTED_FILE, write_shards
from moerec.dataset.storage import Storage
from moerec.engines.example_folder import ExampleFolder
from moerec.errors import DatasetError
from moerec.examples_recipe import ExamplesConfig
from moerec.features.reviews import share_column
from moerec.modalities.picture_store import PictureStore
from moerec.modalities.pictures import from_bytes, to_patches
from moerec.modalities.token_rows import TokenRows
from moerec.modalities.token_store import TokenStore
from moerec.run.example_texts import ITEM, USER, item_blocks, item_text_table, user_text_table

PARTS = (Part.TRAIN, Part.VALID, Part.TEST)
_COLUMNS = (
    "positive",
    "user_id",
    "item_id",
    "timestamp",
    "negative",
    "rating",
    "good",
    "best",
    "review_count",
    "price_mean",
    "price_deviation",
    "history",
)
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Content:
    """What stands in the examples beside their rows."""

    folder: ExampleFolder
    config: ExamplesConfig
    items: Mapping[str, tuple[str, str | None]]
    """By item id: the text, and the address of the picture."""
    tokens: TokenStore | None
    pictures: PictureStore | None

    @classmethod
    def of(
        cls, folder: ExampleFolder, config: ExamplesConfig, tokens: TokenStore | None, pictures: PictureStore | None
    ) -> Content:
        """With the texts of all items, which are few beside the examples."""
        items: dict[str, tuple[str, str | None]] = {}
        for block in item_blocks(folder):
            table = item_text_table(block, config)
            rows = zip(table["text"].to_list(), block["image"].to_list(), strict=True)
            items.update(zip(table["key"].to_list(), rows, strict=True))
        return cls(folder, config, items, tokens, pictures)


def write_parts(url: str, content: Content, inputs: Mapping[str, Any]) -> dict[str, ShardIndex]:
    """Write the shards of every part that has examples; shards that are finished are kept.

    Args:
        url: folder or address; each part gets a folder below it.
        content: what is written.
        inputs: plain data that decides the content.

    Raises:
        DatasetError: the folder holds shards of other examples.
    """
    counts = {part: _count(content.folder, part) for part in PARTS}
    for part, count in counts.items():
        storage = Storage(f"{url.rstrip('/')}/{part.name.lower()}")
        if not count and any(storage.size(name) is not None for name in (INDEX_FILE, STARTED_FILE)):
            # Beside the parts of this run it would be taken for one of them.
            raise DatasetError(
                f"{storage.url}: shards of other examples are there, and these have none for this part; remove them or "
                "choose another folder"
            )
    size = content.config.shards.examples
    return {
        part.name.lower(): write_shards(
            f"{url.rstrip('/')}/{part.name.lower()}",
            partial(examples_of, content, part),
            examples_per_shard=size,
            inputs=dict(inputs) | {"part": part.name.lower()},
        )
        for part, count in counts.items()
        if count
    }


def _count(folder: ExampleFolder, part: Part) -> int:
    found: int = folder.examples.filter(pl.col("part") == part).select(pl.len()).collect().item()
    return found


def examples_of(content: Content, part: Part, start: int = 0) -> Iterator[ShardExample]:
    """The examples of a part from a number on.

    Within a file they stand by key, which is a hash: neighbours have nothing in common, so a reader that shuffles some
    shards together has shuffled users, times and labels.
    """
    for file in content.folder.example_files:
        rows = pl.scan_parquet(file, glob=False).filter(pl.col("part") == part).sort("key").collect()
        if rows.height <= start:
            start -= rows.height
            continue
        texts = user_text_table(content.folder, file, content.config)
        rows = rows[start:].join(
            texts.rename({"key": "positive", "text": "user_text"}), on="positive", how="left", maintain_order="left"
        )
        start = 0
        for block in rows.iter_slices(_ROWS_AT_ONCE):
            yield from _block(content, block)


def _block(content: Content, rows: pl.DataFrame) -> Iterator[ShardExample]:
    """The examples of some rows."""
    columns = [rows[share_column(code)].to_numpy() for code in range(1, len(content.folder.categories) + 1)]
    shares = np.stack(columns, axis=1) if columns else np.zeros((rows.height, 0))  # [B, K]
    tokens = _tokens(content.tokens, rows)
    for number, row in enumerate(rows.select("key", "user_text", *_COLUMNS).iter_rows(named=True)):
        text, address = content.items.get(row["item_id"], (None, None))
        present = np.flatnonzero(shares[number])
        record = {name: row[name] for name in (*_COLUMNS, "user_text")}
        record |= {
            "item_text": text,
            "category_shares": {content.folder.categories[code]: float(shares[number, code]) for code in present},
        }
        picture, reason = _picture(content, address)
        if content.pictures is not None:
            record["picture_missing"] = reason
        arrays = {name: array for kind, of_rows in tokens.items() for name, array in _arrays(kind, of_rows, number)}
        yield ShardExample(row["key"], record, picture, arrays)


def _tokens(store: TokenStore | None, rows: pl.DataFrame) -> dict[str, TokenRows]:
    if store is None:
        return {}
    return {USER: store.rows(USER, rows["positive"]), ITEM: store.rows(ITEM, rows["item_id"])}


def _arrays(kind: str, tokens: TokenRows, row: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """The tokens of one text: ids of all chunks, where each chunk begins, where the sentence markers are."""
    first, last = int(tokens.text_offsets[row]), int(tokens.text_offsets[row + 1])
    begins = tokens.chunk_offsets[first : last + 1]
    markers = tokens.markers[int(tokens.marker_offsets[row]) : int(tokens.marker_offsets[row + 1])]
    yield f"{kind}_tokens", np.asarray(tokens.ids[int(begins[0]) : int(begins[-1])], np.int32)
    yield f"{kind}_chunks", np.asarray(begins - begins[0], np.int32)
    yield f"{kind}_markers", np.asarray(markers, np.int32)


def _picture(content: Content, address: str | None) -> tuple[bytes | NDArray[np.uint8] | None, str | None]:
    """The picture in the form of the recipe, or None with the reason."""
    config = content.config.pictures
    if content.pictures is None or config is None:
        return None, None
    found = content.pictures.find(address)
    if found.path is None:
        return None, found.reason
    stored = Path(found.path).read_bytes()
    if config.form == "jpeg":
        return stored, None
    picture = from_bytes(stored, config)
    return (to_patches(picture) if config.patches else picture), None
