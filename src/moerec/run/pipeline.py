"""The stages of a run in order: prepare, tune baselines, train, judge, save, report."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.errors import ConfigError, MoerecError
from moerec.files import write_json
from moerec.new_items import ItemModality
from moerec.ranking_model import RankingModel
from moerec.recipe import Recipe, plain_recipe
from moerec.recommender import Recommender
from moerec.report.page import write_report
from moerec.run.card import model_card
from moerec.run.describe import describe_dataset
from moerec.run.examples import check_examples, make_shards
from moerec.run.folder import METRICS, MODEL, REPORT, check_out, find_run, first_difference, new_run, recipe_of
from moerec.run.prepare import SPLIT, Prepared, prepare
from moerec.run.ranking import Ranking
from moerec.run.retrieval import Retrieval
from moerec.run.two_stage import choose_formula, judge_two_stages, second_stage_of


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
    """Prepare and train, without baselines and without a look at the test part.

    Raises:
        ConfigError: the recipe has no model.
    """
    if not recipe.has_model:
        raise ConfigError("the recipe has no model to train; it makes shards alone, with moerec run")
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
    if recipe.examples is not None:
        check_examples(recipe)
    if not recipe.has_model:
        return _run_examples(recipe, directory or new_run(recipe, options.runs, options.out), artifacts, console)
    prepared = prepare(recipe, artifacts, console)
    # What cannot work is found out now, not after an hour of training; and a run that never began leaves no folder.
    retrieval = None if recipe.retriever is None else Retrieval.of(recipe, prepared, judged=judged)
    ranking = None if recipe.ranker is None else Ranking.of(recipe, prepared, console, judged=judged)
    if directory is None:
        directory = new_run(recipe, options.runs, options.out, prepared.inputs)
    console.print(f"run {directory}", highlight=False)
    timing: dict[str, float] = dict(prepared.seconds)
    first = second = None
    if retrieval is not None:
        first = retrieval.train(directory, artifacts, timing, console, resume=options.resume)
    if ranking is not None:
        second = ranking.train(directory, artifacts, timing, console, resume=options.resume, judged=judged)
    recommender = (
        None
        if first is None
        else Recommender.from_dataset(
            first.model,
            prepared.dataset,
            prepared.column_state.model_dump(mode="json"),
            SPLIT,
            _modalities(recipe, prepared),
        )
    )
    ranker = None
    if ranking is not None and second is not None:
        ranker = RankingModel.of(second.model, ranking.data.builder, prepared.dataset)
    # Saved before anything is judged or described: what comes after may fail, the training is not lost.
    _save(directory, recommender, ranker)
    if not judged:
        return directory
    metrics: dict[str, Any] = {
        "name": recipe.name,
        "seed": recipe.seed,
        "dataset": describe_dataset(prepared),
        "timing": timing,
    }
    if ranking is not None and second is not None:
        metrics["ranking"] = ranking.judge(second, timing, directory)
    if retrieval is not None and first is not None and recommender is not None:
        lists, found = retrieval.judge(first, timing, directory)
        metrics |= found
        if ranker is not None and retrieval.test is not None:
            chosen = choose_formula(recipe, first.model, ranker.ranker, ranker.builder, retrieval.valid, console)
            metrics["two_stage"] = judge_two_stages(recipe, chosen, lists, retrieval.test)
            settings = second_stage_of(recipe, chosen)
            recommender = replace(recommender, second_stage=settings)
    _save(directory, recommender, ranker, card=model_card(recipe, metrics))
    if recipe.examples is not None:
        metrics["examples"] = make_shards(recipe, directory, artifacts, timing, console)
    # metrics.json is what makes a run finished, so it comes when the model is there.
    write_json(directory / METRICS, metrics)
    write_report(directory)
    return directory


def _run_examples(recipe: Recipe, directory: Path, artifacts: ArtifactCache, console: Console) -> Path:
    """A run without a model: shards, and what was refused on the way."""
    console.print(f"run {directory}", highlight=False)
    timing: dict[str, float] = {}
    found = make_shards(recipe, directory, artifacts, timing, console)
    write_json(directory / METRICS, {"name": recipe.name, "seed": recipe.seed, "timing": timing, "examples": found})
    write_report(directory)
    return directory


def _modalities(recipe: Recipe, prepared: Prepared) -> dict[str, ItemModality]:
    """How the vectors that the model was trained on were made."""
    made_by = {name: store.metadata["inputs"].get("encoder") for name, store in prepared.stores.items()}
    return {name: ItemModality(settings=recipe.modalities[name], encoder=made_by[name]) for name in made_by}


def _save(directory: Path, recommender: Recommender | None, ranker: RankingModel | None, card: str = "") -> None:
    if recommender is not None:
        replace(recommender, ranking=ranker).save_pretrained(directory / MODEL, card=card)
    elif ranker is not None:
        ranker.save_pretrained(directory / MODEL, card=card)


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
    for key in ("device", "threads", "workers", "log_every", "checkpoint_every", "tensorboard"):
        del plain["training"][key]
    return plain
