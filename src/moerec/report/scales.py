"""From numbers to positions: axis ranges that hold the data, round tick values, tick labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_LARGEST = 1e150
"""Beyond this a span of values could overflow; such values count as not plottable."""


def plottable(value: float | None) -> bool:
    """Whether a value has a place on an axis: a finite number of sane size."""
    return value is not None and math.isfinite(value) and abs(value) < _LARGEST


@dataclass(frozen=True)
class Scale:
    """A map from the values [low, high] to the positions [start, end]; values outside land on the border."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """The position of a value."""
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Axis:
    """A scale with its ticks (value, label) and its title."""

    scale: Scale
    ticks: tuple[tuple[float, str], ...]
    title: str = ""


def make_axis(
    values: Iterable[float | None],
    start: float,
    end: float,
    title: str = "",
    *,
    include: Iterable[float] = (),
    count: int = 5,
    round_range: bool = True,
    logarithmic: bool = False,
) -> Axis:
    """An axis that holds all plottable values.

    Args:
        values: the data; what is not plottable is left out (also what is not positive, if logarithmic).
        start: position of the lower end, in pixels.
        end: position of the upper end.
        title: name and unit.
        include: values that the range must hold besides the data, for instance 0.
        count: about how many ticks.
        round_range: widen the range to whole ticks; otherwise it ends at the data.
        logarithmic: ticks at 1, 2, 5 times powers of ten.
    """
    found = [value for value in (*values, *include) if value is not None and plottable(value)]
    if logarithmic:
        found = [value for value in found if value > 1e-100]
    low, high = _widened(min(found), max(found), logarithmic) if found else (1.0, 10.0) if logarithmic else (0.0, 1.0)
    if logarithmic:
        marks = _logarithmic_ticks(low, high)
        return Axis(Scale(low, high, start, end, True), tuple((mark, _tick_label(mark, mark)) for mark in marks), title)
    step = _step(high - low, count)
    if round_range:
        low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        # Rounding must not leave data outside by a last bit.
        low, high = min(low, *found) if found else low, max(high, *found) if found else high
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    marks = [index * step for index in range(first, last + 1)]
    return Axis(Scale(low, high, start, end), tuple((mark, _tick_label(mark, step)) for mark in marks), title)


def _widened(low: float, high: float, logarithmic: bool) -> tuple[float, float]:
    """A range of some width around constant data; other ranges as they are."""
    size = max(abs(low), abs(high))
    if high - low > max(1e-9 * size, 1e-12 if not logarithmic else 0.0):
        return low, high
    if logarithmic:
        return low / 2, high * 2
    margin = 0.1 * size if size > 1e-9 else 1.0
    return low - margin, high + margin


def _step(span: float, count: int) -> float:
    """The round step (1, 2, 2.5 or 5 times a power of ten) that gives about `count` ticks over a span."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return min((factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0)), key=lambda step: abs(math.log(step / raw)))


def _logarithmic_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if len(decades) <= 3 else (1,)
    stride = max(1, math.ceil(len(decades) / 8))
    marks = [factor * 10.0**decade for decade in decades[::stride] for factor in factors]
    return [mark for mark in marks if low <= mark <= high]


def _tick_label(value: float, step: float) -> str:
    """The value with just the decimals that the step needs; `1.2M` and `1e−06` at the extremes."""
    if abs(value) < abs(step) * 1e-6:
        return "0"
    if abs(value) >= 1e10 or step < 1e-5:
        power = math.floor(math.log10(abs(value)))
        return f"{value:.{_decimals(step / 10.0**power)}e}".replace("-", "−").replace("e+", "e")
    divisor, suffix = (1e6, "M") if abs(value) >= 1e6 else (1.0, "")
    return f"{value / divisor:,.{_decimals(step / divisor)}f}{suffix}".replace("-", "−")


def _decimals(step: float) -> int:
    """How many decimals write a multiple of the step exactly (at most 12)."""
    return next((places for places in range(12) if _is_whole(step * 10**places)), 12)


def _is_whole(value: float) -> bool:
    return round(value) >= 1 and abs(value - round(value)) < 1e-6 * value
