from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import FIRST_ITEM, UNKNOWN
from moerec.dataset.splits import SplitConfig

Refusal = Callable[..., str]
Contents = Callable[[Path], dict[str, bytes]]


def rewrite(dataset: Dataset, file: str, **columns: Any) -> None:
    assert dataset.directory is not None
    path = dataset.directory / file
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)
    dataset.register_file(file)


def shuffle(dataset: Dataset, file: str) -> None:
    assert dataset.directory is not None
    path = dataset.directory / file
    pl.read_parquet(path).reverse().write_parquet(path)
    dataset.register_file(file)


def modality(dataset: Dataset, rows: int, first_present: int) -> None:
    path = dataset.modality_path("text")
    path.parent.mkdir()
    present = np.arange(dataset.num_indices) >= first_present
    save_file({"vectors": np.ones((rows, 4), np.float32), "present": present}, path)
    dataset.register_file("modalities/text.safetensors")


row_number = pl.int_range(pl.len())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: rewrite(d, "events.parquet", item=pl.col("item").cast(pl.Int64)), "is Int64, not Int32"),
        (lambda d: rewrite(d, "events.parquet", item=pl.lit(1, pl.Int32)), "outside the catalogue"),
        (lambda d: rewrite(d, "events.parquet", item=pl.lit(99, pl.Int32)), "outside the catalogue"),
        (lambda d: rewrite(d, "events.parquet", position=pl.lit(0, pl.Int32)), "positions do not count"),
        (lambda d: rewrite(d, "events.parquet", user=pl.lit(99, pl.Int32)), "outside users.parquet"),
        (lambda d: rewrite(d, "events.parquet", timestamp=-row_number), "not in the order of time"),
        (lambda d: rewrite(d, "events.parquet", timestamp=pl.lit(None, pl.Int64)), "a timestamp is null"),
        (lambda d: rewrite(d, "events.parquet", rating=pl.lit(None)), None),
        (lambda d: shuffle(d, "events.parquet"), "not sorted by user"),
        (lambda d: rewrite(d, "users.parquet", first_event=pl.col("first_event") + 1), "does not point"),
        (lambda d: rewrite(d, "users.parquet", user_id=pl.lit("1")), "holds an id twice"),
        (lambda d: shuffle(d, "items.parquet"), "does not count rows"),
        (lambda d: rewrite(d, "items.parquet", item_id=pl.lit(None, pl.String)), "is null"),
        (lambda d: rewrite(d, "splits/loo.parquet", part=pl.lit(4, pl.Int8)), "no part of a split"),
        (lambda d: rewrite(d, "splits/loo.parquet", part=pl.lit(0, pl.Int8)), "train events, not as told"),
        (lambda d: rewrite(d, "splits/loo.parquet", part=pl.col("part").cast(pl.Int64)), "not int8"),
        (lambda d: rewrite(d, "candidates/c.parquet", items=pl.lit([2, 2], pl.List(pl.Int32))), "an item twice"),
        (
            lambda d: rewrite(d, "candidates/c.parquet", items=pl.lit([0, 2], pl.List(pl.Int32))),
            "outside the catalogue",
        ),
        (lambda d: rewrite(d, "candidates/c.parquet", user=pl.lit(0, pl.Int32)), "two lists"),
        (lambda d: modality(d, d.num_indices - 1, FIRST_ITEM), "not [41, D]"),
        (lambda d: modality(d, d.num_indices, UNKNOWN), "padding or unknown"),
        (lambda d: modality(d, d.num_indices, FIRST_ITEM), None),
    ],
)
def test_validate_finds_each_broken_promise(
    events: pl.DataFrame, tmp_path: Path, damage: Any, message: str | None, refusal: Refusal
) -> None:
    dataset = Dataset.from_frames(events)
    dataset.add_split("loo", SplitConfig())
    dataset.add_candidates("c", CandidateConfig(split="loo", negatives=3))
    dataset.save(tmp_path / "set")
    damage(dataset)
    damaged = Dataset.open(tmp_path / "set", verify="sha256")
    if message is None:
        damaged.validate()
    else:
        assert message in refusal(damaged.validate)
