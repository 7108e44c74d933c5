"""The section on curves of predictions: ROC, precision and recall, calibration, and how the predictions spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Block, Figure, Part
from moerec.report.curve_plots import Point, histogram, square_chart
from moerec.report.finding import Bounds, numbers, part
from moerec.report.labels import as_number, count, number, percent
from moerec.report.plots import Line
from moerec.report.ranking_confusion import confusion_figure
from moerec.report.ranking_finding import PredictedTask, RankingFinding, measure_label
from moerec.report.ranking_results import population_title

_FEW_ROWS = 50
_NORMAL = 1.959964
"""The normal deviate of 95 %."""


def ranking_curves(finding: RankingFinding, recorded: Mapping[str, Any]) -> Block | None:
    """The curves of every task, by population; None if none were recorded.

    Args:
        finding: the tasks.
        recorded: `ranking_curves.json`.
    """
    parts = []
    for population in finding.populations:
        figures: list[Figure] = []
        notices: list[str] = []
        for task in finding.tasks_on(population):
            curves = curves_of(recorded, task, finding)
            figures += [figure for figure in _figures(task, curves) if figure is not None]
            notices += _contradictions(finding, task, curves)
        if figures:
            parts.append(Part(population_title(population), notices=notices, figures=figures))
    if not parts:
        return None
    texts = [
        f"All curves are those of {finding.model.name} on the test rows of the named population. ROC and precision "
        "show how well the order separates; calibration shows whether a predicted value can be taken at its word; a "
        "confusion matrix shows which classes are taken for which."
    ]
    return Block("ranking-curves", "Curves and calibration", texts=texts, parts=parts)


def curves_of(recorded: Mapping[str, Any], task: PredictedTask, finding: RankingFinding) -> dict[str, Any]:
    """The curves of a task; where it was measured on two populations, only those whose name tells which."""
    alone = sum(other.name == task.name for other in finding.tasks) == 1
    return part(recorded, task.anchor) or (part(recorded, task.name) if alone else {})


def _figures(task: PredictedTask, curves: Mapping[str, Any]) -> list[Figure | None]:
    calibration = part(curves, "calibration")
    if task.kind in ("multiclass", "ordinal"):
        is_ordinal = task.kind == "ordinal"
        of_task = _regression_calibration(task, calibration) if is_ordinal else _class_calibration(task, calibration)
        return [confusion_figure(task, part(curves, "confusion")), of_task]
    if "residuals" in curves or task.kind == "regression":
        return [_regression_calibration(task, calibration), _residuals(task, part(curves, "residuals"))]
    return [
        _roc(task, part(curves, "roc")),
        _precision_recall(task, part(curves, "precision_recall"), _share(task, part(curves, "histogram"))),
        _binary_calibration(task, calibration),
        _histogram(task, part(curves, "histogram")),
    ]


def _column(values: Mapping[str, Any], key: str) -> list[float | None]:
    found = values.get(key)
    return [as_number(value) for value in found] if isinstance(found, list) else []


def _pairs(values: Mapping[str, Any], x: str, y: str) -> list[tuple[float, float | None]]:
    pairs = zip(_column(values, x), _column(values, y), strict=False)
    return [(across, up) for across, up in pairs if across is not None and up is not None]


def _roc(task: PredictedTask, curve: Mapping[str, Any]) -> Figure | None:
    points = _pairs(curve, "false_positive_rate", "true_positive_rate")
    if not points:
        return None
    area = f"AUC {number(curve.get('auc'))}"
    chart = square_chart(
        [Line("ROC", points)],
        x_title="False positive rate",
        y_title="True positive rate",
        description=f"ROC curve of {task.name}, {task.where}: {area}.",
        diagonal=True,
    )
    return Figure(chart, f"ROC curve of {task.name} ({task.where}): {area}. The dashed line is chance.")


def _share(task: PredictedTask, counts: Mapping[str, Any]) -> float | None:
    """Share of positives among the rows of the curves, which is the precision of a random order."""
    positive, negative = (sum(value or 0.0 for value in _column(counts, key)) for key in ("positive", "negative"))
    return positive / (positive + negative) if positive + negative > 0 else task.positive_share


def _precision_recall(task: PredictedTask, curve: Mapping[str, Any], share: float | None) -> Figure | None:
    points = _pairs(curve, "recall", "precision")
    if not points:
        return None
    area = f"average precision {number(curve.get('average_precision'))}"
    chart = square_chart(
        [Line("precision", points)],
        x_title="Recall",
        y_title="Precision",
        description=f"Precision against recall of {task.name}, {task.where}: {area}.",
        level=share,
    )
    chance = f" The dashed line is the share of positives, {percent(share)}." if share is not None else ""
    return Figure(chart, f"Precision against recall of {task.name} ({task.where}): {area}.{chance}")


def _binary_calibration(task: PredictedTask, bins: Mapping[str, Any]) -> Figure | None:
    return _calibration(
        task,
        _shares(bins),
        ("Predicted probability", "Share of positives"),
        "Each mark is a bin of equal width: mean prediction against the share that was positive, with the 95 % "
        "interval of that share (its rows taken as independent).",
        (0.0, 1.0),
    )


def _class_calibration(task: PredictedTask, bins: Mapping[str, Any]) -> Figure | None:
    return _calibration(
        task,
        _shares(bins),
        ("Probability of the likeliest class", "Share that is right"),
        "Each mark is a bin of equal width: mean probability of the likeliest class against the share of rows that "
        "have it, with the 95 % interval of that share (its rows taken as independent).",
        (0.0, 1.0),
    )


def _shares(bins: Mapping[str, Any]) -> list[Point]:
    """The marks of bins of probabilities."""
    ends = list(zip(_column(bins, "low"), _column(bins, "high"), strict=False))
    intervals = [None if low is None or high is None else (low, high) for low, high in ends]
    return _points(_column(bins, "predicted"), _column(bins, "observed"), intervals, _column(bins, "count"))


def _regression_calibration(task: PredictedTask, bins: Mapping[str, Any]) -> Figure | None:
    predicted, observed = _column(bins, "predicted"), _column(bins, "observed")
    counts, deviations = _column(bins, "count"), _column(bins, "deviation")
    intervals: list[Bounds | None] = []
    for mean, rows, deviation in zip(observed, counts, deviations, strict=False):
        known = mean is not None and rows is not None and rows > 0 and deviation is not None
        half = _NORMAL * (deviation or 0.0) / math.sqrt(rows) if known and rows else 0.0
        intervals.append((mean - half, mean + half) if known and mean is not None else None)
    values = [value for value in (*predicted, *observed) if value is not None]
    return _calibration(
        task,
        _points(predicted, observed, intervals, counts),
        (f"Predicted {task.name}", f"Mean {task.name}"),
        "Each mark is a bin with about as many rows as any other: mean prediction against mean label, with the 95 % "
        "interval of that mean (its rows taken as independent).",
        (min(values, default=0.0), max(values, default=1.0)),
    )


def _points(
    predicted: Sequence[float | None],
    observed: Sequence[float | None],
    intervals: Sequence[Bounds | None],
    counts: Sequence[float | None],
) -> list[Point]:
    points = []
    for index, (x, y) in enumerate(zip(predicted, observed, strict=False)):
        rows = counts[index] if index < len(counts) else None
        few = rows is not None and rows < _FEW_ROWS
        hint = f"{number(x)} predicted, {number(y)} observed, {count(rows)} rows"
        points.append(Point(x, y, intervals[index] if index < len(intervals) else None, hint, int(few)))
    return [point for point in points if point.x is not None and point.y is not None]


def _calibration(
    task: PredictedTask, points: Sequence[Point], titles: tuple[str, str], reading: str, span: Bounds
) -> Figure | None:
    if not points:
        return None
    told = "; ".join(point.hint for point in points)
    few = any(point.series for point in points)
    chart = square_chart(
        [],
        x_title=titles[0],
        y_title=titles[1],
        description=f"Calibration of {task.name}, {task.where}. {told}.",
        points=points,
        names=[f"{_FEW_ROWS} rows or more", "fewer"] if few else (),
        diagonal=True,
        span=span,
    )
    caption = (
        f"Calibration of {task.name} ({task.where}). {reading} On the dashed line predictions are right on average."
    )
    return Figure(chart, caption)


def _histogram(task: PredictedTask, recorded: Mapping[str, Any]) -> Figure | None:
    edges = [edge for edge in _column(recorded, "edges") if edge is not None]
    series = [_column(recorded, "positive"), _column(recorded, "negative")]
    if len(edges) < 2 or not any(series):
        return None
    totals = [count(sum(value or 0.0 for value in values)) for values in series]
    told = f"{totals[0]} positive and {totals[1]} negative rows"
    chart = histogram(
        edges,
        series,
        x_title="Predicted probability",
        y_title="Rows",
        description=f"Predictions of {task.name} by class, {task.where}: {told}.",
        names=["positive", "negative"],
    )
    return Figure(
        chart, f"Predictions of {task.name} ({task.where}) by what was true: {told}. The less they overlap, the better."
    )


def _residuals(task: PredictedTask, recorded: Mapping[str, Any]) -> Figure | None:
    edges = [edge for edge in _column(recorded, "edges") if edge is not None]
    counts = _column(recorded, "count")
    if len(edges) < 2 or not counts:
        return None
    rows = count(sum(value or 0.0 for value in counts))
    chart = histogram(
        edges,
        [counts],
        x_title="Prediction minus label",
        y_title="Rows",
        description=f"Residuals of {task.name}, {task.where}: {rows} rows between {number(edges[0])} and "
        f"{number(edges[-1])}.",
        reference=0.0,
    )
    return Figure(
        chart,
        f"Residuals of {task.name} ({task.where}), {rows} rows: left of the dashed line the prediction is too low.",
    )


def _contradictions(finding: RankingFinding, task: PredictedTask, curves: Mapping[str, Any]) -> list[str]:
    """Areas under the curves that are not the metrics of the table."""
    areas = numbers(part(curves, "roc")) | numbers(part(curves, "precision_recall"))
    return [
        f"{measure_label(measure)} of {task.name} ({task.where}) is {number(areas[measure])} by its curve, but "
        f"{number(finding.model.test[task.key(measure)])} in the table."
        for measure in ("auc", "average_precision")
        if measure in areas
        and task.key(measure) in finding.model.test
        and abs(areas[measure] - finding.model.test[task.key(measure)]) > 1e-3
    ]
