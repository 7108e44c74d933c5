"""Texts as people and shops write them, made even: markup, look-alike signs, emoji, stretched words.

Each step is a switch of `NormaliserConfig`. Steps that plain text never needs look for their cause first, so most texts
pass through a few searches in Polars alone. Pure functions, no I/O, no torch.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import polars as pl
from pydantic import Field, field_validator

from moerec.config import Config
from moerec.features.word_maps import SLANG, SPELLING, replace_words, resolved

GROWTH = 18
"""No text becomes longer than this many times its length: NFKC writes out one Arabic ligature as 18 letters. Names of
emoji and replaced words come on top."""

_ROUNDS = 6
_SCRIPT = r"(?is)<(?:script|style)\b[^>]*>.*?</(?:script|style)\s*>"
_BLOCK_TAG = r"(?i)</?(?:br|p|div|li|ul|ol|tr|table|h[1-6]|hr|blockquote)\b[^<>]*>"
# What Amazon's own editor leaves: the number of a film, and a product's title behind its number.
_FILM, _PRODUCT = r"\[\[VIDEOID:[^\]]*\]\]", r"\[\[ASIN:\w+ ?([^\]]*)\]\]"
_TAG = r"<!--[^<>]*-->|</?[A-Za-z][^<>]*>"
# `&amp;amp;amp;lt;` in one pass, however often it was escaped.
_AMPERSANDS = r"(?i)&(?:(?:amp|#0*38|#x0*26);)+"
_SINGLE_QUOTES, _DOUBLE_QUOTES = "[‘’‚‛′´`ʼ＇]", "[“”„‟″«»＂]"
_SHORT_DASHES, _LONG_DASHES = "[‐‑‒–−﹣－]", " *[—―⸺⸻]+ *"
_ELLIPSIS = r"\.(?:[ \t]?\.){2,}|…+"
_CONTROL = "[\u0000-\u0008\u000e-\u001f\u007f-\u0084\u0086-\u009f]"
# Soft hyphen, zero-width space, direction marks, word joiner, byte order mark. The zero-width joiners stay, for several
# scripts need them; inside an emoji they go with it.
_INVISIBLE = "[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffc]"
_LINES = r"[ \t\u00a0\u2000-\u200a\u3000]*[\n\r\u000b\u000c\u0085\u2028\u2029]\s*"
_EMOJI = "[\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]"
_TONE = "[\U0001f3fb-\U0001f3ff\u200d\ufe0e\ufe0f\u20e3]"
_ONE_EMOJI = re.compile(f"({_EMOJI})(?:{_TONE}|\\1)*")
_STRETCHED = re.compile(r"([^\W\d_])\1{2,}")
_MAY_STRETCH = "|".join(f"{letter}{{3}}" for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_STRETCHED_SIGNS = tuple((f"{re.escape(sign)}{{4,}}", sign * 3) for sign in "!?-=*_~")


class NormaliserConfig(Config):
    """What is made even in a text; each step can be switched off."""

    entities: bool = True
    """Resolve HTML entities, also those that were escaped several times (`&amp;quot;`)."""
    tags: bool = True
    """Drop HTML tags, comments, scripts and styles; a tag that begins a new line, such as `<br>`, becomes a line end.
    Amazon's `[[VIDEOID:...]]` goes too, of `[[ASIN:B000 Title]]` the title stays."""
    compatibility: bool = True
    """Unicode NFKC: full-width letters, ligatures and composed accents get their common form."""
    quotes: bool = True
    """Curly, low and angle quotes become straight ones."""
    dashes: bool = True
    """All kinds of hyphens and short dashes become `-`, long dashes ` - `."""
    ellipses: bool = True
    """Three or more full stops, also with blanks between, become `...`."""
    control: bool = True
    """Control characters become blanks; soft hyphens, zero-width spaces and marks of direction are dropped."""
    emoji: bool = True
    """Emoji become their Unicode names in lower case; a repeated one is named once."""
    repeats: bool = True
    """`coooool` becomes `cool`: three or more equal letters become two (capitals from five on; a word of one letter,
    such as AAA or www, stays), four or more equal `!?-=*_~` become three."""
    slang: bool = False
    """Write out slang by the package's own table: `thx` becomes `thanks`."""
    spelling: bool = False
    """Mend frequent misspellings by the package's own table: `definately` becomes `definitely`."""
    words: dict[str, str] = Field(default_factory=dict)
    """A table of your own, word by word in any case; it goes before the package's tables."""
    whitespace: bool = True
    """Blanks in a row become one, blank lines one line end; none at the beginning and the end."""
    lines: bool = True
    """Keep line ends, for they end sentences; without it they become blanks."""

    @field_validator("words")
    @classmethod
    def _resolved(cls, value: dict[str, str]) -> dict[str, str]:
        return resolved(value)

    @property
    def replacements(self) -> dict[str, str]:
        """All words that are replaced, in lower case."""
        own = (SLANG if self.slang else {}) | (SPELLING if self.spelling else {})
        return resolved(own | self.words)


def text_column(values: Iterable[Any]) -> pl.Series:
    """Strings as a column of Polars; half of a surrogate pair, which no file can hold, becomes U+FFFD."""
    entries = list(values)
    try:
        return pl.Series("text", entries, dtype=pl.String)
    except UnicodeEncodeError:
        whole = [
            None if entry is None else entry.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for entry in entries
        ]
        return pl.Series("text", whole, dtype=pl.String)


def normalise(texts: pl.Series, config: NormaliserConfig) -> pl.Series:
    """Each text made even; null stays null.

    Applying it twice changes nothing: the steps are repeated for the texts that they changed, as dropping one thing may
    bring two others together. A text that still changes after that is made of nested escapes; it loses its `&` and `<`.
    """
    steps = _steps(config)
    result = texts
    rows = texts.is_not_null().arg_true()
    for turn in range(2 * _ROUNDS):
        if rows.is_empty():
            break
        before = result.gather(rows)
        if turn == _ROUNDS:
            before = before.str.replace_all("[&<]", "")
        after = before
        for step in steps:
            after = step(after)
        result = result.clone().scatter(rows, after) if rows.len() < result.len() else after
        rows = rows.filter(after != before)
    return result.alias(texts.name)


def normalise_one(text: str, config: NormaliserConfig) -> str:
    """One text, for requests."""
    return str(normalise(text_column([text]), config)[0])


Step = Callable[[pl.Series], pl.Series]


def _steps(config: NormaliserConfig) -> list[Step]:
    """The steps that are switched on, in order."""
    replacements = config.replacements
    steps: list[tuple[bool, Step]] = [
        (config.entities, _entities),
        (config.tags, _tags),
        (config.quotes, _quotes),  # before NFKC, which takes an acute accent for a blank with an accent
        (config.compatibility, _compatibility),
        (config.dashes, _dashes),
        (config.ellipses, lambda texts: texts.str.replace_all(_ELLIPSIS, "...")),
        (config.control, _control),
        (config.emoji, _emoji),
        (config.repeats, _repeats),
        (bool(replacements), lambda texts: replace_words(texts, replacements)),
        (config.whitespace, lambda texts: _whitespace(texts, config.lines)),
    ]
    return [step for on, step in steps if on]


def _where(texts: pl.Series, cause: pl.Series, change: Step) -> pl.Series:
    """Change only the texts that have a cause."""
    rows = cause.arg_true()
    return texts if rows.is_empty() else texts.clone().scatter(rows, change(texts.gather(rows)))


def _python(change: Callable[[str], str]) -> Step:
    return lambda texts: texts.map_elements(change, return_dtype=pl.String)


def _entities(texts: pl.Series) -> pl.Series:
    def change(some: pl.Series) -> pl.Series:
        return _python(_unescaped)(some.str.replace_all(_AMPERSANDS, "&"))

    return _where(texts, texts.str.contains("&", literal=True), change)


def _unescaped(text: str) -> str:
    """Without entities; a reference to half of a surrogate pair is no character."""
    text = html.unescape(text)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _tags(texts: pl.Series) -> pl.Series:
    def change(some: pl.Series) -> pl.Series:
        return some.str.replace_all(_SCRIPT, " ").str.replace_all(_BLOCK_TAG, "\n").str.replace_all(_TAG, "")

    def plain(some: pl.Series) -> pl.Series:
        return some.str.replace_all(_FILM, " ").str.replace_all(_PRODUCT, "${1}")

    texts = _where(texts, texts.str.contains("<", literal=True), change)
    return _where(texts, texts.str.contains("[[", literal=True), plain)


def _ascii(texts: pl.Series) -> pl.Series:
    return texts.str.len_bytes() == texts.str.len_chars()


def _quotes(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_SINGLE_QUOTES, "'").str.replace_all(_DOUBLE_QUOTES, '"')


def _compatibility(texts: pl.Series) -> pl.Series:
    return _where(texts, ~_ascii(texts), lambda some: some.str.normalize("NFKC"))


def _dashes(texts: pl.Series) -> pl.Series:
    def change(some: pl.Series) -> pl.Series:
        return some.str.replace_all(_SHORT_DASHES, "-").str.replace_all(_LONG_DASHES, " - ")

    return _where(texts, ~_ascii(texts), change)


def _control(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(_CONTROL, " ").str.replace_all(_INVISIBLE, "")


def _emoji(texts: pl.Series) -> pl.Series:
    change = _python(lambda text: _ONE_EMOJI.sub(lambda found: _name(found[1]), text))
    return _where(texts, texts.str.contains(_EMOJI), change)


@cache
def _name(character: str) -> str:
    """The name of an emoji between blanks; a sign without a name is dropped, a letter of a flag is a letter."""
    name = unicodedata.name(character, "").lower()
    if name.startswith("regional indicator symbol letter "):
        return f" flag {name[-1]} "
    return f" {name} " if name and not name.startswith("emoji modifier") else " "


def _repeats(texts: pl.Series) -> pl.Series:
    for pattern, short in _STRETCHED_SIGNS:
        texts = texts.str.replace_all(pattern, short)
    cause = texts.str.contains(_MAY_STRETCH) | ~_ascii(texts)
    return _where(texts, cause, _python(lambda text: _STRETCHED.sub(_shortened, text)))


def _shortened(run: re.Match[str]) -> str:
    """Two of the letters; all of them in a word of one letter, and in capitals that may be a size or a number."""
    text, start, end = run.string, run.start(), run.end()
    alone = not (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum())
    if alone or (run[1].isupper() and end - start < 5):
        return run[0]
    return run[1] * 2


def _whitespace(texts: pl.Series, lines: bool) -> pl.Series:
    if lines:
        texts = texts.str.replace_all(_LINES, "\n").str.replace_all(r"[^\S\n]+", " ")
    else:
        texts = texts.str.replace_all(r"\s+", " ")
    return texts.str.strip_chars()
