"""Texts as token ids: a marker before each sentence, sentences packed whole into chunks.

Texts and sentences that occur several times are encoded once, all of them in one batch; the packing is arithmetic on
their lengths. Pure, no I/O, no torch.

Shape letters: B texts, P pieces (sentences, or parts of those that no chunk can hold), K chunks, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from moerec.config import Config
from moerec.errors import ConfigError
from moerec.features.sentences import Splitter, split_sentences
from moerec.modalities.text_tokenizer import TextTokenizer, distinct
from moerec.modalities.token_rows import TokenLayout, TokenRows, offsets_of, ranges

Ints = NDArray[np.int64]


class TokensConfig(Config):
    """How texts become token ids."""

    tokenizer: str = "all-MiniLM-L6-v2"
    """Encoder whose tokenizer is used: a bundled name, a folder, or a name on the model hub."""
    marker: str = Field(default="<SENT>", pattern=r"^<\S+>$")
    """The token before each sentence; it is added to the tokenizer."""
    chunk_tokens: int = Field(default=384, ge=8)
    """The most tokens of a chunk, the special ones and the markers counted."""
    chunks: int = Field(default=4, ge=1)
    """The most chunks of a text."""
    sentences: int = Field(default=64, ge=1)
    """The most sentences of a text."""
    splitter: Splitter = "rules"
    """What finds the sentences: plain rules, or the library sakurs."""
    characters: int = Field(default=50_000, ge=1)
    """The most characters of a text that are read."""


def token_layout(tokenizer: TextTokenizer, config: TokensConfig) -> TokenLayout:
    """What must be known to lay the tokens out.

    Raises:
        ConfigError: the tokenizer's model reads less than a chunk, or a chunk has no room for a sentence.
    """
    if tokenizer.longest is not None and config.chunk_tokens > tokenizer.longest:
        raise ConfigError(
            f"chunk_tokens: {config.chunk_tokens} is more than the {tokenizer.longest} tokens that "
            f"'{tokenizer.name}' reads; take at most {tokenizer.longest}"
        )
    if _capacity(tokenizer, config) < 2:
        raise ConfigError(f"chunk_tokens: {config.chunk_tokens} leaves no room for a sentence; take more")
    return TokenLayout(
        chunk_tokens=config.chunk_tokens,
        chunks=config.chunks,
        sentences=config.sentences,
        padding=tokenizer.padding,
        marker=tokenizer.marker,
        vocabulary=tokenizer.vocabulary,
    )


def tokenise(texts: pl.Series, tokenizer: TextTokenizer, config: TokensConfig) -> TokenRows:
    """Token ids of each text.

    A text without a sentence (null, empty, blank) is one chunk of the tokenizer's special tokens, without a marker.
    """
    token_layout(tokenizer, config)
    filled = texts.cast(pl.String).fill_null("").str.slice(0, config.characters).alias("text")
    unique, codes = distinct(filled)
    sentences = split_sentences(unique, config.splitter)
    counts = sentences.list.len().to_numpy().astype(np.int64)  # [B]
    kept = np.minimum(counts, config.sentences)
    rows = _encoded(sentences.list.head(config.sentences), kept, counts - kept, tokenizer, config)
    return rows if unique.len() == filled.len() else rows.take(codes)


@dataclass(frozen=True)
class _Pieces:
    """Runs of tokens that stay together."""

    starts: Ints
    """[P]: where each begins among the encoded tokens."""
    lengths: Ints
    """[P]: tokens of each, without the marker."""
    offsets: Ints
    """[B + 1]: where each text begins among the pieces."""


@dataclass(frozen=True)
class _Chunks:
    """Which pieces share a chunk, in the order of texts."""

    text: Ints
    """[K]"""
    first: Ints
    """[K]: the first piece."""
    end: Ints
    """[K]: the piece after the last one."""


def _encoded(
    sentences: pl.Series, counts: Ints, left_out: Ints, tokenizer: TextTokenizer, config: TokensConfig
) -> TokenRows:
    unique, codes = distinct(sentences.filter(pl.Series(counts > 0)).explode())
    ids, offsets = tokenizer.encode(unique)
    capacity = _capacity(tokenizer, config)
    pieces = _cut(offsets[codes], np.diff(offsets)[codes], counts, capacity - 1)
    chunks, used = _packed(pieces, config.sentences, capacity, config.chunks)
    found = np.diff(pieces.offsets)  # [B]
    dropped = (left_out + found - used).astype(np.int32)
    return _laid_out(ids, pieces, chunks, used, dropped, tokenizer, config.chunk_tokens)


def _capacity(tokenizer: TextTokenizer, config: TokensConfig) -> int:
    """Tokens of a chunk beside the special ones."""
    return config.chunk_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)


def _cut(starts: Ints, lengths: Ints, counts: Ints, longest: int) -> _Pieces:
    """Sentences without a token left out, those that no chunk can hold cut into parts."""
    parts = -(-lengths // longest)  # [sentences]
    first = offsets_of(parts)
    number = np.arange(first[-1]) - np.repeat(first[:-1], parts)  # [P]: which part of its sentence
    begin = number * longest
    return _Pieces(
        starts=np.repeat(starts, parts) + begin,
        lengths=np.minimum(np.repeat(lengths, parts) - begin, longest),
        offsets=first[offsets_of(counts)],
    )


def _packed(pieces: _Pieces, sentences: int, capacity: int, most: int) -> tuple[_Chunks, Ints]:
    """Chunks filled in order with whole pieces, and how many pieces of each text found room [B]."""
    ends = offsets_of(pieces.lengths + 1)  # [P + 1]: the marker counts
    begin = pieces.offsets[:-1]  # [B]
    last = np.minimum(pieces.offsets[1:], begin + sentences)
    rows, first, end = [], [], []
    position = begin
    for number in range(most):
        # The first chunk is there in any case, so that each text has one.
        active = np.flatnonzero(position < last) if number else np.arange(len(begin))
        start = position[active]
        stop = np.minimum(np.searchsorted(ends, ends[start] + capacity, side="right") - 1, last[active])
        rows.append(active)
        first.append(start)
        end.append(stop)
        position = position.copy()
        position[active] = stop
    text = np.concatenate(rows)
    order = np.argsort(text, kind="stable")
    return _Chunks(text[order], np.concatenate(first)[order], np.concatenate(end)[order]), position - begin


def _laid_out(
    ids: NDArray[np.int32],
    pieces: _Pieces,
    chunks: _Chunks,
    used: Ints,
    dropped: NDArray[np.int32],
    tokenizer: TextTokenizer,
    chunk_tokens: int,
) -> TokenRows:
    """The ids of all chunks: prefix, then marker and tokens of each piece, then suffix."""
    # A chunk must have a token that is attended to: without special tokens, an empty text is one token of padding.
    prefix = np.array(tokenizer.prefix, np.int32)
    suffix = np.array(tokenizer.suffix, np.int32)
    empty = int(not len(prefix) + len(suffix))
    held = chunks.end - chunks.first  # [K]
    piece = (
        np.repeat(chunks.first, held) + np.arange(held.sum()) - np.repeat(offsets_of(held)[:-1], held)
    )  # kept, in order
    lengths = pieces.lengths[piece] + 1
    before = offsets_of(lengths)
    first = offsets_of(held)
    body = before[first[1:]] - before[first[:-1]]  # [K]: tokens between prefix and suffix
    sizes = body + len(prefix) + len(suffix) + empty * (held == 0)
    offsets = offsets_of(sizes)  # [K + 1]
    result = np.full(offsets[-1], tokenizer.padding, np.int32)  # [T]
    for place, token in enumerate(prefix):
        result[offsets[:-1] + place] = token
    for place, token in enumerate(suffix[::-1]):
        result[offsets[1:] - 1 - place] = token
    local = before[:-1] - np.repeat(before[first[:-1]], held) + len(prefix)  # place of each marker in its chunk
    marker = np.repeat(offsets[:-1], held) + local
    result[marker] = tokenizer.marker
    source, _ = ranges(
        np.stack([pieces.starts[piece], pieces.starts[piece] + lengths - 1], 1).ravel(), 2 * np.arange(len(piece))
    )
    inner = np.repeat(marker + 1 - (before[:-1] - np.arange(len(piece))), lengths - 1) + np.arange(len(source))
    result[inner] = ids[source]
    counts = np.bincount(chunks.text, minlength=len(used))
    text_offsets = offsets_of(counts)
    number = np.arange(len(held)) - np.repeat(text_offsets[:-1], counts)  # [K]: which chunk of its text
    places = (np.repeat(number, held) * chunk_tokens + local).astype(np.int32)
    return TokenRows(result, offsets, text_offsets, places, offsets_of(used), dropped)
