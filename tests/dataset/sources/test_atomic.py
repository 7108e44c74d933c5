from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from moerec.dataset.sources.atomic import AtomicConfig
from moerec.errors import DatasetError

EVENTS = """u:token\ti:token\tstars:float\tclick:token\twhen:float
7\tb\t4.5\tyes\t1000
7\ta\t\tno\t2000.5
8\tb\t1\tyes\t3000
"""
ITEMS = """i:token\tbook_title:token_seq\ttags:token_seq\tprice:float\tsizes:float_seq\tbrand:token\treview:token_seq
b\tThe big  one\tred old\t2.5\t1 2\tx\tso good
a\t\t\t\t\t\t
"""
USERS = "u:token\tage:token\n7\t30\n8\t\n"
NAMES = {"user": "u", "item": "i", "timestamp": "when"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for suffix, content in (("inter", EVENTS), ("item", ITEMS), ("user", USERS)):
        (tmp_path / f"books.{suffix}").write_text(content)
    return tmp_path


def test_headers_decide_the_types(folder: Path) -> None:
    tables = AtomicConfig(path=str(folder), **NAMES).read()
    assert tables.labels == ("stars",)
    assert tables.events.rows(named=True) == [
        {"user_id": "7", "item_id": "b", "timestamp": 1_000_000, "stars": 4.5},
        {"user_id": "7", "item_id": "a", "timestamp": 2_000_500, "stars": None},
        {"user_id": "8", "item_id": "b", "timestamp": 3_000_000, "stars": 1.0},
    ]
    assert tables.items is not None
    assert tables.items.rows(named=True)[0] == {
        "item_id": "b",
        "title": "The big  one",
        "tags": "red|old",
        "price": 2.5,
        "sizes": [1.0, 2.0],
        "brand": "x",
        "review": "so good",
    }
    assert set(tables.items.rows()[1][1:]) == {None}
    assert tables.users is not None
    assert tables.users.rows() == [("7", "30"), ("8", None)]
    assert tables.rejects.height == 0
    assert tables.source["name"] == "books"


def test_labels_texts_and_title_can_be_chosen(folder: Path) -> None:
    config = AtomicConfig(
        path=str(folder), **NAMES, labels=("click",), title="brand", text_columns=("tags",), timestamp_unit="ms"
    )
    tables = config.read()
    assert tables.labels == ("click",)
    assert tables.events["click"].to_list() == ["yes", "no", "yes"]
    assert tables.events["timestamp"].to_list() == [1000, 2000, 3000]
    assert tables.items is not None
    assert tables.items.row(0, named=True)["tags"] == "red old"
    assert tables.items.row(0, named=True)["book_title"] == "The|big|one"
    assert tables.items["title"].to_list() == ["x", None]


def test_items_and_users_are_optional_and_so_is_time(folder: Path) -> None:
    (folder / "books.item").unlink()
    (folder / "books.user").unlink()
    tables = AtomicConfig(path=str(folder), user="u", item="i", timestamp=None).read()
    assert tables.items is None
    assert tables.users is None
    assert tables.events.schema["timestamp"] == pl.Int64
    assert tables.events["timestamp"].null_count() == 3
    assert tables.labels == ("stars", "when")
    assert tables.events["item_id"].to_list() == ["b", "a", "b"]


def test_bad_rows_are_refused_with_file_and_line(folder: Path) -> None:
    with (folder / "books.inter").open("a") as stream:
        stream.write("9\tb\tmany\tyes\t4000\n9\tb\t1\n\tb\t1\tyes\t4000\n9\tb\t1\tyes\t-4\n")
    with (folder / "books.item").open("a") as stream:
        stream.write("a\tagain\t\t\t\t\t\n")
    tables = AtomicConfig(path=str(folder), **NAMES).read()
    assert tables.rejects.select("source", "line", "reason").rows() == [
        ("books.inter", 5, "stars is not a number"),
        ("books.inter", 6, "expected 5 fields, found 3"),
        ("books.inter", 7, "u is empty"),
        ("books.inter", 8, "when is impossible: before 1970"),
        ("books.item", 4, "item_id stands here a second time"),
    ]
    assert tables.events.height == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "user"}, r"no column 'user' \(key `user`\).*columns: u, i, stars"),
        ({"timestamp": "wen"}, r"did you mean 'when'\?.*timestamp: null"),
        ({"labels": ("star",)}, "did you mean 'stars'"),
        ({"title": "tytle"}, "no column 'tytle'"),
        ({"name": "films"}, r"no file films.inter; it holds: books.inter"),
        ({"path": "nowhere"}, "no such folder"),
    ],
)
def test_what_is_missing_is_named(folder: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(DatasetError, match=words) as caught:
        AtomicConfig.model_validate({"path": str(folder), **NAMES, **changes}).read()
    assert "\n" not in str(caught.value)


def test_a_folder_must_hold_one_data_set(folder: Path) -> None:
    (folder / "films.inter").write_text(EVENTS)
    with pytest.raises(DatasetError, match="set `name` to one of: books, films"):
        AtomicConfig(path=str(folder), **NAMES).read()
    assert AtomicConfig(path=str(folder), name="films", **NAMES).read().source["name"] == "films"
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match=r"no \.inter file; it holds: no files"):
        AtomicConfig(path=str(folder)).read()


def test_an_untyped_header_points_to_the_table_source(folder: Path) -> None:
    (folder / "books.inter").write_text("u\ti\n1\t2\n")
    with pytest.raises(DatasetError, match=r"line 1: 'u' is no typed column.*source `table`"):
        AtomicConfig(path=str(folder), **NAMES).read()


def test_the_fingerprint_follows_content_and_configuration_not_the_place(folder: Path, tmp_path: Path) -> None:
    config = AtomicConfig(path=str(folder), **NAMES)
    moved = folder / "moved"
    moved.mkdir()
    for suffix in ("inter", "item", "user"):
        (moved / f"books.{suffix}").write_bytes((folder / f"books.{suffix}").read_bytes())
    assert AtomicConfig(path=str(moved), **NAMES).fingerprint_inputs() == config.fingerprint_inputs()
    assert AtomicConfig(path=str(moved), **NAMES, labels=()).fingerprint_inputs() != config.fingerprint_inputs()
    (moved / "books.user").unlink()
    assert AtomicConfig(path=str(moved), **NAMES).fingerprint_inputs() != config.fingerprint_inputs()
    assert config.describe() == f"RecBole atomic files in {folder}"


def test_an_unknown_unit_is_refused() -> None:
    with pytest.raises(ValidationError):
        AtomicConfig.model_validate({"path": "x", "timestamp_unit": "minutes"})
