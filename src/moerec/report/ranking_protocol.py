"""The section on how a ranker's numbers came about: the model, its inputs, the tasks, and what they do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block
from moerec.report.finding import part
from moerec.report.labels import as_number, count, listed, plain, plural
from moerec.report.ranking_finding import RankingFinding

_TITLES = {
    "split": "Split",
    "features": "Features",
    "populations": "Populations",
    "negatives": "Negatives",
    "selection": "Selection",
    "interval": "Intervals",
    "test": "Tests",
}


def ranking_protocol(finding: RankingFinding, metrics: Mapping[str, Any]) -> Block:
    """How the numbers came about, in words, and what they do not show."""
    recorded, model = part(metrics, "ranking", "protocol"), part(metrics, "ranking", "model")
    terms = [("Model", _model(finding, model))]
    inputs = model.get("inputs") or model.get("features")
    if isinstance(inputs, list) and inputs:
        terms.append(("Inputs", f"{plural(len(inputs), 'feature')}: {', '.join(str(name) for name in inputs)}."))
    terms += [(f"Task {task.name}", f"{task.words or 'no words recorded'}; {task.where}.") for task in finding.tasks]
    order = [key for key in _TITLES if key in recorded] + [key for key in recorded if key not in _TITLES]
    terms += [(_TITLES.get(key, plain(key)), str(recorded[key])) for key in order if recorded[key]]
    return Block(
        "ranking-protocol",
        "Protocol of the predictions",
        terms=terms,
        points=_limits(finding, _is_table(part(metrics, "dataset"))),
        points_title="What these predictions do not show",
    )


def _model(finding: RankingFinding, model: Mapping[str, Any]) -> str:
    facts = [finding.model.name]
    facts += [f"{count(model['parameters'])} parameters"] if as_number(model.get("parameters")) is not None else []
    trials = as_number(model.get("trials"))
    if trials is not None:
        facts.append(f"chosen from {count(trials)} trials" if trials > 1 else "not tuned (1 trial)")
    updates, best = as_number(model.get("updates")), as_number(model.get("best_update"))
    facts += [f"{plural(updates, 'update')}"] if updates is not None else []
    facts += [f"best at update {count(best)}"] if best is not None else []
    return f"{', '.join(facts)}."


def _is_table(dataset: Mapping[str, Any]) -> bool:
    """Whether the data are rows of a table: one event for each user, and no times."""
    return part(dataset, "events_per_user").get("max") == 1 and "first" not in dataset


def _limits(finding: RankingFinding, is_table: bool) -> list[str]:
    """The limits that hold for this run, derived from what it recorded."""
    limits = [
        "The test rows were drawn from the same table as the train rows: of rows from another time or place they say "
        "nothing."
        if is_table
        else "They are measured on rows that users chose to rate: of items that nobody chose they say nothing, and "
        "nothing about an online effect."
    ]
    drawn = [task.name for task in finding.tasks if task.population == "reviews+negatives"]
    if drawn:
        limits.append(
            f"Metrics on reviews+negatives ({listed(drawn)}) tell real rows from drawn ones: what a user meets, not "
            "what a user likes. This is easier, depends on how the negatives were drawn, and must not be compared with "
            "metrics on reviews."
        )
    if any(task.kind in ("binary", "multiclass") for task in finding.tasks):
        limits.append("AUC says nothing about the size of a probability; calibration and log loss do.")
    seeds = (
        "The intervals cover the choice of users, not the luck of initialisation: a" if finding.model.intervals else "A"
    )
    limits.append(f"This is one training with one seed. {seeds} comparison of methods needs several seeds.")
    tests = sum(len(system.against_model) for system in finding.baselines)
    if tests > 1:
        limits.append(
            f"The p-values stand for one comparison each; this page does not adjust them for there being {tests}."
        )
    return [*limits, *_unequal_tuning(finding)]


def _unequal_tuning(finding: RankingFinding) -> list[str]:
    """Where the model and the best baseline of a task were tuned with different effort."""
    own, limits = finding.model.trials, {}
    for task in finding.tasks:
        best = next(iter(finding.ranked_baselines(task)), None)
        if best is None or own is None or best.trials is None or own == best.trials:
            continue
        gain = finding.gain(task, task.main, best) or 0.0
        # More trials of the loser take nothing from the winner.
        if (gain > 0) == (own > best.trials):
            limits[best.name] = (
                f"The model was tuned with {plural(own, 'trial')}, {best.name} with {count(best.trials)}: part of a "
                "lead may come from tuning."
            )
    return list(limits.values())
