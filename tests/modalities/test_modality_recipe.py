"""Modalities from a recipe to a store that is aligned with the catalogue."""

import json

import numpy as np
import polars as pl
import pytest
from pydantic import TypeAdapter

from moerec.config import validate
from moerec.errors import ConfigError, DatasetError
from moerec.modalities.encode import encode_texts
from moerec.modalities.recipe import (
    ImageModalityConfig,
    ModalityConfig,
    TextModalityConfig,
    VectorModalityConfig,
)
from moerec.modalities.store import ModalityStore


def text_config(folder, **changes) -> TextModalityConfig:
    fields = ["title", {"column": "genres", "separator": "|"}]
    values = {"kind": "text", "fields": fields, "encoder": {"name": str(folder), "device": "cpu"}, **changes}
    return validate(TextModalityConfig, values)


def test_texts_are_encoded_and_aligned(items, bert_folder, tmp_path):
    config = text_config(bert_folder)
    store = config.build(items, tmp_path / "cache")
    assert store.present.tolist() == [False, False, True, True, True, False, True]
    right = encode_texts(["title: toy story. genres: animation, comedy", "title: heat"], config.encoder)
    np.testing.assert_allclose(store.vectors[[2, 4, 6]], right[[0, 0, 1]], atol=1e-5)
    assert not store.vectors[5].any()
    assert store.metadata["counts"] == {"items": 5, "present": 4, "absent": 1}
    assert store.metadata["absence"] == {"reasons": {"no text": 1}, "examples": {"no text": ["d"]}}
    store.save(tmp_path / "text.safetensors")
    loaded = ModalityStore.load(tmp_path / "text.safetensors", num_items=5)
    assert loaded.metadata == store.metadata
    assert json.loads(json.dumps(config.inputs())) == config.inputs() == store.metadata["inputs"]


def test_adding_an_item_encodes_one(items, bert_folder, tmp_path):
    config, seen = text_config(bert_folder), []
    before = config.build(items, tmp_path)
    more = pl.concat(
        [items, pl.DataFrame({"item": [7], "item_id": ["f"], "title": ["new"], "genres": [None]})],
        how="vertical_relaxed",
    )
    after = config.build(more, tmp_path, lambda *given: seen.append(given))
    assert seen == [(3, 4), (4, 4)]
    assert np.array_equal(after.vectors[:7], before.vectors)


def test_catalogues_without_any_text_or_with_a_wrong_column_are_one_line(items, bert_folder, tmp_path):
    empty = items.with_columns(title=pl.lit(None, pl.String), genres=pl.lit(""))
    with pytest.raises(DatasetError, match="no item has this modality \\(no text: 5\\)"):
        text_config(bert_folder).build(empty, tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'title'"):
        text_config(bert_folder, fields=["titel"]).build(items, tmp_path)
    with pytest.raises(DatasetError, match="order"):
        text_config(bert_folder).build(items.reverse(), tmp_path)


def test_pictures_of_a_folder(items, vit_folder, tmp_path, make_picture):
    folder = tmp_path / "posters"
    folder.mkdir()
    for name, seed in (("a.png", 1), ("c.jpg", 1), ("e.png", 2), ("other.png", 3)):
        (folder / name).write_bytes(make_picture(seed))
    (folder / "d.jpg").write_bytes(b"junk")
    values = {"folder": str(folder), "encoder": {"name": str(vit_folder), "device": "cpu"}}
    config = validate(ImageModalityConfig, values)
    before = config.inputs()
    store = config.build(items, tmp_path / "cache")
    assert store.present[2:].tolist() == [True, False, True, False, True]
    assert np.array_equal(store.vectors[2], store.vectors[4])
    assert store.metadata["absence"]["reasons"] == {"no file of that item id": 1, "not an image": 1}
    (folder / "b.png").write_bytes(make_picture(4))
    assert config.inputs() != before
    assert config.build(items, tmp_path / "cache").num_present == 4


def test_pictures_of_a_column(items, vit_folder, tmp_path, make_picture):
    (tmp_path / "1.png").write_bytes(make_picture(1))
    cells = ["1.png", "http://127.0.0.1:9/x.png", None, "2.png", "1.png"]
    values = {"column": "image", "folder": str(tmp_path), "encoder": {"name": str(vit_folder), "device": "cpu"}}
    config = validate(ImageModalityConfig, values)
    store = config.build(items.with_columns(image=pl.Series(cells)), tmp_path / "cache")
    assert store.present[2:].tolist() == [True, False, False, False, True]
    reasons = {"address of a private network": 1, "no image named": 1, "no such file": 1}
    assert store.metadata["absence"]["reasons"] == reasons
    with pytest.raises(ConfigError, match="there is no column 'image'"):
        config.build(items, tmp_path / "cache")


def test_given_vectors(items, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4))
    (tmp_path / "ids.json").write_text(json.dumps(["e", "zzz", "a", "b"]))
    config = validate(VectorModalityConfig, {"path": str(tmp_path / "v.npy"), "ids": str(tmp_path / "ids.json")})
    store = config.build(items, tmp_path / "cache")
    assert store.present[2:].tolist() == [True, True, False, False, True]
    assert store.vectors[6].tolist() == [1, 0, 0, 0]
    assert store.metadata["rows_without_item"] == 1
    (tmp_path / "v.npy").unlink()
    for call in (config.inputs, lambda: config.build(items, tmp_path)):
        with pytest.raises(DatasetError, match=r"v\.npy: no such file"):
            call()


def test_the_kind_chooses_among_the_three():
    adapter = TypeAdapter(ModalityConfig)
    text = adapter.validate_python({"kind": "text", "fields": ["title"], "encoder": "all-MiniLM-L6-v2"})
    assert isinstance(text, TextModalityConfig)
    assert isinstance(adapter.validate_python({"kind": "image", "folder": "x"}), ImageModalityConfig)
    assert isinstance(adapter.validate_python({"kind": "vectors", "path": "x", "ids": "y"}), VectorModalityConfig)
    for config in (text, ImageModalityConfig(column="image")):
        assert adapter.validate_json(config.model_dump_json()) == config


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="give a column, a folder, or both"):
        validate(ImageModalityConfig, {"encoder": "efficientnet-lite0"})
    with pytest.raises(ConfigError, match="did you mean 'fields'"):
        validate(TextModalityConfig, {"fields": ["a"], "feilds": []})
