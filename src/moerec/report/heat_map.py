"""Heat maps as SVG text: a grid of cells with their numbers, as wide as the numbers need.

The rules are those of `plots`: colours from the style sheet, everything that shows data inside the frame, no value
without a place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from markupsafe import Markup

from moerec.report.scales import Scale, plottable
from moerec.report.svg import (
    WIDTH,
    Frame,
    cell,
    cut,
    frame_border,
    no_data,
    picture,
    row_label,
    segment,
    text_width,
    words,
)

_PITCH = 30.0
"""Height of a row."""
_LONGEST = 92.0
"""Room that a heading over a column can ask for; a longer one is cut."""


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    description: str,
    groups: Sequence[str] = (),
    value_format: Callable[[float], str] = str,
    low: float = 0.0,
    high: float | None = None,
) -> Markup:
    """A grid of cells, darker for larger values, each with its number written in it.

    Args:
        rows: names of the rows.
        columns: names of the columns.
        values: [rows][columns]; what is not plottable is an empty cell.
        description: the text alternative.
        groups: for each column what stands above its name; equal neighbours share it. None without.
        value_format: writes a value in its cell.
        low: the value without colour.
        high: the value of full colour (default: the largest).
    """
    shown = [list(row[: len(columns)]) for row in values]
    found = [value for row in shown for value in row if value is not None and plottable(value)]
    headings = list(groups[: len(columns)]) + [""] * (len(columns) - len(groups))
    spans = [(name, len(list(members))) for name, members in groupby(headings)]
    frame = _frame(rows, _room(columns, spans, map(value_format, found)) * len(columns), any(headings))
    top = high if high is not None else max(found, default=1.0)
    tint = Scale(low, top if top > low else low + 1.0, 0.0, 1.0)
    width = (frame.right - frame.left) / max(len(columns), 1)
    parts = [frame_border(frame), *_headings(columns, spans, frame, width)]
    if not found:
        parts.append(no_data(frame))
    for index, label in enumerate(rows):
        upper = frame.top + _PITCH * index
        parts.append(row_label(label, frame, upper + _PITCH / 2, False))
        for place, value in enumerate(shown[index]):
            if value is None or not plottable(value):
                continue
            left, text = frame.left + width * place, value_format(value)
            hint = f"{label}, {f'{headings[place]} {columns[place]}'.strip()}: {text}"
            parts.append(cell(left + 1, upper + 1, max(width - 2, 0.5), _PITCH - 2, tint(value), hint))
            parts.append(words(left + width / 2, upper + _PITCH / 2 + 4, text, "in-cell", "middle"))
    return picture(frame, description, parts, frame.right + 14)


def _room(columns: Sequence[str], spans: Sequence[tuple[str, int]], texts: Iterable[str]) -> float:
    """How wide a column must be for its numbers, its name and its share of the heading above."""
    needs = [text_width(text) for text in texts]
    needs += [min(text_width(column), _LONGEST) for column in columns]
    needs += [min(text_width(name), _LONGEST * count) / count for name, count in spans]
    return max(needs, default=0.0) + 7.0


def _frame(rows: Sequence[str], wanted: float, has_groups: bool) -> Frame:
    """Margins as wide as the row labels need, within reason; cells fill at least the usual width."""
    left = 12 + min(max((text_width(label) for label in rows), default=0.0), 0.36 * WIDTH)
    top = 48.0 if has_groups else 30.0
    bottom = top + _PITCH * max(len(rows), 1)
    return Frame(left, top, max(left + wanted, WIDTH - 14.0), bottom, bottom + 8.0)


def _headings(columns: Sequence[str], spans: Sequence[tuple[str, int]], frame: Frame, width: float) -> Iterable[str]:
    start = frame.left
    for name, count in spans:
        end = start + width * count
        if name:
            room = end - start - 4
            yield words((start + end) / 2, frame.top - 28, cut(name, room), "tick", "middle")
            yield segment(start + 2, frame.top - 22, end - 2, frame.top - 22, "grid")
        start = end
    for place, column in enumerate(columns):
        middle = frame.left + width * (place + 0.5)
        yield words(middle, frame.top - 8, cut(column, width - 2), "tick", "middle")
