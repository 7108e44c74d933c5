"""Composed texts: nothing is lost that a field holds, and nothing is made up where it holds nothing."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.modalities.text import TextConfig, compose_texts, normalise_text

CELLS = st.one_of(st.none(), st.text(max_size=12))


def config(*fields) -> TextConfig:
    return validate(TextConfig, {"fields": list(fields)})


@settings(max_examples=50)
@given(st.text() | st.text("&;amplt#x27 ＆\u00ad\u0301e<>"))
def test_normalising_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert once == once.strip()
    assert not any(unicodedata.category(c) == "Cc" for c in once)


def test_normalising_resolves_dirt():
    dirty = "Rock &amp;amp; Roll\u00a0\tPart\u200b\x07 ＩＩ &#39;live&#x27; soft\u00adly"
    assert normalise_text(dirty) == "Rock & Roll Part II 'live' softly"
    assert normalise_text("👩\u200d👧") == "👩\u200d👧"


def test_the_composed_format():
    items = pl.DataFrame(
        {"title": ["Toy Story", "Dr."], "genres": ["Animation|Comedy|Comedy", "|"], "year": [1995.0, None]}
    )
    texts = compose_texts(items, config("title", {"column": "genres", "separator": "|"}, "year"))
    assert texts.to_list() == ["title: Toy Story. genres: Animation, Comedy. year: 1995", "title: Dr"]


def test_labels_and_types():
    items = pl.DataFrame(
        {"tags": [["a", "b"], []], "price": [1.5, float("nan")], "new": [True, None], "day": [None, None]}
    ).with_columns(pl.col("day").cast(pl.Date))
    fields = [{"column": "tags", "label": "labels"}, {"column": "price", "label": ""}, "new", "day"]
    assert compose_texts(items, config(*fields)).to_list() == ["labels: a, b. 1.5. new: true", None]


@settings(max_examples=50)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=8))
def test_each_row_equals_its_own_naive_composition(rows):
    items = pl.DataFrame(rows, schema={"title": pl.String, "text": pl.String}, orient="row")

    def naive(row):
        values = []
        for name, cell in zip(("title", "text"), row, strict=True):
            value = normalise_text(cell or "").removesuffix(".").rstrip()
            if value:
                values.append(f"{name}: {value}")
        return ". ".join(values) or None

    assert compose_texts(items, config("title", "text")).to_list() == [naive(row) for row in rows]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["", "  ", "\u200b", "\x00", "&nbsp;", None, "."]), min_size=1))
def test_an_item_of_empty_fields_has_no_text(cells):
    items = pl.DataFrame({"title": cells}, schema={"title": pl.String})
    assert compose_texts(items, config("title")).to_list() == [None] * len(cells)


def test_a_missing_column_is_one_line_with_near_matches():
    items = pl.DataFrame({"title": ["a"], "year": [1]})
    with pytest.raises(ConfigError, match=r"^modalities\.text: there is no column 'titel'; did you mean 'title'\?$"):
        compose_texts(items, config("titel"))
    with pytest.raises(ConfigError, match="the columns are: title, year"):
        compose_texts(items, config("zzz"))


def test_a_column_without_text_is_refused():
    with pytest.raises(ConfigError, match="no plain text"):
        compose_texts(pl.DataFrame({"x": [{"a": 1}]}), config("x"))


@pytest.mark.parametrize("fields", [[], [{"column": "a", "separator": ""}], [{"colum": "a"}]])
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ConfigError):
        validate(TextConfig, {"fields": fields})
