"""The section of example predictions: what the ranker saw, what it said of each task, and which expert spoke."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Block, Cell, Column, ExampleCase, ExampleItem, Figure, Row, Table
from moerec.report.curve_plots import Panel, weight_columns
from moerec.report.expert_grid import task_gates
from moerec.report.finding import numbers, part
from moerec.report.labels import MISSING, as_number, listed, number, percent, system_name
from moerec.report.mixture import numbered, vector
from moerec.report.ranking_finding import PredictedTask, RankingFinding

_HISTORY_SHOWN = 8


def ranking_examples(
    finding: RankingFinding, examples: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]
) -> Block | None:
    """Example predictions in the order of the file; None without any."""
    names = {task: gate.names for task, gate in task_gates(metrics).items()}
    cases = [_case(finding, example, names) for example in examples]
    if not cases:
        return None
    populations = listed([f"“{population}”" for population in finding.populations])
    spoke = (
        " The small columns are the weights that the gate of each task gave to the experts for this row; the strongest "
        "is filled and carries its number."
        if any(case.figure for case in cases)
        else ""
    )
    return Block(
        "ranking-examples",
        "Example predictions",
        texts=[
            f"A few test rows, to see what the numbers are about; they prove nothing. The tasks were measured on "
            f"{populations}; each row says whether it is a real one or a drawn negative.{spoke}"
        ],
        cases=cases,
    )


def _case(finding: RankingFinding, example: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> ExampleCase:
    history = example.get("history")
    items = [item for item in history if isinstance(item, Mapping)] if isinstance(history, list) else []
    length = max(int(as_number(example.get("history_length")) or 0), len(items))
    shown = [_item(item) for item in items[-_HISTORY_SHOWN:]]
    title = str(example.get("title") or f"item {example.get('item_id', '?')}")
    return ExampleCase(
        summary=f"User {example.get('user_id', '?')} – {title}",
        outcome=_outcome(finding, example),
        earlier=length - len(shown),
        history=shown,
        predictions=_predictions(finding, example),
        figure=_experts(finding, example, names),
        features=[(name, _value(value)) for name, value in part(example, "features").items()],
    )


def _item(item: Mapping[str, Any]) -> ExampleItem:
    return ExampleItem(
        title=str(item.get("title") or f"item {item.get('item_id', '?')}"),
        details=str(item.get("details") or ""),
        when=str(item.get("when") or ""),
        score=_value(item["label"]) if item.get("label") is not None else "",
    )


def _outcome(finding: RankingFinding, example: Mapping[str, Any]) -> str:
    """What really happened, then what was predicted."""
    about = [str(example[key]) for key in ("details", "when") if example.get(key)]
    labels = numbers(part(example, "labels"))
    if example.get("negative"):
        truth = "drawn negative, never met by the user"
    else:
        truth = listed([f"{name} {number(value, _places(value))}" for name, value in labels.items()]) or "real row"
    predictions = numbers(part(example, "predictions"))
    said = [
        f"{task.name} {_said(task, predictions[task.name])}{_likeliest(task, example)}"
        for task in _unique(finding)
        if task.name in predictions
    ]
    return " · ".join([*about, f"true: {truth}", *([f"predicted: {listed(said)}"] if said else [])])


def _unique(finding: RankingFinding) -> list[PredictedTask]:
    """Each task once, even if it was measured on two populations."""
    return list({task.name: task for task in reversed(finding.tasks)}.values())[::-1]


def _said(task: PredictedTask, value: float | None) -> str:
    """A prediction as a reader takes it: a probability in per cent, a class as it is, a number with two decimals."""
    if task.kind == "multiclass" and value is not None:
        return number(value, _places(value))
    return percent(value, 0) if task.kind == "binary" else number(value, 2)


def _likeliest(task: PredictedTask, example: Mapping[str, Any]) -> str:
    """How likely the likeliest class is, and which one where the prediction does not say it; empty without classes."""
    recorded = part(example, "probabilities").get(task.name)
    found = [as_number(value) for value in recorded] if isinstance(recorded, list) else []
    known = [value for value in found if value is not None]
    if not known or len(known) != len(task.values):
        return ""
    best = max(known)
    value = task.values[known.index(best)]
    which = f"{number(value, _places(value))}, " if task.kind == "ordinal" else ""
    return f" ({which}{percent(best, 0)})"


def _truth(task: PredictedTask, example: Mapping[str, Any]) -> str:
    """The label of a task, as far as the example's columns tell it."""
    labels = numbers(part(example, "labels"))
    if example.get("negative"):
        return "no" if task.population == "reviews+negatives" else MISSING
    if task.is_whether_met:
        return "yes"
    if task.label in labels and task.at_least is not None:
        return "yes" if labels[task.label] >= task.at_least else "no"
    value = labels.get(task.name, labels.get(task.label))
    if value is None:
        return MISSING
    return (
        {0.0: "no", 1.0: "yes"}.get(value, number(value, 2)) if task.kind == "binary" else number(value, _places(value))
    )


def _predictions(finding: RankingFinding, example: Mapping[str, Any]) -> Table | None:
    """Label, prediction and the baselines' predictions, one row a task."""
    predictions, baselines = numbers(part(example, "predictions")), part(example, "baselines")
    tasks = [task for task in _unique(finding) if task.name in predictions]
    if not tasks:
        return None
    others = {name: numbers(part(baselines, name)) for name in baselines}
    rows = []
    for task in tasks:
        note = _likeliest(task, example).strip(" ()")
        cells = [Cell(_truth(task, example)), Cell(_said(task, predictions[task.name]), note)]
        cells += [Cell(_said(task, values.get(task.name))) for values in others.values()]
        rows.append(Row(f"{task.name} ({task.population})", cells))
    columns = [Column("True"), Column(finding.model.name), *(Column(system_name(name)) for name in others)]
    return Table("What really was, and what was predicted.", "Task (population)", columns, rows)


def _experts(finding: RankingFinding, example: Mapping[str, Any], names: Mapping[str, Sequence[str]]) -> Figure | None:
    recorded = part(example, "experts")
    panels = []
    for task in _unique(finding):
        weights = vector(recorded.get(task.name))
        if weights:
            panels.append(Panel(task.name, weights, numbered(list(names.get(task.name, ())), len(weights), "expert")))
    if not panels:
        return None
    told = "; ".join(
        f"{panel.title}: "
        + ", ".join(f"{name} {number(value, 2)}" for name, value in zip(panel.names, panel.values, strict=True))
        for panel in panels
    )
    chart = weight_columns(
        panels,
        description=f"Weights of the experts for this row. {told}.",
        value_format=lambda value: number(value, 2),
    )
    return Figure(chart, f"Which expert spoke: {'; '.join(_loudest(panel) for panel in panels)}.")


def _loudest(panel: Panel) -> str:
    weights = [value if value is not None else -1.0 for value in panel.values]
    place = weights.index(max(weights))
    return f"{panel.title}, {panel.names[place]} ({number(panel.values[place], 2)})"


def _value(value: Any) -> str:
    """An input or a label as text: numbers short, lists joined, what is absent said to be so."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "missing"
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value) or "none"
    found = as_number(value)
    return str(value) if found is None else number(found, _places(found))


def _places(value: float) -> int:
    """Decimals of an input: none for whole numbers, otherwise about three digits that count."""
    if value == int(value):
        return 0
    return 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
