"""Any table by column names: text and Parquet give the same, and what is missing is named."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from moerec.dataset.audit import audit
from moerec.dataset.dataset import Dataset
from moerec.dataset.sources.table import TableConfig
from moerec.dataset.splits import SplitConfig
from moerec.errors import DatasetError

FRAME = pl.DataFrame({"who": [3, 1, 3], "what": ["b", "a", "a"], "at": [30, 10, 20], "like": [1.0, 0.0, None]})
NAMES: dict[str, Any] = {"user": "who", "item": "what", "timestamp": "at", "labels": ("like",)}


def expected() -> pl.DataFrame:
    return FRAME.select(
        pl.col("who").cast(pl.String).alias("user_id"),
        pl.col("what").alias("item_id"),
        (pl.col("at") * 1000).alias("timestamp"),
        "like",
    )


def write(folder: Path, form: str) -> dict[str, Any]:
    path = folder / f"events.{form}"
    options: dict[str, Any] = {"events": str(path)}
    if form in ("parquet", "odd-name"):
        FRAME.write_parquet(path)
    elif form == "csv":
        FRAME.write_csv(path)
    elif form == "tsv":
        FRAME.write_csv(path, separator="\t")
    elif form == "csv.gz":
        path.write_bytes(gzip.compress(FRAME.write_csv().encode()))
    elif form == "semicolons":
        FRAME.write_csv(path, separator=";")
        options["separator"] = ";"
    elif form == "dat":
        path.write_text(FRAME.write_csv(separator="|").replace("|", "::"))
        options["separator"] = "::"
    elif form == "named":
        FRAME.write_csv(path, include_header=False)
        options |= {"header": False, "event_columns": ("who", "what", "at", "like")}
    elif form == "positions":
        FRAME.write_csv(path, include_header=False)
        options |= {"header": False, "user": 0, "item": 1, "timestamp": 2, "labels": (3,)}
    return options


@pytest.mark.parametrize(
    "form", ["parquet", "odd-name", "csv", "tsv", "csv.gz", "semicolons", "dat", "named", "positions"]
)
def test_every_form_gives_the_same_events_in_file_order(form: str, tmp_path: Path) -> None:
    tables = TableConfig.model_validate({**NAMES, **write(tmp_path, form)}).read()
    label = "3" if form == "positions" else "like"
    assert_frame_equal(tables.events.rename({label: "like"}), expected())
    assert tables.labels == (label,)
    assert tables.rejects.height == 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.text(min_size=1, max_size=5), st.integers(0, 9)), min_size=1, max_size=9))
def test_texts_survive_csv_as_they_survive_parquet(tmp_path: Path, rows: list[tuple[str, int]]) -> None:
    # A carriage return inside a quoted field becomes a plain line end, and blanks around a text go.
    keep = [(text.replace("\r", " "), number) for text, number in rows if text.strip()]
    frame = pl.DataFrame(keep or [("x", 1)], schema=["what", "n"], orient="row").with_row_index("who")
    frame = frame.with_columns(what=pl.concat_str(pl.lit("i"), "what"))
    results = []
    for name in ("t.csv", "t.parquet"):
        frame.write_csv(tmp_path / name) if name == "t.csv" else frame.write_parquet(tmp_path / name)
        results.append(TableConfig(events=str(tmp_path / name), user="who", item="what", timestamp=None).read().events)
    assert_frame_equal(results[0], results[1])


def test_times_written_out_and_times_of_parquet(tmp_path: Path) -> None:
    moment = datetime(2020, 5, 17, 12, 30, tzinfo=UTC)
    frame = pl.DataFrame({"user_id": [1], "item_id": [2], "timestamp": [moment]})
    frame.write_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp\n1,2,2020-05-17T14:30:00+02:00\n")
    milliseconds = int(moment.timestamp() * 1000)
    parquet = TableConfig(events=str(tmp_path / "t.parquet")).read()
    text = TableConfig(events=str(tmp_path / "t.csv"), timestamp_unit="iso").read()
    assert parquet.events["timestamp"].to_list() == text.events["timestamp"].to_list() == [milliseconds]


def test_a_wrong_unit_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp\n1,2,1589718600000\n")
    with pytest.raises(DatasetError, match=r"t.csv: every row \(1\) was refused; .*is the timestamp unit right"):
        TableConfig(events=str(tmp_path / "t.csv")).read()


def test_a_unit_that_makes_seconds_milliseconds_is_told_by_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{number % 3},{number},1600000000" for number in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    raw = TableConfig(events=str(tmp_path / "t.csv"), timestamp_unit="ms").read()
    with caplog.at_level("WARNING", logger="moerec"):
        dataset = Dataset.from_raw(raw, "t")
    assert "if they are seconds, set `dataset.timestamp_unit: s`" in caplog.text
    dataset.add_split("main", SplitConfig())
    (told,) = [finding for finding in audit(dataset, "main").findings if finding.name == "time"]
    assert told.sentence.endswith("the times are probably seconds, set `dataset.timestamp_unit: s`.")
    assert "multiply" not in caplog.text + told.sentence


def test_items_and_users_become_features(tmp_path: Path) -> None:
    options = write(tmp_path, "csv")
    (tmp_path / "items.csv").write_text(
        'asin,name,price,zip,stock,rank,mixed\na,"Soap, green",1.5,02134,3,1e3,4\nb, Brush ,,10001,,.5,x\n'
    )
    (tmp_path / "users.csv").write_text("who,age\n1,30\n3,\n")
    config = TableConfig.model_validate(
        {
            **NAMES,
            **options,
            "items": str(tmp_path / "items.csv"),
            "users": str(tmp_path / "users.csv"),
            "rename": {"asin": "what", "name": "title"},
        }
    )
    tables = config.read()
    assert tables.items is not None
    assert tables.items.rows(named=True) == [
        {"item_id": "a", "title": "Soap, green", "price": 1.5, "zip": "02134", "stock": 3, "rank": 1e3, "mixed": "4"},
        {"item_id": "b", "title": "Brush", "price": None, "zip": "10001", "stock": None, "rank": 0.5, "mixed": "x"},
    ]
    assert tables.users is not None
    assert tables.users.rows() == [("1", 30), ("3", None)]
    assert [file["name"] for file in tables.source["files"]] == ["events.csv", "items.csv", "users.csv"]


def test_parquet_features_keep_their_types_and_lists_are_joined(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "what": [1, 2],
            "genres": [["a", "b"], []],
            "vector": [[1.0], [2.0]],
            "new": [True, False],
            "day": [datetime(2020, 1, 1).date()] * 2,
            "more": [{"k": 1}, {"k": 2}],
            "code": ["02", ""],
        }
    )
    frame.write_parquet(tmp_path / "items.parquet")
    config = TableConfig.model_validate({**NAMES, **write(tmp_path, "csv"), "items": str(tmp_path / "items.parquet")})
    items = config.read().items
    assert items is not None
    assert items.row(0) == ("1", "a|b", [1.0], True, "2020-01-01", '{"k":1}', "02")
    assert items["code"].to_list() == ["02", None]


def test_bad_rows_are_refused_with_their_place(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user_id": ["a", None, "c"], "item_id": ["x", "y", "z"], "timestamp": [1, 2, -3]})
    frame.write_parquet(tmp_path / "t.parquet")
    tables = TableConfig(events=str(tmp_path / "t.parquet")).read()
    assert tables.events["user_id"].to_list() == ["a"]
    assert tables.rejects.select("source", "line", "reason").rows() == [
        ("t.parquet", 2, "user_id is empty"),
        ("t.parquet", 3, "timestamp is impossible: before 1970"),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"user": "wo"}, r"no column 'wo' \(key `user`\); did you mean 'who'\? columns: who, what, at, like"),
        ({"timestamp": "time"}, "timestamp: null"),
        ({"labels": ("likes",)}, "did you mean 'like'"),
        ({"events": "evnts.csv"}, r"evnts.csv \(key `events`\): there is no such file in .*did you mean 'events.csv'"),
        ({"items": "itms"}, r"key `items`"),
        ({"events": "."}, "is a folder"),
        ({"rename": {"nam": "title"}}, "no column 'nam'"),
        ({"rename": {"likes": "love"}}, r"no column 'likes' \(key `rename`\); did you mean 'like'"),
        (
            {"labels": (), "rename": {"like": "love"}},
            r"'like' \(key `rename`\) is no label, nor of items or users; name",
        ),
        (
            {"rename": {"at": "time"}},
            r"'at' \(key `rename`\) is no label.*ids and times in `user`, `item` and `timestamp`",
        ),
        ({"rename": {"like": "user"}}, r"a label cannot be called 'user'; set `rename: \{like: \.\.\.\}`"),
        ({"events": ["events.csv", "evnts.csv"]}, r"evnts.csv \(key `events`\): there is no such file"),
        ({"items": "events.csv", "labels": (), "rename": {"at": "like"}}, "two columns would be called 'like'"),
    ],
)
def test_what_is_missing_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "csv")
    with pytest.raises(DatasetError, match=words) as caught:
        TableConfig.model_validate({**NAMES, "events": "events.csv", **changes}).read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 20, -20])
def test_a_cut_parquet_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "events.parquet"
    FRAME.write_parquet(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DatasetError, match=r"events.parquet: (not a whole Parquet file|the file is empty)"):
        TableConfig.model_validate({**NAMES, "events": str(path)}).read()


def test_a_parquet_file_without_rows_is_an_error(tmp_path: Path) -> None:
    FRAME.head(0).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DatasetError, match=r"t.parquet: the file has no rows"):
        TableConfig.model_validate({**NAMES, "events": str(tmp_path / "t.parquet")}).read()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"user": "x", "item": "x"}, "named for two purposes"),
        ({"event_columns": ("a",)}, "header: false"),
        ({"separator": ""}, "at least one"),
        ({"quote": "''"}, "one character"),
        ({"labels": ("user_id",), "user": "u"}, "a label cannot be called"),
        ({"events": []}, "events names no file"),
        ({"events": ["a.csv", "b.csv", "./a.csv"]}, "events names 'a.csv' twice"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TableConfig.model_validate({"events": "e.csv", **values})


def test_the_fingerprint_follows_content_and_configuration(tmp_path: Path) -> None:
    config = TableConfig.model_validate({**NAMES, **write(tmp_path, "csv")})
    before = config.fingerprint_inputs()
    assert config.model_copy(update={"timestamp_unit": "ms"}).fingerprint_inputs() != before
    with (tmp_path / "events.csv").open("a") as stream:
        stream.write("5,a,5,1\n")
    assert config.fingerprint_inputs() != before
    assert config.describe() == f"table {tmp_path / 'events.csv'}"


def test_a_table_of_people_has_one_item_and_no_label_among_its_columns(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,age,job,paid\na,30,cook,1\nb,,sailor,0\n")
    people = str(tmp_path / "people.csv")
    settings = {"user": "id", "item": None, "timestamp": None, "labels": ["paid"]}
    raw = TableConfig(events=people, users=people, **settings).read()
    assert raw.events.rows() == [("a", "row", None, 1.0), ("b", "row", None, 0.0)]
    assert raw.users is not None
    assert raw.users.to_dicts() == [
        {"user_id": "a", "age": 30, "job": "cook"},
        {"user_id": "b", "age": None, "job": "sailor"},
    ]
    with pytest.raises(ValidationError, match="item: null says that there are no items"):
        TableConfig(events=people, items=people, **settings)
    with pytest.raises(DatasetError, match="set `item: null` if the rows are about no items"):
        TableConfig(events=people, **(settings | {"item": "item_id"})).read()


def test_labels_get_new_names_and_may_have_any_column_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp,stars,user,position\n1,2,3,5,0,7\n")
    rename = {"stars": "rating", "user": "is_user", "position": "place"}
    config = TableConfig(events=str(tmp_path / "t.csv"), labels=("position", "stars", "user"), rename=rename)
    raw = config.read()
    assert raw.labels == ("place", "rating", "is_user")
    assert raw.events.select(raw.labels).rows() == [(7.0, 5.0, 0.0)]
    assert Dataset.from_raw(raw, "t").info.labels == raw.labels
    for rename, words in (
        (
            {"position": "place"},
            r"t.csv \(key `labels`\): a label cannot be called 'user'; set `rename: \{user: \.\.\.\}`",
        ),
        ({"stars": "x", "user": "x", "position": "y"}, "two labels would be called 'x'; change `rename`"),
    ):
        with pytest.raises(DatasetError, match=words):
            config.model_copy(update={"rename": rename}).read()


def test_a_column_of_items_is_renamed_and_not_the_label_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("user_id,item_id,timestamp,rating\n1,2,3,5\n")
    (tmp_path / "i.csv").write_text("item_id,rating\n2,4.5\n")
    raw = TableConfig(
        events=str(tmp_path / "t.csv"), items=str(tmp_path / "i.csv"), labels=("rating",), rename={"rating": "mean"}
    ).read()
    assert raw.labels == ("rating",)
    assert raw.items is not None
    assert raw.items.columns == ["item_id", "mean"]


def test_in_a_table_of_people_labels_are_renamed_too(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id,age,item\na,30,1\nb,,0\n")
    people = str(tmp_path / "people.csv")
    settings = {"user": "id", "item": None, "timestamp": None, "labels": ["item"], "rename": {"item": "bought"}}
    raw = TableConfig(events=people, users=people, **settings).read()
    assert raw.labels == ("bought",)
    assert raw.users is not None
    assert raw.users.columns == ["user_id", "age"]


def test_several_files_of_events_are_one(tmp_path: Path) -> None:
    whole = write(tmp_path, "csv")
    (tmp_path / "more").mkdir()
    first, second = str(tmp_path / "a.csv"), str(tmp_path / "more" / "b.parquet")
    FRAME.head(1).write_csv(first)
    FRAME.tail(2).write_parquet(second)
    one, two = (
        TableConfig.model_validate({**NAMES, "events": events}) for events in (whole["events"], [first, second])
    )
    assert_frame_equal(two.read().events, one.read().events)
    assert two.read().labels == ("like",)
    assert [file["name"] for file in two.read().source["files"]] == ["a.csv", "b.parquet"]
    assert two.read().source["name"] == "a"
    assert two.describe() == f"table {first} and 1 more"
    # The order of the files decides that of events without times.
    prints = [two.model_copy(update={"events": paths}).fingerprint_inputs() for paths in ((second, first), (first,))]
    assert two.fingerprint_inputs() not in prints
    assert prints[1] == two.model_copy(update={"events": first}).fingerprint_inputs()
    before = two.fingerprint_inputs()
    FRAME.tail(1).write_parquet(second)
    assert two.fingerprint_inputs() != before, "a change of any file counts"


def test_rejects_of_several_files_tell_the_file(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    paths = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "day" / "b.csv"]
    for path in paths:
        path.write_text("user_id,item_id,timestamp\n1,2,3\n,2,4\n")
    first = TableConfig(events=tuple(map(str, paths[:2]))).read()
    assert first.rejects.select("source", "line").rows() == [("a.csv", 3), ("b.csv", 3)]
    assert Dataset.from_raw(first, "t").rejects["source"].to_list() == ["a.csv", "b.csv", "events"]
    same_names = TableConfig(events=tuple(map(str, paths[1:]))).read()
    assert same_names.rejects["source"].to_list() == [str(path) for path in paths[1:]]


@pytest.mark.parametrize(
    ("separator", "name", "written"),
    [(";", "t.csv", "';'"), ("\t", "t.csv", '"\\\\t"'), (",", "t.tsv", "','"), ("|", "t.csv", "'\\|'")],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_a_wrong_separator_is_told_by_its_key(
    tmp_path: Path, separator: str, name: str, written: str, quoted: bool
) -> None:
    header = separator.join(f'"{column}"' if quoted else column for column in ("user_id", "item_id", "timestamp"))
    (tmp_path / name).write_text(f"{header}\n{separator.join('123')}\n")
    for changes in ({}, {"items": str(tmp_path / name)}):
        with pytest.raises(DatasetError, match=f"the first line is one field, set `separator: {written}`$"):
            TableConfig(events=str(tmp_path / name), **changes).read()
    (tmp_path / name).write_text(f"{separator.join('123')}\n")
    for changes, words in (
        ({"user": 0, "item": 1, "timestamp": 2}, "no column '1' .*; the first line is one field, set `separator`$"),
        ({"event_columns": ("user_id", "item_id", "timestamp")}, "expected 3 fields, found 1.*; set `separator`$"),
    ):
        with pytest.raises(DatasetError, match=words):
            TableConfig.model_validate({"events": str(tmp_path / name), "header": False, **changes}).read()


@pytest.mark.parametrize(
    ("first", "reason"), [('"u,i,1', "line 2: a quote is not closed"), ("u,i,1,\0", "line 2: expected 3 fields")]
)
def test_a_split_that_is_refused_tells_of_refused_rows(tmp_path: Path, first: str, reason: str) -> None:
    (tmp_path / "t.csv").write_text(f"user_id,item_id,timestamp\n{first}\n1,2,3\n1,4,5\n,,\n")
    dataset = Dataset.from_raw(TableConfig(events=str(tmp_path / "t.csv")).read(), "t")
    with pytest.raises(
        DatasetError, match=rf"no user has 3 events; .*; 2 rows were refused before, .*: t.csv, {reason}"
    ):
        dataset.add_split("main", SplitConfig())
    good = Dataset.from_frames(pl.DataFrame({"user_id": [1], "item_id": [2]}))
    with pytest.raises(DatasetError, match=r"use global_date or ratio$"):
        good.add_split("main", SplitConfig())


def test_one_column_of_another_name_is_no_matter_of_separators(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("my user_ids\n1\n")
    with pytest.raises(DatasetError, match="no column 'user_id'") as caught:
        TableConfig(events=str(tmp_path / "t.csv")).read()
    assert "separator" not in str(caught.value)


@pytest.mark.parametrize("form", ["csv", "quoted", "parquet"])
@pytest.mark.parametrize(
    ("unit", "cell", "right"),
    [
        ("s", "2021-03-04T05:06:07Z", "iso"),
        ("ms", "2021-03-04", "iso"),
        ("s", 1_589_718_600_000, "ms"),
        ("s", 1_589_718_600_000_000, "us"),
        ("ms", 1_589_718_600_000_000_000, "ns"),
        ("iso", 1_589_718_600, "s"),
        ("s", "yesterday", None),
        ("s", -5, None),
    ],
)
def test_a_wrong_unit_of_all_times_is_told_by_its_key(
    tmp_path: Path, form: str, unit: Any, cell: Any, right: str | None
) -> None:
    frame = pl.DataFrame({"user_id": ["a, b"] if form == "quoted" else ["a"], "item_id": [2], "timestamp": [cell]})
    path = tmp_path / "t"
    frame.write_parquet(path) if form == "parquet" else frame.write_csv(path)
    with pytest.raises(DatasetError, match=r"t: every row \(1\) was refused") as caught:
        TableConfig(events=str(path), timestamp_unit=unit).read()
    assert "\n" not in str(caught.value)
    if right is None:
        assert "timestamp_unit" not in str(caught.value)
    else:
        assert str(caught.value).endswith(f" set `timestamp_unit: {right}`")
        assert TableConfig(events=str(path), timestamp_unit=right).read().events.height == 1
