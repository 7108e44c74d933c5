"""Pictures to vectors: each model's own preprocessing, and broken pictures absent with a reason."""

import importlib.util
import io

import numpy as np
import pytest
import torch

from moerec.errors import ConfigError
from moerec.modalities import image_encoders as module
from moerec.modalities.image_encoders import ImageEncoderConfig, encode_images, lite0_pixels
from moerec.modalities.images import Location, read_image


def config(folder, **settings) -> ImageEncoderConfig:
    return ImageEncoderConfig(name=str(folder), device="cpu", **settings)


@pytest.fixture
def places(tmp_path, make_picture):
    """Three pictures, the first of them twice."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, seed, size in (("a", 1, (48, 40)), ("b", 2, (30, 70)), ("c", 1, (48, 40)), ("d", 3, (32, 32))):
        (folder / f"{name}.png").write_bytes(make_picture(seed, size))
    return [Location(path=folder / f"{name}.png") for name in "abcd"]


def resized(place, size):
    from PIL import Image

    image = read_image(place.path.read_bytes()).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


def test_the_processor_s_own_mean_and_deviation_are_used(vit_folder, places):
    from transformers import ViTModel

    mean, deviation = (np.array(v, np.float32)[:, None, None] for v in ([0.1, 0.2, 0.3], [0.7, 0.8, 0.9]))
    pixels = np.stack([(resized(place, (32, 32)) - mean) / deviation for place in places])
    with torch.no_grad():
        output = ViTModel.from_pretrained(vit_folder).eval()(torch.from_numpy(pixels))
    states = output.last_hidden_state
    right = {"auto": states.mean(1), "mean": states.mean(1), "first": states[:, 0], "pooler": output.pooler_output}
    for pooling, vectors in right.items():
        found, reasons = encode_images(places, config(vit_folder, pooling=pooling, normalise=False))
        np.testing.assert_allclose(found, vectors.numpy(), atol=1e-5)
        assert reasons == [None] * 4


def test_clip_pictures_are_projected(clip_folder, places):
    from transformers import CLIPModel

    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)[:, None, None]
    deviation = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)[:, None, None]
    pixels = torch.from_numpy((resized(places[3], (32, 32)) - mean) / deviation)[None]
    model = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        right = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    found, _ = encode_images(places[3:], config(clip_folder, normalise=False))
    assert found.shape == (1, 12)
    np.testing.assert_allclose(found, right.numpy(), atol=1e-5)


def test_sentence_transformers_gives_the_same_for_a_clip_folder(clip_folder, places, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "sentence-clip"
    SentenceTransformer(str(clip_folder), device="cpu").save(str(folder))
    assert (folder / "modules.json").is_file()
    bare, _ = encode_images(places, config(clip_folder))
    found, _ = encode_images(places, config(folder))
    np.testing.assert_allclose(found, bare, atol=1e-5)
    with pytest.raises(ConfigError, match="states its own pooling"):
        encode_images(places, config(folder, pooling="mean"))


def test_batches_do_not_matter_and_nothing_is_encoded_twice(vit_folder, places, tmp_path, monkeypatch):
    single, _ = encode_images(places, config(vit_folder, batch_size=1))
    np.testing.assert_allclose(encode_images(places, config(vit_folder))[0], single, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1, atol=1e-6)
    assert np.array_equal(single[0], single[2])
    seen = []
    first, _ = encode_images(places, config(vit_folder), tmp_path / "cache", lambda *given: seen.append(given))
    assert seen[-1] == (3, 3)
    monkeypatch.setattr(module, "load_image_encoder", lambda *given: pytest.fail("everything is in the cache"))
    again, _ = encode_images(places, config(vit_folder), tmp_path / "cache")
    assert np.array_equal(first, again)


def test_broken_pictures_are_absent_with_a_reason(vit_folder, places):
    places[1].path.write_bytes(places[1].path.read_bytes()[:200])
    places[2].path.unlink()
    places[3].path.write_bytes(b"<html>")
    places.append(Location(reason="no image named"))
    vectors, reasons = encode_images(places, config(vit_folder))
    assert reasons == [None, "damaged image", "unreadable file", "not an image", "no image named"]
    assert vectors[0].any()
    assert not vectors[1:].any()
    vectors, reasons = encode_images(places[1:], config(vit_folder))
    assert vectors.shape == (4, 0)


def test_an_encoder_of_texts_is_refused(bert_folder, places):
    with pytest.raises(ConfigError, match="cannot be loaded") as error:
        encode_images(places, config(bert_folder))
    assert "\n" not in str(error.value)


def test_lite0_pixels_against_the_plain_recipe(make_picture):
    from PIL import Image

    for size in ((300, 500), (640, 320), (100, 90)):
        image = read_image(make_picture(4, size))
        scale = 256 / min(size)
        plain = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.BICUBIC)
        left, top = (plain.width - 224) // 2, (plain.height - 224) // 2
        right = (np.asarray(plain.crop((left, top, left + 224, top + 224)), np.float32) - 127) / 128
        pixels = lite0_pixels(image)
        assert pixels.shape == (3, 224, 224)
        assert np.abs(pixels - right.transpose(2, 0, 1)).mean() < 2 / 128
    white = Image.new("RGB", (10, 3000), (255, 255, 255))
    assert np.allclose(lite0_pixels(white), 1)


@pytest.mark.skipif(not importlib.util.find_spec("efficientnet_lite_pytorch"), reason="needs moerec[bundled-encoders]")
def test_lite0_sees_that_a_picture_is_the_same(tmp_path, make_picture):
    from PIL import Image

    image = read_image(make_picture(1, (300, 300)))
    versions = [image, image.resize((250, 250)), read_image(make_picture(2, (300, 300)))]
    places = []
    for name, version in zip("abc", versions, strict=True):
        stream = io.BytesIO()
        version.convert("RGB").save(stream, "JPEG", quality=80)
        (tmp_path / f"{name}.jpg").write_bytes(stream.getvalue())
        places.append(Location(path=tmp_path / f"{name}.jpg"))
    assert isinstance(image, Image.Image)
    same, small, other = encode_images(places, ImageEncoderConfig(device="cpu"))[0]
    assert same.shape == (1280,)
    assert same @ small > 0.9 > same @ other
    with pytest.raises(ConfigError, match="neither a first token nor a pooler"):
        encode_images(places, ImageEncoderConfig(device="cpu", pooling="first"))
