"""The section on what a ranker reads: how much worse each task gets when a feature is shuffled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Folded, Part, Row, Table
from moerec.report.finding import part
from moerec.report.labels import as_number, count, listed, number, signed
from moerec.report.plots import Bar, bar_chart
from moerec.report.ranking_finding import PredictedTask, RankingFinding, measure_label
from moerec.report.ranking_results import population_title

_SHOWN = 15

Importance = list[tuple[str, float, float | None]]
"""Feature, drop and its deviation, the largest drop first."""


def ranking_importance(finding: RankingFinding, metrics: Mapping[str, Any]) -> Block | None:
    """A bar chart for each task; None if no importance was recorded."""
    recorded = part(metrics, "ranking", "importance")
    parts = []
    for population in finding.populations:
        found = [(task, _of_task(recorded, task, finding)) for task in finding.tasks_on(population)]
        found = [(task, features) for task, features in found if features]
        if found:
            figures = [_figure(task, features) for task, features in found]
            folded = [_all(task, features) for task, features in found]
            parts.append(Part(population_title(population), figures=figures, folded=folded))
    if not parts:
        return None
    texts = [
        "Importance by permutation: the values of one feature are dealt out anew among the rows, and the bar says how "
        "much worse the task gets. It tells what this model leans on, not what causes a rating; of two features "
        "that say the same, each can look unimportant."
    ]
    return Block("ranking-importance", "What the ranker reads", texts=texts, parts=parts)


def _of_task(recorded: Mapping[str, Any], task: PredictedTask, finding: RankingFinding) -> Importance:
    """Drop of the task's main measure by feature; an entry may carry the metric's name or the task's."""
    alone = sum(other.name == task.name for other in finding.tasks) == 1
    found: Importance = []
    for feature in recorded:
        values = part(recorded, feature)
        entry = part(values, task.key(task.main)) or (part(values, task.name) if alone else {})
        drop = as_number(entry.get("drop"))
        if drop is not None:
            found.append((feature, drop, as_number(entry.get("deviation"))))
    return sorted(found, key=lambda one: -one[1])


def _figure(task: PredictedTask, features: Importance) -> Figure:
    shown, label = features[:_SHOWN], measure_label(task.main)
    told = "; ".join(f"{name} {signed(drop, 4)}" for name, drop, _ in shown)
    worse = "Rise" if task.main in ("rmse", "mae") else "Fall"
    chart = bar_chart(
        [Bar(name, [drop], [deviation]) for name, drop, deviation in shown],
        x_title=f"{worse} of {label} of {task.name} when shuffled",
        description=f"Importance of the features for {task.name}, {task.where}. {told}.",
        value_format=lambda value: number(value, 4),
    )
    more = f" The {_SHOWN} largest of {count(len(features))}." if len(features) > _SHOWN else ""
    whiskers = " Whiskers: one standard deviation over the repeats." if any(one[2] for one in shown) else ""
    return Figure(chart, f"Importance for {task.name} in {label} ({task.where}).{more}{whiskers}{_verdict(features)}")


def _verdict(features: Importance) -> str:
    """Which features the task does without: their drop is no larger than its own deviation."""
    idle = [name for name, drop, deviation in features if drop <= (deviation or 0.0)]
    if not idle:
        return ""
    names = listed(idle) if len(idle) <= 3 else f"{len(idle)} features"
    return f" Shuffling {names} changes nothing beyond chance."


def _all(task: PredictedTask, features: Importance) -> Folded:
    rows = [Row(name, [Cell(signed(drop, 5)), Cell(number(deviation, 5))]) for name, drop, deviation in features]
    caption = f"How much worse {measure_label(task.main)} of {task.name} gets ({task.where})."
    table = Table(caption, "Feature", [Column("Worse by"), Column("Deviation")], rows)
    return Folded(f"Importance of all features for {task.name} ({task.where})", [table])
