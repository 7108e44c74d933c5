"""Each content is encoded once, whatever the batches and however often the work is interrupted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import DatasetError
from moerec.modalities import cache as module
from moerec.modalities.cache import VectorCache, encode_once
from moerec.modalities.encoders import content_key


class Encoder:
    """Turns a word into three numbers, refuses words with an x, and notes what it was asked."""

    def __init__(self, words, fail_after=None):
        self.words, self.fail_after, self.asked = words, fail_after, []

    def __call__(self, positions):
        if self.fail_after is not None and len(self.asked) >= self.fail_after:
            raise KeyboardInterrupt
        batch = [self.words[position] for position in positions]
        self.asked += batch
        vectors = np.array([[len(word), *divmod(hash_of(word), 7)] for word in batch], np.float32)
        return vectors, np.array(["x" not in word for word in batch])


def hash_of(word):
    return sum(ord(c) for c in word)


def run(words, batch_size=3, cache=None, encoder=None, progress=None):
    encoder = encoder or Encoder(words)
    keys = [content_key(word.encode()) for word in words]
    vectors, there = encode_once(keys, [len(word) for word in words], encoder, batch_size, cache, progress)
    return vectors, there, encoder.asked


WORDS = st.lists(st.text("abx", max_size=4), min_size=1, max_size=12)


@settings(max_examples=50)
@given(WORDS, st.integers(1, 5))
def test_equal_to_encoding_one_by_one(words, batch_size):
    vectors, there, asked = run(words, batch_size)
    assert sorted(asked) == sorted(set(words))
    assert there.tolist() == ["x" not in word for word in words]
    for word, vector, present in zip(words, vectors, there, strict=True):
        if present:
            assert vector.tolist() == [len(word), *divmod(hash_of(word), 7)]
        else:
            assert not vector.any()


def test_only_what_is_new_is_encoded(tmp_path):
    cache = VectorCache(tmp_path / "vectors")
    first, _, _ = run(["a", "bb", "a"], cache=cache)
    again, _, asked = run(["bb", "a"], cache=cache)
    assert asked == []
    assert np.array_equal(again, first[[1, 0]])
    _, _, asked = run(["a", "bb", "ccc"], cache=cache)
    assert asked == ["ccc"]
    assert len(list(cache.folder.iterdir())) == 2


def test_what_failed_is_asked_again(tmp_path):
    cache = VectorCache(tmp_path)
    run(["a", "x"], cache=cache)
    _, there, asked = run(["a", "x"], cache=cache)
    assert asked == ["x"]
    assert there.tolist() == [True, False]


def test_an_interruption_keeps_what_was_done(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_SHARD_ROWS", 4)
    words = [letter * 3 for letter in "abcdefghij"]
    cache = VectorCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(words, 2, cache, Encoder(words, fail_after=6))
    _, there, asked = run(words, 2, cache)
    assert there.all()
    assert sorted(asked) == words[6:]


def test_the_longest_come_first_and_progress_reaches_the_total(tmp_path):
    seen = []
    _, _, asked = run(["a", "bbb", "cc", "a"], 2, progress=lambda done, total: seen.append((done, total)))
    assert asked == ["bbb", "cc", "a"]
    assert seen == [(0, 3), (2, 3), (3, 3)]


def test_a_damaged_shard_is_one_line(tmp_path):
    cache = VectorCache(tmp_path)
    run(["a", "b"], cache=cache)
    shard = next(tmp_path.iterdir())
    shard.write_bytes(shard.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"damaged cache of vectors .*; delete this file") as error:
        run(["a"], cache=cache)
    assert "\n" not in str(error.value)


def test_nothing_encoded_has_no_width():
    vectors, there, _ = run(["x"])
    assert vectors.shape == (1, 0)
    assert not there.any()
