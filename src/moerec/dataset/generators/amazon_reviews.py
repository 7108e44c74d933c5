"""Generated reviews and products in the files of Amazon Reviews 2023, of any size, with planted taste.

What a right model must find: that users like some categories more than others, that each has a price that suits him,
that some products are better than others, which their texts say, and that some users are kinder than others. Of these
things the utility of a product for a user is the sum, and the rating is an ordered logit of it, so the probabilities of
a good and of the best rating are known; they stand in truth.parquet. Reviews say what was rated and why.

Users are drawn in blocks, each from a seed of its own, and written at once: memory grows with the products alone.

Shape letters: N reviews of a block, U users of a block, I products, C categories.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import expit

from moerec.dataset.generators import amazon_words as words
from moerec.dataset.generators.dirty_lines import OF_PRODUCTS, OF_REVIEWS, Dirt, Record, json_line
from moerec.errors import DatasetError
from moerec.files import atomic_directory, write_json

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

USERS_IN_BLOCK = 1000
FIRST_TIME, LAST_TIME = 1_500_000_000_000, 1_693_526_400_000
"""Of the reviews, in milliseconds: July 2017 to August 2023."""
CUTPOINTS = (-3.1, -2.4, -1.6, -0.5)
"""Between the ratings on the scale of the utility; they give the many five stars of the published data."""
PRICE_SPREAD = 0.7
"""Standard deviation of the logarithm of a price within a category."""
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


@dataclass(frozen=True)
class GeneratedReviews:
    """How much is generated."""

    users: int
    """Number of users."""
    items: int
    """Number of products."""
    seed: int = 0
    """Seed of everything that is drawn."""
    reviews_per_user: float = 12.0
    """Mean number of reviews before those of the same product are left out."""
    dirt: float = 0.0
    """Share of lines beside which a broken copy is written; each file then also ends cut off."""
    compressed: bool = True
    """Whether the files are gzipped."""

    def __post_init__(self) -> None:
        if self.users < 1 or self.items < len(self.categories):
            raise DatasetError(f"generate: at least 1 user and {len(self.categories)} items, one for each category")
        if not 0 <= self.dirt <= 1 or self.reviews_per_user < 1:
            raise DatasetError("generate: dirt is a share from 0 to 1, and a user has at least 1 review")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, one pair of files each."""
        return tuple(words.THINGS)


@dataclass(frozen=True)
class _Products:
    """What stands behind each product; all [I]."""

    category: Ints
    thing: Ints
    quality: Floats
    price: Floats
    price_level: Floats
    """The logarithm of the price, standardised within the category."""
    release: Ints
    weight: Floats


@dataclass(frozen=True)
class _Reviews:
    """The reviews of a block, by user and time; all [N]."""

    user: Ints
    item: Ints
    time: Ints
    rating: Ints
    good: Floats
    best: Floats
    fondness: Floats
    """The user's taste for the category."""
    dearness: Floats
    """How far the price level is above the one that suits the user."""


def generate_amazon_reviews(out: Path, shape: GeneratedReviews) -> dict[str, Any]:
    """Write raw/review_categories, raw/meta_categories, truth.parquet and, with dirt, dirt.json into a new folder.

    Returns:
        the number of reviews and of broken lines, and the files.

    Raises:
        DatasetError: the folder is there and not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: there is something already; choose a new folder")
    products = _draw_products(shape)
    dirt: dict[str, dict[str, int]] = {}
    with atomic_directory(out) as folder:
        _write_products(folder, shape, products, dirt)
        reviews = _write_reviews(folder, shape, products, dirt)
        if shape.dirt:
            write_json(folder / "dirt.json", dict(sorted(dirt.items())))
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {"reviews": reviews, "broken_lines": sum(sum(kinds.values()) for kinds in dirt.values()), "files": files}


def _draw_products(shape: GeneratedReviews) -> _Products:
    draw = np.random.default_rng([shape.seed, 1])
    count = shape.items
    category = np.arange(count) % len(shape.categories)
    quality, level = draw.normal(size=count), draw.normal(size=count)
    base = 2.3 + 0.4 * np.arange(len(shape.categories))
    return _Products(
        category=category,
        thing=draw.integers(0, 6, count),
        quality=quality,
        price=np.asarray(np.exp(base[category] + PRICE_SPREAD * level), dtype=np.float64).round(2),
        price_level=level,
        release=draw.integers(FIRST_TIME, FIRST_TIME + (LAST_TIME - FIRST_TIME) * 6 // 10, count),
        weight=np.exp(draw.normal(size=count) + 0.3 * quality),
    )


def _draw_block(shape: GeneratedReviews, products: _Products, first: int) -> _Reviews:
    """The reviews of the users from `first` on."""
    draw = np.random.default_rng([shape.seed, 2, first])
    users = min(USERS_IN_BLOCK, shape.users - first)
    taste = draw.normal(0, 1.0, (users, len(shape.categories)))  # [U, C]
    suits, kindness = draw.normal(0, 1.0, users), draw.normal(0, 0.6, users)  # [U]
    user = np.repeat(np.arange(users), 1 + draw.poisson(shape.reviews_per_user - 1, users))  # [N]
    odds = np.cumsum(np.exp(taste), axis=1)
    category = (draw.random(len(user))[:, None] * odds[user, -1:] > odds[user]).sum(axis=1)  # [N]
    # Of two products that come by, the one of the better price is bought.
    one, other = _by_weight(products, category, draw), _by_weight(products, category, draw)
    nearer = np.abs(products.price_level[other] - suits[user]) < np.abs(products.price_level[one] - suits[user])
    item = np.where(nearer, other, one)
    _, kept = np.unique(user * shape.items + item, return_index=True)
    user, item, category = user[kept], item[kept], category[kept]
    dearness = products.price_level[item] - suits[user]
    utility = taste[user, category] + products.quality[item] - 0.7 * np.abs(dearness) + kindness[user]
    felt = utility + draw.logistic(size=len(user))
    release = products.release[item]
    time = release + (draw.random(len(user)) * (LAST_TIME - release)).astype(np.int64)
    order = np.lexsort((time, user))
    return _Reviews(
        user=(user + first)[order],
        item=item[order],
        time=time[order],
        rating=1 + np.searchsorted(CUTPOINTS, felt)[order],
        good=expit(utility - CUTPOINTS[2])[order],
        best=expit(utility - CUTPOINTS[3])[order],
        fondness=taste[user, category][order],
        dearness=dearness[order],
    )


def _by_weight(products: _Products, category: Ints, draw: np.random.Generator) -> Ints:
    """A product of each category [N], popular ones more often."""
    chosen = np.empty(len(category), dtype=np.int64)
    for number in range(int(products.category.max()) + 1):
        own, asked = np.flatnonzero(products.category == number), category == number
        heap = np.cumsum(products.weight[own])
        chosen[asked] = own[np.searchsorted(heap, draw.random(int(asked.sum())) * heap[-1])]
    return chosen


def _write_products(
    folder: Path, shape: GeneratedReviews, products: _Products, dirt: dict[str, dict[str, int]]
) -> None:
    draw = np.random.default_rng([shape.seed, 3])
    with _files(folder / "raw/meta_categories", "meta_", shape, OF_PRODUCTS, dirt) as writers:
        for item in range(shape.items):
            record = _product(item, products, shape.categories, draw)
            writers[products.category[item]].write(record)


def _write_reviews(folder: Path, shape: GeneratedReviews, products: _Products, dirt: dict[str, dict[str, int]]) -> int:
    count = 0
    with (
        _files(folder / "raw/review_categories", "", shape, OF_REVIEWS, dirt) as writers,
        pq.ParquetWriter(folder / "truth.parquet", TRUTH_SCHEMA) as truth,
    ):
        for first in range(0, shape.users, USERS_IN_BLOCK):
            block = _draw_block(shape, products, first)
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


def _product(item: int, products: _Products, categories: tuple[str, ...], draw: np.random.Generator) -> Record:
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
    address = f"https://images.example.com/I/{_item_id(item)}"
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
    block: _Reviews, row: int, products: _Products, categories: tuple[str, ...], draw: np.random.Generator
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
