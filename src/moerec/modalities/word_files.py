"""A table of words from a file: slang of a trade, misspellings of a shop's customers."""

from __future__ import annotations

import json
from pathlib import Path

from moerec.errors import ConfigError


def read_words(path: Path) -> dict[str, str]:
    """Words and what is written for them, for `NormaliserConfig(words=...)`.

    Args:
        path: JSON with one object, or lines of a word, a tab and its meaning; empty lines and lines from # on are
            skipped.

    Raises:
        ConfigError: the file cannot be read, is of another form, or has a word twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the table of words cannot be read ({error}); give a UTF-8 file") from None
    if path.suffix == ".json":
        return _from_json(text, path)
    words: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, meaning = line.partition("\t")
        word = word.strip().lower()
        if not tab or not word:
            raise ConfigError(f"{path}, line {number}: write a word, a tab and its meaning")
        if word in words:
            raise ConfigError(f"{path}, line {number}: '{word}' stands twice; remove one of the lines")
        words[word] = meaning.strip()
    return words


def _from_json(text: str, path: Path) -> dict[str, str]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: no JSON ({error}); write one object of words and meanings") from None
    if not isinstance(values, dict) or not all(isinstance(meaning, str) for meaning in values.values()):
        raise ConfigError(f"{path}: write one JSON object of words and meanings, both in quotes")
    return values
