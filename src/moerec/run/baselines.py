"""The plain baselines of a run: tuned on validation, remembered, fitted again for the test."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.batches.histories import TrainHistories
from moerec.config import discover
from moerec.errors import ConfigError
from moerec.evaluation.tuning import tune
from moerec.files import write_json
from moerec.models.baselines import BaselineConfig
from moerec.models.roles import Scorer
from moerec.recipe import Recipe
from moerec.run.judge import Judge
from moerec.run.prepare import Prepared

RESULT = "tuning.json"
ALL_BASELINES = ("popularity", "recent_popularity", "item_knn", "ease", "ease_recency", "item_transitions")
"""What stands beside a model unless the recipe says otherwise, from the plainest on."""


def tuned_baselines(
    recipe: Recipe, prepared: Prepared, valid: Judge, artifacts: ArtifactCache, console: Console
) -> tuple[dict[str, Scorer], dict[str, dict[str, Any]]]:
    """Tune each baseline of the recipe on validation (or find what was found before) and fit the best.

    Returns:
        the fitted baselines by kind; and of each the number of trials, the best configuration, its validation
        metrics and the seconds spent.
    """
    train = prepared.train
    scorers: dict[str, Scorer] = {}
    details: dict[str, dict[str, Any]] = {}
    for kind in chosen_baselines(recipe, prepared)[0]:
        started = time.perf_counter()
        found, made = _tuned(kind, type(_default(kind)), recipe, train, prepared.inputs, valid, artifacts)
        config = discover("baseline", {"kind": kind} | found["config"], "baselines")
        assert isinstance(config, BaselineConfig)
        scorers[kind] = config.fit(train)
        details[kind] = found
        metric = recipe.training.metric
        console.print(
            f"  {kind:<18} valid {metric} {found['valid'][metric]:.4f}  best of {found['trials']} settings"
            f"{f' in {time.perf_counter() - started:.1f} s' if made else ' (tuned before)'}",
            highlight=False,
        )
    return scorers, details


def chosen_baselines(recipe: Recipe, prepared: Prepared) -> tuple[tuple[str, ...], dict[str, str]]:
    """The baselines of a run; and which were left out because the catalogue is too large for them, with the reason.

    Raises:
        ConfigError: a baseline that the recipe names cannot be fitted.
    """
    refused: dict[str, str] = {}
    wanted = ALL_BASELINES if recipe.baselines.kinds is None else recipe.baselines.kinds
    for kind in wanted:
        reason = _default(kind).refusal(prepared.dataset.num_indices)
        if reason and recipe.baselines.kinds is not None:
            raise ConfigError(f"baselines.kinds: '{kind}' cannot be fitted: {reason}; leave it out")
        if reason:
            refused[kind] = reason
    return tuple(kind for kind in wanted if kind not in refused), refused


def _default(kind: str) -> BaselineConfig:
    config = discover("baseline", {"kind": kind}, "baselines")
    assert isinstance(config, BaselineConfig)
    return config


def tuning_inputs(recipe: Recipe, kind: str, dataset_of: dict[str, Any]) -> dict[str, Any]:
    """The plain data that decides what the tuning of a baseline finds; `dataset_of` is what `dataset_inputs` gives."""
    return {
        "dataset": dataset_of,
        "kind": kind,
        "trials": recipe.baselines.trials,
        "metric": recipe.training.metric,
        "protocol": recipe.evaluation.protocol("valid").model_dump(mode="json"),
        "seed": recipe.baselines.seed,
    }


def _tuned(
    kind: str,
    config_type: type[BaselineConfig],
    recipe: Recipe,
    train: TrainHistories,
    dataset_of: dict[str, Any],
    valid: Judge,
    artifacts: ArtifactCache,
) -> tuple[dict[str, Any], bool]:
    def make(folder: Path) -> None:
        started = time.perf_counter()
        result = tune(
            config_type,
            recipe.baselines.trials,
            train,
            valid.cases,
            valid.protocol,
            recipe.training.metric,
            recipe.baselines.seed,
        )
        best = max(result.trials, key=lambda trial: trial.metrics[result.metric])
        write_json(
            folder / RESULT,
            {
                "trials": len(result.trials),
                "config": result.best.model_dump(mode="json"),
                "valid": best.metrics,
                "seconds": round(time.perf_counter() - started, 3),
            },
        )

    folder, made = artifacts.get("baseline", tuning_inputs(recipe, kind, dataset_of), make)
    found: dict[str, Any] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return found, made
