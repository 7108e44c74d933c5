"""Typed texts: every field is there, marked once, and the review that is to be predicted is nowhere."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.errors import ConfigError, DatasetError
from moerec.features.sentences import split_sentences
from moerec.features.text import NormaliserConfig, normalise_one
from moerec.features.typed_text import ItemField, ItemTextConfig, UserTextConfig, item_texts, user_texts

CELLS = (
    st.none()
    | st.text("ab .[]TILERVW<>&\u00ad", max_size=30)
    | st.sampled_from(["[REVIEW]", "x [review] y", "[[TITLE]TITLE]", "[[REVIEW]REVIEW]", "[title]"])
)


def items(**columns) -> pl.DataFrame:
    base = {
        "item_id": ["A", "B"],
        "main_category": ["Toys", None],
        "title": ["Kite &amp; string", ""],
        "brand": ["Acme", " "],
        "price": [9.9, float("nan")],
        "features": [["Red", "Big"], []],
        "description": [["It flies.", "<p>High</p>"], None],
    }
    return pl.DataFrame(base | columns)


def examples(history: list[list[str]], **columns) -> pl.DataFrame:
    count = len(history)
    base = {
        "key": [f"x{row}" for row in range(count)],
        "positive": [f"x{row}" for row in range(count)],
        "history": history,
        "review_count": [len(keys) for keys in history],
        "price_mean": [None if not keys else 23.1 for keys in history],
        "category_share_1": [None if not keys else 0.4 for keys in history],
        "category_share_2": [None if not keys else 0.6 for keys in history],
        "category_share_3": [None if not keys else 0.0 for keys in history],
    }
    schema = {"history": pl.List(pl.String), "price_mean": pl.Float64}
    schema |= {f"category_share_{code}": pl.Float64 for code in (1, 2, 3)}
    return pl.DataFrame(base | columns, schema_overrides=schema)


PRICE = ItemField(column="price", marker="[PRICE]", decimals=1)
CATEGORIES = ["Toys", "Books", "Garden"]
TEXTS = pl.DataFrame(
    {
        "key": ["a", "b", "c", "d", "x0"],
        "title": ["Good", "Bad!", None, None, "secret"],
        "text": ["I like it.", None, "Only text", "<br>", "SECRET"],
    }
)


def test_the_form_of_an_item():
    first, second = item_texts(items(), ItemTextConfig())
    assert first.split("\n") == [
        "[CAT] Toys",
        "[TITLE] Kite & string",
        "[BRAND] Acme",
        "[PRICE] 9.90",
        "[FEATURES] Red. Big",
        "[ABOUT] It flies.",
        "High",
    ]
    markers = ("CAT", "TITLE", "BRAND", "PRICE", "FEATURES", "ABOUT")
    assert second.split("\n") == [f"[{marker}] none" for marker in markers]


def test_the_form_of_a_user():
    got = user_texts(examples([["c", "b", "a", "d"], [], ["d"]]), TEXTS, CATEGORIES, UserTextConfig()).to_list()
    assert got[0].split("\n") == [
        "[PROFILE] reviews 4, mean price 23.10, categories Books 60 %, Toys 40 %",
        "[REVIEW] Only text",
        "[REVIEW] Bad!",
        "[REVIEW] Good. I like it.",
    ]
    assert got[1:] == [
        "[PROFILE] reviews 0, mean price none, categories none\n[REVIEW] none",
        "[PROFILE] reviews 1, mean price 23.10, categories Books 60 %, Toys 40 %\n[REVIEW] none",
    ]


def test_a_renamed_title_is_an_error():
    with pytest.raises(ConfigError, match=r"^item_text: there is no column 'title'; did you mean 'titles'\?$"):
        item_texts(items().rename({"title": "titles"}), ItemTextConfig())
    with pytest.raises(ConfigError, match="there is no column 'title'"):
        user_texts(examples([["a"]]), TEXTS.drop("title"), CATEGORIES, UserTextConfig())
    with pytest.raises(ConfigError, match="'category_share_4'"):
        user_texts(examples([["a"]]), TEXTS, [*CATEGORIES, "More"], UserTextConfig())


def test_the_text_of_the_target_is_in_no_input():
    """Positives and their negatives; the secret is the title and the text of the target alone."""
    table = examples([["a", "b"], ["a", "b"]], key=["x0", "negative"], positive=["x0", "x0"])
    texts = user_texts(table, TEXTS, CATEGORIES, UserTextConfig())
    assert not texts.str.to_lowercase().str.contains("secret").any()
    leaky = examples([["x0", "a"], ["x0"]], key=["x0", "negative"], positive=["x0", "x0"])
    with pytest.raises(DatasetError, match="history of 2 examples holds the review that they are to predict"):
        user_texts(leaky, TEXTS, CATEGORIES, UserTextConfig())


def test_a_review_without_text_row_or_with_two_is_refused():
    with pytest.raises(DatasetError, match="1 reviews of histories have no text, first 'zz'"):
        user_texts(examples([["zz", "a"]]), TEXTS, CATEGORIES, UserTextConfig())
    with pytest.raises(DatasetError, match="stands twice"):
        user_texts(examples([["a"]]), pl.concat([TEXTS, TEXTS]), CATEGORIES, UserTextConfig())


@settings(max_examples=40)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5), st.integers(1, 12))
def test_markers_stand_where_the_form_has_them_and_nowhere_else(rows, longest):
    texts = pl.DataFrame(
        [(f"k{i}", *row) for i, row in enumerate(rows)],
        schema={"key": pl.String, "title": pl.String, "text": pl.String},
        orient="row",
    )
    config = UserTextConfig(reviews=5, title_characters=longest, text_characters=longest)
    history = texts["key"].to_list()
    (text,) = user_texts(examples([history]), texts, CATEGORIES, config)
    assert text.upper().count("[REVIEW]") == len(rows)
    assert text.upper().count("[PROFILE]") == 1
    pieces = text.split("[REVIEW]")[1:]
    for piece, (title, body) in zip(pieces, rows, strict=True):
        assert len(piece) <= 2 * longest + 4
        if not normalise_one(title or "", config.normaliser) and not normalise_one(body or "", config.normaliser):
            assert piece.strip() == "none"


@settings(max_examples=40)
@given(st.lists(CELLS, min_size=1, max_size=6), st.randoms())
def test_an_items_text_depends_on_its_own_row_alone(titles, random):
    table = pl.DataFrame({"title": titles}, schema={"title": pl.String})
    config = validate(ItemTextConfig, {"fields": [{"column": "title", "marker": "[TITLE]"}]})
    two = item_texts(table.with_columns(price=1.0), ItemTextConfig(fields=(*config.fields, PRICE)))
    order = list(range(len(titles)))
    random.shuffle(order)
    texts = item_texts(table, config)
    assert item_texts(table[order], config).to_list() == texts.gather(order).to_list()
    # No sentence reaches over two fields.
    assert all(parts[-1] == "[PRICE] 1.0" for parts in split_sentences(two))
    assert all(text.upper().count("[TITLE]") == 1 for text in texts)


def test_values_are_cut_at_words():
    config = validate(ItemTextConfig, {"fields": [{"column": "title", "marker": "[T]", "characters": 10}]})
    table = pl.DataFrame({"title": ["one two three", "abcdefghijklmn", "ten chars. more", "short", "x" * 10_000_000]})
    assert item_texts(table, config).to_list() == [
        "[T] one two",
        "[T] abcdefghij",
        "[T] ten chars.",
        "[T] short",
        "[T] " + "x" * 10,
    ]


def test_prices_are_written_alike():
    config = validate(ItemTextConfig, {"fields": [{"column": "price", "marker": "[PRICE]", "decimals": 2}]})
    prices = [0.125, 9.999, 1234567.5, 0.05, None, np.inf, -1.0, 1e300]
    assert item_texts(pl.DataFrame({"price": prices}), config).str.strip_prefix("[PRICE] ").to_list() == [
        "0.12", "10.00", "1234567.50", "0.05", "none", "none", "none", "none",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [{"column": "a", "marker": "title"}],
        [{"column": "a", "marker": "[A]"}, {"column": "b", "marker": "[A]"}],
        [{"column": "a", "marker": "[A]", "charcters": 3}],
    ],
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(ConfigError):
        validate(ItemTextConfig, {"fields": fields})
    with pytest.raises(ConfigError, match="empty must be a word"):
        validate(UserTextConfig, {"empty": "[REVIEW]", "normaliser": NormaliserConfig()})


def test_tables_without_rows_and_columns_without_values():
    assert item_texts(items()[:0], ItemTextConfig()).to_list() == []
    assert user_texts(examples([["a"]])[:0], TEXTS, CATEGORIES, UserTextConfig()).to_list() == []
    empty = pl.DataFrame({name: [None, None] for name in items().columns})
    assert item_texts(empty, ItemTextConfig()).n_unique() == 1
    first = examples([[], []], price_mean=[None, None]).with_columns(pl.lit(None).alias("history"))
    assert (
        user_texts(first, TEXTS[:0], [], UserTextConfig(reviews=0, categories=0)).to_list()
        == ["[PROFILE] reviews 0, mean price none, categories none\n[REVIEW] none"] * 2
    )
