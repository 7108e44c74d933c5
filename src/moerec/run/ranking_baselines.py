"""The plain baselines of ranking: each tuned for each task on validation, remembered, fitted again for the test."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import discover
from moerec.errors import ConfigError
from moerec.evaluation.ranking_tuning import tune_ranking
from moerec.files import write_json
from moerec.models.ranking_baselines import RankingBaselineConfig
from moerec.recipe import Recipe, plain_recipe
from moerec.run.prepare import Prepared
from moerec.run.ranker import RankingData, main_metric, ranker_of
from moerec.tasks import TaskConfig

RESULT = "tuning.json"
ALL_BASELINES = ("means", "logistic_regression", "gradient_boosting")
"""What stands beside a ranker unless the recipe says otherwise, from the plainest on."""

Scores = dict[str, dict[str, NDArray[np.float64]]]


def tuned_ranking_baselines(
    recipe: Recipe, prepared: Prepared, data: RankingData, artifacts: ArtifactCache, console: Console
) -> tuple[dict[str, Scores], dict[str, dict[str, Any]], dict[str, str]]:
    """Tune each baseline for each task on validation (or find what was found before), fit the best, predict.

    Returns:
        of each baseline its scores of the rows of valid and test, by part and task; the number of trials, the best
        configurations, their validation metrics and the seconds spent; and what was left out, with the reason.

    Raises:
        ConfigError: a baseline that the recipe names cannot be fitted.
    """
    settings, tasks = recipe.ranking_baselines, ranker_of(recipe).tasks
    scores: dict[str, Scores] = {}
    details: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    for kind in ALL_BASELINES if settings.kinds is None else settings.kinds:
        reason = type(_config(kind, {})).refusal(data.table, len(data.rows["train"]))
        if reason and settings.kinds is not None:
            raise ConfigError(f"ranking_baselines.kinds: '{kind}' cannot be fitted: {reason}; leave it out")
        if reason:
            left_out[kind] = reason
            continue
        started = time.perf_counter()
        found = {task.name: _tuned(kind, task, recipe, prepared, data, artifacts) for task in tasks}
        scores[kind] = {"valid": {}, "test": {}}
        for task in tasks:
            predictor = _config(kind, found[task.name]["config"]).fit(
                data.table,
                data.rows["train"],
                task,
                data.targets[task.name],
                data.statistics[task.name],
                settings.seed,
            )
            for part in ("valid", "test"):
                scores[kind][part][task.name] = predictor.predict(data.table, data.rows[part])
        details[kind] = {
            "trials": max(entry["trials"] for entry in found.values()),
            "config": {name: entry["config"] for name, entry in found.items()},
            "valid": {name: value for entry in found.values() for name, value in entry["valid"].items()},
            "seconds": round(sum(entry["seconds"] for entry in found.values()), 3),
        }
        shown = "  ".join(f"{main_metric(task)} {details[kind]['valid'][main_metric(task)]:.4f}" for task in tasks)
        console.print(
            f"  {kind:<20} valid {shown}  best of {details[kind]['trials']} settings a task "
            f"in {time.perf_counter() - started:.1f} s",
            highlight=False,
        )
    return scores, details, left_out


def _config(kind: str, values: Mapping[str, Any]) -> RankingBaselineConfig:
    config = discover("ranking_baseline", {"kind": kind, **values}, "ranking_baselines")
    assert isinstance(config, RankingBaselineConfig)
    return config


def tuning_inputs(recipe: Recipe, kind: str, task: TaskConfig, prepared: Prepared) -> dict[str, Any]:
    """The plain data that decides what the tuning of a baseline for a task finds."""
    plain = plain_recipe(recipe)
    ranker = plain["ranker"]
    return {
        "data": prepared.identity,
        "features": plain["features"],
        "causal_features": plain["causal_features"],
        "examples": {key: ranker[key] for key in ("use_user_id", "use_item_id", "history", "negatives")},
        "task": task.model_dump(mode="json"),
        "kind": kind,
        "trials": recipe.ranking_baselines.trials,
        "seed": recipe.ranking_baselines.seed,
    }


def _tuned(
    kind: str, task: TaskConfig, recipe: Recipe, prepared: Prepared, data: RankingData, artifacts: ArtifactCache
) -> dict[str, Any]:
    settings = recipe.ranking_baselines

    def make(folder: Path) -> None:
        started = time.perf_counter()
        result = tune_ranking(
            type(_config(kind, {})),
            settings.trials,
            data.table,
            data.rows["train"],
            data.rows["valid"],
            task,
            data.targets[task.name],
            seed=settings.seed,
        )
        best = next(trial for trial in result.trials if trial.config == result.best)
        write_json(
            folder / RESULT,
            {
                "trials": len(result.trials),
                "config": result.best.model_dump(mode="json"),
                "valid": best.metrics,
                "seconds": round(time.perf_counter() - started, 3),
            },
        )

    folder, _ = artifacts.get("ranking_baseline", tuning_inputs(recipe, kind, task, prepared), make)
    found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return found
