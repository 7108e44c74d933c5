"""A saved data set read back as a source is the same data set."""

import numpy as np
import polars as pl
import pytest

from moerec.dataset.dataset import Dataset
from moerec.dataset.sources import Source
from moerec.dataset.sources.saved import SavedConfig
from moerec.errors import DatasetError


def frames(times: bool) -> dict[str, pl.DataFrame]:
    generator = np.random.default_rng(0)
    events = pl.DataFrame(
        {
            "user_id": generator.integers(0, 9, 80),
            "item_id": generator.integers(0, 12, 80),
            "timestamp": generator.integers(0, 20, 80),
            "rating": generator.integers(1, 6, 80),
        }
    )
    items = pl.DataFrame({"item_id": range(15), "title": [f"item {n}" if n % 3 else None for n in range(15)]})
    users = pl.DataFrame({"user_id": range(12), "age": range(20, 32)})
    return {"events": events if times else events.drop("timestamp"), "items": items, "users": users}


@pytest.mark.parametrize("times", [True, False])
def test_round_trip_gives_the_same_tables(tmp_path, times):
    saved = Dataset.from_frames(**frames(times), name="shop", source={"licence": "ours"}).save(tmp_path / "data")
    source = SavedConfig(path=str(tmp_path / "data"))
    assert isinstance(source, Source)
    again = Dataset.from_raw(source.read(), "shop")
    for name in ("events", "users", "items"):
        assert getattr(again, name).equals(getattr(saved, name)), name
    assert again.info.counts.rejected == saved.info.counts.rejected
    assert again.info.licence == "ours"


def test_fingerprint_follows_the_content_not_the_place(tmp_path):
    for name in ("one", "two"):
        Dataset.from_frames(**frames(True)).save(tmp_path / name)
    Dataset.from_frames(**{**frames(True), "users": None}).save(tmp_path / "other")
    prints = [SavedConfig(path=str(tmp_path / name)).fingerprint_inputs() for name in ("one", "two", "other")]
    assert prints[0] == prints[1] != prints[2]


def test_a_folder_without_a_data_set_is_one_line(tmp_path):
    with pytest.raises(DatasetError):
        SavedConfig(path=str(tmp_path)).fingerprint_inputs()
