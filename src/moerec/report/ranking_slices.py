"""The section on where a ranker's predictions hold: metrics by kind of user and item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Part, Row, Table
from moerec.report.finding import numbers, part
from moerec.report.labels import count, number, percent, plain
from moerec.report.plots import Estimate, interval_plot
from moerec.report.ranking_finding import PredictedTask, RankingFinding, arrow, direction, measure_label
from moerec.report.ranking_results import population_title

_FEW_ROWS = 50
_MOST_MEASURES = 4

Slices = dict[str, dict[str, float]]


def ranking_slices(finding: RankingFinding, metrics: Mapping[str, Any]) -> Block | None:
    """A table and a chart for each task; None if no slices were recorded."""
    recorded = part(metrics, "ranking", "slices")
    slices = {name: numbers(part(recorded, name)) for name in recorded}
    parts = []
    for population in finding.populations:
        tables, figures = [], []
        for task in finding.tasks_on(population):
            held = {
                name: values for name, values in slices.items() if any(task.key(m) in values for m in task.measures)
            }
            if held:
                tables.append(_table(finding, task, held))
                figures += [figure] if (figure := _figure(finding, task, held)) is not None else []
        if tables:
            parts.append(Part(population_title(population), tables=tables, figures=figures))
    if not parts:
        return None
    texts = [
        "Cold user: few earlier events in training; short, medium and long history are thirds by the same number. Head "
        "item: one of the most popular; cold item: never seen in training; tail: all between. Slices of fewer than "
        f"{_FEW_ROWS} rows are marked “few”: read them as anecdotes. AUC of a slice compares only rows of that slice."
    ]
    return Block("ranking-slices", "Where the predictions hold, and where not", texts=texts, parts=parts)


def _rows(finding: RankingFinding, task: PredictedTask, values: Mapping[str, float]) -> float | None:
    """Rows of a slice that count for a task.

    A count without a task's name is that of the first task; it holds for others with the very same rows only.
    """
    own, first = values.get(task.key("rows")), finding.tasks[0]
    same = task.population == first.population and task.rows.get("test") == first.rows.get("test")
    return own if own is not None else values.get("rows") if same else None


def _table(finding: RankingFinding, task: PredictedTask, slices: Slices) -> Table:
    measures = [measure for measure in task.measures if any(task.key(measure) in held for held in slices.values())]
    measures = sorted(measures, key=lambda measure: measure != task.main)[:_MOST_MEASURES]
    counted = any(_rows(finding, task, values) is not None for values in slices.values())
    shares = any(task.key("positive_share") in values for values in slices.values())
    rows = []
    for name, values in {"all rows": dict(finding.model.test), **slices}.items():
        size = task.rows.get("test") if name == "all rows" else _rows(finding, task, values)
        cells = [Cell(count(size), "few" if size is not None and size < _FEW_ROWS else "")] if counted else []
        cells += [Cell(percent(values.get(task.key("positive_share"))))] if shares else []
        cells += [Cell(number(values.get(task.key(measure)), finding.decimals(task, measure))) for measure in measures]
        rows.append(Row(plain(name), cells, name == "all rows"))
    columns = [Column("Rows")] if counted else []
    columns += [Column("Positive")] if shares else []
    columns += [Column(arrow(measure)) for measure in measures]
    caption = (
        f"{finding.model.name} on {task.name} ({task.where}) by kind of row, test; ↑ more is better, ↓ less is better."
    )
    return Table(caption, "Slice", columns, rows)


def _figure(finding: RankingFinding, task: PredictedTask, slices: Slices) -> Figure | None:
    key, label, places = task.key(task.main), measure_label(task.main), finding.decimals(task, task.main)
    estimates = []
    for name, values in slices.items():
        size = _rows(finding, task, values)
        few = size is not None and size < _FEW_ROWS
        if key in values:
            text = f"{number(values[key], places)}{' (few)' if few else ''}"
            estimates.append(Estimate(plain(name), values[key], series=int(few), text=text))
    if not estimates:
        return None
    told = "; ".join(f"{item.label} {item.text}" for item in estimates)
    chart = interval_plot(
        estimates,
        x_title=f"{label} of {task.name} on test, {task.population}",
        description=f"{label} of {task.name} by slice, {task.where}. {told}.",
        reference=finding.model.test[key],
    )
    side = "right" if direction(task.main) > 0 else "left"
    return Figure(
        chart,
        f"{label} of {task.name} ({task.where}) by slice; the dashed line is all rows together, further {side} is "
        "better.",
    )
