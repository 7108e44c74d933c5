"""Pictures: found where the table says, read wholly or refused with a reason."""

import io
from pathlib import Path

import numpy as np
import pytest

from moerec.errors import ConfigError
from moerec.modalities.images import BrokenImageError, Location, by_cell, by_item_id, image_problem, read_image

MODES = {
    "PNG": ["RGB", "L", "RGBA", "LA", "P"],
    "JPEG": ["RGB", "L", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["RGB", "L", "RGBA", "P"],
    "BMP": ["RGB", "L", "P"],
    "TIFF": ["RGB", "L", "RGBA", "LA", "P", "CMYK"],
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_format_and_mode_becomes_rgb(form, mode, make_picture):
    from PIL import Image

    stream = io.BytesIO()
    Image.open(io.BytesIO(make_picture(1))).convert(mode).save(stream, form)
    read = read_image(stream.getvalue())
    assert read.mode == "RGB"
    assert read.size == (48, 40)


def test_transparency_is_white():
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(stream, "PNG")
    assert (np.asarray(read_image(stream.getvalue())) == 255).all()


def test_the_camera_turn_is_undone():
    from PIL import Image

    stream = io.BytesIO()
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(stream, "JPEG", exif=exif)
    assert read_image(stream.getvalue()).size == (4, 8)


def test_broken_pictures_have_a_reason(make_picture):
    assert image_problem(b"") == "not an image"
    assert image_problem(b"<html><body>404</body></html>") == "not an image"
    for form in ("PNG", "JPEG", "WEBP"):
        whole = make_picture(1, form=form)
        assert image_problem(whole) is None
        for length in (len(whole) // 2, len(whole) - 30):
            assert image_problem(whole[:length]) in ("damaged image", "not an image")


def test_absurd_sizes_are_refused(monkeypatch, make_picture):
    from moerec.modalities import images

    monkeypatch.setattr(images, "_MAXIMUM_PIXELS", 1000)
    with pytest.raises(BrokenImageError, match="more than 1000 pixels"):
        read_image(make_picture(1))


def test_files_by_item_id(tmp_path, make_picture):
    for name in ("1.jpg", "2.PNG", "2.webp", "3.txt", "a.b.jpeg"):
        (tmp_path / name).write_bytes(b"")
    found = by_item_id(["1", "2", "3", "a.b", "../1"], tmp_path)
    names = [place.path.name if place.path else place.reason for place in found]
    none = "no file of that item id"
    assert names == ["1.jpg", "2.PNG", none, "a.b.jpeg", none]
    with pytest.raises(ConfigError, match="does not exist"):
        by_item_id(["1"], tmp_path / "none")


def test_cells(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "1.jpg").write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(b"")
    cells = [
        "sub/1.jpg",
        " https://example.org/1.jpg",
        None,
        "  ",
        "2.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
    ]
    assert by_cell(cells, folder) == [
        Location(path=folder / "sub/1.jpg"),
        Location(url="https://example.org/1.jpg"),
        Location(reason="no image named"),
        Location(reason="no image named"),
        Location(reason="no such file"),
        Location(reason="path outside the folder"),
        Location(reason="path outside the folder"),
    ]


def test_a_path_without_a_folder_is_a_mistake():
    assert by_cell(["http://a/b"], None) == [Location(url="http://a/b")]
    with pytest.raises(ConfigError, match=r"'1\.jpg' is no web address; give the folder"):
        by_cell(["1.jpg"], None)
    with pytest.raises(ConfigError, match="does not exist"):
        by_cell(["1.jpg"], Path("/none/such"))
