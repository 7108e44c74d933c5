"""Pictures that a reader must refuse or get right: absurd sizes, other colours, movement, what is no picture at all."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from moerec.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 96
"""Of the odd pictures that are no larger than others."""
BOMB_SIDE = 20_000


@cache
def odd_picture(kind: str) -> bytes:
    """The bytes of an odd picture; see `ODD_PICTURES`.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    return ODD_PICTURES[kind]()


def _pattern(turned: bool = False) -> Image:
    """A red, a green, a blue and a white quarter."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "images", "generating pictures") from None
    quarters = np.array([[[220, 30, 30], [30, 200, 30]], [[30, 30, 220], [255, 255, 255]]], np.uint8)
    pixels = quarters.repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
    return Image.fromarray(pixels[::-1].copy() if turned else pixels)


def _saved(image: Image, form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def _one_pixel() -> bytes:
    return _saved(_pattern().resize((1, 1)), "GIF")


def _animated(form: str) -> bytes:
    return _saved(_pattern(), form, save_all=True, append_images=[_pattern(turned=True)] * 2, duration=100)


def _alpha() -> bytes:
    """Opaque above, transparent (and black) below."""
    image = _pattern().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, SIDE // 2, SIDE, SIDE))
    return _saved(image, "PNG")


def _palette() -> bytes:
    return _saved(_pattern().convert("P"), "PNG")


def _turned_by_camera() -> bytes:
    image = _pattern().resize((SIDE, 2 * SIDE))
    exif = image.getexif()
    exif[0x0112] = 6
    return _saved(image, "JPEG", exif=exif)


def _deep() -> bytes:
    """Grey from black to white with 16 bits, which clipped to 8 bits would be white."""
    row = np.linspace(0, 65535, SIDE, dtype=">u2")
    return _png(SIDE, SIDE, 16, iter([row.tobytes()] * SIDE))


def _bomb() -> bytes:
    """A small file of 20,000 x 20,000 pixels."""
    row = bytes(BOMB_SIDE // 8)
    return _png(BOMB_SIDE, BOMB_SIDE, 1, (row for _ in range(BOMB_SIDE)))


def _png(width: int, height: int, depth: int, rows: Any) -> bytes:
    """A grey PNG file written row by row, so that a huge one never stands in memory."""
    packed = zlib.compressobj(6)
    data = b"".join(packed.compress(b"\0" + row) for row in rows) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _half_a_file() -> bytes:
    whole = _saved(_pattern(), "JPEG", quality=95)
    return whole[: len(whole) // 2]


ODD_PICTURES: dict[str, Callable[[], bytes]] = {
    "html": lambda: b"<!DOCTYPE html><html><body>This picture has moved.</body></html>",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "empty": lambda: b"",
    "one-pixel": _one_pixel,
    "bomb": _bomb,
    "half-a-file": _half_a_file,
    "cmyk": lambda: _saved(_pattern().convert("CMYK"), "JPEG", quality=95),
    "animated-gif": lambda: _animated("GIF"),
    "animated-webp": lambda: _animated("WEBP"),
    "grey": lambda: _saved(_pattern().convert("L"), "PNG"),
    "alpha": _alpha,
    "palette": _palette,
    "turned": _turned_by_camera,
    "deep": _deep,
}
"""By kind: the first six give no picture, the others must give a right one."""
