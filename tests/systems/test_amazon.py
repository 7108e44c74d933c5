"""Amazon reviews from end to end, on generated ones: two tasks of one rating, split by date, texts of products."""

import json
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from moerec.dataset.dataset import Dataset
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe

RECIPE = Path(__file__).parents[2] / "recipes/amazon-reviews-debug.yaml"


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
