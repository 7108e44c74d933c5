"""Load the tokenizer of an encoder by name or path, with a marker for sentences added to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moerec.errors import ConfigError, MissingExtraError
from moerec.modalities.encoders import first_line, loading, locate_encoder
from moerec.modalities.text_tokenizer import TextTokenizer

# A folder of sentence-transformers may keep the transformer in a folder of its own.
_PLACES = (".", "0_Transformer")
# Libraries write 10^30 where a model states no limit.
_NO_LIMIT = 1_000_000


def load_tokenizer(name: str, marker: str = "<SENT>") -> TextTokenizer:
    """The fast tokenizer of an encoder.

    Args:
        name: a bundled name, a folder, or a name on the model hub; as for encoders.
        marker: the token that is added for the beginning of a sentence.

    Raises:
        ConfigError: there is no such tokenizer, it is no fast one, or it has no padding.
        MissingExtraError: the library tokenizers is not installed.
    """
    try:
        from tokenizers import AddedToken
    except ImportError:
        raise MissingExtraError("tokenizers", "text", f"the tokenizer '{name}'") from None
    location = locate_encoder(name, "text")
    folder = next((location / place for place in _PLACES if (location / place / "tokenizer.json").is_file()), None)
    backend, padding, longest = _by_library(location, name) if folder is None else _by_file(folder, name)
    # Files carry the cuts and the padding of their training: all-MiniLM-L6-v2 cuts at 128 tokens.
    backend.no_truncation()
    backend.no_padding()
    prefix, suffix = _around(backend)
    backend.add_special_tokens([AddedToken(marker, special=True, normalized=False)])
    identifier = backend.token_to_id(padding) if isinstance(padding, str) else padding
    if identifier is None:
        raise ConfigError(f"tokenizer '{name}' has no padding token; name one with 'pad_token' in its own files")
    # Ids need not be dense: the table of a model must reach the highest one.
    vocabulary = max(backend.get_vocab(with_added_tokens=True).values()) + 1
    return TextTokenizer(
        name=name,
        definition=backend.to_str(),
        prefix=prefix,
        suffix=suffix,
        padding=int(identifier),
        marker=backend.token_to_id(marker),
        vocabulary=vocabulary,
        longest=longest,
    )


def _by_file(folder: Path, name: str) -> tuple[Any, str | int | None, int | None]:
    """From tokenizer.json alone, without transformers: the backend, its padding, its limit."""
    from tokenizers import Tokenizer

    try:
        backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:
        raise ConfigError(f"tokenizer '{name}' cannot be loaded ({first_line(error)}); check its files") from error
    stated = _json(folder / "tokenizer_config.json", name)
    named = stated.get("pad_token") or _json(folder / "special_tokens_map.json", name).get("pad_token")
    padding = named.get("content") if isinstance(named, dict) else named
    if padding is None:
        padding = (backend.padding or {}).get("pad_id", _json(folder / "config.json", name).get("pad_token_id"))
    return backend, padding, _limit(stated.get("model_max_length"))


def _by_library(location: Path, name: str) -> tuple[Any, int | None, int | None]:
    """From the files of a slow tokenizer, which transformers turns into a fast one."""
    with loading(name):
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(location), use_fast=True, local_files_only=True)
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(f"tokenizer '{name}' has no fast form; save it with tokenizer.json, or name another one")
    return tokenizer.backend_tokenizer, tokenizer.pad_token_id, _limit(tokenizer.model_max_length)


def _limit(stated: Any) -> int | None:
    return int(stated) if isinstance(stated, (int, float)) and 0 < stated < _NO_LIMIT else None


def _around(backend: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special ids before and after a text."""
    encoding = backend.encode("a")
    own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    ids: Sequence[int] = encoding.ids
    if not own:
        return tuple(ids), ()
    return tuple(ids[: own[0]]), tuple(ids[own[-1] + 1 :])


def _json(path: Path, name: str) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"tokenizer '{name}': {path.name} is no JSON ({first_line(error)}); check it") from None
    return value if isinstance(value, dict) else {}
