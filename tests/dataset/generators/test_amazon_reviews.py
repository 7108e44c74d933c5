"""Generated Amazon reviews: the same seed the same bytes, written in blocks, with probabilities that come true."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moerec.dataset.generators import amazon_reviews as generator
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import FIRST_TIME, LAST_TIME, GeneratedReviews
from moerec.dataset.generators.amazon_words import THINGS, TITLES, VERDICTS
from moerec.dataset.generators.dirty_lines import OF_REVIEWS, Dirt
from moerec.errors import DatasetError

KEYS = {
    "review": {
        "rating",
        "title",
        "text",
        "images",
        "asin",
        "user_id",
        "timestamp",
        "helpful_vote",
        "verified_purchase",
    },
    "product": {"main_category", "title", "average_rating", "rating_number", "features", "description", "price"}
    | {"images", "videos", "store", "categories", "details", "bought_together"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "out"
    generate_amazon_reviews(out, GeneratedReviews(users=900, items=160, seed=1, compressed=False))
    return out


@pytest.fixture(scope="module")
def reviews(folder: Path) -> pl.DataFrame:
    lines = [line for path in sorted(folder.glob("raw/review*/*")) for line in path.read_text().splitlines()]
    columns = ("user_id", "asin", "timestamp", "rating", "title", "text")
    rows = [tuple(json.loads(line)[name] for name in columns) for line in lines]
    found = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "rating", "title", "text"], orient="row")
    joined = found.join(pl.read_parquet(folder / "truth.parquet"), on=["user_id", "item_id", "timestamp"])
    assert joined.height == found.height, "each review has its probabilities"
    return joined


def records(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_text().splitlines()]


def test_the_lines_have_the_keys_and_shapes_of_2023(folder: Path) -> None:
    for record in records(folder, "raw/review_categories/*.jsonl"):
        assert record.keys() - {"parent_asin"} == KEYS["review"]
    products = records(folder, "raw/meta_categories/meta_*.jsonl")
    assert all(record.keys() - {"parent_asin", "asin"} == KEYS["product"] for record in products)
    assert {type(record["price"]) for record in products} == {float, str, type(None)}
    assert {type(record["images"]) for record in products} == {list, dict}
    assert {type(record["details"]) for record in products} == {dict, str}
    assert 0 < sum("asin" in record for record in products) < len(products) / 5
    assert {path.stem for path in folder.glob("raw/review_categories/*")} == set(THINGS)
    assert len({record["user_id"] for record in records(folder, "raw/review*/*")}) == 900


def test_ratings_are_skewed_and_their_probabilities_come_true(reviews: pl.DataFrame) -> None:
    shares = dict(reviews["rating"].value_counts(normalize=True).iter_rows())
    assert 0.55 < shares[5.0] < 0.75
    assert min(shares, key=lambda rating: shares[rating]) in (1.0, 2.0, 3.0)
    for name, least in (("true_good", 4), ("true_best", 5)):
        happened = (reviews["rating"] >= least).cast(pl.Float64).to_numpy()
        told = reviews[name].to_numpy()
        error = np.sqrt((told * (1 - told)).sum())
        assert abs(happened.sum() - told.sum()) < 4 * error
        for part in np.array_split(np.argsort(told), 5):
            spread = np.sqrt((told[part] * (1 - told[part])).sum())
            assert abs(happened[part].sum() - told[part].sum()) < 4 * spread
        assert told.std() > 0.12, "and they differ from review to review"
    assert (reviews["true_best"] < reviews["true_good"]).all()


def test_a_product_is_reviewed_once_by_a_user_and_a_user_in_the_order_of_time(folder: Path) -> None:
    truth = pl.read_parquet(folder / "truth.parquet")
    assert truth.select("user_id", "item_id").is_duplicated().sum() == 0
    assert truth.equals(truth.sort("user_id", "timestamp"))
    assert truth["timestamp"].is_between(FIRST_TIME, LAST_TIME).all()


def test_texts_tell_the_rating_and_products_their_quality(folder: Path, reviews: pl.DataFrame) -> None:
    for rating, title, text in reviews.select("rating", "title", "text").iter_rows():
        assert title in TITLES[int(rating) - 1]
        assert text == "" or text.startswith(VERDICTS[int(rating) - 1].split("{")[0])
    told = {
        record.get("parent_asin", record.get("asin")): "best materials" in str(record["description"])
        for record in records(folder, "raw/meta_categories/*")
    }
    praised = pl.Series([told[item] for item in reviews["item_id"]])
    means = [reviews.filter(praised == is_praised)["true_good"].mean() for is_praised in (True, False)]
    assert isinstance(means[0], float)
    assert isinstance(means[1], float)
    assert means[0] > means[1] + 0.04


def test_users_have_categories_they_like(reviews: pl.DataFrame, folder: Path) -> None:
    number = reviews["item_id"].str.slice(2).cast(pl.Int64)
    category = (number % len(THINGS)).alias("category")
    counts = reviews.with_columns(category).group_by("user_id", "category").len()
    top = counts.group_by("user_id").agg(pl.col("len").max() / pl.col("len").sum())["len"].mean()
    assert isinstance(top, float)
    assert top > 0.48, "blind choice among four would give about 0.42"


def test_the_same_seed_gives_the_same_bytes_and_users_do_not_hang_on_later_ones(tmp_path: Path) -> None:
    for name, users, seed in (("a", 60, 7), ("b", 60, 7), ("c", 60, 8)):
        generate_amazon_reviews(tmp_path / name, GeneratedReviews(users, 20, seed, dirt=0.1))
    contents = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in "abc"
    ]
    assert contents[0] == contents[1] != contents[2]
    assert len(contents[0]) == 2 * len(THINGS) + 2


def test_users_are_made_in_blocks_that_are_written_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "USERS_IN_BLOCK", 10)
    drawn: list[int] = []
    plain = generator.draw_block

    def watched(shape: GeneratedReviews, products: Any, first: int, users: int) -> Any:
        block = plain(shape, products, first, users)
        assert set(block.user.tolist()) == set(range(first, min(first + 10, shape.users)))
        drawn.append(first)
        return block

    monkeypatch.setattr(generator, "draw_block", watched)
    short, long = (
        generate_amazon_reviews(tmp_path / name, GeneratedReviews(users, 20, 1, compressed=False))
        for name, users in (("short", 20), ("long", 45))
    )
    assert drawn == [0, 10, 0, 10, 20, 30, 40]
    assert short["reviews"] < long["reviews"]
    for path in (tmp_path / "short").glob("raw/review*/*"):
        other = tmp_path / "long" / path.relative_to(tmp_path / "short")
        assert other.read_bytes().startswith(path.read_bytes()), "more users leave the first ones as they are"


def test_dirt_is_of_all_kinds_in_turn_and_near_its_share() -> None:
    dirt = Dirt(0.1, OF_REVIEWS, np.random.default_rng(0))
    record = {"user_id": "u", "parent_asin": "p", "rating": 5.0, "timestamp": FIRST_TIME, "title": "Ö"}
    written = [dirt.beside(record) for _ in range(5000)]
    assert sum(bool(line) for line in written) == dirt.counts.total()
    assert 400 < dirt.counts.total() < 600
    assert dirt.counts.keys() == OF_REVIEWS.keys()
    assert max(dirt.counts.values()) - min(dirt.counts.values()) <= 1
    assert all(line.count(b"\n") == 1 for line in written if line)


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DatasetError, match="choose a new folder"):
        generate_amazon_reviews(tmp_path, GeneratedReviews(5, 5))
    assert (tmp_path / "mine.txt").read_text() == "x"
    for wrong in ({"users": 0, "items": 9}, {"users": 1, "items": 3}, {"users": 1, "items": 9, "dirt": 2.0}):
        with pytest.raises(DatasetError, match="generate: "):
            GeneratedReviews(**wrong)
