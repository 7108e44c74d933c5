"""The strokes of a chart: picture, frame, axes, legend, marks and words as pieces of SVG text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from moerec.report.scales import Axis

WIDTH = 480
"""Width of a chart in its own units; one unit is one pixel when shown at full size."""

STYLES = 4
"""How many series the style sheet tells apart."""

_CHARACTER = 7.2
"""About how wide one character of a label is."""

_WIDE_CHARACTER = 10.2
"""About how wide a capital letter is, and what is as wide."""


@dataclass(frozen=True)
class Frame:
    """The plotting area inside the picture."""

    left: float
    top: float
    right: float
    bottom: float
    height: float
    """Height of the whole picture."""


def picture(frame: Frame, description: str, parts: Iterable[str], width: float = WIDTH) -> Markup:
    """The whole picture, with its text alternative; one that is wider than the others is of class `wide`."""
    kind = "chart wide" if width > WIDTH else "chart"
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {frame.height:.0f}" width="{width:.0f}" '
        f'height="{frame.height:.0f}" '
        f'role="img" aria-label="{_clean(description)}" xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def frame_border(frame: Frame) -> str:
    """The rectangle around the plotting area."""
    return (
        f'<rect class="frame" x="{frame.left:.2f}" y="{frame.top:.2f}" width="{frame.right - frame.left:.2f}" '
        f'height="{frame.bottom - frame.top:.2f}"/>'
    )


def x_axis(frame: Frame, axis: Axis) -> str:
    """Grid lines, tick labels and title below the frame."""
    parts, end = [], -1.0
    for value, label in axis.ticks:
        at = axis.scale(value)
        parts.append(segment(at, frame.top, at, frame.bottom, "grid"))
        # A label that would touch its neighbour or leave the picture is dropped; its grid line stays.
        half = text_width(label) / 2
        if at - half > end and at + half <= WIDTH:
            parts.append(words(at, frame.bottom + 16, label, "tick", "middle"))
            end = at + half + 4
    parts.append(words(frame.right, frame.bottom + 35, axis.title, "title", "end"))
    return "".join(parts)


def y_axis(frame: Frame, axis: Axis) -> str:
    """Grid lines and tick labels left of the frame, the title above it."""
    widest = max((text_width(label) for _, label in axis.ticks), default=0.0)
    parts = [words(max(frame.left - widest - 10, 4.0), 16, axis.title, "title", "start")]
    for value, label in axis.ticks:
        at = axis.scale(value)
        parts.append(segment(frame.left, at, frame.right, at, "grid"))
        parts.append(words(frame.left - 6, at + 4, label, "tick", "end"))
    return "".join(parts)


def legend(names: Sequence[str], frame: Frame, filled: bool = False) -> str:
    """The marks and names of the series above the frame; none for a single series. `filled` is for bars."""
    if len(names) < 2:
        return ""
    # One run of text lays itself out in any font.
    parts: list[str] = []
    for series, name in enumerate(names):
        style = series % STYLES
        mark, kind = ("■", "key filled") if filled else ("●■◆▲"[style], "key")
        parts.append(f'<tspan class="{kind} series-{style}" dx="{14 if parts else 0}">{mark}</tspan> {_clean(name)}')
    return f'<text class="tick" x="{frame.right:.2f}" y="16" text-anchor="end">{"".join(parts)}</text>'


def no_data(frame: Frame) -> str:
    """What an empty chart says."""
    middle = (frame.left + frame.right) / 2
    return words(middle, (frame.top + frame.bottom) / 2 + 4, "no data", "note", "middle")


def row_label(label: str, frame: Frame, middle: float, strong: bool) -> str:
    """The label left of a row."""
    kind = "row-label strong" if strong else "row-label"
    return words(frame.left - 8, middle + 4, cut(label, frame.left - 8), kind, "end")


def dot(x: float, y: float, series: int, kind: str = "mark dot", hint: str = "") -> str:
    """The mark of a series: circle, square, diamond or triangle; `hint` appears under a resting pointer."""
    style = series % STYLES
    inside = f"<title>{_clean(hint)}</title>" if hint else ""
    if style == 0:
        return f'<circle class="{kind} series-0" cx="{x:.2f}" cy="{y:.2f}" r="3.6">{inside}</circle>'
    shapes = {
        1: ((-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)),
        2: ((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0)),
        3: ((0, -4.2), (4.2, 3.4), (-4.2, 3.4)),
    }
    points = " ".join(f"{x + right:.2f},{y + down:.2f}" for right, down in shapes[style])
    return f'<polygon class="{kind} series-{style}" points="{points}">{inside}</polygon>'


def cell(left: float, top: float, width: float, height: float, tint: float, hint: str) -> str:
    """A cell of a heat map; `tint` is how much of the full colour it has."""
    return (
        f'<rect class="mark cell" fill-opacity="{tint:.3f}" x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" '
        f'height="{height:.2f}"><title>{_clean(hint)}</title></rect>'
    )


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class."""
    return f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def words(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    """A piece of text of a class; characters that XML cannot hold are replaced."""
    return f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{_clean(text)}</text>'


def text_width(text: str) -> float:
    """About how wide a text is."""
    wide = sum(character.isupper() or character in "@%mwMW" for character in text)
    return _CHARACTER * (len(text) - wide) + _WIDE_CHARACTER * wide


def cut(text: str, width: float) -> str:
    """The text, shortened by an ellipsis where it is wider than the room for it."""
    if text_width(text) <= width:
        return text
    most = len(text)
    while most > 0 and text_width(text[:most]) + _CHARACTER > width:
        most -= 1
    return f"{text[:most].rstrip()}…"


def _clean(text: str) -> Markup:
    kept = (c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
    return escape("".join(kept))
