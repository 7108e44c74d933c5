"""A fast tokenizer with a sentence marker, as plain data that travels to other processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.errors import MissingExtraError
from moerec.files import fingerprint
from moerec.modalities.token_rows import offsets_of


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

    def encode(self, sentences: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Ids of all sentences, one after the other and without special tokens, and where each one begins."""
        encodings = self._backend.encode_batch_fast(sentences, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        offsets = offsets_of(np.fromiter(map(len, rows), np.int64, len(rows)))
        return np.fromiter(chain.from_iterable(rows), np.int32, int(offsets[-1])), offsets

    def __getstate__(self) -> dict[str, Any]:
        """The plain fields: the library's own object is made again where it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_backend"}
