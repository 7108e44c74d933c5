"""How the tasks of a ranker were weighed, and whether their gradients agreed, against updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Figure
from moerec.report.labels import as_number, count, listed
from moerec.report.plots import Line, line_chart
from moerec.report.series import MOST_POINTS, averaged
from moerec.report.svg import STYLES

Stretch = Sequence[tuple[float, Mapping[str, Any]]]
"""Records of one stage with their updates, in order."""
Points = list[tuple[float, float | None]]

_STILL = 1e-3
"""Weights that vary by less than this share of the largest stand still."""


def balance_figures(stretches: Sequence[Stretch], boundaries: Sequence[tuple[float, str]]) -> list[Figure]:
    """A chart of the weights, if they moved, and one of the cosines, if they were recorded.

    Args:
        stretches: the records of each stage that hold `weights` and `cosines`, if any do.
        boundaries: where the stages start, with their names.
    """
    found = [_weights_figure(_series(stretches, "weights"), boundaries)]
    found.append(_cosines_figure(_series(stretches, "cosines"), boundaries))
    return [figure for figure in found if figure is not None]


def _series(stretches: Sequence[Stretch], key: str) -> dict[str, Points]:
    """The values of each name, with a gap between stages: each begins anew."""
    series: dict[str, Points] = {}
    for stretch in stretches:
        for update, record in stretch:
            entry = record.get(key)
            for name, value in entry.items() if isinstance(entry, Mapping) else ():
                if (found := as_number(value)) is not None:
                    series.setdefault(str(name), []).append((update, found))
        for points in series.values():
            points.append((points[-1][0], None))
    return {name: points for name, points in series.items() if len(_values(points)) > 1}


def _values(points: Points) -> list[float]:
    return [value for _, value in points if value is not None]


def _weights_figure(series: Mapping[str, Points], boundaries: Sequence[tuple[float, str]]) -> Figure | None:
    spread = {name: max(values) - min(values) for name, points in series.items() if (values := _values(points))}
    largest = max((abs(value) for points in series.values() for value in _values(points)), default=0.0)
    if max(spread.values(), default=0.0) <= _STILL * largest:
        return None
    chosen = _first(sorted(series, key=lambda name: -spread[name]), series)
    ends = listed([f"{name} {_values(series[name])[-1]:.3g}" for name in chosen])
    left_out = f" The {STYLES} tasks whose weights moved most are shown." if len(series) > STYLES else ""
    return _figure(
        {name: series[name] for name in chosen},
        "Weight of the task",
        boundaries,
        "What the loss or the gradient of each task is multiplied by, the weight of the recipe included, against "
        f"optimizer updates; at the end {ends}.{left_out}",
    )


def _cosines_figure(series: Mapping[str, Points], boundaries: Sequence[tuple[float, str]]) -> Figure | None:
    if not series:
        return None
    chosen = _first(sorted(series, key=lambda name: sum(_values(series[name])) / len(_values(series[name]))), series)
    conflicts = listed(
        [
            f"{_pair(name)} in {count(sum(value < 0 for value in values))} of {count(len(values))} records"
            for name in chosen
            if (values := _values(series[name]))
        ]
    )
    left_out = f" The {STYLES} pairs that agree least are shown." if len(series) > STYLES else ""
    return _figure(
        {_pair(name): series[name] for name in chosen},
        "Cosine of gradients",
        boundaries,
        "Cosines between the gradients of two tasks on the last layer that they share, against optimizer updates. "
        f"Below 0 an update that helps one task harms the other: {conflicts}.{left_out}",
    )


def _pair(name: str) -> str:
    return name.replace("/", " and ")


def _first(ordered: Sequence[str], series: Mapping[str, Points]) -> list[str]:
    """As many as a chart tells apart, in the order of the recipe."""
    chosen = set(ordered[:STYLES])
    return [name for name in series if name in chosen]


def _figure(
    series: Mapping[str, Points], y_title: str, boundaries: Sequence[tuple[float, str]], caption: str
) -> Figure:
    group = max(-(-len(points) // MOST_POINTS) for points in series.values())
    lines = [Line(name, averaged(points, group), place) for place, (name, points) in enumerate(series.items())]
    chart = line_chart(
        lines,
        x_title="Updates",
        y_title=y_title,
        description=caption,
        names=list(series),
        boundaries=boundaries,
        include_x=[0.0],
        include_y=[0.0],
    )
    return Figure(chart, caption + (f" Each point is the mean of up to {group} records." if group > 1 else ""))
