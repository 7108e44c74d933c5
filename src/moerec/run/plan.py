"""What a run would do: stages, artifacts to be made, parameters, and an estimate of time and memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from rich.console import Console
from torch import nn

from moerec.artifacts import ArtifactCache
from moerec.config import kind_of
from moerec.devices import choose_device
from moerec.models.roles import Retriever
from moerec.recipe import Recipe
from moerec.run.baselines import ALL_BASELINES, tuning_inputs
from moerec.run.examples import rows_folder
from moerec.run.prepare import Prepared, dataset_inputs, modality_inputs, prepare
from moerec.run.ranker import build_ranker, check_ranker, ranking_data, ranking_objective
from moerec.run.retriever import build_retriever, check_training, retrieval_objective
from moerec.training.objective import Objective, Passes
from moerec.training.stages import RankerStageConfig, StageConfig

TIMED_UPDATES = 5


def plan_run(recipe: Recipe, artifacts: ArtifactCache, console: Console) -> dict[str, Any]:
    """Describe a run without doing it.

    Sizes and times need the data: where they are not prepared yet, they are left out and the plan says so.
    """
    if not recipe.has_model:
        return _plan_examples(recipe, artifacts)
    dataset_of = dataset_inputs(recipe)
    parts = {"data set": artifacts.exists("prepare", dataset_of)}
    for name in recipe.modalities:
        parts[f"modality {name}"] = artifacts.exists("modality", modality_inputs(recipe, name, dataset_of))
    ready = all(parts.values())
    plan: dict[str, Any] = {"name": recipe.name, "prepared": ready}
    if recipe.retriever is not None:
        for kind in ALL_BASELINES if recipe.baselines.kinds is None else recipe.baselines.kinds:
            parts[f"baseline {kind}"] = artifacts.exists("baseline", tuning_inputs(recipe, kind, dataset_of))
        plan |= {"settings_per_baseline": recipe.baselines.trials, "stages": _stages(recipe.training.retriever)}
    if recipe.ranker is not None:
        plan["settings_per_ranking_baseline"] = recipe.ranking_baselines.trials
        plan["ranker"] = {"stages": _ranker_stages(recipe.training.ranker)}
    plan["artifacts"] = {name: "there" if found else "to be made" for name, found in parts.items()}
    if not ready:
        plan["note"] = "parameters, time and memory can be told after `moerec prepare`"
        return plan
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)
    prepared = prepare(recipe, artifacts, console)
    if recipe.retriever is not None:
        plan |= _plan_retriever(recipe, prepared, plan["stages"])
    if recipe.ranker is not None:
        plan["ranker"] |= _plan_ranker(recipe, prepared, plan["ranker"]["stages"], console)
    return plan


def _plan_examples(recipe: Recipe, artifacts: ArtifactCache) -> dict[str, Any]:
    """A run without a model; whether tokens and pictures are there cannot be told before the rows are read."""
    config = recipe.examples
    assert config is not None
    found = (rows_folder(recipe, artifacts) / "manifest.json").is_file()
    made = [name for name in ("tokens", "pictures") if getattr(config, name) is not None]
    return {
        "name": recipe.name,
        "reads": recipe.dataset.source.describe(),  # type: ignore[attr-defined]
        "engine": kind_of("engine", config.engine),
        "artifacts": {"rows": "there" if found else "to be made"},
        "makes": [*made, "shards"],
    }


def _stages(stages: Sequence[StageConfig]) -> list[dict[str, Any]]:
    return [
        {"name": stage.name, "trains": list(stage.trains), "epochs": stage.epochs, "updates": stage.updates}
        for stage in stages
    ]


def _ranker_stages(stages: Sequence[RankerStageConfig]) -> list[dict[str, Any]]:
    return [
        described | {"weighting": kind_of("weighting", stage.weighting)}
        for described, stage in zip(_stages(stages), stages, strict=True)
    ]


def _plan_retriever(recipe: Recipe, prepared: Prepared, stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters, time and memory of the first stage; the stages get their updates and seconds."""
    check_training(recipe, prepared)
    device = choose_device(recipe.training.device)
    plan: dict[str, Any] = {}
    model = build_retriever(recipe, prepared).to(device)
    plan["parameters"] = _parameters(model)
    objective = retrieval_objective(recipe, prepared, model)
    for described, stage in zip(stages, recipe.training.retriever, strict=True):
        described |= _stage_estimate(model, objective, stage)
    plan["training_seconds"] = round(sum(described["seconds"] for described in stages), 1)
    plan["memory_mib"] = _memory_mib(model, prepared)
    return plan


def _plan_ranker(recipe: Recipe, prepared: Prepared, stages: list[dict[str, Any]], console: Console) -> dict[str, Any]:
    """The same of the second stage."""
    data = ranking_data(recipe, prepared, console)
    check_ranker(recipe, data)
    model = build_ranker(recipe, data).to(choose_device(recipe.training.device))
    objective = ranking_objective(recipe, data, model)
    for described, stage in zip(stages, recipe.training.ranker, strict=True):
        described |= _stage_estimate(model, objective, stage)
    return {
        "inputs": len(data.builder.schema.specs),
        "examples": {part: len(rows) for part, rows in data.rows.items()},
        "parameters": _parameters(model),
        "training_seconds": round(sum(described["seconds"] for described in stages), 1),
    }


def _parameters(model: nn.Module) -> dict[str, int]:
    counts = {name: sum(part.numel() for part in child.parameters()) for name, child in model.named_children()}
    return counts | {"all": sum(parameter.numel() for parameter in model.parameters())}


def _stage_estimate(model: nn.Module, objective: Objective, stage: StageConfig) -> dict[str, Any]:
    """Updates of a stage, and their time by the first few forward and backward passes."""
    updates = stage.updates or sum(
        -(-objective.batches_per_epoch(stage, epoch) // stage.accumulation) for epoch in range(stage.epochs or 0)
    )
    device = next(model.parameters()).device
    criterion = objective.criterion(stage)
    if criterion is not None:
        criterion.to(device)
    seconds = []
    for number, batch in enumerate(objective.epoch(stage, 0, 0)):
        if number > TIMED_UPDATES:
            break
        started = time.perf_counter()
        objective.backward(stage, [batch.to(device)], criterion, Passes())
        seconds.append(time.perf_counter() - started)
    model.zero_grad(set_to_none=True)
    # The first pass warms up; the median of the others is what an update takes.
    each = sorted(seconds[1:] or seconds)[len(seconds[1:]) // 2] if seconds else 0.0
    return {"updates": updates, "seconds": round(each * stage.accumulation * updates, 1)}


def _memory_mib(model: Retriever, prepared: Prepared) -> float:
    """Parameters with gradient and two moments, and the item features; activations come on top."""
    parameters = 4 * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    table = prepared.table
    features = 0 if table is None else sum(column.numel() * column.element_size() for column in table.columns.values())
    return round((parameters + features) / 2**20, 1)
