"""Charts of predictions as SVG text: curves and calibration in a square, histograms, and small columns of weights.

The rules are those of `plots`: colours from the style sheet through classes, series told apart by more than colour,
everything that shows data inside the frame, values without a place on an axis left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup

from moerec.report.labels import kind_and_number
from moerec.report.plots import Line
from moerec.report.scales import Scale, make_axis, plottable
from moerec.report.svg import (
    STYLES,
    WIDTH,
    Frame,
    cut,
    dot,
    frame_border,
    legend,
    no_data,
    picture,
    segment,
    text_width,
    words,
    x_axis,
    y_axis,
)

_SIDE = 320.0
"""Side of the square, in the units of a picture."""
_PANELS = 3
"""How many panels of small columns stand side by side, at most."""
_LONGEST = 80.0
"""Room that a word under a column can ask for."""


@dataclass(frozen=True)
class Point:
    """A mark in the square, with the interval of its height."""

    x: float | None
    y: float | None
    interval: tuple[float, float] | None = None
    hint: str = ""
    series: int = 0


@dataclass(frozen=True)
class Panel:
    """Columns of one row of weights, under a title."""

    title: str
    values: Sequence[float | None]
    names: Sequence[str] = ()
    """What each weight is of; those of one kind, as `shared 1` and `shared 2`, stand under a common word."""


def square_chart(
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    description: str,
    points: Sequence[Point] = (),
    names: Sequence[str] = (),
    diagonal: bool = False,
    level: float | None = None,
    span: tuple[float, float] = (0.0, 1.0),
) -> Markup:
    """Curves and marks over a square in which both axes have the same range.

    Args:
        lines: curves; they are drawn without marks.
        x_title: name of x.
        y_title: name of y.
        description: the text alternative.
        points: marks with intervals.
        names: names of the series, for a legend; none without.
        diagonal: whether the line y = x is drawn.
        level: a height marked by a horizontal line, for instance what chance gives.
        span: the range of both axes; it is widened where data lie outside.
    """
    # The square stands in the middle; the height is the same for all, so that neighbours line up.
    frame = Frame((WIDTH - _SIDE) / 2, 32.0, (WIDTH + _SIDE) / 2, 32.0 + _SIDE, 32.0 + _SIDE + 44.0)
    drawn = [point for line in lines for point in line.points if plottable(point[0]) and plottable(point[1])]
    marked = [(point.x, point.y, point) for point in points if plottable(point.x) and plottable(point.y)]
    ends = [end for _, _, point in marked for end in point.interval or () if plottable(end)]
    values = [value for pair in drawn for value in pair] + [value for x, y, _ in marked for value in (x, y)]
    parts = [frame_border(frame), legend(names, frame)]
    if not values:
        return picture(frame, description, [*parts, no_data(frame)])
    everything = [*values, *ends]
    x = make_axis(everything, frame.left, frame.right, x_title, include=span, round_range=False)
    y = make_axis(everything, frame.bottom, frame.top, y_title, include=span, round_range=False)
    parts += [x_axis(frame, x), y_axis(frame, y)]
    if diagonal:
        parts.append(segment(frame.left, frame.bottom, frame.right, frame.top, "reference"))
    if level is not None and plottable(level):
        height = y.scale(level)
        parts.append(segment(frame.left, height, frame.right, height, "reference"))
    parts += [_curve(line, x.scale, y.scale) for line in lines]
    for across, up, point in marked:
        if across is not None and up is not None:
            parts.append(_point(point, x.scale(across), up, y.scale))
    return picture(frame, description, parts)


def histogram(
    edges: Sequence[float],
    counts: Sequence[Sequence[float | None]],
    *,
    x_title: str,
    y_title: str,
    description: str,
    names: Sequence[str] = (),
    reference: float | None = None,
    height: float = 240,
) -> Markup:
    """Upright bars over bins, one beside the other where there are several series.

    Args:
        edges: borders of the bins, one more than there are counts in a series.
        counts: [series][bins].
        x_title: name and unit of x.
        y_title: what is counted.
        description: the text alternative.
        names: names of the series, for a legend; none without.
        reference: a value of x marked by a vertical line.
        height: height of the picture.
    """
    found = [count for series in counts for count in series if count is not None and plottable(count) and count >= 0]
    y = make_axis(found, height - 44, 36, y_title, include=[0.0], count=4)
    left = 14 + max(text_width(label) for _, label in y.ticks)
    frame = Frame(left, 36, WIDTH - 14, height - 44, height)
    parts = [frame_border(frame), legend(names, frame, filled=True)]
    bins = [index for index in range(len(edges) - 1) if plottable(edges[index]) and plottable(edges[index + 1])]
    if not found or not bins:
        return picture(frame, description, [*parts, no_data(frame)])
    include = [] if reference is None else [reference]
    x = make_axis(edges, frame.left, frame.right, x_title, include=include, round_range=False)
    parts += [x_axis(frame, x), y_axis(frame, y)]
    for index in bins:
        start, end = sorted((x.scale(edges[index]), x.scale(edges[index + 1])))
        width = (end - start) / len(counts)
        gap = min(0.4, width / 10)
        for place, series in enumerate(counts):
            count = series[index] if index < len(series) else None
            if count is None or not plottable(count) or count < 0:
                continue
            top = y.scale(count)
            parts.append(
                f'<rect class="mark bar series-{place % STYLES}" x="{start + place * width + gap:.2f}" y="{top:.2f}" '
                f'width="{width - 2 * gap:.2f}" height="{frame.bottom - top:.2f}"/>'
            )
    if reference is not None and plottable(reference):
        at = x.scale(reference)
        parts.append(segment(at, frame.top, at, frame.bottom, "reference"))
    return picture(frame, description, parts)


def weight_columns(panels: Sequence[Panel], *, description: str, value_format: Callable[[float], str] = str) -> Markup:
    """Small columns on a common scale, a panel for each row of weights; the largest of each carries its number.

    Args:
        panels: the rows.
        description: the text alternative.
        value_format: writes the largest weight.
    """
    kinds = {kind for panel in panels for kind, _ in _labels(panel)}
    tall, gap = (104.0 if len(kinds) < 2 else 118.0), 26.0
    across = WIDTH - 8.0
    # As many side by side as have room for the words under their columns.
    room = max((_needed(panel) for panel in panels), default=0.0)
    beside = min(max(len(panels), 1), _PANELS, max(1, int((across + gap) / (room + gap))))
    rows = -(-max(len(panels), 1) // beside)
    frame = Frame(4.0, 4.0, WIDTH - 4.0, 4.0 + rows * tall, rows * tall + 8.0)
    width = (across - gap * (beside - 1)) / beside
    parts = [frame_border(frame)]
    if not panels:
        parts.append(no_data(frame))
    found = [value for panel in panels for value in panel.values if value is not None and plottable(value)]
    scale = Scale(0.0, max([0.5, *found]), 82.0, 34.0)
    for index, panel in enumerate(panels):
        left = frame.left + (index % beside) * (width + gap)
        top = frame.top + (index // beside) * tall
        parts += _columns(panel, left, top, width, scale, value_format)
        if len(kinds) > 1:
            parts += _kinds(panel, left, top + scale.start + 29, width)
    return picture(frame, description, parts)


def _columns(
    panel: Panel,
    left: float,
    top: float,
    width: float,
    scale: Scale,
    value_format: Callable[[float], str],
) -> Iterable[str]:
    floor = top + scale.start
    yield words(left, top + 12, cut(panel.title, width), "row-label", "start")
    yield segment(left, floor, left + width, floor, "grid")
    shown = [(place, value) for place, value in enumerate(panel.values) if value is not None and plottable(value)]
    names = [number for _, number in _labels(panel)]
    largest = max((value for _, value in shown), default=0.0)
    step = width / max(len(panel.values), 1)
    for place, value in shown:
        at = left + (place + 0.5) * step
        strongest = value == largest
        half = min(step * 0.36, 14.0)
        upper = top + scale(value)
        yield (
            f'<rect class="mark bar {"series-0" if strongest else "quiet"}" x="{at - half:.2f}" y="{upper:.2f}" '
            f'width="{2 * half:.2f}" height="{floor - upper:.2f}"/>'
        )
        if strongest:
            label = value_format(value)
            edge = text_width(label) / 2
            centre = min(max(at, left + edge), left + width - edge)
            yield words(centre, upper - 4, label, "value", "middle")
            largest = float("inf")  # of equals the first
        if place < len(names):
            yield words(at, floor + 15, cut(names[place], max(step, 14.5)), "tick", "middle")


def _kinds(panel: Panel, left: float, height: float, width: float) -> Iterable[str]:
    """The kinds of the weights, each under its columns."""
    step = width / max(len(panel.values), 1)
    start = left
    for kind, members in groupby(kind for kind, _ in _labels(panel)):
        end = start + step * len(list(members))
        if kind:
            yield segment(start + 2, height - 11, end - 2, height - 11, "grid")
            yield words((start + end) / 2, height, cut(kind, end - start - 2), "tick", "middle")
        start = end


def _labels(panel: Panel) -> list[tuple[str, str]]:
    """Kind and number of each weight that has a name."""
    return [kind_and_number(name) for name in panel.names[: len(panel.values)]]


def _needed(panel: Panel) -> float:
    """How wide a panel must be for its words; long ones are cut rather than given more."""
    labels = _labels(panel)
    step = max((min(text_width(number), _LONGEST) + 3 for _, number in labels), default=0.0)
    for kind, members in groupby(kind for kind, _ in labels):
        step = max(step, (min(text_width(kind), _LONGEST) + 4) / len(list(members)))
    return step * len(panel.values)


def _curve(line: Line, x: Scale, y: Scale) -> str:
    """A line through the plottable points."""
    points = [
        f"{x(across):.2f},{y(up):.2f}"
        for across, up in line.points
        if up is not None and plottable(across) and plottable(up)
    ]
    if not points:
        return ""
    return f'<polyline class="mark line series-{line.series % STYLES}" points="{" ".join(points)}"/>'


def _point(point: Point, at: float, up: float, y: Scale) -> str:
    parts = []
    if point.interval is not None and all(plottable(end) for end in point.interval):
        low, high = (y(end) for end in point.interval)
        parts.append(segment(at, low, at, high, f"mark whisker series-{point.series % STYLES}"))
    parts.append(dot(at, y(up), point.series, hint=point.hint))
    return "".join(parts)
