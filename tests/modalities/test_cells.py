"""Values of cells as strings."""

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError
from moerec.modalities.cells import several_values, single_values


@settings(max_examples=50)
@given(st.lists(st.none() | st.floats(width=64)))
def test_floats_keep_their_value_and_whole_ones_lose_their_point(numbers):
    texts = single_values(pl.Series("x", numbers, pl.Float64), "here").to_list()
    for number, text in zip(numbers, texts, strict=True):
        if number is None or not math.isfinite(number):
            assert text is None
        else:
            assert float(text) == number
            assert not text.endswith(".0") or abs(number) >= 2**53


@settings(max_examples=50)
@given(st.lists(st.none() | st.text(max_size=5)))
def test_strings_are_stripped_and_empty_ones_are_null(cells):
    texts = single_values(pl.Series("x", cells, pl.String), "here").to_list()
    # Polars and Python disagree on a few separators that count as white space.
    assert [(text or "").strip() or None for text in texts] == [(cell or "").strip() or None for cell in cells]


@settings(max_examples=50)
@given(st.lists(st.none() | st.lists(st.sampled_from(["a", "b", " c ", ""]), max_size=5), max_size=6))
def test_lists_and_separated_strings_give_the_same_values(cells):
    lists = several_values(pl.Series("x", cells, pl.List(pl.String)), None, "here")
    strings = pl.Series("x", [None if cell is None else "|".join(cell) for cell in cells], pl.String)
    assert several_values(strings, "|", "here").rows() == lists.rows()
    naive = [
        (row, value)
        for row, cell in enumerate(cells)
        for value in dict.fromkeys(part.strip() for part in cell or [] if part.strip())
    ]
    assert lists.rows() == naive


def test_nested_values_are_refused():
    with pytest.raises(ConfigError, match="'x' has type"):
        single_values(pl.Series("x", [[1]]), "here")
