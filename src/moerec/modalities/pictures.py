"""Pictures as models take them: RGB, one square size, aspect kept; as an array, a JPEG file, or patches.

A picture that cannot be made has a reason. There is never a picture of zeros in its place.

Shape letters: S side of the picture, P side of a patch, N patches.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.files import fingerprint
from moerec.modalities.images import centre_crop, read_image

Pixels = NDArray[np.uint8]

PATCH = 16
"""Side of a patch; a picture of 224 has 14 x 14 of them."""
# Raised when a change of our code changes the pictures.
_VERSION = 1
# A JPEG is decoded at a fraction only if this many times the needed pixels are left, so that little is lost.
_SPARE = 2


class PictureConfig(Config):
    """What is made of each picture."""

    size: int = Field(default=224, ge=1)
    """Side of the square that is cut out of the middle."""
    short_side: int = Field(default=224, ge=1)
    """Length to which the shorter side is brought before, the aspect kept."""
    form: Literal["jpeg", "array"] = "jpeg"
    """jpeg (a tenth of the room), array (raw uint8, rows from above, red green blue)."""
    quality: int = Field(default=90, ge=1, le=95)
    """Quality of JPEG files."""
    minimum_side: int = Field(default=16, ge=1)
    """Pictures with a shorter side are refused: they are placeholders."""
    maximum_pixels: int = Field(default=50_000_000, ge=1)
    """Larger pictures are refused by their header, before a pixel is decoded."""

    @model_validator(mode="after")
    def _check(self) -> PictureConfig:
        if self.size > self.short_side:
            raise ValueError(f"size {self.size} is more than short_side {self.short_side}; there is nothing beyond it")
        return self

    @property
    def suffix(self) -> str:
        """Ending of the files."""
        return ".jpg" if self.form == "jpeg" else ".u8"

    def fingerprint(self) -> str:
        """What decides the files."""
        own = self.model_dump(mode="json", include=set(PictureConfig.model_fields))  # and nothing of a derived class
        return fingerprint({"picture": own, "version": _VERSION})


def make_picture(content: bytes, config: PictureConfig) -> Pixels:
    """Decode a file, bring it to size and cut; [S, S, 3].

    Raises:
        BrokenImageError: with the reason why there is no picture.
        MissingExtraError: pillow is not installed.
    """
    image = read_image(content, config.minimum_side, config.maximum_pixels, enough=_SPARE * config.short_side)
    return np.asarray(centre_crop(image, config.short_side, config.size), np.uint8)


def to_bytes(picture: Pixels, config: PictureConfig) -> bytes:
    """The file of a picture, in the form that is asked for."""
    if config.form == "array":
        return picture.tobytes()
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=config.quality)
    return stream.getvalue()


def from_bytes(content: bytes, config: PictureConfig) -> Pixels:
    """The picture of such a file, [S, S, 3].

    Raises:
        BrokenImageError: the file is damaged.
        ValueError: an array of another size.
    """
    if config.form == "array":
        return np.frombuffer(content, np.uint8).reshape(config.size, config.size, 3)
    return np.asarray(read_image(content), np.uint8)


def to_patches(picture: Pixels, side: int = PATCH) -> Pixels:
    """Cut a picture [S, S, 3] (or one that is not square) into patches [N, P, P, 3], row by row.

    Raises:
        ValueError: the sides are no multiples of a patch.
    """
    height, width, channels = picture.shape
    if height % side or width % side:
        raise ValueError(f"a picture of {width} x {height} cannot be cut into patches of {side}")
    rows = picture.reshape(height // side, side, width // side, side, channels)
    return rows.transpose(0, 2, 1, 3, 4).reshape(-1, side, side, channels)  # [N, P, P, 3]


def from_patches(patches: Pixels, columns: int | None = None) -> Pixels:
    """Put patches [N, P, P, 3] together again, [S, S, 3]; the inverse of `to_patches`.

    Args:
        patches: row by row.
        columns: patches in a row; by default those of a square.

    Raises:
        ValueError: the patches fill no rectangle.
    """
    count, side, _, channels = patches.shape
    columns = round(count**0.5) if columns is None else columns
    if columns == 0 or count % columns or count == 0:
        raise ValueError(f"{count} patches do not fill rows of {columns}")
    grid = patches.reshape(count // columns, columns, side, side, channels)
    return grid.transpose(0, 2, 1, 3, 4).reshape(count // columns * side, columns * side, channels)
