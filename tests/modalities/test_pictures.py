"""Pictures as models take them: right colours and sides from every kind of file, patches that lose nothing."""

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moerec.dataset.generators.odd_pictures import ODD_PICTURES, odd_picture
from moerec.modalities.images import BrokenImageError, format_of, read_image, start_problem
from moerec.modalities.pictures import (
    PictureConfig,
    from_bytes,
    from_patches,
    make_picture,
    to_bytes,
    to_patches,
)

REFUSED = {
    "html": "not an image",
    "svg": "not an image",
    "empty": "not an image",
    "one-pixel": "smaller than 16 pixels",
    "bomb": "more than 50000000 pixels",
    "half-a-file": "damaged image",
}
CONFIG = PictureConfig()


def saved(image, form, **options):
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 2, 16]), st.integers(0, 2**32 - 1))
def test_patches_invert_exactly(rows, columns, side, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (rows * side, columns * side, 3), dtype=np.uint8)
    patches = to_patches(picture, side)
    assert patches.shape == (rows * columns, side, side, 3)
    assert np.array_equal(from_patches(patches, columns), picture)
    if rows == columns:
        assert np.array_equal(from_patches(patches), picture)


def test_a_picture_of_224_has_14_x_14_patches_row_by_row():
    picture = make_picture(odd_picture("cmyk"), CONFIG)
    patches = to_patches(picture)
    assert picture.shape == (224, 224, 3)
    assert picture.dtype == np.uint8
    assert patches.shape == (14 * 14, 16, 16, 3)
    assert np.array_equal(patches[15], picture[16:32, 16:32])
    assert np.array_equal(from_patches(patches), picture)
    for wrong in (
        lambda: to_patches(picture[:-1]),
        lambda: from_patches(patches, 13),
        lambda: from_patches(patches[:0]),
    ):
        with pytest.raises(ValueError, match="patches"):
            wrong()


@pytest.mark.parametrize("kind", sorted(ODD_PICTURES))
def test_every_odd_file_ends_with_a_reason_or_the_right_picture(kind):
    if kind in REFUSED:
        with pytest.raises(BrokenImageError, match=REFUSED[kind]):
            make_picture(odd_picture(kind), CONFIG)
        return
    picture = make_picture(odd_picture(kind), CONFIG).astype(int)
    red, green, blue, white = (
        picture[down : down + 60, across : across + 60].mean((0, 1)) for down in (30, 130) for across in (30, 130)
    )
    if kind == "grey":
        assert np.ptp([red, green, blue, white], axis=1).max() == 0
        assert red[0] < 110 < white[0]
    elif kind == "deep":
        assert 50 < red[0] < 75
        assert 180 < green[0] < 205
        assert (picture.min(), picture.max()) == (0, 255)
    elif kind == "turned":  # a quarter clockwise: blue and red above, white and green below
        assert [np.argmax(corner) for corner in (red, green, white)] == [2, 0, 1]
        assert blue.min() > 240
    else:
        assert [np.argmax(corner) for corner in (red, green)] == [0, 1]
        assert red[0] > 150 > 100 > red[1]
        assert white.min() > 230
        assert blue.min() > 240 if kind == "alpha" else np.argmax(blue) == 2


def test_a_cut_file_never_gives_a_picture():
    from PIL import Image

    image = Image.effect_noise((80, 60), 60).convert("RGB")
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = saved(image, form)
        assert make_picture(whole, CONFIG).shape == (224, 224, 3)
        for share in (0.0, 0.01, 0.2, 0.5, 0.9):
            with pytest.raises(BrokenImageError):
                make_picture(whole[: int(share * len(whole))], CONFIG)


@given(st.binary(max_size=300), st.sampled_from([*ODD_PICTURES]), st.integers(0, 400))
def test_damage_of_any_kind_is_a_reason_or_a_picture_and_no_other_error(junk, kind, place):
    if kind == "bomb":
        return
    whole = odd_picture(kind)
    with suppress(BrokenImageError):
        assert make_picture(whole[:place] + junk + whole[place + len(junk) :], CONFIG).shape == (224, 224, 3)


def test_absurd_sizes_are_refused_before_a_pixel_is_decoded(monkeypatch):
    from PIL import ImageFile

    def decoded(_self):
        raise AssertionError("nothing must be decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    for limit in (100, 50_000_000, 399_999_999):
        with pytest.raises(BrokenImageError, match=f"more than {limit} pixels"):
            read_image(odd_picture("bomb"), maximum_pixels=limit)


def test_deep_colours_that_cannot_be_known_are_refused():
    from PIL import Image

    for mode in ("F", "I"):
        with pytest.raises(BrokenImageError, match=f"colour mode {mode} is not read"):
            read_image(saved(Image.new(mode, (20, 20), 7), "TIFF"))


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (250, 251)])
def test_the_aspect_is_kept_and_the_middle_is_seen(size):
    from PIL import Image

    dots = Image.new("RGB", size, "white")
    across, down = size[0] // 2, size[1] // 2
    dots.paste((0, 0, 0), (across - 20, down - 20, across + 20, down + 20))
    picture = make_picture(saved(dots, "PNG"), PictureConfig(size=64, short_side=80))
    dark = np.argwhere(picture[..., 0] < 128)
    extent = dark.max(0) - dark.min(0) + 1
    expected = 40 * 80 / min(size)
    assert np.abs(extent - expected).max() <= 1.5, "a square stays a square"
    assert np.abs(dark.mean(0) - 31.5).max() < 1, "in the middle"


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same():
    from PIL import Image

    large = Image.open(io.BytesIO(odd_picture("animated-webp"))).convert("RGB").resize((1800, 1500))
    quick = make_picture(saved(large, "JPEG", quality=95), CONFIG)
    exact = make_picture(saved(large, "PNG"), CONFIG)
    assert np.abs(quick.astype(int) - exact).mean() < 1.5


def test_both_forms_come_back():
    picture = make_picture(odd_picture("animated-webp"), CONFIG)
    array, jpeg = (PictureConfig(form=form) for form in ("array", "jpeg"))
    assert np.array_equal(from_bytes(to_bytes(picture, array), array), picture)
    assert len(to_bytes(picture, array)) == 224 * 224 * 3
    again = from_bytes(to_bytes(picture, jpeg), jpeg)
    assert np.abs(again.astype(int) - picture).mean() < 3
    assert (array.suffix, jpeg.suffix) == (".u8", ".jpg")
    assert array.fingerprint() != jpeg.fingerprint() == PictureConfig().fingerprint()


def test_formats_are_known_by_their_first_bytes():
    assert {format_of(odd_picture(kind)[:12]) for kind in ODD_PICTURES} == {None, "GIF", "PNG", "JPEG", "WEBP"}
    assert start_problem(b"\0\0\0\x1cftypavif\0\0\0\0") == "format AVIF is not read"
    assert start_problem(b"\0\0\0\x18ftypheic\0\0\0\0") == "format HEIC is not read"
    assert start_problem(b"%PDF-1.7") == "not an image"


def test_a_crop_beyond_the_picture_is_a_mistake():
    with pytest.raises(ValidationError, match="nothing beyond"):
        PictureConfig(size=256, short_side=224)
