"""Generated reviews and products in the files of Amazon Reviews 2023, of any size, with planted taste.

The tastes behind them are in `amazon_tastes`; the probabilities of each review stand in truth.parquet.

Users are drawn in blocks, each from a seed of its own, and written at once: memory grows with the products alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from moerec.dataset.generators import amazon_words as words
from moerec.dataset.generators.amazon_tastes import GeneratedReviews, Products, Reviews, draw_block, draw_products
from moerec.dataset.generators.dirty_lines import OF_PRODUCTS, OF_REVIEWS, Dirt, Record, json_line
from moerec.dataset.generators.product_pictures import TRUTH, write_pictures
from moerec.errors import DatasetError
from moerec.files import atomic_directory, write_json

USERS_IN_BLOCK = 1000
NOWHERE = "https://images.example.com"
"""Base of the pictures' addresses where no pictures are made."""
TRUTH_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),
        ("true_good", pa.float64()),
        ("true_best", pa.float64()),
    ]
)
"""`true_good` is P(rating >= 4), `true_best` is P(rating = 5)."""


def generate_amazon_reviews(out: Path, shape: GeneratedReviews) -> dict[str, Any]:
    """Write raw/review_categories, raw/meta_categories, truth.parquet and, with dirt, dirt.json into a new folder.

    With an address of pictures also images/I/<item>.jpg and images.parquet, which says what they show.

    Returns:
        the number of reviews, of broken lines and of pictures, and the files other than pictures.

    Raises:
        DatasetError: the folder is there and not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: there is something already; choose a new folder")
    products = draw_products(shape)
    dirt: dict[str, dict[str, int]] = {}
    with atomic_directory(out) as folder:
        _write_products(folder, shape, products, dirt)
        reviews = _write_reviews(folder, shape, products, dirt)
        if shape.dirt:
            write_json(folder / "dirt.json", dict(sorted(dirt.items())))
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        pictures = 0
        if shape.image_address is not None:
            pictures = write_pictures(folder, shape, products, [_item_id(item) for item in range(shape.items)])
            files.append(TRUTH)
    return {
        "reviews": reviews,
        "broken_lines": sum(sum(kinds.values()) for kinds in dirt.values()),
        "pictures": pictures,
        "files": sorted(files),
    }


def _write_products(folder: Path, shape: GeneratedReviews, products: Products, dirt: dict[str, dict[str, int]]) -> None:
    draw = np.random.default_rng([shape.seed, 3])
    with _files(folder / "raw/meta_categories", "meta_", shape, OF_PRODUCTS, dirt) as writers:
        for item in range(shape.items):
            record = _product(item, products, shape.categories, shape.image_address or NOWHERE, draw)
            writers[products.category[item]].write(record)


def _write_reviews(folder: Path, shape: GeneratedReviews, products: Products, dirt: dict[str, dict[str, int]]) -> int:
    count = 0
    with (
        _files(folder / "raw/review_categories", "", shape, OF_REVIEWS, dirt) as writers,
        pq.ParquetWriter(folder / "truth.parquet", TRUTH_SCHEMA) as truth,
    ):
        for first in range(0, shape.users, USERS_IN_BLOCK):
            block = draw_block(shape, products, first, min(USERS_IN_BLOCK, shape.users - first))
            draw = np.random.default_rng([shape.seed, 4, first])
            for row in range(len(block.user)):
                record = _review(block, row, products, shape.categories, draw)
                writers[products.category[block.item[row]]].write(record)
            columns = [
                [_user_id(user) for user in block.user.tolist()],
                [_item_id(item) for item in block.item.tolist()],
                block.time,
                block.good,
                block.best,
            ]
            truth.write_table(pa.table(columns, schema=TRUTH_SCHEMA))
            count += len(block.user)
    return count


def _product(
    item: int, products: Products, categories: tuple[str, ...], images: str, draw: np.random.Generator
) -> Record:
    """A product, in one of the shapes that the published files have."""
    category, form = int(products.category[item]), int(draw.integers(4))
    thing = words.THINGS[categories[category]][products.thing[item]]
    # One product of five is described as it is not.
    shown = (
        int(draw.integers(3)) if draw.random() < 0.2 else int(np.searchsorted((-0.43, 0.43), products.quality[item]))
    )
    adjective, brand = _one(draw, words.QUALITIES[shown]), words.BRANDS[item % len(words.BRANDS)]
    price = float(products.price[item])
    details: dict[str, Any] = {"Brand": brand, "Item Weight": f"{draw.integers(1, 40)} ounces"}
    address = f"{images.rstrip('/')}/I/{_item_id(item)}"
    large, thumb = f"{address}._AC_SL1500_.jpg", f"{address}._AC_US40_.jpg"
    pictures: tuple[Any, ...] = (
        [{"thumb": thumb, "large": large, "variant": "MAIN", "hi_res": None}],
        {"hi_res": [None], "large": [large], "thumb": [thumb], "variant": ["MAIN"]},
        [],
        [{"thumb": thumb, "large": large, "variant": "MAIN", "hi_res": large}],
    )
    name = categories[category].replace("_", " ")
    return {
        "main_category": name,
        "title": f"{brand} {adjective} {thing} {item}",
        "average_rating": round(float(np.clip(4.1 + 0.4 * products.quality[item], 1, 5)), 1),
        "rating_number": int(1 + 20 * products.weight[item]),
        "features": [f"{adjective.capitalize()} {thing}", f"By {brand}"][: form + 1],
        "description": [words.SENTENCES[shown]] if form else [],
        "price": (price, f"${price:,.2f}", price, None)[form] if draw.random() < 0.95 else "—",
        "images": pictures[form],
        "videos": [],
        "store": brand if form != 2 else None,
        "categories": [name, thing.title()],
        "details": details if form % 2 else json_line(details).decode(),
        # A few products have but the older kind of id.
        ("asin" if draw.random() < 0.05 else "parent_asin"): _item_id(item),
        "bought_together": None,
    }


def _review(
    block: Reviews, row: int, products: Products, categories: tuple[str, ...], draw: np.random.Generator
) -> Record:
    item, rating = int(block.item[row]), int(block.rating[row])
    category = categories[products.category[item]]
    thing = words.THINGS[category][products.thing[item]]
    sentences = [words.VERDICTS[rating - 1].format(thing=thing)]
    if abs(block.fondness[row]) > 0.8 and draw.random() < 0.6:
        mood = words.FOND if block.fondness[row] > 0 else words.INDIFFERENT
        sentences.append(mood.format(category=category.replace("_", " ").lower()))
    if abs(block.dearness[row]) > 1 and draw.random() < 0.6:
        sentences.append(words.TOO_DEAR if block.dearness[row] > 0 else words.TOO_CHEAP)
    if draw.random() < 0.4:
        sentences.append(_one(draw, words.ASIDES))
    record = {
        "rating": float(rating),
        "title": _one(draw, words.TITLES[rating - 1]),
        "text": " ".join(sentences) if draw.random() < 0.95 else "",
        "images": [],
        "asin": _item_id(item),
        "parent_asin": _item_id(item),
        "user_id": _user_id(int(block.user[row])),
        "timestamp": int(block.time[row]),
        "helpful_vote": int(draw.poisson(0.4)),
        "verified_purchase": bool(draw.random() < 0.9),
    }
    if draw.random() < 0.03:
        del record["parent_asin"]
    return record


class _Writer:
    """A file of lines, good ones and now and then a broken one beside."""

    def __init__(self, stream: IO[bytes], dirt: Dirt) -> None:
        self._stream = stream
        self.dirt = dirt

    def write(self, record: Record) -> None:
        """Append a record."""
        self._stream.write(json_line(record) + b"\n" + self.dirt.beside(record))


@contextmanager
def _files(
    folder: Path, prefix: str, shape: GeneratedReviews, kinds: Mapping[str, Any], counts: dict[str, dict[str, int]]
) -> Iterator[list[_Writer]]:
    """A writer for each category; at the end their broken lines are entered into `counts` by file."""
    folder.mkdir(parents=True)
    ending = ".jsonl.gz" if shape.compressed else ".jsonl"
    with ExitStack() as opened:
        ends = []
        for number, category in enumerate(shape.categories):
            raw = opened.enter_context((folder / f"{prefix}{category}{ending}").open("wb"))
            stream: IO[bytes] = raw
            if shape.compressed:
                # No name and no time inside, so that the same seed gives the same bytes.
                stream = cast(IO[bytes], gzip.GzipFile("", "wb", 4, raw, mtime=0))
            dirt = Dirt(shape.dirt, kinds, np.random.default_rng([shape.seed, 5, len(prefix), number]))
            ends.append((raw, stream, _Writer(stream, dirt), f"{prefix}{category}{ending}"))
        yield [writer for _, _, writer, _ in ends]
        for raw, stream, writer, name in ends:
            if shape.compressed:
                stream.close()
            raw.write(writer.dirt.end(shape.compressed))
            if writer.dirt.counts:
                counts[name] = dict(sorted(writer.dirt.counts.items()))


def _one(draw: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[int(draw.integers(len(choices)))]


def _user_id(user: int) -> str:
    return f"AG{user:026d}"


def _item_id(item: int) -> str:
    return f"B0{item:08d}"
