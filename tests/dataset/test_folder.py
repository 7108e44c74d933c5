import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from moerec.dataset import folder as folder_module
from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import FIRST_ITEM
from moerec.dataset.splits import SplitConfig

Refusal = Callable[..., str]
Contents = Callable[[Path], dict[str, bytes]]


def test_saving_twice_gives_equal_bytes_and_no_trace_of_the_place(
    events: pl.DataFrame, items: pl.DataFrame, tmp_path: Path, contents: Contents
) -> None:
    rule, drawn = SplitConfig(), CandidateConfig(split="loo", negatives=5)
    before = Dataset.from_frames(events, items=items)
    before.add_split("loo", rule)
    before.add_candidates("five", drawn)
    before.save(tmp_path / "first")
    after = Dataset.from_frames(events, items=items).save(tmp_path / "second")
    after.add_split("loo", rule)
    after.add_candidates("five", drawn)
    Dataset.open(tmp_path / "second").save(tmp_path / "third")
    saved = contents(tmp_path / "first")
    assert set(saved) == {
        *("dataset.json", "events.parquet", "users.parquet", "items.parquet", "rejects.parquet"),
        *("splits/loo.parquet", "candidates/five.parquet"),
    }
    assert saved == contents(tmp_path / "second") == contents(tmp_path / "third")
    assert str(tmp_path).encode() not in saved["dataset.json"]
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "third"}


def test_an_opened_data_set_equals_the_saved_one(events: pl.DataFrame, items: pl.DataFrame, tmp_path: Path) -> None:
    made = Dataset.from_frames(events, items=items)
    parts = made.add_split("loo", SplitConfig())
    made.save(tmp_path / "set")
    opened = Dataset.open(tmp_path / "set", verify="sha256")
    opened.validate()
    assert opened.info == made.info
    for name in ("events", "users", "items", "rejects"):
        assert getattr(opened, name).equals(getattr(made, name))
    for name in ("event_items", "event_users", "timestamps", "user_offsets"):
        ours, theirs = getattr(opened, name), getattr(made, name)
        assert ours.dtype == theirs.dtype == (np.int32 if name.startswith("event_") else np.int64)
        assert np.array_equal(ours, theirs)
    assert np.array_equal(opened.split("loo"), parts)
    assert (opened.num_users, opened.num_items, opened.num_indices) == (14, 50, 52)


def test_damaged_folders_are_refused(events: pl.DataFrame, tmp_path: Path, refusal: Refusal) -> None:
    place = tmp_path / "set"

    def fresh() -> None:
        Dataset.from_frames(events).save(place)

    assert "no such folder" in refusal(Dataset.open, tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "dataset.json is missing" in refusal(Dataset.open, tmp_path / "empty")
    fresh()
    os.truncate(place / "events.parquet", 100)
    assert "100 bytes instead of" in refusal(Dataset.open, place)
    fresh()
    (place / "users.parquet").unlink()
    assert "missing" in refusal(Dataset.open, place)
    fresh()
    changed = bytearray((place / "items.parquet").read_bytes())
    changed[len(changed) // 2] ^= 1
    (place / "items.parquet").write_bytes(changed)
    Dataset.open(place)
    assert "sha256" in refusal(Dataset.open, place, verify="sha256")
    fresh()
    (place / "items.parquet").write_bytes(bytes(len(changed)))
    opened = Dataset.open(place)
    assert "cannot be read" in refusal(lambda: opened.items)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "[]", "no data set of moerec"),
        (lambda text: text.replace('"format_version": 1', '"format_version": 2'), "format version 2"),
        (lambda text: text.replace('"labels"', '"lables"'), "lables: unknown key"),
    ],
)
def test_a_foreign_description_is_refused(
    events: pl.DataFrame, tmp_path: Path, change: Any, message: str, refusal: Refusal
) -> None:
    Dataset.from_frames(events).save(tmp_path / "set")
    path = tmp_path / "set" / "dataset.json"
    path.write_text(change(path.read_text()))
    assert message in refusal(Dataset.open, tmp_path / "set")


def test_saving_spares_foreign_folders_and_replaces_data_sets(
    events: pl.DataFrame, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    dataset = Dataset.from_frames(events)
    assert "holds no data set" in refusal(dataset.save, tmp_path)
    assert "a file stands there" in refusal(dataset.save, tmp_path / "mine.txt")
    dataset.save(tmp_path / "set")
    Dataset.from_frames(events.head(50)).save(tmp_path / "set")
    assert Dataset.open(tmp_path / "set").info.counts.events == 50


def test_a_crash_while_saving_leaves_the_old_data_set(
    events: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Contents
) -> None:
    Dataset.from_frames(events).save(tmp_path / "set")
    before = contents(tmp_path / "set")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "write_info", crash)
    with pytest.raises(KeyboardInterrupt):
        Dataset.from_frames(events.head(50)).save(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt):
        Dataset.open(tmp_path / "set").add_split("loo", SplitConfig())
    monkeypatch.undo()
    assert {name: data for name, data in contents(tmp_path / "set").items() if name in before} == before
    reopened = Dataset.open(tmp_path / "set", verify="sha256")
    assert reopened.split_names == (), "a split without an entry does not exist"
    reopened.add_split("loo", SplitConfig(kind="ratio"))
    reopened.validate()


def test_files_are_registered_and_forgotten(
    events: pl.DataFrame, tmp_path: Path, refusal: Refusal, contents: Contents
) -> None:
    dataset = Dataset.from_frames(events)
    assert "save" in refusal(dataset.modality_path, "text")
    assert "save" in refusal(dataset.register_file, "x")
    dataset.save(tmp_path / "set")
    path = dataset.modality_path("text")
    assert "no such file" in refusal(dataset.register_file, "modalities/text.safetensors")
    (tmp_path / "outside").write_text("x")
    assert "no such file" in refusal(dataset.register_file, "../outside")
    present = np.ones(dataset.num_indices, dtype=bool)
    present[:FIRST_ITEM] = False
    path.parent.mkdir()
    save_file({"vectors": np.ones((dataset.num_indices, 4), np.float32), "present": present}, path)
    dataset.register_file("modalities/text.safetensors")
    assert "modalities/text.safetensors" in Dataset.open(tmp_path / "set", verify="sha256").info.files
    dataset.validate()
    dataset.save(tmp_path / "set")
    Dataset.open(tmp_path / "set").save(tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(tmp_path / "set")
    dataset.forget_file("modalities/text.safetensors")
    path.write_bytes(b"half")
    Dataset.open(tmp_path / "set")


def test_arrays_come_from_one_column_and_are_writable(events: pl.DataFrame, tmp_path: Path) -> None:
    Dataset.from_frames(events).save(tmp_path / "set")
    opened = Dataset.open(tmp_path / "set")
    assert opened.event_items.flags.writeable, "torch.from_numpy warns about arrays that are not"
    assert "events" not in opened.__dict__, "the other columns were not read"
