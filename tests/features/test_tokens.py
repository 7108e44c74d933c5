"""Tokens equal those of a naive loop; each recorded place holds the marker; each text keeps the batch shape."""

import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError
from moerec.features.sentences import split_sentences
from moerec.features.tokens import TokensConfig, token_layout, tokenise
from moerec.modalities.token_rows import TokenRows, joined
from tests.small_tokenizer import WORDS, small_tokenizer

pytest.importorskip("tokenizers")
TOKENIZER = small_tokenizer()
BARE = small_tokenizer(special=False)
WHOLE = small_tokenizer(by_words=False)
SENTENCES = st.one_of(
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=14).map(" ".join),
    st.sampled_from(["<SENT>", "[SEP] x [CLS]", "<SENT> good", "abcdefghijklmnop", "\u200b", "..", "日本"]),
)
TEXTS = st.none() | st.lists(SENTENCES, max_size=9).map(". ".join) | st.sampled_from(["", " \n "])
CONFIGS = st.builds(
    TokensConfig, chunk_tokens=st.integers(8, 16), chunks=st.integers(1, 4), sentences=st.integers(1, 6)
)


def naive(text, tokenizer, config):
    """Chunks, places and dropped pieces of one text, by a plain loop and one call for each sentence."""
    sentences = split_sentences(pl.Series([text], dtype=pl.String)).to_list()[0]
    room = config.chunk_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)
    pieces = []
    for sentence in sentences[: config.sentences]:
        ids = tokenizer._backend.encode(sentence, add_special_tokens=False).ids
        pieces += [ids[start : start + room - 1] for start in range(0, len(ids), room - 1)]
    dropped = len(sentences[config.sentences :]) + len(pieces[config.sentences :])
    chunks, places = [[]], []
    for number, piece in enumerate(pieces[: config.sentences]):
        if len(chunks[-1]) + 1 + len(piece) > room:
            if len(chunks) == config.chunks:
                dropped += len(pieces[: config.sentences]) - number
                break
            chunks.append([])
        places.append((len(chunks) - 1) * config.chunk_tokens + len(tokenizer.prefix) + len(chunks[-1]))
        chunks[-1] += [tokenizer.marker, *piece]
    whole = [[*tokenizer.prefix, *chunk, *tokenizer.suffix] or [tokenizer.padding] for chunk in chunks]
    return whole, places, dropped


def of_text(rows: TokenRows, row: int):
    chunks = range(*rows.text_offsets[row : row + 2])
    ids = [rows.ids[slice(*rows.chunk_offsets[chunk : chunk + 2])].tolist() for chunk in chunks]
    return ids, rows.markers[slice(*rows.marker_offsets[row : row + 2])].tolist(), int(rows.dropped[row])


def assert_equal(left: TokenRows, right: TokenRows):
    for name in left.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@settings(max_examples=80)
@given(st.lists(TEXTS, max_size=6), CONFIGS, st.sampled_from([TOKENIZER, BARE, WHOLE]))
def test_tokens_equal_those_of_a_plain_loop(texts, config, tokenizer):
    rows = tokenise(pl.Series(texts, dtype=pl.String), tokenizer, config)
    assert len(rows) == len(texts)
    assert [of_text(rows, row) for row in range(len(texts))] == [naive(text, tokenizer, config) for text in texts]


@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=6), CONFIGS, st.booleans(), st.sampled_from([TOKENIZER, BARE, WHOLE]))
def test_the_grid_holds_what_the_rows_hold(texts, config, trim, tokenizer):
    rows = tokenise(pl.Series(texts, dtype=pl.String), tokenizer, config)
    layout = token_layout(tokenizer, config)
    grid = rows.grid(layout, trim)
    if not trim:
        assert grid.ids.shape == (len(texts), config.chunks, config.chunk_tokens)
        assert grid.markers.shape == (len(texts), config.sentences)
    assert grid.mask[:, 0].any(axis=1).all()  # something to attend to in every text
    assert (grid.ids[~grid.mask] == layout.padding).all()
    flat = grid.ids.reshape(len(texts), -1)
    marked = np.take_along_axis(flat, grid.markers, axis=1)
    assert (marked[grid.marker_mask] == layout.marker).all()
    # A place for every marker, and no marker that people wrote.
    assert (flat == layout.marker).sum() == grid.marker_mask.sum()
    for row in range(len(texts)):
        chunks = [grid.ids[row, chunk][grid.mask[row, chunk]].tolist() for chunk in range(grid.ids.shape[1])]
        assert [chunk for chunk in chunks if chunk] == of_text(rows, row)[0]


@settings(max_examples=30)
@given(st.lists(TEXTS, max_size=5), st.lists(TEXTS, max_size=5), st.randoms())
def test_a_texts_tokens_depend_on_that_text_alone(first, second, random):
    config = TokensConfig(chunk_tokens=12, chunks=2, sentences=5)
    left, right, both = (
        tokenise(pl.Series(texts, dtype=pl.String), TOKENIZER, config) for texts in (first, second, first + second)
    )
    assert_equal(joined([left, right]), both)
    order = [random.randrange(len(both)) for _ in range(len(both))]
    texts = [(first + second)[place] for place in order]
    assert_equal(both.take(np.array(order, int)), tokenise(pl.Series(texts, dtype=pl.String), TOKENIZER, config))


def test_sentences_stay_whole_where_they_can():
    config = TokensConfig(chunk_tokens=8, chunks=3, sentences=9)  # room for 6: a marker and 5 tokens
    rows = tokenise(pl.Series(["good book. bad. the good the book", "it " * 12]), TOKENIZER, config)
    sent, ids = TOKENIZER.marker, {word: 4 + i for i, word in enumerate(WORDS)}
    dot = TOKENIZER.encode(pl.Series(["."]))[0][0]
    good, bad, book, the, it = (ids[word] for word in WORDS)
    assert of_text(rows, 0) == (
        [[2, sent, good, book, dot, 3], [2, sent, bad, dot, 3], [2, sent, the, good, the, book, 3]],
        [1, 9, 17],
        0,
    )
    assert of_text(rows, 1) == ([[2, sent, *[it] * 5, 3], [2, sent, *[it] * 5, 3], [2, sent, it, it, 3]], [1, 9, 17], 0)


def test_a_tokenizer_travels():
    copy = pickle.loads(pickle.dumps(TOKENIZER))
    assert copy.identity == TOKENIZER.identity != BARE.identity
    text = pl.Series(["a <SENT> b [SEP]"])
    assert copy.encode(text)[0].tolist() == TOKENIZER.encode(text)[0].tolist()
    assert TOKENIZER.marker not in copy.encode(pl.Series(["<SENT>"]))[0]


@pytest.mark.parametrize(
    "text", ["good. " * 2_000_000, "a" * 10_000_000, "😀" * 3_000_000, "\x00\x07\u202e" * 1000, "\ufffd\ue000\ue001"]
)
def test_bad_texts_are_cut_and_keep_the_shape(text):
    config = TokensConfig(chunk_tokens=16)
    grid = tokenise(pl.Series([text, None]), TOKENIZER, config).grid(token_layout(TOKENIZER, config))
    assert grid.ids.shape == (2, 4, 16)
    assert grid.marker_mask[1].sum() == 0


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="513 is more than the 512 tokens that 'small' reads"):
        tokenise(pl.Series(["a"]), TOKENIZER, TokensConfig(chunk_tokens=513))
