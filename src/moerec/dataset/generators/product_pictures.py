"""Pictures of generated products: the hue tells the category, the calm of the surface tells the quality.

Each picture is drawn from a seed of its own, so one can be made again without the others. What was drawn stands in
images.parquet beside the files.

Shape letters: H height, W width.
"""

from __future__ import annotations

import colorsys
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from moerec.dataset.generators.amazon_tastes import GeneratedReviews, Products
from moerec.errors import MissingExtraError

PICTURES_IN_BLOCK = 1000
TRUTH = "images.parquet"
FOLDER = "images/I"
"""Where the files lie; their addresses end in I/<item>, a size, and .jpg, as those of the published data do."""
TRUTH_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("file", pa.string()),
        ("sha256", pa.string()),
        ("bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("category", pa.int32()),
        ("hue", pa.float64()),
        ("quality", pa.float64()),
        ("roughness", pa.float64()),
    ]
)
"""`hue` in turns of the colour circle, `roughness` the standard deviation of the surface on a scale of 255."""
_SIZES = ((300, 400), (300, 400), (400, 300), (320, 320))
_HUE_SPREAD = 0.02
_GRAIN = 8


@dataclass(frozen=True)
class Look:
    """What a picture shows."""

    width: int
    height: int
    hue: float
    roughness: float
    brightness: float
    middle: tuple[float, float]
    """Of the thing, as shares of width and height."""
    extent: float
    """Half the size of the thing, as a share of the shorter side."""
    exponent: float
    """2 is an ellipse, larger ones come near a box."""


def draw_look(shape: GeneratedReviews, products: Products, item: int) -> Look:
    """The look of one product."""
    draw = np.random.default_rng([shape.seed, 6, item])
    width, height = _SIZES[int(draw.integers(len(_SIZES)))]
    category = int(products.category[item])
    return Look(
        width=width,
        height=height,
        hue=float(((category + 0.5) / len(shape.categories) + draw.normal(0, _HUE_SPREAD)) % 1),
        # The better the product, the calmer its surface; a little of it is chance.
        roughness=float(6 + 54 / (1 + np.exp(1.5 * products.quality[item] + draw.normal(0, 0.3)))),
        brightness=float(draw.uniform(0.6, 0.85)),
        middle=(float(draw.uniform(0.45, 0.55)), float(draw.uniform(0.45, 0.55))),
        extent=float(draw.uniform(0.36, 0.44)),
        exponent=float(draw.uniform(2, 6)),
    )


def paint(look: Look, draw: np.random.Generator) -> NDArray[np.uint8]:
    """The pixels, [H, W, 3]: a thing of one hue on a pale ground."""
    down = np.linspace(0, 1, look.height, dtype=np.float32)[:, None]  # [H, 1]
    across = np.linspace(0, 1, look.width, dtype=np.float32)[None]  # [1, W]
    short = min(look.width, look.height)
    reach_across, reach_down = look.extent * short / look.width, look.extent * short / look.height
    outside = (
        np.abs((across - look.middle[0]) / reach_across) ** look.exponent
        + np.abs((down - look.middle[1]) / reach_down) ** look.exponent
    )  # [H, W]
    ground = (235 + 15 * down + np.zeros_like(across))[..., None]  # [H, W, 1]
    colour = 255 * np.array(colorsys.hsv_to_rgb(look.hue, 0.65, look.brightness), np.float32)  # [3]
    cells = (look.height // _GRAIN + 1, look.width // _GRAIN + 1)
    grain = draw.normal(0, look.roughness, cells).astype(np.float32)
    surface = np.kron(grain, np.ones((_GRAIN, _GRAIN), np.float32))[: look.height, : look.width, None]  # [H, W, 1]
    pixels = np.where(outside[..., None] < 1, colour + surface, ground)  # [H, W, 3]
    return np.asarray(pixels.clip(0, 255), np.uint8)


def jpeg_of(shape: GeneratedReviews, look: Look, item: int) -> bytes:
    """The file of one product.

    Raises:
        MissingExtraError: pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "images", "generating pictures") from None
    stream = io.BytesIO()
    pixels = paint(look, np.random.default_rng([shape.seed, 7, item]))
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def write_pictures(folder: Path, shape: GeneratedReviews, products: Products, item_ids: list[str]) -> int:
    """Write a JPEG file for each product, and what they show.

    Returns:
        the number of files.
    """
    place = folder / FOLDER
    place.mkdir(parents=True)
    with pq.ParquetWriter(folder / TRUTH, TRUTH_SCHEMA) as truth:
        for first in range(0, len(item_ids), PICTURES_IN_BLOCK):
            block = range(first, min(first + PICTURES_IN_BLOCK, len(item_ids)))
            rows = [_write_one(place, shape, products, item, item_ids[item]) for item in block]
            truth.write_table(pa.Table.from_pylist(rows, schema=TRUTH_SCHEMA))
    return len(item_ids)


def _write_one(place: Path, shape: GeneratedReviews, products: Products, item: int, item_id: str) -> dict[str, Any]:
    look = draw_look(shape, products, item)
    content = jpeg_of(shape, look, item)
    (place / f"{item_id}.jpg").write_bytes(content)
    return {
        "item_id": item_id,
        "file": f"{FOLDER}/{item_id}.jpg",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "width": look.width,
        "height": look.height,
        "category": int(products.category[item]),
        "hue": look.hue,
        "quality": float(products.quality[item]),
        "roughness": look.roughness,
    }
