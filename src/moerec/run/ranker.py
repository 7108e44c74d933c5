"""The ranker of a run: its examples, its training, its predictions."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.example_frames import EXAMPLE_COLUMNS, KEYS
from moerec.batches.example_rows import examples_of, require_timestamps, with_negatives
from moerec.batches.examples import ExampleTable
from moerec.config import Config
from moerec.dataset.schema import Part
from moerec.devices import choose_device
from moerec.errors import ConfigError, DatasetError
from moerec.evaluation.predictions import (
    MAIN_METRIC,
    SELECTION,
    Predictions,
    evaluate_predictions,
    is_higher_better,
    metric_name,
    selection_value,
)
from moerec.features.negatives import draw_negatives
from moerec.features.spec import FeatureSpec
from moerec.files import fingerprint
from moerec.losses.weighting import FixedConfig
from moerec.models.predict import predict_rows
from moerec.models.roles import Ranker
from moerec.ranking_recipe import RankerConfig
from moerec.recipe import Recipe, plain_recipe
from moerec.run.gate_watch import GateWatch
from moerec.run.prepare import SPLIT, Prepared
from moerec.run.retriever import choose_precision
from moerec.tasks import Target, TaskConfig, TaskStatistics, make_target, value_text
from moerec.training.balance import LossFreeBalance
from moerec.training.checkpoint import TrainingState
from moerec.training.logs import TrainingLog
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig, select_trainable
from moerec.training.trainer import Trainer, TrainerConfig

Ints = NDArray[np.int64]
PARTS = ("train", "valid", "test")
FOLDER = "ranker"
"""Folder of the ranker's training within a run."""
NEGATIVES_SEED = 0
"""One for all runs, so that other seeds of the model are judged on the same rows."""


@dataclass(frozen=True, eq=False)
class RankingData:
    """Examples of all parts with their labels."""

    builder: ExampleBuilder
    """Makes the inputs of any example, as fitted on the train part."""
    table: ExampleTable
    """All examples."""
    rows: Mapping[str, Ints]
    """Rows of the table in each part: train, valid, test."""
    targets: Mapping[str, Target]
    """Labels of each task over all rows."""
    statistics: Mapping[str, TaskStatistics]
    """What the train rows say of each task."""
    negatives: Mapping[str, int]
    """Drawn rows in each part."""
    missing_negatives: int
    """Rows that could not be drawn: their users had met everything that there was by then."""
    seconds: float
    """Time it took to compute the features and draw the negatives."""


def ranking_data(recipe: Recipe, prepared: Prepared, console: Console) -> RankingData:
    """Compute the features, draw the negatives, make the labels.

    Raises:
        MoerecError: a feature, a label or a time that the recipe needs is not in the data; one line.
    """
    ranker = ranker_of(recipe)
    started = time.perf_counter()
    if recipe.looks_back:
        require_timestamps(prepared.dataset, " and ".join(recipe.looks_back))
    builder = fit_builder(recipe, prepared)
    found = [_examples(recipe, ranker, prepared, part) for part in PARTS]
    counts = [frame.height for frame, _ in found]
    examples = pl.concat([frame for frame, _ in found])
    table = builder.build(examples)
    ends = np.cumsum(counts)
    rows = {
        part: np.arange(end - count, end, dtype=np.int64) for part, end, count in zip(PARTS, ends, counts, strict=True)
    }
    targets = {task.name: make_target(task, table.labels, table.negative) for task in ranker.tasks}
    _check_different(ranker.tasks, targets)
    train = rows["train"]
    statistics = {task.name: TaskStatistics.of(targets[task.name].take(train), task.transform) for task in ranker.tasks}
    for task in ranker.tasks:
        if not targets[task.name].mask[train].any():
            raise DatasetError(
                f"ranker.tasks: task '{task.name}' has no label in the train part; check its label column"
            )
    seconds = time.perf_counter() - started
    negatives = {part: int(table.negative[rows[part]].sum()) for part in PARTS}
    inputs, missing = len(table.schema.specs), sum(lacking for _, lacking in found)
    drawn = f" and {sum(negatives.values()):,} drawn negatives" if sum(negatives.values()) else ""
    drawn += f" ({missing:,} could not be drawn)" if missing else ""
    console.print(
        f"examples: {len(table) - sum(negatives.values()):,} events{drawn}, {inputs} inputs, {seconds:.1f} s",
        highlight=False,
    )
    return RankingData(builder, table, rows, targets, statistics, negatives, missing, seconds)


def _check_different(tasks: Sequence[TaskConfig], targets: Mapping[str, Target]) -> None:
    """Find tasks whose labels are written differently and are the same in every row.

    Raises:
        DatasetError: there are two.
    """
    for one, other in itertools.combinations(tasks, 2):
        ours, theirs = targets[one.name], targets[other.name]
        alike = (one.type, one.population) == (other.type, other.population)
        if alike and np.array_equal(ours.mask, theirs.mask) and np.array_equal(ours.values, theirs.values):
            raise DatasetError(
                f"ranker.tasks: tasks '{one.name}' and '{other.name}' have the same label in every row, so one task "
                "would be learned twice; remove one, or correct its label or at_least"
            )


def check_metric(recipe: Recipe, data: RankingData) -> None:
    """Find out before any training whether the metric that selects the ranker's update can be computed.

    Raises:
        ConfigError: it is GAUC, and no user has valid rows of both classes, as where each user has one row.
    """
    named = recipe.training.ranker_metric.split("/")
    task = next((task for task in ranker_of(recipe).tasks if task.name == named[0]), None)
    if task is None or named[1:2] != ["gauc"]:
        return
    rows, target = data.rows["valid"], data.targets[task.name]
    rows = rows[target.mask[rows]]
    values = pl.DataFrame({"user": data.table.users[rows], "value": target.values[rows]})
    if values.is_empty() or values.group_by("user").agg(pl.col("value").n_unique())["value"].max() == 1:
        raise ConfigError(
            f"training.ranker_metric: {recipe.training.ranker_metric} is not defined, for no user has valid rows of "
            f"both classes; write {main_metric(task)}"
        )


def check_labels(tasks: Iterable[TaskConfig], data: RankingData, parts: Sequence[str]) -> None:
    """Find out before any training whether each task can be judged on some parts.

    Raises:
        DatasetError: a part has no label of a task, or labels of one class only.
    """
    for task in tasks:
        for part in parts:
            target = data.targets[task.name].take(data.rows[part])
            values = target.values[target.mask]
            # AUC needs two classes; the error of a number is defined on any row.
            if len(values) and (MAIN_METRIC[task.type] != "auc" or values.min() < values.max()):
                continue
            found = "no row with a label"
            if len(values):
                label = task.values[int(values[0])] if task.num_classes else float(values[0])
                found = f"only rows of label {value_text(label)}"
            raise DatasetError(
                f"ranker.tasks: task '{task.name}' has {found} in the {part} part, so it cannot be judged there; "
                "make the part larger (dataset.split), or change the task or leave it out"
            )


def fit_builder(recipe: Recipe, prepared: Prepared) -> ExampleBuilder:
    """Learn from the train part what makes the ranker's inputs.

    Raises:
        MoerecError: a column or a modality that an input needs is not in the data.
    """
    ranker, columns = ranker_of(recipe), prepared.dataset.events.columns
    for name in sorted({*EXAMPLE_COLUMNS} - {*KEYS}):
        if name in columns:
            raise DatasetError(f"the events' column '{name}' has a name that examples need; rename it in the source")
    return ExampleBuilder.fit(
        prepared.dataset,
        SPLIT,
        causal_features=recipe.causal_features,
        specs=(*recipe.features, *(FeatureSpec(name=name, kind="vector") for name in prepared.stores)),
        vectors=vectors_of(prepared),
        history_length=ranker.history,
        use_user_id=ranker.use_user_id,
        use_item_id=ranker.use_item_id,
    )


def vectors_of(prepared: Prepared) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Per modality the vectors of the items, and which are present."""
    return {name: (np.asarray(store.vectors), np.asarray(store.present)) for name, store in prepared.stores.items()}


def _examples(recipe: Recipe, ranker: RankerConfig, prepared: Prepared, part: str) -> tuple[pl.DataFrame, int]:
    """The examples of a part, and how many negatives could not be drawn."""
    labels = sorted({column for task in ranker.tasks for column in task.columns})
    dataset = prepared.dataset
    frame = examples_of(dataset, SPLIT, Part[part.upper()], labels)
    if not ranker.draws_negatives:
        return frame, 0
    rows = frame["event"].to_numpy()
    drawn = draw_negatives(
        dataset.events, dataset.split(SPLIT), rows, dataset.num_indices, ranker.negatives, NEGATIVES_SEED
    )
    return with_negatives(frame, drawn), drawn.missing


def ranker_of(recipe: Recipe) -> RankerConfig:
    """The ranker of a recipe that has one."""
    assert recipe.ranker is not None
    return recipe.ranker


def build_ranker(recipe: Recipe, data: RankingData, model: Config | None = None) -> Ranker:
    """The untrained ranker (or another one of the same inputs and tasks); equal for equal seeds."""
    torch.manual_seed(recipe.seed)
    ranker = ranker_of(recipe)
    config: Any = ranker.model if model is None else model
    built: Ranker = config.build(data.builder.schema, ranker.tasks, data.statistics)
    return built


def check_ranker(recipe: Recipe, data: RankingData, model_config: Config | None = None) -> None:
    """Find out before any work whether the training can begin.

    Raises:
        ConfigError: something in the recipe does not fit the data, the model or the machine.
    """
    choose_precision(recipe.training, choose_device(recipe.training.device))
    objective = ranking_objective(recipe, data, build_ranker(recipe, data, model_config))
    for stage in ranker_stages(recipe, objective, is_sibling=model_config is not None):
        select_trainable(objective.model, stage)
        objective.criterion(stage)


def ranking_objective(recipe: Recipe, data: RankingData, model: Ranker) -> RankingObjective:
    """What a ranker minimises: the train rows."""
    return RankingObjective(model, data.table, data.rows["train"], data.targets, recipe.seed)


def ranker_stages(
    recipe: Recipe, objective: RankingObjective, *, is_sibling: bool = False
) -> tuple[RankerStageConfig, ...]:
    """The stages of the training of an untrained ranker.

    A sibling whose tasks share no parameter has nothing to weigh: each task is trained by its plain loss.
    """
    stages = recipe.training.ranker
    if not is_sibling or all(isinstance(stage.weighting, FixedConfig) for stage in stages) or objective.shares():
        return stages
    return tuple(stage.model_copy(update={"weighting": FixedConfig()}) for stage in stages)


@dataclass(frozen=True)
class TrainedRanker:
    """A ranker as it was at its best validation."""

    model: Ranker
    """The model, on the training device, in evaluation mode."""
    state: TrainingState
    """Where the training ended."""


def train_ranker(
    recipe: Recipe,
    prepared: Prepared,
    data: RankingData,
    directory: Path,
    console: Console,
    *,
    resume: bool,
    model_config: Config | None = None,
) -> TrainedRanker:
    """Run all stages; with `resume` from the last checkpoint in `directory`."""
    settings, ranker = recipe.training, ranker_of(recipe)
    device = choose_device(settings.device)
    model = build_ranker(recipe, data, model_config).to(device)
    objective = ranking_objective(recipe, data, model)
    stages = ranker_stages(recipe, objective, is_sibling=model_config is not None)
    if stages != settings.ranker:
        console.print("  its tasks share nothing, so their losses are summed with fixed weights", highlight=False)

    watch = GateWatch({name: torch.from_numpy(t.mask[data.rows["valid"]]) for name, t in data.targets.items()})

    def validate() -> Mapping[str, float]:
        return ranking_metrics(predict(model, data, "valid", watch=watch), ranker.tasks, data.statistics)

    def gates() -> Mapping[str, Any]:
        found = watch.summary()
        return {"gates": found} if found else {}

    directory.mkdir(parents=True, exist_ok=True)
    metric = settings.ranker_metric
    trainer = Trainer(
        objective=objective,
        stages=stages,
        validate=validate,
        directory=directory,
        identity=ranker_identity(recipe, prepared, model_config),
        seed=recipe.seed,
        config=TrainerConfig(
            metric=metric,
            higher_is_better=metric == SELECTION or is_higher_better(metric),
            shown=tuple(main_metric(task) for task in ranker.tasks),
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            precision=choose_precision(settings, device),
        ),
        log=lambda kept_bytes, kept_updates: TrainingLog(
            directory / "history.jsonl",
            console,
            tensorboard=settings.tensorboard,
            keep_bytes=kept_bytes,
            keep_update=kept_updates,
        ),
        device=device,
        workers=settings.workers,
        hooks=(LossFreeBalance(),),
        beside=gates,
    )
    state = trainer.run(resume=resume)
    return TrainedRanker(model.eval(), state)


def main_metric(task: TaskConfig) -> str:
    """The metric that stands for a task: AUC (binary, multiclass) or RMSE (regression, ordinal)."""
    return metric_name(task, MAIN_METRIC[task.type])


def predict(
    model: Ranker, data: RankingData, part: str, name: str = "ranker", watch: GateWatch | None = None
) -> list[Predictions]:
    """The predictions of a part, each task on the rows of its population that have a label."""
    scores = predict_rows(model, data.table, data.rows[part], watch=watch)
    return [task_predictions(task, data, part, scores[task.name], name) for task in model.tasks]


def task_predictions(
    task: TaskConfig, data: RankingData, part: str, scores: NDArray[np.float64], name: str
) -> Predictions:
    """Predictions of one task from scores for all rows of a part."""
    rows = data.rows[part]
    target = data.targets[task.name].take(rows)
    return Predictions.of(task, data.table.users[rows], target, scores, data.table.negative[rows], name)


def ranking_metrics(
    predictions: list[Predictions], tasks: tuple[TaskConfig, ...], statistics: Mapping[str, TaskStatistics]
) -> dict[str, float]:
    """All metrics of all tasks, and `selection`."""
    metrics = {name: value for one in predictions for name, value in evaluate_predictions(one).items()}
    learned = [task for task in tasks if task.weight > 0]  # what another task says by chance selects nothing
    return {SELECTION: selection_value(metrics, learned, statistics)} | metrics


def ranker_identity(recipe: Recipe, prepared: Prepared, model_config: Config | None) -> str:
    """Fingerprint of everything that decides the trained parameters."""
    plain = plain_recipe(recipe)
    return fingerprint(
        {
            "data": prepared.identity,
            "features": plain["features"],
            "causal_features": plain["causal_features"],
            "ranker": {key: value for key, value in plain["ranker"].items() if key != "trials"},
            "model": None if model_config is None else repr(model_config),
            "stages": plain["training"]["ranker"],
            "metric": recipe.training.ranker_metric,
            "precision": recipe.training.precision,
            "seed": recipe.seed,
        }
    )
