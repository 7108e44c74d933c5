"""Pictures of items: where they are, reading them, and what is wrong with those that cannot be read."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moerec.errors import ConfigError, MissingExtraError
from moerec.modalities.encoders import Progress
from moerec.modalities.fetch import fetch
from moerec.modalities.fetch_config import FetchConfig

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
NO_IMAGE_NAMED = "no image named"
NOT_AN_IMAGE = "not an image"
MINIMUM_SIDE = 2
"""A picture of one pixel is a page's way to count visits, and shows nothing."""
_MAXIMUM_PIXELS = 100_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_STARTS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_PLAIN = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")


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


def format_of(start: bytes) -> str | None:
    """The format that the first bytes (12 suffice) belong to, also of pictures that are not read; None if of none."""
    for magic, name in _STARTS.items():
        if start.startswith(magic):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    if start[4:8] == b"ftyp" and start[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1"):
        return "AVIF" if start[8:11] == b"avi" else "HEIC"
    return None


def start_problem(start: bytes) -> str | None:
    """The reason why a file that begins so is no picture that can be read, whatever its name and header say."""
    form = format_of(start)
    if form is None:
        return NOT_AN_IMAGE
    return None if form in _FORMATS else f"format {form} is not read"


def read_image(
    content: bytes, minimum_side: int = MINIMUM_SIDE, maximum_pixels: int | None = None, enough: int | None = None
) -> Image:
    """Decode a picture wholly, as RGB: turned as its camera says, transparency on white, first frame of several.

    Args:
        content: the file.
        minimum_side: pictures with a shorter side are refused.
        maximum_pixels: larger ones are refused by their header, before a pixel is decoded; by default 100 million.
        enough: a JPEG may be decoded at a half, a quarter or an eighth as long as each side has so many pixels.

    Raises:
        BrokenImageError: not a picture, cut short, or of absurd size.
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError("pillow", "images", "reading images") from None
    problem = start_problem(content[:32])
    if problem is not None:
        raise BrokenImageError(problem)
    limit = _MAXIMUM_PIXELS if maximum_pixels is None else maximum_pixels
    absurd = BrokenImageError(f"more than {limit} pixels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes that the limit is for, and of odd metadata
            opened = Image.open(io.BytesIO(content), formats=_FORMATS)
        with opened:
            if opened.width * opened.height > limit:
                raise absurd
            if min(opened.size) < minimum_side:
                raise BrokenImageError(f"smaller than {minimum_side} pixels")
            if enough is not None:
                opened.draft(None, (enough, enough))
            opened.load()
            return _plain_colours(opened)
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise BrokenImageError(NOT_AN_IMAGE) from None
    except Image.DecompressionBombError:
        raise absurd from None
    except Exception:  # noqa: BLE001  decoders raise anything at all for damaged files
        raise BrokenImageError("damaged image") from None


def _plain_colours(opened: Image) -> Image:
    """RGB, turned as the camera says, on white."""
    from PIL import Image, ImageOps

    turned = ImageOps.exif_transpose(opened)
    if turned.mode in _DEEP or (turned.mode == "I" and opened.format == "PNG"):
        # Pillow would clip 16 bits to 8, which makes nearly everything white.
        return Image.fromarray((np.asarray(turned).astype(np.int64) >> 8).astype(np.uint8)).convert("RGB")
    if turned.mode not in _PLAIN:
        raise BrokenImageError(f"colour mode {turned.mode} is not read")
    if turned.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in turned.info:
        above = turned.convert("RGBA")
        white = Image.new("RGBA", above.size, (255, 255, 255, 255))
        turned = Image.alpha_composite(white, above)
    return turned.convert("RGB")


def centre_crop(image: Image, short_side: int, crop: int) -> Image:
    """The shorter side to `short_side` with the aspect kept (bicubic), then the square of `crop` in the middle."""
    from PIL import Image as Pillow

    scale = short_side / min(image.size)
    size = (max(short_side, round(image.width * scale)), max(short_side, round(image.height * scale)))
    left, top = (size[0] - crop) // 2, (size[1] - crop) // 2
    # The region in the source's own coordinates: only what is seen is computed, however long the picture is.
    box = (
        left * image.width / size[0],
        top * image.height / size[1],
        (left + crop) * image.width / size[0],
        (top + crop) * image.height / size[1],
    )
    return image.resize((crop, crop), Pillow.Resampling.BICUBIC, box=box)


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
        return Location(reason=NO_IMAGE_NAMED)
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
    fetched = fetch(urls, folder, config, image_problem, progress, start_problem) if urls else {}
    return [
        place if place.url is None else Location(path=fetched[place.url].path, reason=fetched[place.url].reason)
        for place in locations
    ]
