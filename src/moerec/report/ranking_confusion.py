"""Which classes a ranker takes for which: rows by true and by likeliest class, as a heat map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Figure
from moerec.report.heat_map import heat_map
from moerec.report.labels import as_number, count, percent
from moerec.report.ranking_finding import PredictedTask
from moerec.tasks import value_text

_MOST_CLASSES = 15
"""More would not be legible; the most frequent ones are shown."""


def confusion_figure(task: PredictedTask, recorded: Mapping[str, Any]) -> Figure | None:
    """The confusion matrix of a task, each row in shares of its true class; None if there is none on record."""
    names, counts = _names(recorded), _counts(recorded)
    if not names or len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        return None
    rows = [sum(row) for row in counts]
    frequent = sorted(range(len(names)), key=lambda place: -rows[place])[:_MOST_CLASSES]
    shown = [place for place in sorted(frequent) if rows[place] or sum(row[place] for row in counts)]
    shares = [[counts[true][said] / rows[true] if rows[true] else None for said in shown] for true in shown]
    labels = [f"true {names[place]} ({count(rows[place])} rows)" for place in shown]
    told = "; ".join(
        f"{label}: " + ", ".join(f"{names[said]} {percent(share, 0)}" for said, share in zip(shown, row, strict=True))
        for label, row in zip(labels, shares, strict=True)
    )
    chart = heat_map(
        labels,
        [names[place] for place in shown],
        shares,
        description=f"Confusion matrix of {task.name}, {task.where}. {told}.",
        value_format=lambda value: percent(value, 0),
        high=1.0,
    )
    left_out = len(names) - len(shown)
    more = (
        f" The {len(shown)} most frequent of {len(names)} classes." if left_out and len(shown) == _MOST_CLASSES else ""
    )
    return Figure(
        chart,
        f"Confusion matrix of {task.name} ({task.where}): of the rows of a true class (rows) the share that is said to "
        f"have each class (columns), by the likeliest class. On the diagonal they are right.{more}",
    )


def _names(recorded: Mapping[str, Any]) -> list[str]:
    found = recorded.get("values")
    values = [as_number(value) for value in found] if isinstance(found, list) else []
    return [value_text(value) if value is not None else "?" for value in values]


def _counts(recorded: Mapping[str, Any]) -> list[list[float]]:
    found = recorded.get("count")
    rows = [row if isinstance(row, list) else [] for row in found] if isinstance(found, list) else []
    return [[as_number(value) or 0.0 for value in row] for row in rows]
