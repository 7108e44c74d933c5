import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from moerec.dataset.audit import audit, gini
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.dataset.splits import SplitConfig
from moerec.errors import DatasetError

YEAR_2020 = 1_577_836_800_000
row = st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 6))
splits = st.sampled_from(
    [
        SplitConfig(),
        SplitConfig(kind="ratio", valid=0.2, test=0.4),
        SplitConfig(kind="global_date", valid=0.0, test=0.3),
    ]
)


def dataset_of(rows: list[tuple[int, int, int]], **columns: Any) -> Dataset:
    events = pl.DataFrame(rows, schema={"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Int64}, orient="row")
    return Dataset.from_frames(events.with_columns(pl.col("timestamp") + YEAR_2020).with_columns(**columns))


@given(st.lists(row, min_size=4, max_size=25, unique=True), splits)
@settings(max_examples=40)
def test_shares_are_as_a_naive_count_says(rows: list[tuple[int, int, int]], config: SplitConfig) -> None:
    dataset = dataset_of(rows)
    try:
        parts = dataset.add_split("s", config)
    except DatasetError:
        return
    report = audit(dataset, "s")
    assert dataset.timestamps is not None
    events = [
        (int(user), int(item), int(time), Part(int(part)))
        for user, item, time, part in zip(
            dataset.event_users, dataset.event_items, dataset.timestamps, parts, strict=True
        )
    ]
    train = [event for event in events if event[3] == Part.TRAIN]
    test = [event for event in events if event[3] == Part.TEST]
    pairs = list(pairwise(events))
    ties = sum(before[0] == after[0] and before[2] == after[2] for before, after in pairs)
    assert report["ties"].values["share"] == pytest.approx(ties / len(events))
    repeats = sum(event[:2] in {other[:2] for other in events[:place]} for place, event in enumerate(events))
    assert report["repeats"].values["events"] == repeats
    cold = sum(all(event[1] != other[1] for other in train) for event in test)
    assert report["cold items"].values["test"] == pytest.approx(cold / len(test))
    strange = sum(all(event[0] != other[0] for other in train) for event in test)
    assert report["cold users"].values["test"] == pytest.approx(strange / len(test))
    places = list(enumerate(events))
    own_future = sum(
        any(other[0] == event[0] and at < place and other[3] == Part.TEST for at, other in places)
        for place, event in places
        if event[3] == Part.TRAIN
    )
    assert report["future of the user"].values["share"] == pytest.approx(own_future / len(train))
    others = report["future of others"].values
    first_test, last_train = min(event[2] for event in test), max(event[2] for event in train)
    assert others["train_after_first_test"] == pytest.approx(sum(e[2] > first_test for e in train) / len(train))
    assert others["test_before_last_train"] == pytest.approx(sum(e[2] < last_train for e in test) / len(test))
    if config.kind == "global_date":
        assert others == {"train_after_first_test": 0.0, "test_before_last_train": 0.0}
        assert report["future of others"].level == report["future of the user"].level == "ok"


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_gini_is_the_mean_difference(counts: list[int]) -> None:
    total = sum(counts)
    naive = sum(abs(a - b) for a in counts for b in counts) / (2 * len(counts) * total) if total else 0.0
    assert gini(np.array(counts)) == pytest.approx(naive)


ROWS = [(user, (place + user) % 6, 10 * user + place) for user in range(6) for place in range(5)]


def test_a_clean_data_set_has_no_warnings_and_a_report_in_words_and_json() -> None:
    dataset = dataset_of(ROWS, rating=pl.int_range(pl.len()) % 2)
    dataset.add_split("loo", SplitConfig())
    report = audit(dataset, "loo")
    assert report.warnings == ()
    assert json.loads(json.dumps(report.to_dict()))["split"] == "loo"
    text = report.to_text()
    assert dataset.info.splits["loo"].rule in text
    assert all(finding.sentence in text and finding.sentence.endswith(".") for finding in report.findings)
    assert report["parts"].values["test"]["events"] == 6
    assert report["label rating"].values["counts"] == {"0": 15, "1": 15}
    assert report["label rating"].values["mean"]["test"] is not None
    with pytest.raises(DatasetError, match="no split"):
        audit(dataset, "other")


@pytest.mark.parametrize(
    ("rows", "columns", "split", "finding", "level"),
    [
        (ROWS, {"timestamp": pl.col("timestamp") // 1000}, SplitConfig(), "time", "warning"),
        (ROWS, {"timestamp": pl.lit(None, pl.Int64)}, SplitConfig(), "time", "note"),
        (ROWS, {"timestamp": pl.lit(YEAR_2020)}, SplitConfig(), "ties", "warning"),
        (ROWS, {"rating": pl.lit(1)}, SplitConfig(), "label rating", "warning"),
        (ROWS, {}, SplitConfig(kind="ratio", valid=0.2, test=0.3), "future of the user", "warning"),
        (ROWS, {"user_id": pl.when(pl.int_range(pl.len()) > 2).then("user_id")}, SplitConfig(), "rejects", "warning"),
        ([(user, 100 * user + item, item) for user, item, _ in ROWS], {}, SplitConfig(), "cold items", "warning"),
        (
            [(user, item, 0) for user in range(9) for item in range(1 if user else 9)],
            {},
            SplitConfig(),
            "user activity",
            "warning",
        ),
    ],
)
def test_each_trouble_is_found(
    rows: list[tuple[int, int, int]], columns: dict[str, Any], split: SplitConfig, finding: str, level: str
) -> None:
    dataset = dataset_of(rows, **columns)
    dataset.add_split("s", split)
    assert audit(dataset, "s")[finding].level == level


def test_missing_columns_and_modalities_are_counted(tmp_path: Path) -> None:
    events = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame(
        {"item_id": range(5), "title": ["a", "b", None, "d", "e"], "price": [None, None, None, None, 1.0]}
    )
    dataset = Dataset.from_frames(events, items=items).save(tmp_path / "set")
    dataset.add_split("loo", SplitConfig())
    present = np.arange(dataset.num_indices) > FIRST_ITEM + 2
    path = dataset.modality_path("image")
    path.parent.mkdir()
    save_file({"vectors": np.ones((dataset.num_indices, 2), np.float32), "present": present}, path)
    dataset.register_file("modalities/image.safetensors")
    report = audit(dataset, "loo")
    assert report["item columns"].values == {"title": pytest.approx(2 / 6), "price": pytest.approx(5 / 6)}
    assert report["item columns"].level == "warning"
    assert report["modality image"].values == {"missing": pytest.approx(3 / 6)}
    assert report["tables"].values["items_without_row"] == 1
    assert report["tables"].level == "warning"
    path.write_bytes(b"nonsense")
    with pytest.raises(DatasetError, match="encode the modality again"):
        audit(dataset, "loo")


def test_rows_of_a_table_are_not_judged_as_a_log() -> None:
    events = pl.DataFrame({"user_id": range(20), "item_id": ["x"] * 20, "label": [0, 1] * 10})
    users = pl.DataFrame({"user_id": range(20), "age": [None, *range(19)]})
    table = Dataset.from_frames(events, users=users)
    table.add_split("s", SplitConfig(kind="ratio"))
    report = audit(table, "s")
    assert report["rows"].values == {"rows": 20}
    assert report["user columns"].values == {"age": pytest.approx(1 / 20)}
    names = {finding.name for finding in report.findings}
    assert not {"ties", "user activity", "popularity", "cold users", "cold items", "future of the user"} & names
    timed = Dataset.from_frames(events.with_columns(timestamp=pl.int_range(20) + YEAR_2020), users=users)
    timed.add_split("s", SplitConfig(kind="ratio"))
    assert {"ties", "user activity", "cold users"} <= {finding.name for finding in audit(timed, "s").findings}
