"""Texts by item id from files, and places that the mirror has."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moerec.errors import ConfigError, DatasetError
from moerec.modalities.local_files import local_place, with_texts_of_files
from moerec.modalities.recipe import ImageModalityConfig, TextModalityConfig

ITEMS = pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", "C"]})


def test_a_relative_place_is_looked_for_here_and_then_in_the_mirror(tmp_path, monkeypatch):
    (tmp_path / "here/posters").mkdir(parents=True)
    (tmp_path / "mirror/posters").mkdir(parents=True)
    (tmp_path / "mirror/texts").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path / "mirror"))
    assert local_place(Path("posters"), "folder").resolve() == tmp_path / "here/posters"
    assert local_place(Path("texts"), "folder") == tmp_path / "mirror/texts"
    with pytest.raises(ConfigError, match=r"folder 'nowhere' does not exist, nor below MOEREC_MIRROR"):
        local_place(Path("nowhere"), "folder")
    with pytest.raises(ConfigError, match=r"does not exist; correct the path"):
        local_place(tmp_path / "nowhere", "folder")
    monkeypatch.delenv("MOEREC_MIRROR")
    with pytest.raises(ConfigError, match=r"MOEREC_MIRROR \(not set\)"):
        local_place(Path("texts"), "folder")


def test_pictures_of_the_mirror_are_found(tmp_path, monkeypatch):
    folder = tmp_path / "posters"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(b"x")
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path))
    places = ImageModalityConfig(folder="posters")._locations(ITEMS, ["a", "b", "c"])
    assert [place.path for place in places] == [None, folder / "b.jpg", None]


def test_a_file_gives_each_item_its_text_and_null_where_it_has_none(tmp_path):
    path = tmp_path / "about.json"
    path.write_text(json.dumps({"a": "of a", "c": "of c", "z": "of nobody"}))
    found = with_texts_of_files(ITEMS, {"about": path}, "modalities.text")
    assert found["about"].to_list() == ["of a", None, "of c"]
    assert found.drop("about").equals(ITEMS)


def test_the_text_of_a_file_is_part_of_what_is_encoded_and_of_the_fingerprint(tmp_path, monkeypatch):
    path = tmp_path / "about.json"
    path.write_text(json.dumps({"a": "of a"}))
    config = TextModalityConfig(files={"about": path}, fields=["title", {"column": "about", "label": ""}])
    seen = []
    monkeypatch.setattr(
        "moerec.modalities.recipe.encode_texts",
        lambda texts, *_: (seen.extend(texts), np.zeros((len(texts), 2), np.float32))[1],
    )
    monkeypatch.setattr(type(config.encoder), "fingerprint", lambda self: "x")
    config.encode(ITEMS, tmp_path)
    assert seen == ["title: A. of a", "title: B", "title: C"]
    before = config.inputs()
    path.write_text(json.dumps({"a": "another"}))
    assert config.inputs() != before


def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path):
    for content, reason in (
        ("[1]", "one object"),
        ('{"a": 1}', "one object"),
        ("{", "no JSON"),
        ('{"z": "t"}', "no text"),
    ):
        path = tmp_path / "about.json"
        path.write_text(content)
        with pytest.raises(DatasetError, match=reason):
            with_texts_of_files(ITEMS, {"about": path}, "modalities.text")
    with pytest.raises(ConfigError, match="has a column 'title' already"):
        with_texts_of_files(ITEMS, {"title": path}, "modalities.text")
    with pytest.raises(ConfigError, match=r"modalities\.text\.files\.about '.*' does not exist"):
        with_texts_of_files(ITEMS, {"about": tmp_path / "none.json"}, "modalities.text")
