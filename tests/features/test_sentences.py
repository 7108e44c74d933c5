"""Sentences: nothing is lost, nothing is empty, and the usual traps of full stops."""

import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import MissingExtraError
from moerec.features import sentences
from moerec.features.sentences import split_sentences

TEXTS = st.text("aAbB .!?…\n\"'()。0", max_size=40) | st.text(
    st.characters(exclude_categories=["Cs", "Cc"]), max_size=20
)


def letters(text: str) -> str:
    return "".join(text.replace("\ue000", "").replace("\ue001", "").split())


@pytest.mark.parametrize("splitter", ["rules", "sakurs"])
@settings(max_examples=60)
@given(st.lists(TEXTS | st.none(), max_size=5))
def test_nothing_is_lost_and_nothing_is_empty(splitter, texts):
    if splitter == "sakurs":
        pytest.importorskip("sakurs")
    column = pl.Series("t", texts, dtype=pl.String)
    split = split_sentences(column, splitter).to_list()
    assert len(split) == len(texts)
    for text, parts in zip(texts, split, strict=True):
        assert all(part and part == part.strip() for part in parts)
        assert letters("".join(parts)) == letters(text or "")
        assert split_sentences(pl.Series([text], dtype=pl.String), splitter).to_list() == [parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I like it. It works!", ["I like it.", "It works!"]),
        ("great. it works", ["great.", "it works"]),
        ("I like it.It works", ["I like it.", "It works"]),
        ("Dr. Smith and Mrs. J. Doe paid $9.99, e.g. in St. Louis.", None),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Is it No. 5? Surely no. It is 6.", ["Is it No. 5?", "Surely no.", "It is 6."]),
        ("Pens, pads, etc. are fine. Bags etc. Then more.", ["Pens, pads, etc. are fine.", "Bags etc.", "Then more."]),
        ("Well... it is fine... But small", ["Well... it is fine...", "But small"]),
        ("Great ! ! ! Buy it!!! now", ["Great ! ! !", "Buy it!!!", "now"]),
        ("1. Good\n2. Bad\nno stop", ["1. Good", "2. Bad", "no stop"]),
        ("好。很好！ yes", ["好。", "很好！", "yes"]),
        ("", []),
        (" \n ", []),
        (None, []),
        ("one sentence without an end", None),
    ],
)
def test_the_rules(text, expected):
    got = split_sentences(pl.Series([text], dtype=pl.String)).to_list()[0]
    assert got == ([text] if expected is None else expected)


def test_no_texts_at_all():
    assert split_sentences(pl.Series("t", [], dtype=pl.String)).to_list() == []


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sakurs", None)
    sentences._sakurs.cache_clear()
    with pytest.raises(MissingExtraError, match=r"moerec\[text\]"):
        split_sentences(pl.Series(["a"]), "sakurs")
    sentences._sakurs.cache_clear()
