"""The stages of a run in order: prepare, tune baselines, train, judge, save, report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import kind_of
from moerec.errors import MoerecError
from moerec.files import atomic_file, write_json
from moerec.recipe import Recipe, plain_recipe
from moerec.recommender import Recommender
from moerec.report.page import write_report
from moerec.run.baselines import chosen_baselines, tuned_baselines
from moerec.run.card import model_card
from moerec.run.describe import describe_dataset, describe_experts, example_users
from moerec.run.folder import METRICS, MODEL, REPORT, check_out, find_run, first_difference, new_run, recipe_of
from moerec.run.judge import Judge
from moerec.run.prepare import Prepared, prepare
from moerec.run.retriever import Trained, check_training, train_retriever


@dataclass(frozen=True)
class RunOptions:
    """Where a run reads and writes."""

    runs: Path = Path("runs")
    """Folder of all runs."""
    artifacts: Path = Path("artifacts")
    """Folder of derived data, shared by runs."""
    out: Path | None = None
    """Folder of this run, instead of runs/<name>/<time>."""
    resume: bool = False
    """Go on with the latest run of this name (or with `out`) instead of starting a new one."""


def run_recipe(recipe: Recipe, options: RunOptions, console: Console) -> Path:
    """Do everything that the recipe says and return the run's folder."""
    return _run(recipe, options, console, judged=True)


def train_recipe(recipe: Recipe, options: RunOptions, console: Console) -> Path:
    """Prepare and train, without baselines and without a look at the test part."""
    return _run(recipe, options, console, judged=False)


def _run(recipe: Recipe, options: RunOptions, console: Console, *, judged: bool) -> Path:
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)
    artifacts = ArtifactCache(options.artifacts)
    directory = _resumed(recipe, options) if options.resume else None
    if directory is None:
        check_out(options.out)
    elif (directory / METRICS).is_file():
        console.print(f"run {directory}\n  this run is finished; nothing is left to do", highlight=False)
        if not (directory / REPORT).is_file():
            write_report(directory)
        return directory
    prepared = prepare(recipe, artifacts, console)
    # What cannot work is found out now, not after an hour of training; and a run that never began leaves no folder.
    valid, test = Judge(recipe, prepared, "valid"), Judge(recipe, prepared, "test") if judged else None
    check_training(recipe, prepared)
    kinds, left_out = chosen_baselines(recipe, prepared)
    if directory is None:
        directory = new_run(recipe, options.runs, options.out)
    console.print(f"run {directory}", highlight=False)
    timing: dict[str, float] = dict(prepared.seconds)
    scorers: dict[str, Any] = {}
    details: dict[str, dict[str, Any]] = {}
    if test is not None and kinds:
        console.print(f"baselines, tuned on validation with {recipe.baselines.trials} settings each", highlight=False)
        scorers, details = tuned_baselines(recipe, prepared, valid, artifacts, console)
        for kind, reason in left_out.items():
            console.print(f"  {kind:<18} left out: {reason}", highlight=False)
        timing["baselines_s"] = round(sum(found["seconds"] for found in details.values()), 3)
    trained = train_retriever(recipe, prepared, valid, directory, console, resume=options.resume)
    timing["train_s"] = round(trained.state.seconds, 3)
    timing["targets_per_second"] = round(trained.state.targets / max(trained.state.seconds, 1e-9), 1)
    recommender = Recommender.from_dataset(
        trained.model, prepared.dataset, prepared.column_state.model_dump(mode="json")
    )
    # Saved before anything is judged or described: what comes after may fail, the training is not lost.
    recommender.save_pretrained(directory / MODEL)
    if test is None:
        return directory
    metrics = _judge(recipe, prepared, trained, scorers, details, valid, test, timing, directory)
    if left_out:
        metrics["protocol"]["baselines left out"] = "; ".join(f"{kind}: {reason}" for kind, reason in left_out.items())
    recommender.save_pretrained(directory / MODEL, card=model_card(recipe, metrics))
    # metrics.json is what makes a run finished, so it comes when the model is there.
    write_json(directory / METRICS, metrics)
    write_report(directory)
    return directory


def _resumed(recipe: Recipe, options: RunOptions) -> Path:
    """The folder of the run to go on with, if this very recipe began it."""
    directory = find_run(options.runs, recipe.name, options.out)
    difference = first_difference(_decisive(recipe_of(directory)), _decisive(recipe))
    if difference:
        raise MoerecError(
            f"--resume: {directory} was begun by another recipe ({difference}); undo the change or start a new run"
        )
    return directory


def _decisive(recipe: Recipe) -> dict[str, Any]:
    """What a resumed run may not change: everything but where and how loudly the training runs."""
    plain = plain_recipe(recipe)
    for key in ("device", "threads", "log_every", "checkpoint_every", "tensorboard"):
        del plain["training"][key]
    return plain


def _judge(
    recipe: Recipe,
    prepared: Prepared,
    trained: Trained,
    scorers: dict[str, Any],
    details: dict[str, dict[str, Any]],
    valid: Judge,
    test: Judge,
    timing: dict[str, float],
    directory: Path,
) -> dict[str, Any]:
    """Score the test part, once, with the selected model and the selected baselines."""
    started = time.perf_counter()
    model = test.judge(trained.model, recipe.name)
    timing["users_per_second"] = round(model.full.users_per_second, 1)
    retrieval = test.summary(model) | {"valid": valid.judge(trained.model, recipe.name).metrics}
    retrieval["baselines"], retrieval["baseline_details"] = {}, {}
    per_case = test.per_case(model, "model")
    for kind, scorer in scorers.items():
        other = test.judge(scorer, kind)
        per_case = per_case.hstack(test.per_case(other, f"baseline {kind}").drop("user_id"))
        summary = test.summary(other)
        retrieval["baselines"][kind] = summary.pop("test")
        against = test.against(model, other, recipe.training.metric)
        retrieval["baseline_details"][kind] = details[kind] | summary | {"against_model": against}
    with atomic_file(directory / "per_case.parquet") as temporary:
        per_case.write_parquet(temporary)
    timing["evaluate_s"] = round(time.perf_counter() - started, 3)
    write_json(
        directory / "examples.json", example_users(prepared, model.full, recipe.evaluation.examples, recipe.seed)
    )
    metrics: dict[str, Any] = {
        "name": recipe.name,
        "seed": recipe.seed,
        "model": {
            "kind": kind_of("retriever", recipe.retriever),
            "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
            "trials": recipe.model_trials,
            "best_update": trained.state.best_update,
            "updates": trained.state.total_updates,
        },
        "dataset": describe_dataset(prepared),
        "retrieval": retrieval,
        "protocol": test.words(),
        "timing": timing,
    }
    experts = describe_experts(trained.model, test.train_counts)
    return metrics | ({} if experts is None else {"experts": experts})
