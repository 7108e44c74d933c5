"""Movie titles as people write them: the year apart, the article in front, no word for a missing title."""

from __future__ import annotations

import re

import polars as pl

ARTICLES = "The|A|An|Le|La|Les|L'|Un|Une|Il|Lo|Gli|Uno|Una|El|Los|Las|Der|Die|Das|Den|Det|De|Het|Een|Ein|Eine|En|Et"

_YEAR_AT_END = re.compile(
    r"""^(?P<title>.*?)\s*
        \((?P<year>\d{4})(?:\s*[-\u2013]\s*\d{0,4})?\)   # (1995), or (1995-1998) of a series
        \s*(?:\((?:V|TV|VG)\))?\s*$                       # video, television, game
    """,
    re.VERBOSE,
)
# One part of a title: the whole, or what stands in one pair of parentheses.
_ARTICLE_BEHIND = re.compile(rf"(?P<name>[^()\s][^()]*?),\s+(?P<article>{ARTICLES})(?=\s*(?:[()]|$))")
_MISSING_TITLES = {"", "unknown", "unkonwn"}


def split_year(title: str) -> tuple[str, int | None]:
    """`Fargo (1996)` -> (`Fargo`, 1996); without a year in parentheses at the end the title stays."""
    match = _YEAR_AT_END.match(title)
    if match is None:
        return title.strip(), None
    return match["title"].strip(), int(match["year"])


def article_in_front(title: str) -> str:
    """`Full Monty, The` -> `The Full Monty`; also inside parentheses: `Horseman (Hussard, Le)`."""

    def turn(match: re.Match[str]) -> str:
        blank = "" if match["article"].endswith("'") else " "
        return match["article"] + blank + match["name"]

    return _ARTICLE_BEHIND.sub(turn, " ".join(title.split()))


def clean_titles(titles: pl.Series, years: pl.Series | None = None) -> pl.DataFrame:
    """Columns `title` (string) and `year` (int32) of raw titles.

    Args:
        titles: raw titles, with the year at the end unless `years` has it.
        years: years of a source that keeps them apart, as text; what is no year is looked for in the title.
    """
    given = years if years is not None else pl.Series([None] * len(titles), dtype=pl.String)
    rows = [_clean(title, year) for title, year in zip(titles, given, strict=True)]
    return pl.DataFrame(rows, schema={"title": pl.String, "year": pl.Int32}, orient="row")


def _clean(title: str | None, given: str | None) -> tuple[str | None, int | None]:
    name = (title or "").strip()
    year: int | None
    if given is not None and re.fullmatch(r"\d{4}", given):
        year = int(given)
    else:
        name, year = split_year(name)
    # A film can be called Unknown; it has a year then, which the filler of a gap has not.
    if year is None and name.lower() in _MISSING_TITLES:
        return None, None
    return article_in_front(name) or None, year
