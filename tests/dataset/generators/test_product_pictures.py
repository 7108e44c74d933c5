"""Generated pictures: what they show can be read off them, and the files of products lead to them."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from moerec.cli import app
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews, draw_products
from moerec.dataset.generators.product_pictures import draw_look, jpeg_of

ADDRESS = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures") / "out"
    made = generate_amazon_reviews(out, GeneratedReviews(5, 120, 3, compressed=False, image_address=ADDRESS + "/"))
    assert made["pictures"] == 120
    assert "images.parquet" in made["files"]
    assert not any(name.endswith(".jpg") for name in made["files"])
    return out


def pixels(content: bytes) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float64)


def test_the_truth_names_each_file(folder: Path) -> None:
    truth = pl.read_parquet(folder / "images.parquet")
    assert truth.height == 120
    for row in truth.iter_rows(named=True):
        content = (folder / row["file"]).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (row["sha256"], row["bytes"])
        assert pixels(content).shape == (row["height"], row["width"], 3)
    assert truth["sha256"].n_unique() == 120


def test_a_picture_can_be_made_again_alone(folder: Path) -> None:
    shape = GeneratedReviews(9, 120, 3)
    again = jpeg_of(shape, draw_look(shape, draw_products(shape), 77), 77)
    assert again == (folder / "images/I/B000000077.jpg").read_bytes()


def test_hue_tells_the_category_and_calm_the_quality(folder: Path) -> None:
    truth = pl.read_parquet(folder / "images.parquet")
    seen, rough = [], []
    for name in truth["file"]:
        shown = pixels((folder / name).read_bytes())
        height, width = shown.shape[0] // 2, shown.shape[1] // 2
        middle = shown[height - 60 : height + 60, width - 60 : width + 60]
        seen.append(middle.mean((0, 1)))
        rough.append(middle.mean(2).std())
    colours = np.array(seen) - np.array(seen).mean(1, keepdims=True)
    colours /= np.linalg.norm(colours, axis=1, keepdims=True)
    category = truth["category"].to_numpy()
    centres = np.array([colours[category == c].mean(0) for c in range(4)])
    assert ((colours @ centres.T).argmax(1) == category).all()
    ranks = [np.argsort(np.argsort(values)) for values in (rough, truth["quality"].to_numpy())]
    assert np.corrcoef(*ranks)[0, 1] < -0.9


def test_the_files_of_products_lead_to_the_pictures(folder: Path) -> None:
    lines = [line for path in folder.glob("raw/meta*/*") for line in path.read_text().splitlines()]
    addresses = {
        image["large"]
        for record in map(json.loads, lines)
        if isinstance(record["images"], list)
        for image in record["images"]
    }
    assert len(addresses) > 20
    for address in addresses:
        name = address.removeprefix(f"{ADDRESS}/I/").removesuffix("._AC_SL1500_.jpg")
        assert (folder / "images/I" / f"{name}.jpg").is_file()


def test_pictures_change_nothing_but_addresses(folder: Path, tmp_path: Path) -> None:
    generate_amazon_reviews(tmp_path / "out", GeneratedReviews(5, 120, 3, compressed=False))
    plain = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert not any("images" in path.parts for path in plain)
    for name, path in plain.items():
        there = (folder / name).read_bytes()
        assert there.replace(ADDRESS.encode(), b"https://images.example.com") == path.read_bytes()


def test_the_command_writes_pictures_if_asked(tmp_path: Path) -> None:
    common = ["generate", "amazon-reviews", "--users", "2", "--items", "4"]
    answer = CliRunner().invoke(app, [*common, str(tmp_path / "with"), "--images"])
    assert answer.exit_code == 0
    assert "and 4 pictures" in answer.output
    assert len(list((tmp_path / "with/images/I").iterdir())) == 4
    CliRunner().invoke(app, [*common, str(tmp_path / "without")])
    assert not (tmp_path / "without/images").exists()
