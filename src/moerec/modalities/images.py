"""Pictures of items: where they are, reading them, and what is wrong with those that cannot be read."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from moerec.errors import ConfigError, MissingExtraError
from moerec.modalities.encoders import Progress
from moerec.modalities.fetch import FetchConfig, fetch

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_MAXIMUM_PIXELS = 100_000_000


class BrokenImageError(Exception):
    """Bytes that are no picture that can be used; the message is a short reason that can be counted."""


@dataclass(frozen=True)
class Location:
    """Where the picture of one item is, or why there is none."""

    path: Path | None = None
    """A file on disk."""
    url: str | None = None
    """An address to be fetched."""
    reason: str | None = None
    """Why the item has no picture."""


def read_image(content: bytes) -> Image:
    """Decode a picture wholly, as RGB: turned as its camera says, transparency on white, first frame of several.

    Raises:
        BrokenImageError: not a picture, cut short, or of absurd size.
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError("pillow", "encoders", "reading images") from None
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")) as opened:
            if opened.width * opened.height > _MAXIMUM_PIXELS:
                raise BrokenImageError(f"more than {_MAXIMUM_PIXELS} pixels")
            opened.load()
            turned = ImageOps.exif_transpose(opened)
            if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
                above = turned.convert("RGBA")
                white = Image.new("RGBA", above.size, (255, 255, 255, 255))
                turned = Image.alpha_composite(white, above)
            return turned.convert("RGB")
    except UnidentifiedImageError:
        raise BrokenImageError("not an image") from None
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, OverflowError, MemoryError):
        # Pillow raises all of these for damaged files.
        raise BrokenImageError("damaged image") from None


def open_jpeg(content: bytes) -> Image:
    """A JPEG file, not yet decoded; for those that are known to be of a reasonable size.

    Raises:
        OSError: it is none.
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "encoders", "reading images") from None
    return Image.open(io.BytesIO(content), formats=("JPEG",))


def image_problem(content: bytes) -> str | None:
    """The reason why the bytes are no picture, or None."""
    try:
        read_image(content)
    except BrokenImageError as broken:
        return str(broken)
    return None


def by_item_id(item_ids: Sequence[str], folder: Path) -> list[Location]:
    """The file `<folder>/<item_id>.jpg` (or jpeg, png, webp, in any case) of each item.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"image folder '{folder}' does not exist; correct the path")
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    found: dict[str, str] = {}
    for suffix in reversed(SUFFIXES):
        found |= {Path(name).stem: name for name in names if Path(name).suffix.lower() == suffix}
    return [
        Location(path=folder / found[item_id]) if item_id in found else Location(reason="no file of that item id")
        for item_id in item_ids
    ]


def by_cell(cells: Sequence[str | None], folder: Path | None, where: str = "modalities.image") -> list[Location]:
    """What each cell names: a web address, or a path below `folder`.

    Raises:
        ConfigError: a cell is a path, but no folder is given, or there is no such folder.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"image folder '{folder}' does not exist; correct the path")
    return [_of_cell((cell or "").strip(), folder, where) for cell in cells]


def _of_cell(cell: str, folder: Path | None, where: str) -> Location:
    if not cell:
        return Location(reason="no image named")
    if cell.lower().startswith(("http://", "https://")):
        return Location(url=cell)
    if folder is None:
        raise ConfigError(f"{where}: '{cell}' is no web address; give the folder that it is below")
    path = folder / cell
    if not path.resolve().is_relative_to(folder.resolve()):
        return Location(reason="path outside the folder")
    return Location(path=path) if path.is_file() else Location(reason="no such file")


def fetch_locations(
    locations: Sequence[Location], folder: Path, config: FetchConfig, progress: Progress | None = None
) -> list[Location]:
    """The same places with each web address replaced by a file or by the reason why it gave none."""
    urls = [place.url for place in locations if place.url is not None]
    fetched = fetch(urls, folder, config, image_problem, progress) if urls else {}
    return [
        place if place.url is None else Location(path=fetched[place.url].path, reason=fetched[place.url].reason)
        for place in locations
    ]
