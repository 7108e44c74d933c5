"""Names and numbers as a reader sees them: systems, metrics, counts, shares, p-values, durations."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "–"
"""What stands where a number was not recorded."""

_MINUS = "−"
_NO_BREAK = "\u00a0"

_SYSTEM_NAMES = {
    "sasrec": "SASRec",
    "hstu": "HSTU",
    "ligr": "LiGR",
    "popularity": "Popularity",
    "recent_popularity": "Recent popularity",
    "item_knn": "Item-kNN",
    "ease": "EASE",
    "ease_recency": "EASE with recency",
    "item_transitions": "Item transitions",
    "mmoe": "MMoE",
    "ple": "PLE",
    "cgc": "CGC",
    "esmm": "ESMM",
    "home": "HoME",
    "single_task": "Single-task",
    "means": "User and item means",
}


def plain(key: str) -> str:
    """A key of a file as words: `recent_popularity` -> `Recent popularity`."""
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def system_name(kind: str) -> str:
    """The usual name of a model or baseline; an unknown kind is shown as words."""
    return _SYSTEM_NAMES.get(kind, plain(kind))


@dataclass(frozen=True)
class Metric:
    """A metric's key in its parts: `hr@10/uniform100` is measure `hr`, cutoff 10, protocol `uniform100`."""

    measure: str
    cutoff: int | None
    protocol: str
    """Empty for full ranking."""

    @property
    def label(self) -> str:
        """The measure with its cutoff, without the protocol: `HR@10`."""
        name = self.measure.upper() if self.measure in {"hr", "ndcg", "mrr", "map", "auc"} else plain(self.measure)
        return name if self.cutoff is None else f"{name}@{self.cutoff}"

    @property
    def is_hit_rate(self) -> bool:
        """Whether the value is a share of cases, which reads best in per cent."""
        return self.measure == "hr"


def metric(key: str) -> Metric:
    """Take a metric's key apart."""
    name, _, protocol = key.partition("/")
    measure, _, cutoff = name.partition("@")
    return Metric(measure, int(cutoff) if cutoff.isdigit() else None, protocol)


def metric_label(key: str) -> str:
    """The metric's name with its protocol in words: `HR@10 (sampled: uniform100)`."""
    parts = metric(key)
    return f"{parts.label} (sampled: {parts.protocol})" if parts.protocol else parts.label


def kind_and_number(name: str) -> tuple[str, str]:
    """An expert's name in two: `shared 2` is number 2 of the kind `shared`; one without a number has no kind."""
    found = re.fullmatch(r"(.*\S)[ _]+(\d+)", name.strip(), re.DOTALL)
    return ("", name.strip()) if found is None else (found[1], found[2])


def listed(words: Sequence[str]) -> str:
    """Words in a row: `a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def as_number(value: Any) -> float | None:
    """The value as a finite float, or None for what is no number (null, NaN, text, a truth value)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def number(value: Any, decimals: int = 3) -> str:
    """A number with a fixed count of decimals and grouped thousands."""
    found = as_number(value)
    if found is None:
        return MISSING
    text = f"{found:,.{decimals}f}"
    is_zero = not any(digit in text for digit in "123456789")
    return text.lstrip("-") if is_zero else text.replace("-", _MINUS)


def signed(value: Any, decimals: int = 3) -> str:
    """A difference, with its sign."""
    found = as_number(value)
    if found is None:
        return MISSING
    text = number(found, decimals)
    return text if text.startswith(_MINUS) or found <= 0 else f"+{text}"


def count(value: Any) -> str:
    """A whole number with grouped thousands (a fraction keeps one decimal)."""
    found = as_number(value)
    if found is None:
        return MISSING
    return number(found, 0 if found == int(found) else 1)


def plural(value: Any, noun: str) -> str:
    """A count with its noun: `1 core`, `2 cores`."""
    return f"{count(value)} {noun if as_number(value) == 1 else f'{noun}s'}"


def percent(share: Any, decimals: int = 1) -> str:
    """A share of one in per cent; a share that is not zero never reads as zero, one below all never as all."""
    found = as_number(share)
    if found is None:
        return MISSING
    if 0 < found * 100 < 0.5 * 10**-decimals:
        return f"<{_NO_BREAK}{10**-decimals:.{decimals}f}{_NO_BREAK}%"
    if 100 - 0.5 * 10**-decimals <= found * 100 < 100:
        return f">{_NO_BREAK}{100 - 10**-decimals:.{decimals}f}{_NO_BREAK}%"
    return f"{number(found * 100, decimals)}{_NO_BREAK}%"


def interval(bounds: tuple[float, float] | None, decimals: int = 3) -> str:
    """An interval in brackets, or nothing."""
    return "" if bounds is None else f"[{number(bounds[0], decimals)}, {number(bounds[1], decimals)}]"


def p_value(value: Any) -> str:
    """A p-value as it is usually printed: two digits where they say something, never `0.000`."""
    found = as_number(value)
    if found is None:
        return MISSING
    if found < 0.001:
        return f"<{_NO_BREAK}0.001"
    places = 3 if found < 0.0095 or 0.045 <= found < 0.055 else 2
    # Rounding must not carry a value over the threshold: 0.0497 is no 0.050.
    while places < 6 and (round(found, places) < 0.05) != (found < 0.05):
        places += 1
    return f"{found:.{places}f}"


def p_statement(value: Any) -> str:
    """`p = 0.03` or `p < 0.001`."""
    text = p_value(value)
    return f"p{_NO_BREAK}{text}" if text.startswith("<") else f"p{_NO_BREAK}={_NO_BREAK}{text}"


def duration(seconds: Any) -> str:
    """A time span in the unit that suits it: `0.4 s`, `1 min 52 s`, `3 h 05 min`."""
    found = as_number(seconds)
    if found is None:
        return MISSING
    if found < 10:
        return f"{number(found, 1 if found >= 0.1 else 3)}{_NO_BREAK}s"
    whole = round(found)
    if whole < 60:
        return f"{whole}{_NO_BREAK}s"
    if whole < 3600:
        return f"{whole // 60}{_NO_BREAK}min {whole % 60:02d}{_NO_BREAK}s"
    minutes = round(found / 60)
    return f"{minutes // 60}{_NO_BREAK}h {minutes % 60:02d}{_NO_BREAK}min"
