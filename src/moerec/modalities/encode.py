"""Texts to vectors, by any sentence-transformers or transformers encoder.

Shape letters: n texts, b those of one batch, L tokens of the longest in the batch, D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from moerec.config import Config
from moerec.devices import choose_device
from moerec.errors import ConfigError
from moerec.modalities.cache import VectorCache, Vectors, encode_once
from moerec.modalities.encoders import (
    Progress,
    content_key,
    encoder_fingerprint,
    load_sentence_transformer,
    loading,
    locate_encoder,
)

EncodeBatch = Callable[[list[str]], Vectors]


class TextEncoderConfig(Config):
    """An encoder of texts; a plain string in a recipe stands for its name."""

    name: str = "all-MiniLM-L6-v2"
    """A folder, a bundled name (all-MiniLM-L6-v2), or a name on the model hub."""
    pooling: Literal["auto", "mean", "first", "pooler"] = "auto"
    """From tokens to one vector: mean over the mask, first token, the model's pooler; auto: as the encoder says."""
    normalise: bool = True
    """Scale each vector to length 1."""
    prefix: str = ""
    """Put before each text, where an encoder asks for it (E5: 'passage: ')."""
    max_length: int | None = Field(default=None, ge=2)
    """Tokens kept of each text; by default the encoder's own limit."""
    batch_size: int = Field(default=32, ge=1)
    """Texts encoded together; changes the speed, and the vectors by less than 1e-5."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the best there is."""

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("name an encoder or a folder")
        return value

    def fingerprint(self) -> str:
        """What decides the vectors: the encoder's files, pooling, scaling, prefix and length."""
        settings = self.model_dump(include={"pooling", "normalise", "prefix", "max_length"})
        return encoder_fingerprint(locate_encoder(self.name, "text"), settings)


def encode_texts(
    texts: Sequence[str],
    config: TextEncoderConfig,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Encode texts; the model is loaded only if the cache lacks one of them.

    Args:
        texts: none of them empty.
        config: encoder and its settings.
        cache: folder in which vectors are kept by encoder and content; None keeps nothing.
        progress: called with the number of distinct texts done and their total.

    Returns:
        float32 [n, D]. The batch size changes values by less than 1e-5 in absolute terms (unit vectors).

    Raises:
        ConfigError: the encoder is not to be had, or does not fit its settings.
        MissingExtraError: its library is not installed.
        ValueError: a text is empty; an item without text is absent, and not encoded.
    """
    if any(not text for text in texts):
        raise ValueError("an empty text is not encoded; mark its item absent")
    location = locate_encoder(config.name, "text")
    store = VectorCache(cache / config.fingerprint()) if cache is not None else None
    loaded: list[EncodeBatch] = []

    def encode(positions: list[int]) -> tuple[Vectors, np.ndarray[Any, np.dtype[np.bool_]]]:
        if not loaded:
            loaded.append(load_text_encoder(location, config))
        vectors = loaded[0]([config.prefix + texts[position] for position in positions])  # [b, D]
        if not np.isfinite(vectors).all():
            raise ConfigError(f"encoder '{config.name}' gives vectors that are not finite; use another one")
        return unit_length(vectors) if config.normalise else vectors, np.ones(len(positions), np.bool_)

    keys = [content_key(text.encode()) for text in texts]
    vectors, _ = encode_once(keys, [len(text) for text in texts], encode, config.batch_size, store, progress)
    return vectors


def unit_length(vectors: Vectors) -> Vectors:
    """Rows scaled to length 1; a row of zeros stays. [n, D] -> [n, D]."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float32).tiny), np.float32)


def load_text_encoder(location: Path, config: TextEncoderConfig) -> EncodeBatch:
    """A function from a list of texts to float32 vectors [b, D]."""
    if (location / "modules.json").is_file():
        return _sentence_transformer(location, config)
    return _transformer(location, config)


def _sentence_transformer(location: Path, config: TextEncoderConfig) -> EncodeBatch:
    model = load_sentence_transformer(location, config.name, config.pooling, config.device)
    if config.max_length is not None:
        inner = getattr(model[0], "auto_model", None)
        limit = _position_limit(inner) if inner is not None else None
        _check_length(config, limit)
        model.max_seq_length = config.max_length

    def encode(texts: list[str]) -> Vectors:
        vectors = model.encode(texts, batch_size=len(texts), convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(vectors, np.float32)

    return encode


def _transformer(location: Path, config: TextEncoderConfig) -> EncodeBatch:
    with loading(config.name):
        import torch
        from transformers import AutoModel, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(str(location), local_files_only=True)
        model = AutoModel.from_pretrained(str(location), local_files_only=True).float().eval()
    if getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    limit = _position_limit(model)
    _check_length(config, limit)
    length = config.max_length or min(limit or 512, int(tokenizer.model_max_length))
    device = choose_device(config.device)
    model = model.to(device)

    @torch.inference_mode()
    def encode(texts: list[str]) -> Vectors:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt").to(device)
        vectors = _pool(model, tokens, config)  # [b, D]
        return np.asarray(vectors.float().cpu().numpy(), np.float32)

    return encode


def _pool(model: Any, tokens: Any, config: TextEncoderConfig) -> Any:
    """One vector for each text, [b, D]."""
    if config.pooling == "auto" and hasattr(model, "get_text_features"):
        # transformers 5 wraps the projected vectors; earlier versions return them bare.
        output = model.get_text_features(**tokens)
        return getattr(output, "pooler_output", output)
    if hasattr(model, "text_model"):
        model = model.text_model
    output = model(**tokens)
    if config.pooling == "pooler":
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise ConfigError(f"encoder '{config.name}' has no pooler; use pooling 'mean' or 'first'")
        return pooled
    states = output.last_hidden_state  # [b, L, D]
    if config.pooling == "first":
        return states[:, 0]
    mask = tokens["attention_mask"][..., None].to(states.dtype)  # [b, L, 1]
    return (states * mask).sum(1) / mask.sum(1).clamp(min=1)


def _position_limit(model: Any) -> int | None:
    """The longest input that the model has positions for; None if it has no such limit."""
    settings = getattr(model.config, "text_config", model.config)
    positions = getattr(settings, "max_position_embeddings", None)
    if positions is None:
        return None
    # RoBERTa and its kin begin to count after the padding index.
    padding = getattr(getattr(model, "embeddings", None), "padding_idx", None)
    return int(positions) - (padding + 1 if padding is not None else 0)


def _check_length(config: TextEncoderConfig, limit: int | None) -> None:
    if config.max_length is not None and limit is not None and config.max_length > limit:
        raise ConfigError(f"encoder '{config.name}' reads at most {limit} tokens; lower max_length")
