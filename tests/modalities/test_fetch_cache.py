"""The table of outcomes: it survives being closed, cut and used twice, and says so when it is damaged."""

import hashlib

import pytest

from moerec.errors import DatasetError
from moerec.modalities.fetch import run_fetch
from moerec.modalities.fetch_cache import TABLE, FetchCache, Outcome
from moerec.modalities.fetch_config import FetchConfig


def test_what_is_put_is_found_by_whoever_opens_it_next(tmp_path):
    good, bad = Outcome("ab" * 32, 5, attempts=2, run=1), Outcome(reason="http 404", final=True, attempts=1, run=1)
    with FetchCache(tmp_path) as cache, FetchCache(tmp_path) as beside:
        assert cache.begin_run() < beside.begin_run()
        cache.put("http://a/\n", good)
        beside.put("http://b", bad)
        beside.put("http://a/\n", bad)
        cache.put("http://a/\n", good)
        assert beside.get("http://a/\n") == good
    with FetchCache(tmp_path) as cache:
        assert dict(cache) == {"http://a/\n": good, "http://b": bad}
        assert cache.get("http://c") is None


def test_a_content_has_its_name_and_an_emptied_one_is_not_there(tmp_path):
    with FetchCache(tmp_path) as cache:
        sha256 = cache.keep(b"content")
        assert sha256 == hashlib.sha256(b"content").hexdigest()
        outcome = Outcome(sha256, 7)
        assert cache.holds(outcome)
        cache.path(sha256).write_bytes(b"")
        assert not cache.holds(outcome)
        cache.keep(b"content")
        assert cache.holds(outcome)
        assert not cache.holds(Outcome(reason="x"))
        assert [path.name for path in cache.path(sha256).parent.iterdir()] == [sha256]


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / TABLE).write_bytes(b"not a table at all, but long enough to be taken for one" * 100)
    with pytest.raises(DatasetError, match=r"outcomes\.sqlite: damaged .* delete it"):
        run_fetch(["http://a/b"], tmp_path, FetchConfig())
