"""Pictures to vectors, by EfficientNet-Lite0 or any transformers or sentence-transformers vision model.

Shape letters: n pictures, b those of one batch, S tokens of a vision transformer, H and W cells of a feature map,
D width of the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.devices import choose_device
from moerec.errors import ConfigError
from moerec.modalities.cache import VectorCache, Vectors, encode_once
from moerec.modalities.encode import unit_length
from moerec.modalities.encoders import (
    EFFICIENTNET_LITE0,
    Progress,
    content_key,
    encoder_fingerprint,
    load_sentence_transformer,
    loading,
    locate_encoder,
)
from moerec.modalities.images import BrokenImageError, Location, centre_crop, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

EncodeImages = Callable[[list["Image"]], Vectors]

_LITE0_RESIZED = 256
_LITE0_CROP = 224
# The Lite networks were trained on (x - 127) / 128, not on ImageNet's mean and deviation as their larger siblings.
_LITE0_MEAN = 127.0
_LITE0_SCALE = 128.0


class ImageEncoderConfig(Config):
    """An encoder of pictures; a plain string in a recipe stands for its name."""

    name: str = EFFICIENTNET_LITE0
    """A folder, a bundled name (efficientnet-lite0), or a name on the model hub."""
    pooling: Literal["auto", "mean", "first", "pooler"] = "auto"
    """mean over all tokens or cells, first token, the model's pooler; auto: projected features of CLIP, else mean."""
    normalise: bool = True
    """Scale each vector to length 1."""
    batch_size: int = Field(default=32, ge=1)
    """Pictures encoded together; changes the speed, and the vectors by less than 1e-5."""
    device: str = "auto"
    """cpu, cuda, mps, or auto: the best there is."""

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def fingerprint(self) -> str:
        """What decides the vectors: the encoder's files (its image processor among them), pooling, scaling."""
        settings = self.model_dump(include={"pooling", "normalise"})
        return encoder_fingerprint(locate_encoder(self.name, "image"), settings)


def encode_images(
    locations: Sequence[Location],
    config: ImageEncoderConfig,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Vectors, list[str | None]]:
    """Encode pictures; the model is loaded only if the cache lacks one of them.

    Args:
        locations: files, or reasons why there is none; web addresses must have been fetched before.
        config: encoder and its settings.
        cache: folder in which vectors are kept by encoder and content; None keeps nothing.
        progress: called with the number of distinct pictures done and their total.

    Returns:
        float32 [n, D], zeros where there is no vector, and the reason for each entry (None where there is one).

    Raises:
        ConfigError: the encoder is not to be had, or encodes no pictures.
        MissingExtraError: a library is not installed.
    """
    place = locate_encoder(config.name, "image")
    store = VectorCache(cache / config.fingerprint()) if cache is not None else None
    reasons = [location.reason for location in locations]
    rows, keys = _content_keys(locations, reasons)
    loaded: list[EncodeImages] = []
    broken: dict[bytes, str] = {}

    def encode(positions: list[int]) -> tuple[Vectors, NDArray[np.bool_]]:
        images: list[Image] = []
        usable = np.ones(len(positions), np.bool_)
        for slot, position in enumerate(positions):
            try:
                images.append(read_image(_path(locations[rows[position]]).read_bytes()))
            except BrokenImageError as problem:
                usable[slot] = False
                broken[keys[position]] = str(problem)
        if not images:
            return np.zeros((len(positions), 0), np.float32), usable
        if not loaded:
            loaded.append(load_image_encoder(place, config))
        encoded = loaded[0](images)
        if not np.isfinite(encoded).all():
            raise ConfigError(f"encoder '{config.name}' gives vectors that are not finite; use another one")
        vectors = np.zeros((len(positions), encoded.shape[1]), np.float32)  # [b, D]
        vectors[usable] = unit_length(encoded) if config.normalise else encoded
        return vectors, usable

    # Every picture takes the same time, so the order is that of the items.
    found, _ = encode_once(keys, [0] * len(keys), encode, config.batch_size, store, progress)
    vectors = np.zeros((len(locations), found.shape[1]), np.float32)
    vectors[rows] = found
    for row, key in zip(rows, keys, strict=True):
        reasons[row] = broken.get(key)
    return vectors, reasons


def load_image_encoder(location: Path, config: ImageEncoderConfig) -> EncodeImages:
    """A function from a list of RGB pictures to float32 vectors [b, D]."""
    if location.is_file():
        return _efficientnet_lite0(location, config)
    if (location / "modules.json").is_file():
        return _sentence_transformer(location, config)
    return _transformer(location, config)


def lite0_pixels(image: Image) -> NDArray[np.float32]:
    """What EfficientNet-Lite expects: shorter side to 256 (bicubic), centre 224, (x - 127) / 128; [3, 224, 224]."""
    crop = centre_crop(image, _LITE0_RESIZED, _LITE0_CROP)
    pixels = (np.asarray(crop, np.float32) - _LITE0_MEAN) / _LITE0_SCALE  # [224, 224, 3]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)


def _efficientnet_lite0(weights: Path, config: ImageEncoderConfig) -> EncodeImages:
    if config.pooling not in ("auto", "mean"):
        raise ConfigError(f"encoder '{config.name}' has neither a first token nor a pooler; leave pooling at 'auto'")
    with loading(config.name):
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        model = EfficientNet.from_name(EFFICIENTNET_LITE0).eval()
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    device = choose_device(config.device)
    model = model.to(device)

    @torch.inference_mode()
    def encode(images: list[Image]) -> Vectors:
        pixels = torch.from_numpy(np.stack([lite0_pixels(image) for image in images])).to(device)  # [b, 3, 224, 224]
        return np.asarray(model.extract_features(pixels).mean((2, 3)).cpu().numpy(), np.float32)  # [b, 1280]

    return encode


def _sentence_transformer(location: Path, config: ImageEncoderConfig) -> EncodeImages:
    model = load_sentence_transformer(location, config.name, config.pooling, config.device)

    def encode(images: list[Image]) -> Vectors:
        try:
            vectors = model.encode(images, batch_size=len(images), convert_to_numpy=True, show_progress_bar=False)
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(f"encoder '{config.name}' reads no images; name a vision model") from error
        return np.asarray(vectors, np.float32)

    return encode


def _transformer(location: Path, config: ImageEncoderConfig) -> EncodeImages:
    with loading(config.name):
        import torch
        from transformers import AutoImageProcessor, AutoModel

        # Pillow's arithmetic everywhere: torchvision's differs in the last digits, and need not be installed.
        backend = {"backend": "pil"} if int(version("transformers").split(".")[0]) >= 5 else {"use_fast": False}
        processor_type: Any = AutoImageProcessor
        processor = processor_type.from_pretrained(str(location), local_files_only=True, **backend)
        model = AutoModel.from_pretrained(str(location), local_files_only=True).float().eval()
    device = choose_device(config.device)
    model = model.to(device)

    @torch.inference_mode()
    def encode(images: list[Image]) -> Vectors:
        inputs = processor(images=images, return_tensors="pt").to(device)
        return np.asarray(_pool(model, inputs, config).float().cpu().numpy(), np.float32)

    return encode


def _pool(model: Any, inputs: Any, config: ImageEncoderConfig) -> Any:
    """One vector for each picture, [b, D]."""
    if config.pooling == "auto" and hasattr(model, "get_image_features"):
        # transformers 5 wraps the projected vectors; earlier versions return them bare.
        output = model.get_image_features(**inputs)
        return getattr(output, "pooler_output", output)
    output = getattr(model, "vision_model", model)(**inputs)
    if config.pooling == "pooler":
        pooled = getattr(output, "pooler_output", None)
        if pooled is None:
            raise ConfigError(f"encoder '{config.name}' has no pooler; use pooling 'mean' or 'first'")
        return pooled.flatten(1)
    states = output.last_hidden_state  # [b, S, D], or [b, D, H, W] of a convolutional network
    if states.ndim == 4:
        if config.pooling == "first":
            raise ConfigError(f"encoder '{config.name}' has no first token; use pooling 'mean'")
        return states.mean((2, 3))
    # A pooler that was never trained is common among vision transformers, so the tokens themselves are the default.
    return states[:, 0] if config.pooling == "first" else states.mean(1)


def _content_keys(locations: Sequence[Location], reasons: list[str | None]) -> tuple[list[int], list[bytes]]:
    """Rows that have a file, and the keys of their content; an unreadable file gets its reason."""
    rows, keys = [], []
    for row, location in enumerate(locations):
        if location.url is not None:
            raise ValueError("fetch web addresses before encoding")
        if location.path is not None:
            try:
                keys.append(content_key(location.path.read_bytes()))
                rows.append(row)
            except OSError:
                reasons[row] = "unreadable file"
    return rows, keys


def _path(location: Location) -> Path:
    if location.path is None:
        raise ValueError("this entry has no file")
    return location.path
