"""Cells of the Amazon files, whatever shape they come in: texts, numbers, prices, times, pictures, details."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from moerec.dataset.schema import LATEST_TIMESTAMP

EARLIEST_TIMESTAMP = 788_918_400_000
"""1995-01-01 in milliseconds; the shop opened in that year."""
MILLISECONDS_FROM = 100_000_000_000
"""Numbers from here on are milliseconds (it is 1973 in milliseconds, the year 5138 in seconds)."""

_MARKUP = re.compile(
    r"</?(?:a|b|br|div|i|img|input|li|p|script|span|style|table|td|tr|ul)\b|<!--"
    r"|\bfunction\s*\(|\bvar\s+\w+\s*=|\bgetTime\(\)|\{[^{}]*:[^{}]*;",
    re.IGNORECASE,
)
_AMOUNT = r"\$?\s*(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?"
_PRICE = re.compile(
    rf"(?:from\s*:?\s*)?{_AMOUNT}(?:\s*(?:-|–|—|to)\s*{_AMOUNT.replace('(', '(?:', 1)})?", re.IGNORECASE
)
_NO_PRICE = ("", "-", "–", "—", "none", "null", "nan", "n/a")


def text(value: Any) -> str | None:
    """A text without surrounding blanks, or None; lists are joined by a blank, entities stand for their characters."""
    if isinstance(value, list | tuple):
        return " ".join(part for part in map(text, value) if part) or None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    plain = value.strip() if isinstance(value, str) else str(value)
    if "&" in plain:
        plain = html.unescape(plain).strip()
    if not plain.isascii():
        # JSON may hold half of a surrogate pair, which is no character.
        plain = plain.encode("utf-8", "replace").decode("utf-8")
    return plain or None


def identifier(value: Any) -> str | None:
    """An id as it is written, without surrounding blanks; whole numbers count as their digits."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value).strip().encode("utf-8", "replace").decode("utf-8") or None


def is_markup(value: str) -> bool:
    """Whether a text is a piece of HTML, CSS or JavaScript instead of what it should be."""
    return _MARKUP.search(value) is not None


def number(value: Any) -> float | None:
    """A finite number, also if it is written as a text with thousands separated by commas."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = float(value.replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def truth(value: Any) -> int | None:
    """1, 0 or None."""
    return int(value) if isinstance(value, bool) else None


def votes(value: Any) -> int | None:
    """How many found a review helpful: a number, a text such as "1,234", or the list [helpful, all]."""
    found = number(value[0] if isinstance(value, list) and value else value)
    return int(found) if found is not None and 0 <= found < 2**31 else None


def milliseconds(value: Any) -> int | None:
    """A time in seconds or in milliseconds, told apart by its magnitude, as milliseconds; None if it is impossible."""
    found = number(value)
    if found is None:
        return None
    time = int(found) if found >= MILLISECONDS_FROM else int(found * 1000)
    return time if EARLIEST_TIMESTAMP <= time <= LATEST_TIMESTAMP else None


def price(value: Any) -> tuple[float | None, bool]:
    """A price, and whether something stood there that could not be read.

    `$1,299.00`, `from 9.99` and `$5 - $9` are 1299, 9.99 and 5: of several prices the lowest.
    """
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_PRICE):
        return None, False
    if isinstance(value, str):
        found = _PRICE.fullmatch(value.strip())
        if found is None:
            return None, True
        return float(found[1].replace(",", "") + (found[2] or "")), False
    amount = number(value)
    return (None, True) if amount is None or amount < 0 else (amount, False)


def details(value: Any) -> dict[str, str]:
    """Names and values of the product details: an object, or an object written as a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    if not isinstance(value, Mapping):
        return {}
    # The 2018 files have names such as "\n    Product Dimensions: \n    ".
    pairs = ((" ".join(str(name).split()).strip(" :"), text(entry)) for name, entry in value.items())
    return {name: entry for name, entry in pairs if name and entry}


def first_image(record: Mapping[str, Any]) -> str | None:
    """The address of the first large picture, else of the first in high resolution, else of any."""
    images = record.get("images")
    for size in ("large", "hi_res", "thumb"):
        if isinstance(images, Mapping):
            found = _first_address(_as_list(images.get(size)))
        else:
            found = _first_address(image.get(size) for image in _as_list(images) if isinstance(image, Mapping))
        if found:
            return found
    for name in ("imageURLHighRes", "imageURL", "image", "imUrl"):
        if found := _first_address(_as_list(record.get(name))):
            return found
    return _first_address(_as_list(images))


def category_path(value: Any) -> list[str]:
    """The categories from wide to narrow; of several paths (2014) the first."""
    entries = _as_list(value)
    if entries and isinstance(entries[0], list):
        entries = entries[0]
    found = [name for name in map(text, entries) if name and not is_markup(name)]
    return list(dict.fromkeys(found))


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _first_address(values: Iterable[Any]) -> str | None:
    return next(
        (value for value in values if isinstance(value, str) and value.startswith(("http://", "https://"))), None
    )
