"""A folder of files as an event log: what is whole is read once, what is not is left, what was changed is an error."""

import gzip
import json
import random
from pathlib import Path

import pytest

from moerec.dataset.sources import json_lines
from moerec.engines import file_log
from moerec.engines.event_log import Position
from moerec.engines.file_log import FileLog
from moerec.errors import DatasetError


class Keeper:
    """Positions, as whoever reads a log keeps them."""

    def __init__(self) -> None:
        self.positions: dict[str, Position] = {}

    def log(self, folder: Path) -> FileLog:
        return FileLog(folder, self.positions.get)


def values(polled):
    return [record.value for record in polled.records]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log"


def append(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        stream.write(data)


@pytest.mark.parametrize("seed", range(4))
def test_every_line_comes_once_and_in_order_whatever_the_pieces(folder, seed, monkeypatch):
    """Bytes arrive in random pieces in three files, polls are of random size, the reader starts anew at random."""
    monkeypatch.setattr(file_log, "BLOCK_BYTES", 7)
    draw = random.Random(seed)
    names = ["a.jsonl", "deep/b.jsonl", "c.json"]
    lines = {name: [b"%d %s" % (k, b"x" * draw.randrange(12)) for k in range(40)] for name in names}
    waiting = {name: draw.choice([b"\n", b"\r\n"]).join(whole) + b"\n" for name, whole in lines.items()}
    waiting["a.jsonl"] = b"\xef\xbb\xbf" + waiting["a.jsonl"]
    keeper, got = Keeper(), {name: [] for name in names}
    log = keeper.log(folder)
    while any(waiting.values()) or not log.at_end():
        name = draw.choice(names)
        piece = draw.randrange(30)
        append(folder / name, waiting[name][:piece])
        waiting[name] = waiting[name][piece:]
        polled = log.poll(draw.randrange(1, 9), 0)
        for record in polled.records:
            got[record.partition].append(record.value)
        assert {name: keeper.positions.get(name) for name in polled.before} == polled.before
        if draw.random() < 0.2:
            # What was polled is not kept: it comes again, after a rewind or from a new reader.
            for record in polled.records:
                got[record.partition].pop()
            if draw.random() < 0.5:
                log.rewind()
            else:
                log = keeper.log(folder)
        else:
            keeper.positions.update(polled.after)
    assert got == {name: [line.strip() for line in whole] for name, whole in lines.items()}


def test_offsets_are_the_bytes_where_lines_begin(folder):
    content = b'{"a": 1}\n\n  \n{"b": 2}\r\n{"c": 3}'
    append(folder / "a.jsonl", content)
    polled = Keeper().log(folder).poll(10, 0)
    assert values(polled) == [b'{"a": 1}', b'{"b": 2}']
    assert [content[record.offset :].startswith(record.value) for record in polled.records] == [True, True]
    assert polled.after["a.jsonl"].offset == content.index(b'{"c"')


def test_a_half_line_waits_until_it_is_whole(folder):
    log = Keeper().log(folder)
    append(folder / "a.jsonl", b'{"a"')
    assert not log.poll(10, 0).after
    assert log.at_end()
    append(folder / "a.jsonl", b": 1}\n")
    assert values(log.poll(10, 0)) == [b'{"a": 1}']
    assert not log.at_end()


def test_a_poll_waits_for_what_is_new(folder, monkeypatch):
    log = Keeper().log(folder)
    monkeypatch.setattr(file_log.time, "sleep", lambda seconds: append(folder / "a.jsonl", b"1\n"))
    assert values(log.poll(10, wait=5)) == [b"1"]


def test_a_poll_reads_what_is_new_and_no_more(folder, monkeypatch):
    """Bytes read after ten lines were added, behind a short and behind a long log."""
    read = {}
    for lines in (100, 100_000):
        path = folder / "a.jsonl"
        path.write_bytes(b"0123456789" * 3 + b"\n" + b"0\n" * lines)
        keeper = Keeper()
        log = keeper.log(folder)
        keeper.positions.update(log.poll(10**9, 0).after)
        append(path, b"new\n" * 10)
        counts = []
        original = Path.open

        def counting(self, mode="r", counts=counts, original=original):
            stream = original(self, mode, buffering=0)
            plain = stream.read

            class Counted:
                seek = stream.seek

                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    stream.close()

                def read(self, size=-1):
                    data = plain(size)
                    counts.append(len(data))
                    return data

            return Counted()

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", counting)
            assert len(log.poll(10**9, 0).records) == 10
        read[lines] = sum(counts)
    assert read[100] <= read[100_000] <= 40 + 2 * file_log.MARK_BYTES


def test_too_long_a_line_is_one_problem_and_is_not_held(folder, monkeypatch):
    monkeypatch.setattr(file_log, "LONGEST_LINE", 1000)
    monkeypatch.setattr(file_log, "BLOCK_BYTES", 64)
    append(folder / "a.jsonl", b"1\n" + b"x" * 500_000 + b"\n2\n")
    polled = Keeper().log(folder).poll(10, 0)
    assert [record.problem for record in polled.records] == [None, json_lines.TOO_LONG, None]
    assert len(polled.records[1].value) < 10_000
    assert polled.records[2].value == b"2"
    assert polled.records[2].offset == 2 + 500_001


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def rotated(path):
    path.write_bytes(b"".join(b'{"other": %d}\n' % k for k in range(100)))


@pytest.mark.parametrize(
    ("change", "message"), [(cut, "was cut from"), (rotated, "stands something else than what was read")]
)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_file_that_was_changed_is_an_error_of_one_line(folder, change, message, fresh):
    path = folder / "a.jsonl"
    append(path, b"".join(b'{"number": %d}\n' % k for k in range(50)))
    keeper = Keeper()
    log = keeper.log(folder)
    keeper.positions.update(log.poll(100, 0).after)
    change(path)
    with pytest.raises(DatasetError, match=message) as error:
        (keeper.log(folder) if fresh else log).poll(100, 0)
    assert "\n" not in str(error.value)
    assert "a.jsonl" in str(error.value)


def test_a_file_may_go_when_it_is_read_and_not_before(folder):
    log = Keeper().log(folder)
    for name in ("a.jsonl", "b.jsonl"):
        append(folder / name, b"1\n2\n")
    log.poll(3, 0)
    (folder / "a.jsonl").unlink()
    assert values(log.poll(3, 0)) == [b"2"]
    append(folder / "b.jsonl", b"half")
    log.poll(3, 0)
    (folder / "b.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"b\.jsonl: the file went away before it was read"):
        log.poll(3, 0)


def test_compressed_files_and_missing_folders_are_refused(folder):
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"a": 1}).encode()))
    with pytest.raises(DatasetError, match=r"a\.jsonl\.gz: the file is compressed"):
        Keeper().log(folder).poll(10, 0)
    with pytest.raises(DatasetError, match="there is no such folder"):
        Keeper().log(folder / "missing")


def test_files_are_read_in_the_order_of_their_names(folder):
    for name in ("2024-01-02.jsonl", "2024-01-01.jsonl"):
        append(folder / name, f"{name}\n{name}\n".encode())
    assert [record.partition for record in Keeper().log(folder).poll(3, 0).records] == [
        "2024-01-01.jsonl",
        "2024-01-01.jsonl",
        "2024-01-02.jsonl",
    ]
