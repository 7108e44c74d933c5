"""The store of a stream: all of a transaction or nothing, and nobody takes the same records twice."""

import threading

import pytest

from moerec.engines.event_log import Position
from moerec.engines.stream_store import PositionsMovedError, StreamStore
from moerec.errors import ConfigError, DatasetError


@pytest.fixture
def store(tmp_path):
    return StreamStore(tmp_path, {"seed": 1}, lambda transaction: transaction.put_items([("a", [1, 2.5])]))


def content(store):
    return "\n".join(store.connection.iterdump())


def test_what_was_kept_is_there_again(store, tmp_path):
    with store.transaction({"p": None}) as transaction:
        assert transaction.add_review("u", "a", 5)
        assert not transaction.add_review("u", "a", 5)
        transaction.put_states({"u": {"last": 5}, "v": [1.5, None, "é"]})
        transaction.put_positions({"p": Position(7, "mark")})
        transaction.put_batch(3, {"records": 2})
    with store.transaction() as transaction:
        transaction.put_batch(4, {"records": 5, "late": 1})
    store.close()
    store = StreamStore(tmp_path, {"seed": 1})
    with store.transaction({"p": Position(7, "mark")}) as transaction:
        assert transaction.states(["u", "w", "v"]) == {"u": {"last": 5}, "v": [1.5, None, "é"]}
        assert transaction.items(["a", "b"]) == {"a": [1, 2.5]}
        assert transaction.has_review("u", "a", 5)
        assert not transaction.has_review("u", "a", 6)
        assert [transaction.has_met("u", "a", time) for time in (5, 6)] == [False, True]
        assert not transaction.has_met("v", "a", 6)
        assert [transaction.met("u", time) for time in (5, 6)] == [set(), {"a"}]
    assert store.positions() == {"p": Position(7, "mark")}
    assert store.batch() == 4
    assert store.counts() == {"records": 7, "late": 1}


def test_an_error_takes_everything_back(store):
    def fails(number: int) -> None:
        with store.transaction({}) as transaction:
            transaction.put_states({"u": 1})
            transaction.add_review("u", "a", 5)
            transaction.put_positions({"p": Position(7)})
            transaction.put_batch(1, {"records": 1 // number})

    before = content(store)
    with pytest.raises(ZeroDivisionError):
        fails(0)
    assert content(store) == before
    fails(1)
    assert content(store) != before


def test_records_that_somebody_else_took_are_refused(store, tmp_path):
    other = StreamStore(tmp_path, {"seed": 1})
    with other.transaction({"p": None}) as transaction:
        transaction.put_positions({"p": Position(7)})
    for before in (None, Position(6), Position(7, "mark")):
        with pytest.raises(PositionsMovedError), store.transaction({"p": before}):
            raise AssertionError
    with store.transaction({"p": Position(7)}):
        pass


def test_transactions_of_several_processes_come_one_after_the_other(tmp_path):
    """Each adds 1 to what it reads; connections of several threads are as good as processes."""

    def add() -> None:
        store = StreamStore(tmp_path, {})
        for _ in range(20):
            with store.transaction() as transaction:
                state = transaction.states(["u"]).get("u", 0)
                transaction.put_states({"u": state + 1})
        store.close()

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with StreamStore(tmp_path, {}).transaction() as transaction:
        assert transaction.states(["u"]) == {"u": 60}


def test_each_transaction_is_flushed_to_disk(store):
    assert store.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_other_settings_and_other_files_are_refused_in_one_line(store, tmp_path):
    with pytest.raises(ConfigError, match=r"made with other settings \(rule, seed\)"):
        StreamStore(tmp_path, {"seed": 2, "rule": "x"})
    store.close()
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk/stream.sqlite").write_bytes(b"junk" * 1000)
    with pytest.raises(DatasetError, match="choose another state folder"):
        StreamStore(tmp_path / "junk", {})


def test_a_store_is_whole_or_not_made(tmp_path):
    def begin(transaction):
        transaction.put_items([("a", 1)])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        StreamStore(tmp_path, {}, begin)
    store = StreamStore(tmp_path, {}, lambda transaction: transaction.put_items([("b", 2)]))
    with store.transaction() as transaction:
        assert transaction.items("ab") == {"b": 2}
    again = StreamStore(tmp_path, {}, begin)  # it is there, so nothing begins
    again.close()
