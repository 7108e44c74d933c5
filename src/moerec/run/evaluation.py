"""Judge the saved model of a run again, on the data that it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.errors import DatasetError
from moerec.ranking_model import RankingModel
from moerec.recipe import Recipe
from moerec.recommender import Recommender
from moerec.run.folder import Origin, recipe_of
from moerec.run.inspect import check_trains, model_of
from moerec.run.judge import Judge
from moerec.run.prepare import Prepared, dataset_inputs, prepare
from moerec.run.ranker import FOLDER, ranker_identity
from moerec.run.ranking import Ranking
from moerec.run.retriever import training_identity
from moerec.run.two_stage import judge_saved
from moerec.training.checkpoint import load_state


def evaluate_run(
    directory: Path, part: Literal["valid", "test"], artifacts: Path, console: Console, overrides: dict[str, Any]
) -> dict[str, Any]:
    """Metrics, intervals, slices and the protocol in words of a run's saved models.

    Those of a ranker stand under `ranking`, those of both stages together under `two_stage`. Relative paths of the
    recipe start where the run began, so the process works there meanwhile. If the source is gone, the data set that was
    prepared for the run is enough.

    Args:
        directory: the run.
        part: the part of its split to judge on.
        artifacts: folder of derived data; the data set is prepared again of its source if it is not there.
        console: where progress goes.
        overrides: fields of the recipe's evaluation to change, for instance `cutoffs` or `history`.

    Raises:
        DatasetError: the data set is not the one that the model knows, or neither it nor its source is there.
        MoerecError: the run has no model, so there is nothing to judge.
    """
    origin, run, cache = Origin.of(directory), directory.absolute(), ArtifactCache(artifacts.absolute())
    with origin.entered():
        # As it was named, where nobody has moved: messages are about what was written.
        return _judged(run if origin.folder else directory, part, cache, origin, console, overrides)


def _judged(
    directory: Path,
    part: Literal["valid", "test"],
    artifacts: ArtifactCache,
    origin: Origin,
    console: Console,
    overrides: dict[str, Any],
) -> dict[str, Any]:
    check_trains(directory)
    model_of(directory)
    recipe = recipe_of(directory)
    if recipe.training.threads is not None:
        torch.set_num_threads(recipe.training.threads)  # another number of threads changes the last bits
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update=overrides)})
    prepared = _prepared(recipe, artifacts, origin, console)
    result: dict[str, Any] = {"name": recipe.name}
    if recipe.ranker is not None:
        _check_identity(directory, directory / FOLDER, ranker_identity(recipe_of(directory), prepared, None))
        ranking, saved = (
            Ranking.of(recipe, prepared, console, judged=part == "test"),
            RankingModel.from_pretrained(directory),
        )
        saved.builder.check_split(ranking.data.builder.split, "the data set's")
        result["ranking"] = ranking.judge_again(saved.ranker, part)
    if recipe.retriever is not None:
        _check_identity(directory, directory, training_identity(recipe_of(directory), prepared))
        judge, recommender = Judge(recipe, prepared, part), Recommender.from_pretrained(directory)
        result |= judge.summary(judge.judge(recommender.model, recipe.name)) | {"protocol": judge.words()}
        if recommender.second_stage is not None:
            result["two_stage"] = judge_saved(recommender, judge)
    return result


def _prepared(recipe: Recipe, artifacts: ArtifactCache, origin: Origin, console: Console) -> Prepared:
    """The run's data, of its source, or of the data set that was prepared for it when that is gone."""
    try:
        inputs = dataset_inputs(recipe)
    except DatasetError as error:
        if origin.dataset is None or not artifacts.exists("prepare", origin.dataset):
            remedy = "give the command where the run began"  # of a run that recorded nothing
            if origin.folder is not None:
                remedy = f"the run began in {origin.folder}; bring its files back"
            if origin.dataset is not None:
                remedy += ", or name the --artifacts that hold its data set"
            raise DatasetError(f"{error}; {remedy}") from None
        console.print(
            f"the source cannot be read ({error}); this is the data set prepared for the run", highlight=False
        )
        inputs = origin.dataset
    return prepare(recipe, artifacts, console, inputs)


def _check_identity(directory: Path, training: Path, identity: str) -> None:
    if load_state(training / "checkpoints" / "last").identity != identity:
        raise DatasetError(
            f"{directory}: the data have changed since this model was trained, and what it learned from may be test "
            "events now; bring the old files back, or train again"
        )
