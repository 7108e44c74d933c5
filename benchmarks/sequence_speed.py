"""Speed turns of benchmarks/sequences.py: every side in a process of its own, one turn after another."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rivals.conversation import Worker
from rivals.environments import PACKAGES
from sequence_models import (
    BATCH,
    BLOCKS,
    DROPOUT,
    GENERATED,
    HEADS,
    MODELS,
    WIDTH,
    WORK,
    generated_data,
    recipe_of,
    settings_of,
    started_worker,
    without_place,
)
from sequence_quality import Quality

from moerec.errors import ConfigError
from moerec.recipe import plain_recipe
from moerec.run.folder import environment


def measure_speed(dataset: str, models: Sequence[str], length: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Targets per second of processor time of all sides, in turns; a side that fails says why and is left out."""
    path = WORK / "data" / f"{dataset}.npz"
    if dataset == GENERATED:
        generated_data(path)
    else:
        Quality(dataset, length, 1.0)
    workers: dict[str, Worker] = {}
    parameters: dict[str, int] = {}
    errors: dict[str, str] = {}
    turns: dict[str, list[dict[str, float]]] = {}
    try:
        for model in models:
            settings = settings_of(model, length, MODELS[model].speed_options)
            try:
                if MODELS[model].side == "moerec":
                    settings["recipe"] = plain_recipe(recipe_of(dataset, model, length, 0, 1, shared=True))
                workers[model] = started_worker(model)
                answer = workers[model].ask("turns", path=str(path), settings=settings, seed=0)
                parameters[model] = answer["parameters"]
            except ConfigError as error:
                print(f"{model} skipped: {error}", flush=True)
            except RuntimeError as error:
                errors[model] = without_place(error)
                print(f"{model} failed: {error}", flush=True)
                _stopped(workers, model)
        for number in range(rounds + 1):
            for model in list(workers):
                try:
                    done = workers[model].ask("steps", seconds=seconds)
                except RuntimeError as error:
                    errors[model] = without_place(error)
                    _stopped(workers, model)
                    turns.pop(model, None)
                    continue
                if number:  # the first turn warms up
                    turns.setdefault(model, []).append(done)
    finally:
        for model in list(workers):
            _stopped(workers, model)
    return speed_row(dataset, length, turns, parameters, errors) | {
        "command": f"python benchmarks/sequences.py --speed --dataset {dataset} --length {length} "
        f"--rounds {rounds} --seconds {seconds:g} --models {' '.join(models)}"
    }


def _stopped(workers: dict[str, Worker], model: str) -> None:
    if model in workers:
        workers.pop(model).close()


def speed_row(
    dataset: str,
    length: int,
    turns: Mapping[str, list[dict[str, float]]],
    parameters: Mapping[str, int],
    errors: Mapping[str, str],
) -> dict[str, Any]:
    """Rates by processor time and by wall clock, and how many times as fast ours are as each other side."""
    rates = {model: [turn["targets"] / turn["cpu_s"] for turn in done] for model, done in turns.items()}
    ours = [model for model in rates if MODELS[model].side == "moerec"]
    return {
        "dataset": dataset,
        "length": length,
        "shape": f"{WIDTH} wide, {BLOCKS} blocks, {HEADS} heads, dropout {DROPOUT}, {BATCH} sequences a batch",
        "targets_per_cpu_second": {model: spread(values) for model, values in rates.items()},
        "targets_per_wall_second": {
            model: spread([turn["targets"] / turn["wall_s"] for turn in done]) for model, done in turns.items()
        },
        "peak_mib": {model: round(done[-1]["peak_mib"]) for model, done in turns.items()},
        "ratio": {
            model: {
                other: spread([mine / theirs for mine, theirs in zip(rates[model], rates[other], strict=True)])
                for other in rates
                if other not in ours
            }
            for model in ours
        },
        "parameters": dict(parameters),
        "errors": dict(errors),
        "rivals": {name: PACKAGES[name] for name in PACKAGES if any(MODELS[model].side == name for model in rates)},
        "environment": environment(),
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range of the turns."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}
