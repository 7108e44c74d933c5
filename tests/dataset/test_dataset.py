import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import FIRST_ITEM, UNKNOWN, Part, RawTables
from moerec.dataset.sources.saved import SavedConfig
from moerec.dataset.splits import SplitConfig

Refusal = Callable[..., str]
Contents = Callable[[Path], dict[str, bytes]]


def test_raw_tables_of_a_source_become_a_data_set(events: pl.DataFrame) -> None:
    raw = RawTables(
        events=events.with_columns(pl.col("user_id", "item_id").cast(pl.String), helper=pl.lit(1)),
        labels=("rating",),
        source={"name": "test", "licence": "for research", "files": {"u.data": "ab12"}},
    )
    info = Dataset.from_raw(raw, "mine").info
    assert (info.name, info.licence, info.labels) == ("mine", "for research", ("rating",))
    assert info.source["files"] == {"u.data": "ab12"}
    no_labels = RawTables(events=raw.events)
    assert Dataset.from_raw(no_labels, "mine").info.labels == (), "a source says itself what a label is"


def test_splits_and_candidates_are_found_again(events: pl.DataFrame, tmp_path: Path, refusal: Refusal) -> None:
    dataset = Dataset.from_frames(events).save(tmp_path / "set")
    parts = dataset.add_split("loo", SplitConfig())
    assert np.array_equal(dataset.add_split("loo", SplitConfig()), parts)
    assert "another rule" in refusal(dataset.add_split, "loo", SplitConfig(kind="ratio"))
    assert "no split 'lo'" in refusal(dataset.split, "lo")
    assert "use letters" in refusal(dataset.add_split, "../loo", SplitConfig())
    told = dataset.info.splits["loo"].events
    assert told == {part.name.lower(): int((parts == part).sum()) for part in Part}
    config = CandidateConfig(split="loo", negatives=4)
    lists = dataset.add_candidates("four", config)
    assert dataset.add_candidates("four", config).equals(lists)
    assert "by another rule" in refusal(dataset.add_candidates, "four", CandidateConfig(split="loo"))
    assert "no candidates" in refusal(dataset.candidates, "five")
    assert "no split" in refusal(dataset.add_candidates, "more", CandidateConfig(split="ratio"))
    # Another one who opened the folder earlier does not undo what was added meanwhile.
    second = Dataset.open(tmp_path / "set")
    dataset.add_split("ratio", SplitConfig(kind="ratio"))
    second.add_split("time", SplitConfig(kind="user_time"))
    reopened = Dataset.open(tmp_path / "set", verify="sha256")
    assert reopened.split_names == ("loo", "ratio", "time")
    assert reopened.candidates("four").equals(lists)
    reopened.validate()


def test_trained_items_are_those_with_a_train_event(events: pl.DataFrame, items: pl.DataFrame) -> None:
    dataset = Dataset.from_frames(events, items=items)
    parts = dataset.add_split("half", SplitConfig(kind="ratio", valid=0.4, test=0.5))
    naive = {item for item, part in zip(dataset.event_items, parts, strict=True) if part == Part.TRAIN}
    trained = dataset.trained_items("half")
    assert trained.shape == (dataset.num_indices,)
    assert set(np.flatnonzero(trained)) == naive
    assert not trained[:FIRST_ITEM].any()


def test_ids_go_in_and_come_out(events: pl.DataFrame, items: pl.DataFrame, refusal: Refusal) -> None:
    dataset = Dataset.from_frames(events, items=items)
    users, catalogue = np.arange(dataset.num_users), np.arange(FIRST_ITEM, dataset.num_indices)
    assert np.array_equal(dataset.user_indices(dataset.user_ids(users)), users)
    assert np.array_equal(dataset.item_indices(dataset.item_ids(catalogue)), catalogue)
    assert dataset.item_ids([0, 1, 2, 51]).to_list() == [None, None, "1", "50"]
    assert dataset.user_ids([-1, 0]).to_list() == [None, "1"]
    asked: list[Any] = [10, "10", 10.0, "nobody", None, "", np.int64(10)]
    found = dataset.item_indices(asked)
    assert found.dtype == np.int64
    assert found.tolist() == [11, 11, 11, UNKNOWN, UNKNOWN, UNKNOWN, 11]
    assert dataset.user_indices(["99", "1"]).tolist() == [-1, 0]
    assert dataset.item_indices([]).tolist() == []
    for form in (np.array([10, 99]), pl.Series([10, 99]), pd.Series([10, 99]), np.array(["10", "99"]), (10, 99)):
        assert dataset.item_indices(form).tolist() == [11, UNKNOWN]
    assert "is one id" in refusal(dataset.item_indices, "10")
    assert "outside" in refusal(dataset.item_ids, [52])
    assert "outside" in refusal(dataset.user_ids, [-2])


@pytest.mark.skipif("MOEREC_MIRROR" not in os.environ, reason="needs MOEREC_MIRROR with ml-100k")
def test_movielens_100k(tmp_path: Path) -> None:
    file = Path(os.environ["MOEREC_MIRROR"]) / "ml-100k" / "ml-100k.inter"
    if not file.is_file():
        pytest.skip("MOEREC_MIRROR has no ml-100k")
    raw = pl.read_csv(file, separator="\t").rename(lambda name: name.split(":")[0])
    dataset = Dataset.from_frames(raw.with_columns(pl.col("timestamp") * 1000)).save(tmp_path / "set")
    dataset.validate()
    assert (dataset.num_users, dataset.num_items, dataset.info.counts.events) == (943, 1682, 100_000)
    assert dataset.info.counts.rejected == {}
    lists = dataset.add_split("loo", SplitConfig())
    assert (lists == Part.TEST).sum() == (lists == Part.VALID).sum() == 943


def test_texts_of_events_stay_with_their_events_and_are_no_labels(
    events: pl.DataFrame, tmp_path: Path, refusal: Refusal
) -> None:
    written = events.with_row_index("row").with_columns(
        pl.when(pl.col("row") % 3 > 0)
        .then(pl.format("{} of {} at {} \U0001f600", "user_id", "item_id", "timestamp"))
        .alias("review")
    )
    raw = RawTables(
        events=written.drop("row").with_columns(pl.col("user_id", "item_id").cast(pl.String)),
        labels=("rating",),
        texts=("review",),
    )
    Dataset.from_raw(raw, "mine").save(tmp_path / "set")
    dataset = Dataset.open(tmp_path / "set", verify="sha256")
    dataset.validate()
    assert (dataset.info.labels, dataset.info.texts, dataset.info.unused_columns) == (("rating",), ("review",), ())
    known = dataset.events.drop_nulls("review")
    users, items = dataset.user_ids(known["user"]), dataset.item_ids(known["item"])
    expected = [f"{u} of {i} at {t} \U0001f600" for u, i, t in zip(users, items, known["timestamp"], strict=True)]
    assert known["review"].to_list() == expected
    assert 0 < known.height < dataset.events.height
    again = Dataset.from_raw(SavedConfig(path=str(tmp_path / "set")).read(), "again")
    assert again.events.equals(dataset.events)
    empty = Dataset.from_frames(events.with_columns(note=None), labels=["rating"], texts=["note"])
    empty.validate()
    wrong = events.with_columns(number=pl.lit(1.5)).with_columns(note=pl.lit("x"))
    assert "'number' is Float64" in refusal(Dataset.from_frames, wrong, labels=["rating"], texts=["number"])
    assert "another column" in refusal(Dataset.from_frames, wrong, labels=["rating"], texts=["rating"])
    assert "named twice" in refusal(Dataset.from_frames, wrong, labels=["rating"], texts=["note", "note"])
    assert "no column 'nope'" in refusal(Dataset.from_frames, wrong, labels=["rating"], texts=["nope"])
