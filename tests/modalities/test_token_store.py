"""The store gives what the tokenizer gave, by any key, in any process, and no part is made twice."""

import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.tokens import token_batch
from moerec.errors import DatasetError
from moerec.features.text import text_column
from moerec.features.tokens import TokensConfig, token_layout, tokenise
from moerec.modalities import token_store
from moerec.modalities.token_rows import TokenRows
from moerec.modalities.token_store import StoreManifest, TextPart, TokenStore, store_tokens

pytest.importorskip("tokenizers")
from tests.small_tokenizer import small_tokenizer

TOKENIZER = small_tokenizer()
CONFIG = TokensConfig(chunk_tokens=12, chunks=3, sentences=6)
LAYOUT = token_layout(TOKENIZER, CONFIG)
MANIFEST = StoreManifest.of(TOKENIZER, LAYOUT, CONFIG.model_dump())
TEXTS = ["good book. it <SENT> bad! the end", None, "", "it " * 40, "😀 日本. [SEP]", "a\x00b\ud800c", "good. " * 20]


def tokens(texts: pl.Series) -> TokenRows:
    return tokenise(texts, TOKENIZER, CONFIG)


def parts_of(keys, texts, size, version="1"):
    """Parts of some texts each."""
    frame = pl.DataFrame({"key": keys, "text": text_column(texts)}, schema_overrides={"key": pl.String})
    return [
        TextPart(f"part-{start:03}", f"{version}-{size}", lambda start=start: frame.slice(start, size))
        for start in range(0, frame.height, size)
    ]


def assert_same_tensors(left: TokenRows, right: TokenRows):
    for trim in (False, True):
        one, two = token_batch(left, LAYOUT, trim), token_batch(right, LAYOUT, trim)
        for name in one.__dataclass_fields__:
            assert torch.equal(getattr(one, name), getattr(two, name)), name


def made(folder, texts=TEXTS, size=3, **kinds):
    keys = [f"key {number}" for number in range(len(texts))]
    return store_tokens(folder, {"user": parts_of(keys, texts, size), **kinds}, MANIFEST, tokens)


@settings(max_examples=8)
@given(
    st.lists(
        st.none() | st.text(st.characters(exclude_categories=[]), max_size=60) | st.sampled_from(TEXTS), max_size=12
    ),
    st.integers(1, 5),
    st.data(),
)
def test_the_stored_and_the_fresh_tensors_are_equal(tmp_path_factory, texts, size, data):
    folder = tmp_path_factory.mktemp("store") / "tokens"
    made(folder, texts, size)
    places = st.integers(0, len(texts) - 1)
    chosen = data.draw(st.lists(places, max_size=8)) if texts else []
    rows = TokenStore(folder).rows("user", [f"key {place}" for place in chosen])
    assert_same_tensors(rows, tokens(text_column([texts[place] for place in chosen])))


@pytest.mark.parametrize(("extra", "kept"), [(0, np.uint16), (70_000, np.int32)])
def test_ids_take_16_bits_where_they_fit(tmp_path, extra, kept):
    tokenizer = small_tokenizer(extra=extra)
    manifest = StoreManifest.of(tokenizer, token_layout(tokenizer, CONFIG), CONFIG.model_dump())
    store_tokens(
        tmp_path / "s", {"item": parts_of(["a"], ["good"], 1)}, manifest, lambda t: tokenise(t, tokenizer, CONFIG)
    )
    assert np.load(tmp_path / "s/item/part-000/ids.npy").dtype == kept
    rows = TokenStore(tmp_path / "s").rows("item", ["a"])
    assert rows.ids.dtype == np.int32
    assert rows.ids[rows.markers[0]] == tokenizer.marker == tokenizer.vocabulary - 1


def test_finished_parts_are_not_made_again(tmp_path):
    keys, calls = [f"k{i}" for i in range(6)], []

    def counted(texts):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tokens(texts)

    def run(version="1"):
        return store_tokens(tmp_path / "s", {"user": parts_of(keys, TEXTS[:6], 2, version)}, MANIFEST, counted)

    with pytest.raises(KeyboardInterrupt):
        run()
    with pytest.raises(DatasetError, match="no finished tokens of kind 'user'"):
        TokenStore(tmp_path / "s").rows("user", ["k0"])
    summary = run()["user"]
    assert (summary["texts"], summary["made"], calls) == (6, 2, [2, 2, 2, 2])
    before = (tmp_path / "s/user/index.npy").stat().st_mtime_ns
    assert run()["user"]["made"] == 0
    assert (tmp_path / "s/user/index.npy").stat().st_mtime_ns == before
    assert run("2")["user"]["made"] == 3
    assert not list((tmp_path / "s").rglob("*tmp*"))


def test_parts_that_are_gone_leave_nothing(tmp_path):
    made(tmp_path / "s", TEXTS, 2)
    made(tmp_path / "s", TEXTS[:2], 2)
    store = TokenStore(tmp_path / "s")
    assert (store.texts("user"), [path.name for path in (tmp_path / "s/user").glob("part*")]) == (2, ["part-000"])
    assert store.has("user", ["key 1", "key 2"]).tolist() == [True, False]
    with pytest.raises(DatasetError, match="2 of 3 keys have no tokens, first 'key 5'"):
        store.rows("user", ["key 0", "key 5", "x"])


def test_kinds_stand_beside_each_other(tmp_path):
    summary = made(tmp_path / "s", item=parts_of(["key 0"], ["the book"], 1))
    assert summary["item"] == {"texts": 1, "tokens": 5, "sentences": 1, "dropped_sentences": 0, "made": 1}
    assert summary["user"]["dropped_sentences"] > 0
    store = TokenStore(tmp_path / "s")
    assert_same_tensors(store.rows("item", ["key 0"]), tokens(pl.Series(["the book"])))
    with pytest.raises(DatasetError, match="kind 'items'; finished kinds: item, user"):
        store.rows("items", ["key 0"])


def test_keys_must_be_there_and_differ(tmp_path):
    with pytest.raises(DatasetError, match="1 keys stand twice, one in row 0 of part-002"):
        store_tokens(tmp_path / "a", {"user": parts_of(["x", "y", "x"], TEXTS[:3], 2)}, MANIFEST, tokens)
    with pytest.raises(DatasetError, match="a text has no key"):
        store_tokens(tmp_path / "b", {"user": parts_of(["x", None], TEXTS[:2], 2)}, MANIFEST, tokens)


def test_keys_that_share_half_a_digest_are_told_apart(tmp_path, monkeypatch):
    def alike(keys):
        return np.array([(7, int(key)) for key in keys], token_store._DIGEST)

    monkeypatch.setattr(token_store, "_digests", alike)
    store_tokens(tmp_path / "s", {"user": parts_of(["3", "1", "2"], TEXTS[:3], 2)}, MANIFEST, tokens)
    store = TokenStore(tmp_path / "s")
    assert_same_tensors(store.rows("user", ["1", "3", "2"]), tokens(pl.Series([TEXTS[1], TEXTS[0], TEXTS[2]])))
    assert store.has("user", ["4", "0"]).tolist() == [False, False]


def test_other_settings_are_refused(tmp_path):
    made(tmp_path / "s")
    other = small_tokenizer(special=False)
    for manifest, message in (
        (StoreManifest.of(other, LAYOUT, MANIFEST.settings), "by another tokenizer"),
        (
            StoreManifest.of(TOKENIZER, LAYOUT, {**MANIFEST.settings, "splitter": "sakurs"}),
            "with splitter rules, not sakurs",
        ),
    ):
        with pytest.raises(DatasetError, match=message):
            store_tokens(tmp_path / "s", {"user": []}, manifest, tokens)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(DatasetError, match="something else already"):
        made(tmp_path / "full")
    with pytest.raises(DatasetError, match="cannot name a folder"):
        store_tokens(tmp_path / "s", {"../user": parts_of(["a"], ["b"], 1)}, MANIFEST, tokens)


def test_damage_is_one_line(tmp_path):
    made(tmp_path / "s")
    path = tmp_path / "s/user/part-000/ids.npy"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DatasetError, match=r"ids\.npy: the file is missing or damaged"):
        TokenStore(tmp_path / "s").rows("user", ["key 0"])
    (tmp_path / "s/manifest.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(DatasetError, match="of another version"):
        made(tmp_path / "s")


def read_in_worker(store, keys):
    return store.rows("user", keys)


def test_a_store_is_sent_as_its_folder_alone(tmp_path):
    made(tmp_path / "s")
    store = TokenStore(tmp_path / "s")
    keys = ["key 6", "key 0", "key 0", "key 3"]
    here = store.rows("user", keys)
    assert len(pickle.dumps(store)) < 500
    assert_same_tensors(pickle.loads(pickle.dumps(store)).rows("user", keys), here)


@pytest.mark.slow
def test_a_spawned_process_reads_the_same(tmp_path):
    made(tmp_path / "s")
    store = TokenStore(tmp_path / "s")
    keys = ["key 6", "key 0", "key 0", "key 3"]
    here = store.rows("user", keys)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_same_tensors(pool.submit(read_in_worker, store, keys).result(timeout=120), here)


def test_what_a_batch_tells_of_sentences(tmp_path):
    batch = token_batch(tokens(pl.Series(["good. bad book", None])), LAYOUT)
    hidden = batch.ids.unsqueeze(-1).float().expand(-1, -1, -1, 2)  # each token's vector is its id
    vectors = batch.sentences(hidden)
    assert vectors.tolist() == [[[TOKENIZER.marker] * 2] * 2, [[0, 0]] * 2]
    assert batch.to("cpu").ids.dtype == torch.int64
