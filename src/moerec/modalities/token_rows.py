"""Token ids of texts in chunks with a marker before each sentence, as numpy arrays: jagged, and as a grid.

Shape letters: B texts, K chunks of all texts, T tokens of all chunks, M markers of all texts; in the grid C chunks of a
text, L tokens of a chunk, S sentences of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class TokenLayout:
    """What must be known of tokens to lay them out."""

    chunk_tokens: int
    """L: the longest chunk."""
    chunks: int
    """C: the most chunks of a text."""
    sentences: int
    """S: the most sentences of a text."""
    padding: int
    """The id that fills a grid."""
    marker: int
    """The id before each sentence."""
    vocabulary: int
    """Number of ids, the marker's among them."""


@dataclass(frozen=True)
class TokenGrid:
    """Tokens of texts as arrays of fixed shape."""

    ids: NDArray[np.int32]
    """[B, C, L]; padding where the mask is false."""
    mask: NDArray[np.bool_]
    """[B, C, L]: whether there is a token; each text has at least one."""
    markers: NDArray[np.int32]
    """[B, S]: places of the markers in a text's C * L tokens; 0 where the mask is false."""
    marker_mask: NDArray[np.bool_]
    """[B, S]: whether there is a sentence."""


@dataclass(frozen=True)
class TokenRows:
    """Tokens of texts without padding."""

    ids: NDArray[np.int32]
    """[T]: ids of all chunks, one after the other."""
    chunk_offsets: Ints
    """[K + 1]: where each chunk begins in `ids`."""
    text_offsets: Ints
    """[B + 1]: where each text begins among the chunks; a text has at least one chunk."""
    markers: NDArray[np.int32]
    """[M]: place of each sentence's marker, chunk of the text * L + place in the chunk."""
    marker_offsets: Ints
    """[B + 1]: where each text begins in `markers`."""
    dropped: NDArray[np.int32]
    """[B]: sentences that found no room."""

    def __len__(self) -> int:
        return len(self.text_offsets) - 1

    def take(self, rows: NDArray[np.integer]) -> TokenRows:
        """Some of the texts, in any order, also repeatedly."""
        rows = np.asarray(rows, dtype=np.int64)
        chunks, text_offsets = ranges(self.text_offsets, rows)
        tokens, chunk_offsets = ranges(self.chunk_offsets, chunks)
        markers, marker_offsets = ranges(self.marker_offsets, rows)
        return TokenRows(
            self.ids[tokens], chunk_offsets, text_offsets, self.markers[markers], marker_offsets, self.dropped[rows]
        )

    def grid(self, layout: TokenLayout, trim: bool = False) -> TokenGrid:
        """The tokens in fixed shape.

        Args:
            layout: L, C, S and the padding.
            trim: make L, C and S only as large as these texts need.
        """
        texts = len(self)
        lengths = np.diff(self.chunk_offsets)  # [K]
        counts, sentences = np.diff(self.text_offsets), np.diff(self.marker_offsets)  # [B]
        wide, high, many = layout.chunk_tokens, layout.chunks, layout.sentences
        if trim:
            wide, high, many = (int(sizes.max(initial=1)) for sizes in (lengths, counts, sentences))
        chunk = _places(counts, self.text_offsets) + high * np.repeat(np.arange(texts), counts)  # [K]: among B * C
        token = _places(lengths, self.chunk_offsets) + wide * np.repeat(chunk, lengths)  # [T]: among B * C * L
        ids = np.full(texts * high * wide, layout.padding, np.int32)
        mask = np.zeros(ids.shape, np.bool_)
        ids[token], mask[token] = self.ids, True
        marker = _places(sentences, self.marker_offsets) + many * np.repeat(np.arange(texts), sentences)  # [M]
        markers, marker_mask = np.zeros(texts * many, np.int32), np.zeros(texts * many, np.bool_)
        own_chunk, own_place = np.divmod(self.markers, layout.chunk_tokens)
        markers[marker], marker_mask[marker] = own_chunk * wide + own_place, True
        shape = (texts, high, wide)
        return TokenGrid(
            ids.reshape(shape), mask.reshape(shape), markers.reshape(texts, many), marker_mask.reshape(texts, many)
        )


def joined(blocks: Sequence[TokenRows]) -> TokenRows:
    """The texts of several blocks, one after the other."""
    if not blocks:
        start = np.zeros(1, np.int64)
        none = np.zeros(0, np.int32)
        return TokenRows(none, start, start, none, start, none)
    return TokenRows(
        np.concatenate([block.ids for block in blocks]),
        _joined_offsets([block.chunk_offsets for block in blocks]),
        _joined_offsets([block.text_offsets for block in blocks]),
        np.concatenate([block.markers for block in blocks]),
        _joined_offsets([block.marker_offsets for block in blocks]),
        np.concatenate([block.dropped for block in blocks]),
    )


def offsets_of(lengths: NDArray[np.integer]) -> Ints:
    """0 and the running sums: where each entry begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def ranges(offsets: NDArray[np.integer], rows: NDArray[np.integer]) -> tuple[Ints, Ints]:
    """The places of all entries of some rows of a jagged array, and the offsets of these rows."""
    starts = np.asarray(offsets[rows], np.int64)
    lengths = np.asarray(offsets[rows + 1], np.int64) - starts
    chosen = offsets_of(lengths)
    return np.repeat(starts - chosen[:-1], lengths) + np.arange(chosen[-1]), chosen


def _places(lengths: Ints, offsets: Ints) -> Ints:
    """The place of each entry in its own row."""
    return np.arange(lengths.sum()) - np.repeat(offsets[:-1] - offsets[0], lengths)


def _joined_offsets(blocks: Sequence[Ints]) -> Ints:
    return offsets_of(np.concatenate([np.diff(block) for block in blocks]))
