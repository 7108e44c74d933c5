"""A fast tokenizer with a sentence marker, as plain data that travels to other processes.

Shape letters: P sentences, W words of all sentences, T ids of all sentences.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.errors import MissingExtraError
from moerec.files import fingerprint
from moerec.modalities.token_rows import Ints, offsets_of, ranges


@dataclass(frozen=True)
class TextTokenizer:
    """Ids of sentences. What people wrote is never taken for a special token, `<SENT>` and `[SEP]` neither."""

    name: str
    """The name or path it was asked for by."""
    definition: str
    """The JSON of the library tokenizers, the marker among its tokens."""
    prefix: tuple[int, ...]
    """Ids that a text begins with, such as [CLS]."""
    suffix: tuple[int, ...]
    """Ids that a text ends with, such as [SEP]."""
    padding: int
    """The id that fills up."""
    marker: int
    """The id before each sentence."""
    vocabulary: int
    """Number of ids, the marker's among them: the rows of the model's table of tokens."""
    longest: int | None
    """The most tokens that its model reads, if it says so."""

    @cached_property
    def identity(self) -> str:
        """A fingerprint of all that decides the ids; neither name nor path count."""
        parts = [self.definition, self.prefix, self.suffix, self.padding, self.marker, self.vocabulary]
        return fingerprint(parts)

    @cached_property
    def _backend(self) -> Any:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtraError("tokenizers", "text", f"the tokenizer '{self.name}'") from None
        backend = Tokenizer.from_str(self.definition)
        # The JSON and a pickle of the library do not keep this switch.
        backend.encode_special_tokens = True
        return backend

    @cached_property
    def by_words(self) -> bool:
        """Whether the ids of a sentence are those of its words between blanks, as in all of BERT's kind."""
        parts = json.loads(self.definition)
        kinds = {name: (parts.get(name) or {}).get("type") for name in ("model", "pre_tokenizer", "normalizer")}
        return (
            kinds["model"] == "WordPiece"
            and kinds["pre_tokenizer"] == "BertPreTokenizer"
            and kinds["normalizer"] in ("BertNormalizer", "Lowercase", None)
        )

    def encode(self, sentences: pl.Series) -> tuple[NDArray[np.int32], Ints]:
        """Ids of all sentences [T], one after the other and without special tokens, and where each begins [P + 1].

        What occurs several times is encoded once: words where they do not depend on each other, else sentences.
        """
        if not self.by_words or sentences.is_empty():
            return self._encoded(sentences)
        words = sentences.str.split(" ")
        unique, codes = distinct(words.explode())
        ids, offsets = self._encoded(unique)
        tokens, word_offsets = ranges(offsets, codes)  # [T], [W + 1]
        return ids[tokens], word_offsets[offsets_of(words.list.len().to_numpy())]

    def _encoded(self, texts: pl.Series) -> tuple[NDArray[np.int32], Ints]:
        encodings = self._backend.encode_batch_fast(texts.to_list(), add_special_tokens=False)
        offsets = offsets_of(np.fromiter(map(len, encodings), np.int64, len(encodings)))
        # One list at a time: thousands of them at once would call for a whole garbage collection.
        ids = chain.from_iterable(encoding.ids for encoding in encodings)
        return np.fromiter(ids, np.int32, int(offsets[-1])), offsets

    def __getstate__(self) -> dict[str, Any]:
        """The plain fields: the library's own object is made again where it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_backend"}


def distinct(values: pl.Series) -> tuple[pl.Series, Ints]:
    """The different strings in order of appearance, and which of them stands in each row."""
    frame = values.alias("value").to_frame()
    unique = frame.unique(maintain_order=True)
    codes = frame.join(unique.with_row_index("code"), on="value", how="left", maintain_order="left")
    return unique["value"], codes["code"].to_numpy().astype(np.int64)
