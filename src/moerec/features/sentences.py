"""Sentences of texts: plain rules that run in Polars, or the library sakurs. Pure functions, no I/O, no torch.

Reviews are written carelessly, so a full stop ends a sentence whatever follows, unless it belongs to an abbreviation,
an initial or a number in a list. Where a text has line ends, each of them ends a sentence too.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import polars as pl

from moerec.errors import MissingExtraError

Splitter = Literal["rules", "sakurs"]

# Two characters for private use: a full stop that ends nothing, and the place between two sentences.
_STOP, _BOUNDARY = "\ue000", "\ue001"
_ALWAYS = (
    "mr|mrs|ms|dr|prof|sr|jr|st|mt|vs|messrs|gen|col|capt|lt|sgt|rev|hon|dept|approx|est|e\\.g|i\\.e|eg|ie|cf|incl"
)
_BEFORE_NUMBERS = "no|nr|nos|fig|figs|vol|ch|p|pp|sec"
_BEFORE_LOWER = "etc|inc|ltd|co|corp|a\\.m|p\\.m|u\\.s|u\\.k|lb|lbs|oz|ft|hr|hrs|min|mins|in|qty|max|avg"
_PROTECTED = (
    (rf"\b((?i:{_ALWAYS}))\.", f"${{1}}{_STOP}"),
    (rf"\b((?i:{_BEFORE_NUMBERS}))\.(\s*\d)", f"${{1}}{_STOP}${{2}}"),
    (rf"\b((?i:{_BEFORE_LOWER}))\.(\s+\p{{Ll}})", f"${{1}}{_STOP}${{2}}"),
    (r"\b([A-HJ-Z])\.", f"${{1}}{_STOP}"),
    (r"\.\.\.(\s+\p{Ll})", f"..{_STOP}${{1}}"),
    (r"(^|\n)(\s*\d{1,2})\.(\s)", f"${{1}}${{2}}{_STOP}${{3}}"),
)
_CLOSING = "[\"'”’»)\\]]*"
_ENDS = (
    (r"\s*\n\s*", _BOUNDARY),
    (rf"([.!?](?:[ \t]*[.!?])*{_CLOSING})\s+", f"${{1}}{_BOUNDARY}"),
    (r"(…)\s+(\p{Lu})", f"${{1}}{_BOUNDARY}${{2}}"),
    (r"([。！？]+[”’」』）]*)", f"${{1}}{_BOUNDARY}"),
    # The blank that was forgotten: `I like it.It works`.
    (r"(\p{Ll}{2}[.!?]+)(\p{Lu}\p{Ll})", f"${{1}}{_BOUNDARY}${{2}}"),
)


def split_sentences(texts: pl.Series, splitter: Splitter = "rules") -> pl.Series:
    """The sentences of each text, stripped and never empty; an empty list for null and for an empty text.

    Nothing but white space is lost (and, by the rules, the two characters U+E000 and U+E001).

    Raises:
        MissingExtraError: sakurs is asked for and not installed.
    """
    filled = texts.fill_null("")
    pieces = _by_rules(filled) if splitter == "rules" else _by_sakurs(filled)
    frame = pl.DataFrame({"sentences": pieces}, schema={"sentences": pl.List(pl.String)})
    stripped = pl.element().str.strip_chars()
    return frame.select(pl.col("sentences").list.eval(stripped.filter(stripped != "")).alias(texts.name)).to_series()


def _by_rules(texts: pl.Series) -> pl.Series:
    texts = texts.str.replace_all(f"[{_STOP}{_BOUNDARY}]", "")
    for pattern, replacement in (*_PROTECTED, *_ENDS):
        texts = texts.str.replace_all(pattern, replacement)
    return texts.str.replace_all(_STOP, ".", literal=True).str.split(_BOUNDARY)


def _by_sakurs(texts: pl.Series) -> list[list[str]]:
    split = _sakurs().split
    return [[sentence for line in text.split("\n") for sentence in split(line)] for text in texts]


@cache
def _sakurs() -> Any:
    try:
        import sakurs
    except ImportError:
        raise MissingExtraError("sakurs", "text", "the sentence splitter 'sakurs'") from None
    return sakurs.load("en")
