"""The normaliser: what it mends, what it leaves alone, and that it is done after once."""

import string
import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features.text import GROWTH, NormaliserConfig, normalise, normalise_one, text_column

ALL = NormaliserConfig(slang=True, spelling=True, words={"foo": "bar foo2", "foo2": "thx"})
DIRT = st.one_of(
    st.text(max_size=40),
    st.text("&;amplt#x27ＡＭＰ＆\u00ad\u0301e<>/br!-=. —…\n\r\t\u200b\u200d😀❤️🏽AaoO´ﷺ\u2028'", max_size=40),
    st.lists(
        st.sampled_from(
            [
                "&amp;",
                "&lt;",
                "br>",
                "<b",
                "&#",
                "60;",
                "u",
                " U",
                ".S.",
                "thx",
                "foo",
                "ooo",
                "...",
                " . ",
                "😀",
                "[[ASIN:B1",
                "]]",
                "\n",
            ]
        ),
        max_size=14,
    ).map("".join),
)
PLAIN = st.lists(
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=8).filter(lambda w: not _stretched(w)),
    min_size=1,
).map(lambda words: " ".join(words) + '. It\'s 5 < 6, "fine" & (ok)!')


def _stretched(word: str) -> bool:
    return any(a == b == c for a, b, c in zip(word, word[1:], word[2:], strict=False))


def configs():
    switches = [name for name, field in NormaliserConfig.model_fields.items() if field.annotation is bool]
    return st.fixed_dictionaries({name: st.booleans() for name in switches}).map(lambda on: NormaliserConfig(**on))


@settings(max_examples=40)
@given(st.lists(DIRT | st.none(), max_size=6), st.just(ALL) | st.just(NormaliserConfig()) | configs())
def test_normalising_twice_changes_nothing_and_neighbours_do_not_matter(texts, config):
    column = text_column(texts)
    once = normalise(column, config)
    assert normalise(once, config).to_list() == once.to_list()
    assert once.to_list() == [None if text is None else normalise_one(text, config) for text in texts]
    assert column.to_list() == texts  # what was given is not changed


@settings(max_examples=50)
@given(DIRT)
def test_no_text_grows_beyond_the_stated_factor(text):
    once = normalise_one(text, NormaliserConfig(emoji=False))
    assert len(once) <= GROWTH * len(text)
    assert not any(unicodedata.category(c) == "Cc" and c != "\n" for c in once)


@settings(max_examples=50)
@given(PLAIN)
def test_plain_text_is_left_alone(text):
    assert normalise_one(text, NormaliserConfig(spelling=True)) == text


@settings(max_examples=50)
@given(DIRT.map(lambda text: text.strip()))
def test_nothing_happens_with_every_step_off(text):
    off = {name: False for name, field in NormaliserConfig.model_fields.items() if field.annotation is bool}
    assert normalise_one(text, NormaliserConfig(**off)) == text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Rock &amp;amp;amp; Roll &#39;n&#x27; &quot;fun&quot;", "Rock & Roll 'n' \"fun\""),
        ("&lt;br&gt;one<br /><br/>two <b>three</b>four", "one\ntwo threefour"),
        ("<style>.a { b }</style>text<script type='x'>var a = 1 < 2;</script> end", "text end"),
        ("I <3 it, 2 < 3 and 4 > 3", "I <3 it, 2 < 3 and 4 > 3"),
        ("ＦＵＬＬ ﬁne", "FULL fine"),
        ("don´t “quote” ‘me’ don’t", "don't \"quote\" 'me' don't"),
        ("5–10 well—really − yes", "5-10 well - really - yes"),
        ("wait… what . . . ok ......", "wait... what ... ok ..."),
        ("a\x00b\x07c soft\u00adly zero\u200bwidth \ufeffx", "a b c softly zerowidth x"),
        ("love it 😀😀😀!", "love it grinning face !"),
        ("👍🏽 ❤️", "thumbs up sign heavy black heart"),
        ("🇩🇪", "flag d flag e"),
        ("coooool SOOOOO AAA batteries www.x.de XXXL III looove", "cool SOO AAA batteries www.x.de XXXL III loove"),
        ("great!!!!!! ======= ok??", "great!!! === ok??"),
        ("one \t two\r\n\r\n  three\u00a0 ", "one two\nthree"),
        ("[[VIDEOID:abc123]] see [[ASIN:B000123 The Title]]", "see The Title"),
        ("", ""),
    ],
)
def test_what_is_mended(dirty, clean):
    assert normalise_one(dirty, NormaliserConfig()) == clean


def test_words_are_replaced_whole_and_keep_their_capital():
    config = NormaliserConfig(slang=True, spelling=True, words={"Kewl": "cool"})
    text = "Thx u, U.S. made. I recieved it b4 xmas, definately kewl; bf-2000 ur"
    assert normalise_one(text, config) == (
        "Thanks you, U.S. made. I received it before christmas, definitely cool; bf-2000 your"
    )
    assert normalise_one("thx", NormaliserConfig(slang=True, words={"thx": "cheers"})) == "cheers"


@pytest.mark.parametrize("words", [{"a": "b", "b": "a"}, {"a": "a a"}, {"two words": "x"}])
def test_a_table_that_cannot_end_is_refused(words):
    with pytest.raises(ConfigError, match=r"words.*(leads back|no single word)"):
        validate(NormaliserConfig, {"words": words})


def test_half_characters_and_huge_texts():
    column = text_column(["a\ud800b", None, "😀\udc00"])
    assert column.to_list() == ["a\ufffdb", None, "😀\ufffd"]
    assert normalise_one("&#xD800; &#55357;x", NormaliserConfig()) is not None
    huge = ["&amp;" * 400_000 + "x", "<" * 500_000, "a" * 2_000_000, "<b" * 400_000, "&lt;" * 200_000, ". " * 500_000]
    results = normalise(pl.Series(huge), ALL)
    assert results[0] == "&" * 400_000 + "x"
    assert normalise(results, ALL).to_list() == results.to_list()
