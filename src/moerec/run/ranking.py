"""The second stage of a run: baselines tuned, the ranker trained, all judged on the test part, once."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import Config, implementation, kind_of, validate
from moerec.errors import ConfigError
from moerec.evaluation.curves import curves
from moerec.evaluation.prediction_intervals import compare_predictions, describe, prediction_intervals
from moerec.evaluation.predictions import Predictions, describe_rows, metric_name
from moerec.files import atomic_file, write_json
from moerec.models.roles import Ranker
from moerec.recipe import Recipe
from moerec.run.prepare import Prepared
from moerec.run.ranker import (
    FOLDER,
    RankingData,
    TrainedRanker,
    check_labels,
    check_metric,
    check_ranker,
    main_metric,
    predict,
    ranker_of,
    ranking_data,
    ranking_metrics,
    task_predictions,
    train_ranker,
)
from moerec.run.ranking_baselines import Scores, tuned_ranking_baselines
from moerec.run.ranking_details import (
    IMPORTANCE_WORDS,
    describe_gates,
    example_predictions,
    feature_importance,
    slice_metrics,
)
from moerec.tasks import prediction_columns

CAUSAL_WORDS = (
    "what an example shows of its user was known strictly before its own timestamp (events of every part); what it "
    "shows of items comes from train events strictly before it; vocabularies and transforms are fitted on the train "
    "part"
)
STATIC_WORDS = (
    "columns and vectors of users and items as their tables have them, nothing is computed from events; vocabularies "
    "and transforms are fitted on the train part"
)
CURVES, EXAMPLES, PREDICTIONS = "ranking_curves.json", "ranking_examples.json", "predictions.parquet"


@dataclass
class Ranking:
    """What the second stage of a run works with and has found so far."""

    recipe: Recipe
    prepared: Prepared
    data: RankingData
    scores: dict[str, Scores] = field(default_factory=dict)
    """Scores of the plain baselines by kind, part and task."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What their tuning found."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Baselines that cannot be fitted here, with the reason."""
    siblings: dict[str, TrainedRanker] = field(default_factory=dict)
    """Other kinds of rankers, trained alike."""

    @classmethod
    def of(cls, recipe: Recipe, prepared: Prepared, console: Console, *, judged: bool) -> Ranking:
        """Make the examples, and find out now what cannot work.

        Raises:
            MoerecError: something in the recipe does not fit the data, the model or the machine.
        """
        data = ranking_data(recipe, prepared, console)
        check_ranker(recipe, data)
        check_labels(ranker_of(recipe).tasks, data, ("valid", "test") if judged else ("valid",))
        check_metric(recipe, data)
        for kind in recipe.ranking_baselines.siblings if judged else ():
            try:
                check_ranker(recipe, data, sibling_config(recipe, kind))
            except ConfigError as error:
                raise ConfigError(f"ranking_baselines.siblings: '{kind}': {error}") from None
        return cls(recipe, prepared, data)

    def train(
        self,
        directory: Path,
        artifacts: ArtifactCache,
        timing: dict[str, float],
        console: Console,
        *,
        resume: bool,
        judged: bool,
    ) -> TrainedRanker:
        """Tune the baselines and train the siblings if the run is judged, and train the ranker."""
        recipe, prepared, data = self.recipe, self.prepared, self.data
        timing["features_s"] = round(data.seconds, 3)
        settings = recipe.ranking_baselines
        if judged and settings.kinds != ():
            console.print(
                f"ranking baselines, tuned on validation with {settings.trials} settings each and task", highlight=False
            )
            found = tuned_ranking_baselines(recipe, prepared, data, artifacts, console)
            self.scores, self.details, self.left_out = found
            for kind, reason in self.left_out.items():
                console.print(f"  {kind:<20} left out: {reason}", highlight=False)
            timing["ranking_baselines_s"] = round(sum(entry["seconds"] for entry in self.details.values()), 3)
        place = directory / FOLDER
        if judged:
            for kind in settings.siblings:
                console.print(f"ranker {kind}, for comparison", highlight=False)
                config = sibling_config(recipe, kind)
                self.siblings[kind] = train_ranker(
                    recipe, prepared, data, place / kind, console, resume=resume, model_config=config
                )
        console.print(f"ranker {kind_of('ranker', ranker_of(recipe).model)}", highlight=False)
        trained = train_ranker(recipe, prepared, data, place, console, resume=resume)
        timing["train_ranker_s"] = round(trained.state.seconds, 3)
        timing["rows_per_second"] = round(trained.state.targets / max(trained.state.seconds, 1e-9), 1)
        return trained

    def judge(self, trained: TrainedRanker, timing: dict[str, float], directory: Path) -> dict[str, Any]:
        """Score the test part, once, with the selected model and everything beside it.

        Returns:
            what metrics.json says of the second stage.
        """
        started = time.perf_counter()
        recipe, data, tasks = self.recipe, self.data, ranker_of(self.recipe).tasks
        test = predict(trained.model, data, "test", recipe.name)
        ranking: dict[str, Any] = {
            "tasks": self._describe_tasks(test),
            "test": ranking_metrics(test, tasks, data.statistics),
            "valid": ranking_metrics(predict(trained.model, data, "valid"), tasks, data.statistics),
            "intervals": self._intervals(test),
            "slices": slice_metrics(data, self.prepared, test),
        }
        others = {kind: self._baseline_predictions(kind, "test") for kind in self.scores}
        beside = {kind: predict(sibling.model, data, "test", kind) for kind, sibling in self.siblings.items()}
        for key, group in (("baseline", others), ("sibling", beside)):
            ranking[f"{key}s"] = {kind: ranking_metrics(found, tasks, data.statistics) for kind, found in group.items()}
            ranking[f"{key}_details"] = {
                kind: self.details.get(kind, {}) | self._beside(test, found) for kind, found in group.items()
            }
        for kind, sibling in self.siblings.items():
            ranking["sibling_details"][kind]["parameters"] = _parameters(sibling)
        ranking["importance"] = feature_importance(trained.model, data, recipe.seed)
        gates = describe_gates(trained.model, data)
        ranking |= {} if gates is None else {"experts": gates}
        ranking["model"] = {
            "kind": kind_of("ranker", trained.model.config),
            "parameters": _parameters(trained),
            "trials": ranker_of(recipe).trials,
            "best_update": trained.state.best_update,
            "updates": trained.state.total_updates,
            "inputs": [spec.name for spec in data.builder.schema.specs],
        }
        ranking["protocol"] = self._words()
        self._write_files(trained, test, directory)
        timing["evaluate_ranker_s"] = round(time.perf_counter() - started, 3)
        return ranking

    def judge_again(self, model: Ranker, part: str) -> dict[str, Any]:
        """Metrics, intervals and slices of a saved ranker on one part."""
        predictions = predict(model, self.data, part, self.recipe.name)
        return {
            part: ranking_metrics(predictions, ranker_of(self.recipe).tasks, self.data.statistics),
            "intervals": self._intervals(predictions),
            "slices": slice_metrics(self.data, self.prepared, predictions, part),
            "protocol": self._words(),
        }

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, 7])

    def _intervals(self, predictions: list[Predictions]) -> dict[str, list[float]]:
        found = prediction_intervals(predictions, self._generator(), resamples=self.recipe.evaluation.resamples)
        return {name: list(interval) for name, interval in found.items()}

    def _baseline_predictions(self, kind: str, part: str) -> list[Predictions]:
        scores = self.scores[kind][part]
        return [
            task_predictions(task, self.data, part, scores[task.name], kind) for task in ranker_of(self.recipe).tasks
        ]

    def _beside(self, model: list[Predictions], other: list[Predictions]) -> dict[str, Any]:
        """Intervals of another model, and the paired comparison of the ranker with it."""
        against: dict[str, Any] = {}
        for ours, theirs in zip(model, other, strict=True):
            compared = compare_predictions(ours, theirs, self._generator(), resamples=self.recipe.evaluation.resamples)
            against |= {name: asdict(entry) for name, entry in compared.items()}
        return {"intervals": self._intervals(other), "against_model": against}

    def _describe_tasks(self, test: list[Predictions]) -> dict[str, Any]:
        described = {}
        for predictions in test:
            task, target = predictions.task, self.data.targets[predictions.task.name]
            counts = (metric_name(task, "rows"), metric_name(task, "users"))
            described[task.name] = {
                "type": task.type,
                "describe": task.describe(),
                "label": task.label,
                "at_least": task.at_least,
                "values": list(task.values),
                "train_shares": list(self.data.statistics[task.name].shares),
                "population": task.population,
                "metric": main_metric(task),
                "rows": {part: int(target.mask[rows].sum()) for part, rows in self.data.rows.items()},
            } | {name.split("/")[1]: value for name, value in describe_rows(predictions).items() if name not in counts}
        return described

    def _words(self) -> dict[str, str]:
        recipe, ranker = self.recipe, ranker_of(self.recipe)
        words = {
            "split": recipe.dataset.split.describe(),
            "features": CAUSAL_WORDS if self.data.builder.looks_back else STATIC_WORDS,
            "populations": "; ".join(f"{task.name}: {task.describe()}" for task in ranker.tasks),
        }
        words["importance"] = IMPORTANCE_WORDS
        if ranker.draws_negatives:
            missing = self.data.missing_negatives
            lacking = f"; {missing:,} could not be drawn, their users had met all that there was" if missing else ""
            words["negatives"] = ranker.negatives.describe() + lacking
        words |= describe(resamples=recipe.evaluation.resamples)
        words["selection"] = (
            f"the best update by validation {recipe.training.ranker_metric}; baselines by each task's own metric on "
            "validation; the test part is scored once, after that"
        )
        if self.left_out:
            words["baselines left out"] = "; ".join(f"{kind}: {reason}" for kind, reason in self.left_out.items())
        return words

    def _write_files(self, trained: TrainedRanker, test: list[Predictions], directory: Path) -> None:
        write_json(directory / CURVES, {one.task.name: curves(one) for one in test})
        count, seed = self.recipe.evaluation.examples, self.recipe.seed
        examples = example_predictions(trained.model, self.data, self.prepared, count, seed)
        write_json(directory / EXAMPLES, examples)
        with atomic_file(directory / PREDICTIONS) as temporary:
            self._prediction_frame(test).write_parquet(temporary)

    def _prediction_frame(self, test: list[Predictions]) -> pl.DataFrame:
        """Test predictions in raw ids, one row for each example and task, so that others can judge them.

        The columns of class probabilities, `<task>_<value>`, are null in the rows of other tasks.
        """
        table, dataset = self.data.table, self.prepared.dataset
        frames = []
        for one in test:
            rows = self.data.rows["test"]
            rows = rows[self.data.targets[one.task.name].mask[rows]]
            labels = np.asarray(one.task.values)[one.labels.astype(np.int64)] if one.task.num_classes else one.labels
            prediction, *probabilities = prediction_columns(one.task, one.scores).items()
            frames.append(
                pl.DataFrame(
                    {
                        "task": pl.Series([one.task.name] * len(rows), dtype=pl.String),
                        "user_id": dataset.user_ids(table.users[rows]),
                        "item_id": dataset.item_ids(table.items[rows]),
                        "timestamp": pl.Series(
                            [None] * len(rows) if table.timestamps is None else table.timestamps[rows], dtype=pl.Int64
                        ),
                        "negative": table.negative[rows],
                        "label": labels.astype(np.float32),
                        "prediction": prediction[1].astype(np.float32),
                    }
                    | {name: column.astype(np.float32) for name, column in probabilities}
                )
            )
        return pl.concat(frames, how="diagonal")


def sibling_config(recipe: Recipe, kind: str) -> Config:
    """Another kind of ranker with every key that it shares with the recipe's own.

    Raises:
        ConfigError: it is no other kind, or lacks a key of its own.
    """
    config_type: Any = implementation("ranker", kind, "ranking_baselines.siblings")
    ours = ranker_of(recipe).model
    if config_type is type(ours):
        raise ConfigError("this is the ranker itself; name other kinds")
    shared = {name: getattr(ours, name) for name in config_type.model_fields if name in type(ours).model_fields}
    return validate(config_type, shared, kind)


def _parameters(trained: TrainedRanker) -> int:
    return sum(parameter.numel() for parameter in trained.model.parameters())
