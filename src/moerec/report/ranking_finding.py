"""What a ranker's run found: its tasks with their populations, and the systems measured on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from moerec.evaluation.predictions import HIGHER_IS_BETTER
from moerec.report.finding import Bounds, Comparison, comparison, intervals, numbers, part
from moerec.report.labels import as_number, plain, system_name

UNNAMED = "not recorded"
"""The population of a task for which none was written down."""

POPULATIONS = {
    "reviews": "real rows of the events, nothing drawn",
    "reviews+negatives": "real rows of the events and drawn items that the user never met",
}
"""The populations in words."""

_LABELS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
    "ece": "ECE",
    "average_precision": "Average precision",
    "f1": "F1",
    "accuracy": "Accuracy",
    "brier": "Brier score",
    "ece_mass": "ECE by mass",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "macro_f1": "Macro F1",
    "kappa": "Kappa",
}
"""Measures in the usual order; others follow."""
_MAIN = ("auc", "rmse")
"""What a task is compared on: the first of these that was measured."""
_DESCRIPTIONS = {
    "rows",
    "users",
    "positive_share",
    "majority_accuracy",
    "gauc_users_left_out",
    "gauc_rows_left_out",
    "label_mean",
    "label_deviation",
    "label_entropy",
}
"""What the files say of the rows in the form of a metric."""


def measure_label(measure: str) -> str:
    """The usual name of a measure."""
    return _LABELS.get(measure, plain(measure))


def direction(measure: str) -> int:
    """1 where more is better, -1 where less is, 0 where that is not known."""
    return {True: 1, False: -1, None: 0}[HIGHER_IS_BETTER.get(measure)]


def arrow(measure: str) -> str:
    """The label with the direction of the better: `AUC ↑`."""
    return measure_label(measure) + ("", "\u00a0↑", "\u00a0↓")[direction(measure)]


@dataclass(frozen=True)
class PredictedTask:
    """A task as it was measured on one population; a task that was measured on two is two of these."""

    name: str
    kind: str
    """binary, regression, multiclass or ordinal; empty if not recorded."""
    words: str
    """What it predicts."""
    population: str
    rows: Mapping[str, float]
    """Rows by split."""
    label: str
    """The label column that it reads; empty if not recorded."""
    is_whether_met: bool
    """Whether it has no label column: it asks whether the user met the item at all."""
    at_least: float | None
    """From this value of the column on, the label of a binary task is 1."""
    positive_share: float | None
    label_mean: float | None
    label_deviation: float | None
    measures: Sequence[str]
    """What was measured of it, in the usual order."""
    suffix: str = ""
    """What the names of its metrics end in."""
    described_rows: Mapping[str, float] = field(default_factory=dict)
    """What the test rows are like: `majority_accuracy`, `gauc_users_left_out` and so on."""
    values: Sequence[float] = ()
    """The label's value of each class; empty for a task without classes."""

    @property
    def main(self) -> str:
        """The measure on which it is compared."""
        known = [measure for measure in self.measures if direction(measure)]
        return next((measure for measure in _MAIN if measure in known), (known or list(self.measures))[0])

    def key(self, measure: str) -> str:
        """The metric as the files call it: `like/auc`, `like/auc/reviews+negatives`."""
        return f"{self.name}/{measure}{self.suffix}"

    @property
    def anchor(self) -> str:
        """The name with its population, as a file may call it that holds one entry a task."""
        return f"{self.name}{self.suffix}"

    @property
    def where(self) -> str:
        """The population as it stands in every heading and caption."""
        return f"population: {self.population}"

    @property
    def described(self) -> str:
        """Name, words and population in one line."""
        return f"{self.name}{f' – {self.words}' if self.words else ''} ({self.where})"


@dataclass(frozen=True)
class Predictor:
    """The model, a sibling of it or a baseline, with all that was recorded of it; metrics by their full key."""

    name: str
    role: Literal["model", "sibling", "baseline"]
    test: Mapping[str, float]
    valid: Mapping[str, float]
    intervals: Mapping[str, Bounds]
    trials: float | None
    config: Mapping[str, Any]
    against_model: Mapping[str, Comparison]
    """Paired tests by metric; the difference is model minus this one."""


@dataclass(frozen=True)
class RankingFinding:
    """The measured systems and their tasks."""

    tasks: Sequence[PredictedTask]
    model: Predictor
    siblings: Sequence[Predictor]
    baselines: Sequence[Predictor]

    @property
    def systems(self) -> list[Predictor]:
        """The model, its siblings, the baselines."""
        return [self.model, *self.siblings, *self.baselines]

    def systems_of(self, task: PredictedTask) -> list[Predictor]:
        """Those that were measured on a task: the model, its siblings, the baselines, best first."""
        ranked = self.ranked_baselines(task)
        others = [one for one in self.baselines if one not in ranked]
        everyone = [self.model, *self.siblings, *ranked, *others]
        return [one for one in everyone if any(task.key(measure) in one.test for measure in task.measures)]

    @property
    def populations(self) -> list[str]:
        """The populations in the order of the tasks."""
        return list(dict.fromkeys(task.population for task in self.tasks))

    def tasks_on(self, population: str) -> list[PredictedTask]:
        """The tasks of one population."""
        return [task for task in self.tasks if task.population == population]

    def ranked_baselines(self, task: PredictedTask) -> list[Predictor]:
        """The baselines with a value of the task's main measure, best first."""
        key, sign = task.key(task.main), direction(task.main) or 1
        return sorted((one for one in self.baselines if key in one.test), key=lambda one: -sign * one.test[key])

    def gain(self, task: PredictedTask, measure: str, other: Predictor) -> float | None:
        """By how much the model is better than another system; negative where it is worse."""
        own, theirs = self.model.test.get(task.key(measure)), other.test.get(task.key(measure))
        return None if own is None or theirs is None else (own - theirs) * direction(measure)

    def decimals(self, task: PredictedTask, measure: str) -> int:
        """As many decimals as the uncertainty allows: four where an interval is narrow, otherwise three."""
        key = task.key(measure)
        tests = [one.against_model[key].interval for one in self.baselines if key in one.against_model]
        widths = [found[1] - found[0] for found in (self.model.intervals.get(key), *tests) if found is not None]
        return 4 if widths and min(widths) < 0.01 else 3


def find_ranking(metrics: Mapping[str, Any]) -> RankingFinding | None:
    """Read the ranking results of `metrics.json`; None if no test metric of a task was recorded."""
    recorded = part(metrics, "ranking")
    kind = str(part(recorded, "model").get("kind") or "ranker")
    details = {**recorded, "trials": part(recorded, "model").get("trials"), "against_model": None, "config": None}
    model = _predictor(system_name(kind), "model", part(recorded, "test"), details)
    tasks = _tasks(part(recorded, "tasks"), model.test)
    if not tasks:
        return None
    siblings, baselines = part(recorded, "siblings"), part(recorded, "baselines")
    of_sibling, of_baseline = part(recorded, "sibling_details"), part(recorded, "baseline_details")
    return RankingFinding(
        tasks,
        model,
        [_predictor(system_name(name), "sibling", part(siblings, name), part(of_sibling, name)) for name in siblings],
        [
            _predictor(system_name(name), "baseline", part(baselines, name), part(of_baseline, name))
            for name in baselines
        ],
    )


def _predictor(
    name: str, role: Literal["model", "sibling", "baseline"], test: Mapping[str, Any], details: Mapping[str, Any]
) -> Predictor:
    against = part(details, "against_model")
    tests = {key: comparison(part(against, key), key) for key in against}
    return Predictor(
        name=name,
        role=role,
        test=numbers(test),
        valid=numbers(part(details, "valid")),
        intervals=intervals(part(details, "intervals")),
        trials=as_number(details.get("trials")),
        config=part(details, "config"),
        against_model={key: test for key, test in tests.items() if test is not None},
    )


def _tasks(recorded: Mapping[str, Any], test: Mapping[str, float]) -> list[PredictedTask]:
    """The tasks with a test metric, in the order of the file; one that is only measured comes last."""
    measured: dict[str, dict[str, list[str]]] = {}
    for key in test:
        name, _, rest = key.partition("/")
        measure, _, population = rest.partition("/")
        if measure:
            measured.setdefault(name, {}).setdefault(population, []).append(measure)
    names = [*(name for name in recorded if name in measured), *(name for name in measured if name not in recorded)]
    found = []
    for name in names:
        for population, measures in measured[name].items():
            alone = len(measured[name]) == 1
            task = _task(name, part(recorded, name), population, alone, measures, test)
            found += [task] if task.measures else []
    return found


def _task(
    name: str, values: Mapping[str, Any], named: str, alone: bool, measures: Sequence[str], test: Mapping[str, float]
) -> PredictedTask:
    """A task on one population; `named` is what the metrics' names say of it, `alone` whether there is one only."""
    own = str(values.get("population") or "")
    # A name without a population means reviews, unless the task has no other metrics and says otherwise itself.
    population = named or (own if alone and own else "reviews" if own else UNNAMED)
    suffix = f"/{named}" if named else ""
    told = {key: test[f"{name}/{key}{suffix}"] for key in measures if key in _DESCRIPTIONS}
    facts = {**numbers(values), **told} if population == own else told
    by_split = values.get("rows") if population == own else None
    rows = numbers(by_split) if isinstance(by_split, Mapping) else {}
    usual = list(_LABELS)
    order = sorted(measures, key=lambda measure: usual.index(measure) if measure in usual else len(usual))
    return PredictedTask(
        name=name,
        kind=str(values.get("type") or ""),
        words=str(values.get("describe") or "") if population == own else "",
        population=population,
        rows=rows or ({"test": facts["rows"]} if "rows" in facts else {}),
        label=str(values.get("label") or ""),
        is_whether_met="label" in values and values["label"] is None,
        at_least=as_number(values.get("at_least")),
        positive_share=facts.get("positive_share"),
        label_mean=facts.get("label_mean"),
        label_deviation=facts.get("label_deviation"),
        measures=[measure for measure in order if measure not in _DESCRIPTIONS],
        suffix=suffix,
        described_rows=facts,
        values=_values(values.get("values")),
    )


def _values(recorded: Any) -> list[float]:
    """The values of the classes; none if one of them is no number."""
    found = [as_number(value) for value in recorded] if isinstance(recorded, list) else []
    return [value for value in found if value is not None] if None not in found else []
