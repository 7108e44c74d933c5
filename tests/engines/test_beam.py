"""The Beam engine gives what the features give in one process, bit for bit, on every runner that is here."""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from moerec.config import validate
from moerec.dataset.download import MIRROR_VARIABLE
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_files import CategoryFiles, find_files
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.engines.beam.engine import BeamConfig, BeamRun, run_beam
from moerec.errors import ConfigError, DatasetError, MissingExtraError
from moerec.features.reviews import (
    EVENT_SCHEMA,
    ReviewExamplesConfig,
    ReviewState,
    category_names,
    make_examples,
    merge,
    summarise,
    with_keys,
)

beam = pytest.importorskip("apache_beam")

MIRROR = os.environ.get(MIRROR_VARIABLE)
CONFIG = ReviewExamplesConfig(train_until="2021-12-31", valid_until="2022-06-30")
SEED = 3


@pytest.fixture(autouse=True)
def _temporary_files_of_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "reviews"
    generate_amazon_reviews(out, GeneratedReviews(users=80, items=60, dirt=0.05, seed=5))
    return out


def files_of(folder: Path, year: int = 2023) -> list[CategoryFiles]:
    return find_files(year, (), str(folder), None, "optional")


def expected(folder: Path, config: ReviewExamplesConfig, year: int = 2023) -> dict[str, pl.DataFrame]:
    """The tables by the source's own reader and by one call of each feature function."""
    raw = AmazonReviewsConfig(year=year, path=str(folder), metadata="optional").read()
    assert raw.items is not None
    counts = Counter(name for name in raw.items["main_category"].to_list() if name)
    names = category_names(counts, config)
    codes = {name: code for code, name in enumerate(names, start=1)}
    products = raw.items.select("item_id", "price", category="main_category")
    events = with_keys(
        raw.events.join(products, on="item_id", how="left")
        .with_columns(pl.col("category").replace_strict(codes, default=0, return_dtype=pl.Int32))
        .select(*EVENT_SCHEMA)
    )
    state = merge([summarise(events, config)], names, config)
    texts = with_keys(raw.events).select("key", title="review_title", text="review_text")
    return {
        "examples": make_examples(events, state, config, SEED),
        "texts": texts,
        "items": raw.items,
        "rejects": raw.rejects,
    }


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(sorted((out / name).glob("part-*.parquet")))


def assert_as_expected(out: Path, wanted: dict[str, pl.DataFrame]) -> None:
    by = {"examples": ["key"], "texts": ["key"], "items": ["item_id"], "rejects": ["source", "line", "reason"]}
    for name, columns in by.items():
        assert wanted[name].height
        found = table(out, name).sort(columns)
        assert_frame_equal(found, wanted[name].sort(columns), check_exact=True, check_column_order=True)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rejects"] == dict(sorted(Counter(wanted["rejects"]["reason"]).items()))
    counted = wanted["examples"].group_by("part", "negative").len().rows()
    kinds, parts = ("positives", "negatives"), ("train", "valid", "test")
    assert {(parts.index(part), kinds.index(kind), count) for part, kind, count in _leaves(manifest["examples"])} == {
        *counted
    }


def _leaves(nested: dict[str, dict[str, int]]) -> Iterator[tuple[str, str, int]]:
    for part, kinds in nested.items():
        for kind, count in kinds.items():
            yield part, kind, count


def run(folder: Path, out: Path, *options: str, year: int = 2023, config: ReviewExamplesConfig = CONFIG) -> BeamRun:
    engine = BeamConfig(options=options, shards=3, rows_in_frame=100)
    return run_beam(files_of(folder, year), year, str(out), config, engine, SEED)


def test_beam_gives_the_rows_of_one_process_and_counts_every_reject(folder: Path, tmp_path: Path) -> None:
    wanted = expected(folder, CONFIG)
    given = run(folder, tmp_path / "out")
    assert_as_expected(tmp_path / "out", wanted)
    assert len(list((tmp_path / "out/examples").iterdir())) == 3, "several shards, and no file that is not whole"
    assert given.counters == given.manifest["rejects"] == dict(sorted(Counter(wanted["rejects"]["reason"]).items()))
