"""Lines that a reader of Amazon files must refuse, one kind after the other, with a count of each.

A broken line is written beside the good one that it was made from, so the good data stay whole.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from moerec.dataset.sources.amazon_rows import (
    BAD_RATING,
    BAD_TIME,
    NO_ITEM,
    NO_RATING,
    NO_TIME,
    NO_USER,
    REPEATED_ITEM,
    REPEATED_REVIEW,
)
from moerec.dataset.sources.json_lines import CUT_ARCHIVE, CUT_LINE, NOT_AN_OBJECT, NOT_JSON, NOT_UTF_8

Record = dict[str, Any]
Spoil = Callable[[Record], bytes]


def json_line(record: Any) -> bytes:
    """A line as the published files have it, without the line end."""
    return json.dumps(record, ensure_ascii=False).encode()


def _without(*names: str) -> Spoil:
    return lambda record: json_line({name: value for name, value in record.items() if name not in names})


def _with(**values: Any) -> Spoil:
    return lambda record: json_line(record | values)


def _half(record: Record) -> bytes:
    line = json_line(record)
    return line[: len(line) // 2].decode("utf-8", "ignore").encode()


OF_ANY: dict[str, Spoil] = {
    NOT_JSON: _half,
    NOT_AN_OBJECT: lambda record: json_line([record]),
    NOT_UTF_8: lambda record: json_line(record | {"title": "?"}).replace(b'"?"', b'"\xff\xfe"'),
    NO_ITEM: _without("parent_asin", "asin"),
}
OF_REVIEWS: dict[str, Spoil] = OF_ANY | {
    NO_USER: _with(user_id=""),
    NO_RATING: _without("rating"),
    BAD_RATING: _with(rating=6.0),
    NO_TIME: _with(timestamp=None),
    BAD_TIME: _with(timestamp=1),
    REPEATED_REVIEW: json_line,
}
OF_PRODUCTS: dict[str, Spoil] = OF_ANY | {REPEATED_ITEM: json_line}


class Dirt:
    """Where broken lines come from, and how many of each kind there have been in one file."""

    def __init__(self, share: float, kinds: Mapping[str, Spoil], draw: np.random.Generator) -> None:
        self._share = share
        self._kinds = list(kinds.items())
        self._draw = draw
        self._made = 0
        self.counts: Counter[str] = Counter()

    def beside(self, record: Record) -> bytes:
        """Nothing, or now and then a broken copy of a record, with its line end."""
        if self._share == 0 or self._draw.random() >= self._share:
            return b""
        reason, spoil = self._kinds[self._made % len(self._kinds)]
        self._made += 1
        self.counts[reason] += 1
        return spoil(record) + b"\n"

    def end(self, compressed: bool) -> bytes:
        """What a file ends with, as it lies on disk: nothing, half a line, or a compressed part that is cut off."""
        if self._share == 0:
            return b""
        half = _half({"title": "the end of a file that was never whole", "text": "and this is missing"})
        self.counts[CUT_ARCHIVE if compressed else CUT_LINE] += 1
        return gzip.compress(half, mtime=0)[:-8] if compressed else half  # without checksum and length
