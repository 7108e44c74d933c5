"""Amazon reviews from end to end, on generated ones: two tasks of one rating, split by date, texts of products."""

import json
import socket
import time
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from moerec.dataset.dataset import Dataset
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
RECIPE, SHARDS = RECIPES / "amazon-ranking-debug.yaml", RECIPES / "amazon-reviews-debug.yaml"


@pytest.mark.slow
def test_good_and_best_reviews_are_foretold_from_the_past(tmp_path: Path) -> None:
    overrides = ["ranking_baselines.trials=1", "ranking_baselines.siblings=[]", "evaluation.resamples=100"]
    options = RunOptions(artifacts=tmp_path / "artifacts", out=tmp_path / "run")
    run = run_recipe(load_recipe(RECIPE, overrides), options, Console(quiet=True))
    found = json.loads((run / "metrics.json").read_text())["ranking"]
    for task in ("good", "best"):
        assert found["test"][f"{task}/auc"] > 0.7
        assert found["test"][f"{task}/auc"] > found["baselines"]["means"][f"{task}/auc"]
    dataset = Dataset.open(next((tmp_path / "artifacts").rglob("dataset.json")).parent)
    assert dataset.info.texts == ("review_title", "review_text")
    for table in run.rglob("*.parquet"):
        assert not set(pl.read_parquet_schema(table)) & set(dataset.info.texts), "no text of a review is in the model"


@pytest.mark.slow
def test_raw_files_become_shards_in_under_a_minute(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    webdataset = pytest.importorskip("webdataset")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = load_recipe(SHARDS, [f"dataset.picture_port={port}"])
    began = time.perf_counter()
    run = run_recipe(recipe, RunOptions(artifacts=tmp_path / "artifacts", out=tmp_path / "run"), Console(quiet=True))
    assert time.perf_counter() - began < 60
    found = json.loads((run / "metrics.json").read_text())["examples"]
    fetch = found["pictures"]["fetch"]
    assert fetch["addresses"] == fetch["ok"] + sum(fetch["reasons"].values())
    assert fetch["reasons"], "the server fails for some addresses"
    assert found["refused"]
    page = (run / "report.html").read_text()
    assert all(reason[:1].upper() + reason[1:] in page for reason in found["refused"])
    without = 0
    for part in ("train", "valid", "test"):
        urls = [str(path) for path in sorted((run / "shards" / part).glob("*.tar"))]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
        assert len(samples) == found["shards"][part]["examples"]
        for sample in samples:
            record = json.loads(sample["json"])
            assert ("jpg" in sample) == (record["picture_missing"] is None)
            without += "jpg" not in sample
    assert without == found["pictures"]["missing"][0]["missing"]
