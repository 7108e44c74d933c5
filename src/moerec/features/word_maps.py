"""Words that stand for other words: slang, misspellings, a table of one's own. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

SLANG = {
    "2day": "today",
    "4ever": "forever",
    "asap": "as soon as possible",
    "b4": "before",
    "bc": "because",
    "bday": "birthday",
    "bf": "boyfriend",
    "btw": "by the way",
    "cuz": "because",
    "coz": "because",
    "dunno": "do not know",
    "fyi": "for your information",
    "gf": "girlfriend",
    "gonna": "going to",
    "gotta": "have to",
    "gr8": "great",
    "idk": "i do not know",
    "imho": "in my humble opinion",
    "imo": "in my opinion",
    "kinda": "kind of",
    "lol": "laughing",
    "luv": "love",
    "m8": "mate",
    "meh": "mediocre",
    "omg": "oh my god",
    "pls": "please",
    "plz": "please",
    "ppl": "people",
    "rly": "really",
    "sorta": "sort of",
    "tbh": "to be honest",
    "thru": "through",
    "thx": "thanks",
    "tnx": "thanks",
    "u": "you",
    "ur": "your",
    "wanna": "want to",
    "w/o": "without",
    "xmas": "christmas",
    "yup": "yes",
}
"""Slang of reviews, in lower case."""

SPELLING = {
    "accross": "across",
    "acessories": "accessories",
    "alot": "a lot",
    "allways": "always",
    "arived": "arrived",
    "becuase": "because",
    "begining": "beginning",
    "beleive": "believe",
    "calender": "calendar",
    "comfertable": "comfortable",
    "completly": "completely",
    "definately": "definitely",
    "definatly": "definitely",
    "definitly": "definitely",
    "diffrent": "different",
    "dissapointed": "disappointed",
    "disapointed": "disappointed",
    "enviroment": "environment",
    "excelent": "excellent",
    "exellent": "excellent",
    "finaly": "finally",
    "freind": "friend",
    "grammer": "grammar",
    "happend": "happened",
    "intresting": "interesting",
    "liek": "like",
    "neccessary": "necessary",
    "ocasion": "occasion",
    "occured": "occurred",
    "posible": "possible",
    "probaly": "probably",
    "prefered": "preferred",
    "realy": "really",
    "reccomend": "recommend",
    "recomend": "recommend",
    "recieve": "receive",
    "recieved": "received",
    "refering": "referring",
    "seperate": "separate",
    "suprise": "surprise",
    "suprised": "surprised",
    "teh": "the",
    "thier": "their",
    "tommorow": "tomorrow",
    "truely": "truly",
    "untill": "until",
    "usefull": "useful",
    "wich": "which",
    "wierd": "weird",
    "wonderfull": "wonderful",
}
"""Frequent misspellings, in lower case."""

# Whole words: the U of `U.S.` and the bf of `bf-2000` are none.
_WORD = re.compile(r"(?<![\w.'/-])[\w/']++(?![\w'/-]|\.\w)")
_SINGLE = re.compile(r"[\w/']+")


def resolved(words: Mapping[str, str]) -> dict[str, str]:
    """The table in lower case, applied to its own results, so that replacing twice changes nothing.

    Raises:
        ValueError: an entry is no single word, or leads back to itself.
    """
    table = {word.lower(): " ".join(meaning.split()) for word, meaning in words.items()}
    for word in table:
        if not _SINGLE.fullmatch(word):
            raise ValueError(f"'{word}' is no single word; write words of letters, digits, / and '")

    def meaning_of(word: str, above: tuple[str, ...]) -> str:
        if word in above:
            raise ValueError(f"'{word}' leads back to itself; remove one of {', '.join(above)}")

        def inner(found: re.Match[str]) -> str:
            part = found[0].lower()
            return meaning_of(part, (*above, word)) if part in table else found[0]

        return _WORD.sub(inner, table[word])

    return {word: meaning_of(word, ()) for word in table}


def replace_words(texts: pl.Series, table: Mapping[str, str]) -> pl.Series:
    """Each whole word of the table replaced, in any case; a capital at its beginning stays one."""

    def replacement(found: re.Match[str]) -> str:
        meaning = table.get(found[0].lower())
        if meaning is None:
            return found[0]
        return meaning[:1].upper() + meaning[1:] if found[0][0].isupper() else meaning

    # One search in Rust for all words spares most texts the way through Python.
    rows = texts.str.contains(rf"(?i)\b(?:{'|'.join(map(re.escape, table))})\b").fill_null(False).arg_true()
    if rows.is_empty():
        return texts
    changed = texts.gather(rows).map_elements(lambda text: _WORD.sub(replacement, text), return_dtype=pl.String)
    return texts.clone().scatter(rows, changed)
