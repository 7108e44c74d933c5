"""Charts as SVG text: lines, intervals and bars, composed from one frame with axes.

Colours come from the page's style sheet through classes (`series-0`, `series-1`, ...), so that a chart follows light,
dark and print. Series differ by dash and by shape of mark too, never by colour alone. Everything that shows data
carries the class `mark` and lies inside the rectangle of class `frame`. Values that have no place on an axis (NaN,
infinite, absent) are left out; a chart without any value says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

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
    row_label,
    segment,
    text_width,
    words,
    x_axis,
    y_axis,
)


@dataclass(frozen=True)
class Line:
    """A series of points in the order of x; a gap where y is not plottable."""

    name: str
    points: Sequence[tuple[float, float | None]]
    series: int = 0


@dataclass(frozen=True)
class Callout:
    """A point that is pointed out by a ring and words."""

    x: float
    y: float
    text: str
    series: int = 0


@dataclass(frozen=True)
class Estimate:
    """A value with its interval, in a row that carries the label; equal neighbouring labels share a row."""

    label: str
    value: float | None
    interval: tuple[float, float] | None = None
    series: int = 0
    text: str = ""
    """What is written at the right end of the row."""


@dataclass(frozen=True)
class Bar:
    """A row of bars, one for each series."""

    label: str
    values: Sequence[float | None]
    deviations: Sequence[float | None] = ()
    """How far each value may be off; drawn as a whisker to both sides."""


def line_chart(
    lines: Sequence[Line],
    *,
    x_title: str,
    y_title: str,
    description: str,
    names: Sequence[str] = (),
    callouts: Sequence[Callout] = (),
    boundaries: Sequence[tuple[float, str]] = (),
    include_x: Iterable[float] = (),
    include_y: Iterable[float] = (),
    height: float = 270,
) -> Markup:
    """Lines over a common x axis.

    Args:
        lines: the series; points must be in the order of x.
        x_title: name and unit of x.
        y_title: name and unit of y.
        description: the text alternative.
        names: names of the series, for a legend; none without.
        callouts: points to be pointed out.
        boundaries: vertical lines with a name, for instance where a stage starts.
        include_x: values that the x axis must hold.
        include_y: values that the y axis must hold.
        height: height of the picture.
    """
    points = [point for line in lines for point in line.points if plottable(point[0]) and plottable(point[1])]
    pointed_out = [callout for callout in callouts if plottable(callout.x) and plottable(callout.y)]
    starts = [(at, name) for at, name in boundaries if plottable(at)]
    y_values = [y for _, y in points] + [callout.y for callout in pointed_out]
    y = make_axis(y_values, height - 44, 40, y_title, include=include_y)
    left = 14 + max(text_width(label) for _, label in y.ticks)
    frame = Frame(left, 40, WIDTH - 14, height - 44, height)
    x_values = [x for x, _ in points] + [callout.x for callout in pointed_out] + [at for at, _ in starts]
    x = make_axis(x_values, frame.left + 6, frame.right - 6, x_title, include=include_x, round_range=False)
    parts = [frame_border(frame), legend(names, frame)]
    if not points:
        return picture(frame, description, [*parts, no_data(frame)])
    parts += [x_axis(frame, x), y_axis(frame, y), _boundaries(starts, frame, x.scale)]
    parts += [_path(line, x.scale, y.scale) for line in lines]
    parts += [_callout(callout, frame, x.scale, y.scale) for callout in pointed_out]
    return picture(frame, description, parts)


def interval_plot(
    estimates: Sequence[Estimate],
    *,
    x_title: str,
    description: str,
    names: Sequence[str] = (),
    reference: float | None = None,
    logarithmic: bool = False,
    emphasised: Sequence[str] = (),
) -> Markup:
    """Dots with intervals, one row for each label, on a common axis.

    Args:
        estimates: what is shown; equal neighbouring labels share a row, one under the other.
        x_title: name and unit of the values.
        description: the text alternative.
        names: names of the series, for a legend; none without.
        reference: a value marked by a vertical line, for instance 0 for differences.
        logarithmic: whether the axis is.
        emphasised: labels in bold.
    """
    rows = _rows(estimates)
    deepest = max((len(members) for _, members in rows), default=1)
    pitch = 26.0 if deepest == 1 else 14.0 * deepest + 10.0
    frame = _row_frame([label for label, _ in rows], [item.text for item in estimates], pitch, bool(names))
    values = [value for item in estimates if plottable(item.value) for value in (item.value, *(item.interval or ()))]
    include = [] if reference is None else [reference]
    x = make_axis(
        values,
        frame.left + 8,
        frame.right - 8,
        x_title,
        include=include,
        count=4,
        round_range=False,
        logarithmic=logarithmic,
    )
    parts = [frame_border(frame), legend(names, frame)]
    if not any(plottable(value) for value in values):
        parts.append(no_data(frame))
    else:
        parts.append(x_axis(frame, x))
        if reference is not None:
            at = x.scale(reference)
            parts.append(segment(at, frame.top, at, frame.bottom, "reference"))
    for index, (label, members) in enumerate(rows):
        middle = frame.top + pitch * (index + 0.5)
        parts.append(row_label(label, frame, middle, label in emphasised))
        for place, item in enumerate(members):
            parts.append(_estimate(item, middle + 14.0 * (place - (len(members) - 1) / 2), frame, x.scale))
    return picture(frame, description, parts)


def bar_chart(
    bars: Sequence[Bar],
    *,
    x_title: str,
    description: str,
    names: Sequence[str] = (),
    reference: float | None = None,
    value_format: Callable[[float], str] = str,
) -> Markup:
    """Horizontal bars from zero, each with its value at the end.

    Args:
        bars: the rows.
        x_title: name and unit of the values.
        description: the text alternative.
        names: names of the series, for a legend; none without.
        reference: a value marked by a vertical line, for instance an equal share.
        value_format: writes a value at the end of its bar.
    """
    deepest = max((len(bar.values) for bar in bars), default=1)
    pitch = 14.0 * deepest + (8.0 if deepest == 1 else 12.0)
    found = [value for bar in bars for value in bar.values if value is not None and plottable(value)]
    texts = [value_format(value) for value in found]
    frame = _row_frame([bar.label for bar in bars], texts, pitch, bool(names))
    include = [0.0] if reference is None else [0.0, reference]
    reach = [end for bar in bars for place in range(len(bar.values)) for end in _whisker(bar, place) or ()]
    x = make_axis([*found, *reach], frame.left, frame.right - 1, x_title, include=include, round_range=False)
    parts = [frame_border(frame), legend(names, frame, filled=True)]
    parts.append(x_axis(frame, x) if found else no_data(frame))
    zero = x.scale(0.0)
    for index, bar in enumerate(bars):
        middle = frame.top + pitch * (index + 0.5)
        parts.append(row_label(bar.label, frame, middle, False))
        for place, value in enumerate(bar.values):
            if value is None or not plottable(value):
                continue
            centre = middle + 14.0 * (place - (len(bar.values) - 1) / 2)
            left, right = sorted((zero, x.scale(value)))
            parts.append(
                f'<rect class="mark bar series-{place % STYLES}" x="{left:.2f}" y="{centre - 5:.2f}" '
                f'width="{right - left:.2f}" height="10"/>'
            )
            if (ends := _whisker(bar, place)) is not None:
                low, high = (x.scale(end) for end in ends)
                parts.append(segment(low, centre, high, centre, "mark whisker over"))
            parts.append(words(WIDTH - 4, centre + 4, value_format(value), "value", "end"))
    if reference is not None and found:
        at = x.scale(reference)
        parts.append(segment(at, frame.top, at, frame.bottom, "reference"))
    return picture(frame, description, parts)


def _whisker(bar: Bar, place: int) -> tuple[float, float] | None:
    """The ends of the whisker of a value; None without a deviation."""
    value, deviation = bar.values[place], bar.deviations[place] if place < len(bar.deviations) else None
    if value is None or deviation is None or not plottable(value) or not plottable(deviation):
        return None
    return value - abs(deviation), value + abs(deviation)


def _row_frame(labels: Sequence[str], texts: Iterable[str], pitch: float, legend: bool) -> Frame:
    """The frame of a chart with labelled rows: margins as wide as the texts need, within reason."""
    left = 12 + min(max((text_width(label) for label in labels), default=0.0), 0.36 * WIDTH)
    right = WIDTH - 14 - min(max((text_width(text) for text in texts), default=0.0), 0.34 * WIDTH)
    top = 30.0 if legend else 10.0
    bottom = top + pitch * max(len(labels), 1)
    return Frame(left, top, right, bottom, bottom + 44.0)


def _rows(estimates: Sequence[Estimate]) -> list[tuple[str, list[Estimate]]]:
    rows: list[tuple[str, list[Estimate]]] = []
    for item in estimates:
        if rows and rows[-1][0] == item.label:
            rows[-1][1].append(item)
        else:
            rows.append((item.label, [item]))
    return rows


def _boundaries(boundaries: Sequence[tuple[float, str]], frame: Frame, scale: Scale) -> str:
    parts, end = [], frame.left
    for value, name in boundaries:
        at = scale(value)
        parts.append(segment(at, frame.top, at, frame.bottom, "boundary"))
        if at >= end and at + text_width(name) < frame.right:
            parts.append(words(at + 5, frame.top + 13, name, "note", "start"))
            end = at + text_width(name) + 12
    return "".join(parts)


def _path(line: Line, x: Scale, y: Scale) -> str:
    """The line in its unbroken pieces; points are shown where they are few or stand alone."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x_value, y_value in line.points:
        if y_value is not None and plottable(x_value) and plottable(y_value):
            pieces[-1].append((x_value, y_value))
        elif pieces[-1]:
            pieces.append([])
    parts = []
    few = sum(len(piece) for piece in pieces) <= 40
    for piece in pieces:
        if len(piece) > 1:
            points = " ".join(f"{x(x_value):.2f},{y(y_value):.2f}" for x_value, y_value in piece)
            parts.append(f'<polyline class="mark line series-{line.series % STYLES}" points="{points}"/>')
        if few or len(piece) == 1:
            parts += [
                dot(x(x_value), y(y_value), line.series, hint=f"{line.name}: {y_value:.4g} at {x_value:,.6g}")
                for x_value, y_value in piece
            ]
    return "".join(parts)


def _callout(callout: Callout, frame: Frame, x: Scale, y: Scale) -> str:
    at, height = x(callout.x), y(callout.y)
    text = cut(callout.text, frame.right - frame.left - 4)
    half = text_width(text) / 2
    centre = min(max(at, frame.left + half + 2), frame.right - half - 2)
    # Words go above the point, or below where the frame ends.
    baseline = height - 12 if height - 18 > frame.top else height + 22
    return f'<circle class="mark ring" cx="{at:.2f}" cy="{height:.2f}" r="6"/>' + words(
        centre, baseline, text, f"callout series-{callout.series % STYLES}", "middle"
    )


def _estimate(item: Estimate, height: float, frame: Frame, scale: Scale) -> str:
    parts = []
    if item.value is not None and plottable(item.value):
        if item.interval is not None and all(plottable(end) for end in item.interval):
            low, high = (scale(end) for end in item.interval)
            parts.append(segment(low, height, high, height, f"mark whisker series-{item.series % STYLES}"))
            for end in (low, high):
                parts.append(segment(end, height - 3, end, height + 3, f"mark whisker series-{item.series % STYLES}"))
        parts.append(dot(scale(item.value), height, item.series, hint=f"{item.label}: {item.text}"))
    if item.text:
        parts.append(words(WIDTH - 4, height + 4, item.text, "value", "end"))
    return "".join(parts)
