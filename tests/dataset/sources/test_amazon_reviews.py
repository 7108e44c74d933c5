"""Amazon reviews: every published shape is read, every bad line is counted, and the real files go through whole."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from moerec.dataset.dataset import Dataset
from moerec.dataset.download import MIRROR_VARIABLE
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.schema import RawTables
from moerec.dataset.sources import amazon_fields as fields
from moerec.dataset.sources import json_lines
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.dataset.sources.amazon_rows import (
    BAD_RATING,
    BAD_TIME,
    NO_ITEM,
    NO_RATING,
    NO_TIME,
    NO_USER,
    PRICE_UNREADABLE,
    REPEATED_ITEM,
    REPEATED_REVIEW,
    TITLE_IS_MARKUP,
)
from moerec.errors import DatasetError

MIRROR = os.environ.get(MIRROR_VARIABLE)
TIME = 1_600_000_000_123
REVIEW: dict[str, Any] = {
    "rating": 4.0,
    "title": "Fine &amp; dandy",
    "text": "Works \ud83d\ude00",
    "images": [],
    "asin": "B0CHILD",
    "parent_asin": "B0PARENT",
    "user_id": "AG1",
    "timestamp": TIME,
    "helpful_vote": 3,
    "verified_purchase": True,
}
PRODUCT: dict[str, Any] = {
    "main_category": "All Beauty",
    "title": "Cream",
    "average_rating": 4.9,
    "rating_number": 7,
    "features": ["Soft", "Light"],
    "description": ["One.", "", "Two."],
    "price": 9.99,
    "images": [{"thumb": "https://x/t.jpg", "large": "https://x/l.jpg", "variant": "MAIN", "hi_res": None}],
    "store": "Alder",
    "categories": ["Beauty", "Face", "Cream"],
    "details": {"Brand": "Birch", "Item Weight": "3 ounces"},
    "parent_asin": "B0PARENT",
}
OLD_REVIEW: dict[str, Any] = {
    "overall": 5.0,
    "reviewerID": "A1",
    "asin": "B1",
    "summary": "Five Stars",
    "reviewText": "Good",
    "unixReviewTime": 1_441_324_800,
}


@pytest.fixture(autouse=True)
def _no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)


def write(path: Path, records: list[Any]) -> Path:
    """Records as lines, strings as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def read(folder: Path, reviews: list[Any], products: list[Any], **settings: Any) -> RawTables:
    """Files of one category of 2023, read."""
    write(folder / "C.jsonl", reviews)
    write(folder / "meta_C.jsonl", products)
    return AmazonReviewsConfig(categories=("C",), path=str(folder), **settings).read()


def product(folder: Path, **changes: Any) -> dict[str, Any]:
    """The item that a changed product becomes; None takes a key away."""
    record = {name: value for name, value in (PRODUCT | changes).items() if value is not ...}
    return read(folder, [REVIEW], [record]).items.row(0, named=True)


def test_a_review_and_a_product_of_2023(tmp_path: Path) -> None:
    raw = read(tmp_path, [REVIEW], [PRODUCT])
    assert raw.events.to_dicts() == [
        {
            "user_id": "AG1",
            "item_id": "B0PARENT",
            "timestamp": TIME,
            "rating": 4.0,
            "verified": 1,
            "helpful": 3,
            "review_title": "Fine & dandy",
            "review_text": "Works \U0001f600",
        }
    ]
    assert raw.items is not None
    assert raw.items.to_dicts() == [
        {
            "item_id": "B0PARENT",
            "title": "Cream",
            "main_category": "All Beauty",
            "categories": "Beauty|Face|Cream",
            "price": 9.99,
            "brand": "Alder",
            "features": "Soft Light",
            "description": "One. Two.",
            "details": "Brand: Birch; Item Weight: 3 ounces",
            "image": "https://x/l.jpg",
            "category": "C",
        }
    ]
    dataset = Dataset.from_raw(raw, "amazon")
    dataset.validate()
    assert dataset.info.labels == ("rating", "verified", "helpful")
    assert dataset.info.texts == ("review_title", "review_text")
    assert dataset.info.unused_columns == ()


def test_means_over_all_reviews_are_no_columns(tmp_path: Path) -> None:
    """They hold the ratings that are to be predicted."""
    assert not {"average_rating", "rating_number"} & set(product(tmp_path))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ([{"large": None, "thumb": "https://x/t"}, {"large": "https://x/2"}], "https://x/2"),
        ({"hi_res": [None, "https://x/h"], "large": ["https://x/1", "https://x/2"], "thumb": []}, "https://x/1"),
        ([{"large": None, "hi_res": "https://x/h", "thumb": "https://x/t"}], "https://x/h"),
        ({"large": [], "hi_res": [], "thumb": ["https://x/t"]}, "https://x/t"),
        (["https://x/plain"], "https://x/plain"),
        ([{"large": ""}, {"large": "data:image/png;base64,xx"}], None),
        ([], None),
        ({}, None),
        (None, None),
        ("nonsense", None),
    ],
)
def test_every_shape_of_images(tmp_path: Path, images: Any, found: str | None) -> None:
    assert product(tmp_path, images=images)["image"] == found


@pytest.mark.parametrize(
    ("price", "found", "unreadable"),
    [
        (9.99, 9.99, 0),
        (10, 10.0, 0),
        ("9.99", 9.99, 0),
        ("$9.99", 9.99, 0),
        ("$ 1,299.50", 1299.5, 0),
        ("from 9.99", 9.99, 0),
        ("From: $9.99", 9.99, 0),
        ("$5.25 - $12.00", 5.25, 0),
        ("—", None, 0),
        ("", None, 0),
        (" ", None, 0),
        ("None", None, 0),
        (None, None, 0),
        (..., None, 0),
        (".a-box-inner{background-color:#fff}", None, 1),
        ("9,99", None, 1),
        ("€9", None, 1),
        (-1, None, 1),
        (float("nan"), None, 1),
        ([1], None, 1),
        (True, None, 1),
    ],
)
def test_every_shape_of_prices(tmp_path: Path, price: Any, found: float | None, unreadable: int) -> None:
    assert product(tmp_path, price=price)["price"] == found
    assert fields.price(None if price is ... else price) == (found, bool(unreadable))


def test_every_shape_of_the_rest_of_a_product(tmp_path: Path) -> None:
    assert product(tmp_path, details='{"Color": "Red"}')["details"] == "Color: Red"
    for broken in ("{'Color'", "3", None, [], ...):
        assert product(tmp_path, details=broken)["details"] is None
    assert product(tmp_path, store=None)["brand"] == "Birch"
    assert product(tmp_path, store=None, details='{"Brand": "Cedar"}')["brand"] == "Cedar"
    assert product(tmp_path, description="Plain", features=None)["description"] == "Plain"
    assert product(tmp_path, description=[], features=[])["features"] is None
    assert product(tmp_path, main_category=None)["main_category"] == "Beauty"
    assert product(tmp_path, categories=[])["categories"] is None
    assert product(tmp_path, parent_asin=..., asin="B0PARENT")["item_id"] == "B0PARENT"
    assert product(tmp_path, title="half a pair \ud83d of surrogates")["title"] == "half a pair ? of surrogates"


def test_titles_of_debris_are_left_empty_and_counted(tmp_path: Path) -> None:
    debris = ['<span class="a-size-medium a-color-secondary"', "var aPageStart = 1;", "x.getTime()", "<b>Bold</b>"]
    good = ["I <3 creams", "A < B > C", "Function of a cream", "Tom &amp; Co", "{braces}"]
    records = [PRODUCT | {"parent_asin": f"B{place}", "title": title} for place, title in enumerate(debris + good)]
    raw = read(tmp_path, [REVIEW], [*records, PRODUCT | {"price": "?"}])
    assert raw.items is not None
    titles = raw.items["title"].to_list()
    assert titles == [None] * 4 + [*good[:3], "Tom & Co", "{braces}", "Cream"]
    assert raw.source["left_empty"] == {TITLE_IS_MARKUP: 4, PRICE_UNREADABLE: 1}


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"user_id": None}, NO_USER),
    ({"user_id": "  "}, NO_USER),
    ({"user_id": ["AG1"]}, NO_USER),
    ({"asin": None, "parent_asin": ""}, NO_ITEM),
    ({"rating": None}, NO_RATING),
    ({"rating": ""}, NO_RATING),
    ({"rating": 0}, BAD_RATING),
    ({"rating": 5.5}, BAD_RATING),
    ({"rating": "five"}, BAD_RATING),
    ({"rating": True}, BAD_RATING),
    ({"rating": float("nan")}, BAD_RATING),
    ({"rating": 10**400}, BAD_RATING),
    ({"timestamp": None}, NO_TIME),
    ({"timestamp": 0}, BAD_TIME),
    ({"timestamp": "yesterday"}, BAD_TIME),
    ({"timestamp": 10**18}, BAD_TIME),
    ({"timestamp": -TIME}, BAD_TIME),
]


def test_reviews_without_a_part_are_rejects_with_their_line(tmp_path: Path) -> None:
    raw = read(tmp_path, [REVIEW, *(REVIEW | change for change, _ in BROKEN), REVIEW | {"user_id": "AG2"}], [PRODUCT])
    assert raw.events["user_id"].to_list() == ["AG1", "AG2"]
    assert raw.rejects["line"].to_list() == list(range(2, len(BROKEN) + 2))
    assert raw.rejects["reason"].to_list() == [reason for _, reason in BROKEN]
    assert set(raw.rejects["source"]) == {"C.jsonl"}
    assert json.loads(raw.rejects["row"][0])["user_id"] is None


def test_times_in_seconds_and_milliseconds_are_told_apart(tmp_path: Path) -> None:
    times = [1_600_000_000, 1_600_000_001_000, "1600000002", 1_600_000_003.0, 800_000_000, 4_000_000_000_000]
    raw = read(tmp_path, [REVIEW | {"timestamp": time} for time in times], [PRODUCT])
    seconds = [1_600_000_000, 1_600_000_001, 1_600_000_002, 1_600_000_003, 800_000_000, 4_000_000_000]
    assert raw.events["timestamp"].to_list() == [1000 * second for second in seconds]


def test_the_first_of_repeated_reviews_and_products_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "D.jsonl", [REVIEW | {"rating": 1, "text": "y" * 9000}, REVIEW | {"timestamp": TIME + 1}])
    write(tmp_path / "meta_D.jsonl", [PRODUCT | {"title": "Later"}])
    write(tmp_path / "C.jsonl", [REVIEW, REVIEW | {"rating": 2}, REVIEW | {"parent_asin": None}])
    write(tmp_path / "meta_C.jsonl", [PRODUCT, PRODUCT])
    raw = AmazonReviewsConfig(categories=("C", "D"), path=str(tmp_path)).read()
    assert raw.events["rating"].to_list() == [4, 4, 4]
    assert raw.rejects.select("source", "line", "reason").rows() == [
        ("C.jsonl", 2, REPEATED_REVIEW),
        ("D.jsonl", 1, REPEATED_REVIEW),
        ("meta_C.jsonl", 2, REPEATED_ITEM),
        ("meta_D.jsonl", 1, REPEATED_ITEM),
    ]
    assert raw.rejects["row"].str.len_chars().max() == 2000
    assert raw.items is not None
    rows = raw.items.select("item_id", "title", "category").rows()
    assert rows == [("B0PARENT", "Cream", "C"), ("B0CHILD", None, "C")], "an item without product has its category"
    assert raw.source["items_without_product"] == 1
    rejected = Dataset.from_raw(raw, "amazon").info.counts.rejected
    assert rejected == {REPEATED_ITEM: 2, REPEATED_REVIEW: 2}, "and nothing twice"


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_the_release_of_2018(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"C_5.json{ending}", [OLD_REVIEW | {"verified": False, "vote": "1,234"}])
    old = {
        "category": ["Magazines", "Arts &amp; Music"],
        "title": "Piano",
        "brand": "B",
        "feature": ["F"],
        "description": ["D"],
        "main_cat": '<img src="x.png" alt="Magazines"/>',
        "price": "$5.00",
        "asin": "B1",
        "imageURL": ["https://x/small"],
        "imageURLHighRes": ["https://x/large"],
        "details": {"\n    Size: \n    ": "3 inches"},
    }
    write(tmp_path / f"meta_C.json{ending}", [old])
    raw = AmazonReviewsConfig(year=2018, categories=("C",), path=str(tmp_path)).read()
    assert raw.events.row(0) == ("A1", "B1", 1_441_324_800_000, 5.0, 0, 1234, "Five Stars", "Good")
    assert raw.items is not None
    assert raw.items.row(0) == (
        *("B1", "Piano", "Magazines", "Magazines|Arts & Music", 5.0, "B", "F", "D", "Size: 3 inches"),
        *("https://x/large", "C"),
    )


def test_the_release_of_2014_whose_products_are_written_by_python(tmp_path: Path) -> None:
    write(tmp_path / "reviews_C_5.json.gz", [OLD_REVIEW | {"helpful": [2, 3]}])
    written = (
        "{'asin': 'B1', 'title': \"Tom's\", 'price': 3.5, 'imUrl': 'https://x/i', 'categories': [['A', 'B'], ['C']]}"
    )
    call = "__import__('os').getcwd()"
    write(tmp_path / "meta_C.json.gz", [written, call, "{'asin': "])
    raw = AmazonReviewsConfig(year=2014, categories=("C",), path=str(tmp_path)).read()
    assert raw.labels == ("rating", "helpful"), "verified purchases are not known"
    assert raw.events.row(0) == ("A1", "B1", 1_441_324_800_000, 5.0, 2, "Five Stars", "Good")
    assert raw.items is not None
    assert raw.items.select("title", "main_category", "categories", "price", "image").row(0) == (
        ("Tom's", "A", "A|B", 3.5, "https://x/i")
    )
    assert raw.rejects["reason"].to_list() == [json_lines.NOT_JSON] * 2, "nothing is ever run"
    Dataset.from_raw(raw, "amazon").validate()


def refusal(**settings: Any) -> str:
    with pytest.raises((DatasetError, ValidationError)) as caught:
        AmazonReviewsConfig(**settings).read()
    return str(caught.value)


def test_what_is_missing_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "raw/review_categories/C.jsonl.gz and raw/meta_categories/meta_C.jsonl.gz" in refusal(categories=("C",))
    assert "there is no such folder" in refusal(categories=("C",), path=str(tmp_path / "no"))
    assert "no reviews of 'C'; put C_5.json.gz and" in refusal(year=2018, categories=("C",), path=str(tmp_path))
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path))
    assert "amazon-2014 is no folder" in refusal(year=2014, categories=("C",))
    write(tmp_path / "amazon-2018/C_5.json", [OLD_REVIEW])
    assert "set `metadata: optional`" in refusal(year=2018, categories=("C",))
    for metadata in ("optional", "none"):
        raw = AmazonReviewsConfig(year=2018, categories=("C",), metadata=metadata).read()
        assert raw.items is not None
        assert raw.items.rows() == [("B1", "C")]
        assert raw.source["categories_without_products"] == ["C"]
        Dataset.from_raw(raw, "amazon").validate()
    write(tmp_path / "amazon-2018/C.json", [OLD_REVIEW, OLD_REVIEW | {"asin": "B2"}])
    assert "say `core: true`" in refusal(year=2018, categories=("C",), metadata="none")
    for core, reviews in ((True, 1), (False, 2)):
        config = AmazonReviewsConfig(year=2018, categories=("C",), metadata="none", core=core)
        assert config.read().events.height == reviews
    write(tmp_path / "amazon-2018/E.json", ["{}", "{}"])
    assert "every row (2) was refused; the first, line 1: no user id" in refusal(
        year=2018, categories=("E",), metadata="none"
    )
    write(tmp_path / "amazon-2018/F.json", [])
    assert "F.json: the file is empty" in refusal(year=2018, categories=("F",), metadata="none")
    assert "is no part of a file name" in refusal(categories=("../C",))
    assert "remove core" in refusal(categories=("C",), core=True)
    assert "belongs to the variant 'generated'" in refusal(categories=("C",), users=7)
    assert "reads no files" in refusal(variant="generated", categories=("C",))


def test_without_categories_all_that_are_there_are_read(tmp_path: Path) -> None:
    assert "no reviews of any category; put reviews_<category>_5.json.gz" in refusal(year=2014, path=str(tmp_path))
    for name, year in (("{}.jsonl", 2023), ("{}_5.json.gz", 2018), ("{}.json", 2018), ("reviews_{}_5.json", 2014)):
        folder = tmp_path / name.replace("{}", "x")
        for category in ("B_b", "A"):
            write(folder / name.format(category), [(REVIEW if year == 2023 else OLD_REVIEW) | {"asin": category}])
            write(folder / "meta_{}.{}".format(category, name.split(".")[1]), [PRODUCT])
        config = AmazonReviewsConfig(year=year, path=str(folder))
        named = AmazonReviewsConfig(year=year, path=str(folder), categories=("A", "B_b"))
        assert config.read().source["categories"] == ["A", "B_b"]
        assert config.fingerprint_inputs() == named.fingerprint_inputs()
    write(tmp_path / "raw/review_categories/C.jsonl.gz", [REVIEW])
    write(tmp_path / "raw/meta_categories/meta_C.jsonl.gz", [PRODUCT])
    assert AmazonReviewsConfig(path=str(tmp_path)).read().source["categories"] == ["C"]


def test_texts_of_reviews_can_be_left_out_and_the_fingerprint_knows(tmp_path: Path) -> None:
    raw = read(tmp_path, [REVIEW], [PRODUCT], review_texts=False)
    assert raw.texts == ()
    assert raw.events.columns == ["user_id", "item_id", "timestamp", "rating", "verified", "helpful"]
    config = AmazonReviewsConfig(categories=("C",), path=str(tmp_path))
    other = AmazonReviewsConfig(categories=("C",), path=str(tmp_path), review_texts=False)
    before = config.fingerprint_inputs()
    assert before != other.fingerprint_inputs()
    moved = tmp_path / "moved"
    for kind in ("C", "meta_C"):
        folder = "review_categories" if kind == "C" else "meta_categories"
        write(moved / f"raw/{folder}/{kind}.jsonl", []).write_bytes((tmp_path / f"{kind}.jsonl").read_bytes())
    assert AmazonReviewsConfig(categories=("C",), path=str(moved)).fingerprint_inputs() == before
    write(tmp_path / "meta_C.jsonl", [PRODUCT, PRODUCT])
    assert config.fingerprint_inputs() != before


@pytest.mark.parametrize("compressed", [True, False])
def test_generated_files_come_back_whole_and_their_dirt_is_counted_exactly(tmp_path: Path, compressed: bool) -> None:
    shape = GeneratedReviews(users=150, items=120, seed=3, dirt=0.2, compressed=compressed)
    made = generate_amazon_reviews(tmp_path / "out", shape)
    config = AmazonReviewsConfig(categories=shape.categories, path=str(tmp_path / "out"))
    raw = config.read()
    assert raw.events.height == made["reviews"] == pl.read_parquet(tmp_path / "out/truth.parquet").height
    assert raw.items is not None
    assert raw.items.height == 120
    found: dict[str, Counter[str]] = {}
    for source, reason in raw.rejects.select("source", "reason").iter_rows():
        found.setdefault(source, Counter())[reason] += 1
    assert found == json.loads((tmp_path / "out/dirt.json").read_text())
    kinds = {NO_USER, NO_ITEM, NO_RATING, BAD_RATING, NO_TIME, BAD_TIME, REPEATED_REVIEW, REPEATED_ITEM}
    kinds |= {json_lines.NOT_JSON, json_lines.NOT_AN_OBJECT, json_lines.NOT_UTF_8}
    assert set(raw.rejects["reason"]) == kinds | {json_lines.CUT_ARCHIVE if compressed else json_lines.CUT_LINE}
    dataset = Dataset.from_raw(raw, "amazon").save(tmp_path / "set")
    dataset.validate()
    assert dataset.info.counts.events == made["reviews"]
    assert sum(dataset.info.counts.rejected.values()) == made["broken_lines"]
    assert dataset.info.counts.items_without_row == 0


def test_the_generated_variant_is_the_generator_read(tmp_path: Path) -> None:
    raw = AmazonReviewsConfig(variant="generated", users=40, items=20, seed=5).read()
    shape = GeneratedReviews(users=40, items=20, seed=5)
    generate_amazon_reviews(tmp_path / "out", shape)
    files = AmazonReviewsConfig(categories=shape.categories, path=str(tmp_path / "out")).read()
    assert raw.events.equals(files.events)
    assert raw.items is not None
    assert raw.items.equals(files.items)
    assert raw.rejects.height == 0


@pytest.mark.skipif(MIRROR is None, reason="needs MOEREC_MIRROR with amazon-2018")
def test_the_real_files_of_2018(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MIRROR is not None
    if not (Path(MIRROR) / "amazon-2018").is_dir():
        pytest.skip("MOEREC_MIRROR has no amazon-2018")
    monkeypatch.setenv(MIRROR_VARIABLE, MIRROR)
    lines = {"Magazine_Subscriptions": 2375, "Gift_Cards": 2972, "AMAZON_FASHION": 3176}
    raw = AmazonReviewsConfig(year=2018, categories=tuple(lines), metadata="optional").read()
    refused = dict(raw.rejects.group_by("reason").len().iter_rows())
    assert refused == {REPEATED_REVIEW: 47 + 3 + 111, REPEATED_ITEM: 3385 - 2320}
    assert raw.events.height == sum(lines.values()) - refused[REPEATED_REVIEW]
    assert raw.source["left_empty"] == {TITLE_IS_MARKUP: 3153, PRICE_UNREADABLE: 18 + 4}
    assert raw.items is not None
    assert raw.items.height == 2320 + 1547 + raw.source["items_without_product"]
    assert not raw.items["title"].str.contains("<span").any()
    years = pl.from_epoch(raw.events["timestamp"], time_unit="ms").dt.year()
    assert (years.min(), years.max()) >= (1997, 2015)
    assert np.isin(raw.events["rating"], (1, 2, 3, 4, 5)).all()
    dataset = Dataset.from_raw(raw, "amazon")
    dataset.validate()
    assert dataset.info.counts.rejected == refused
