"""A stream that dies at any moment: after the next start everything is as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from polars.testing import assert_frame_equal

from moerec.engines import stream as stream_engine
from moerec.engines import stream_store
from moerec.engines.file_log import FileLog
from moerec.engines.stream_store import StreamStore, StreamTransaction
from tests.engines.stream_cases import events_of, line, open_stream, output, products, reviews, rules_of, write_log

KINDS = ("examples", "texts", "rejects")
ROOT = Path(__file__).parents[2]


def dirty_log(count: int) -> list[bytes]:
    """Reviews, two of which stand there again, and a broken line."""
    lines = [line(review) for review in reviews(12, count)]
    return [*lines[: count // 2], lines[0], b"junk\n", *lines[count // 2 :], lines[-1]]


@cache
def rules(count: int):
    return rules_of(events_of(reviews(12, count), products()))


def case(folder: Path, count: int, size: int):
    """The stream of a folder; the log is written if it is not there."""
    if not (folder / "log").is_dir():
        write_log(folder / "log", dirty_log(count))
    return open_stream(folder, rules(count), products(), size)


def finished(folder: Path, count: int, size: int):
    stream = case(folder, count, size)
    stream.run(once=True)
    summary = stream.summary()
    stream.store.close()
    return summary


def assert_equal(folder: Path, whole: Path) -> None:
    for kind in KINDS:
        assert output(whole, kind).height
        assert_frame_equal(output(folder, kind), output(whole, kind))
    assert not list((folder / "out").rglob("*.pending"))


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["first batch", "all"])
def test_a_crash_between_any_two_steps_loses_nothing_and_counts_nothing_twice(tmp_path, monkeypatch, every):
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(stream_store, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(stream_engine, "END_SECONDS", 0.0)
    expected = finished(tmp_path / "whole", 9, 6)
    assert expected["batch"] == 2
    steps: list[str] = []
    dies_before = 0

    def dying(name, plain):
        def call(*arguments, **named):
            steps.append(name)
            if len(steps) == dies_before:
                raise Crash
            return plain(*arguments, **named)

        return call

    def lives(folder: Path) -> bool:
        """Whether the stream comes to the end of the log without dying."""
        stream = None
        try:
            stream = case(folder, 9, 6)
            stream.run(once=True)
        except Crash:
            return False
        finally:
            if stream is not None:
                stream.store.close()
        return True

    places = [(os, "fsync"), (os, "replace"), (StreamStore, "commit"), (FileLog, "poll"), (FileLog, "kept")]
    places += [(StreamTransaction, name) for name in ("put_states", "put_positions", "put_batch")]
    for number in range(1, 1000):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patched:
            steps, dies_before = [], number
            for owner, name in places:
                patched.setattr(owner, name, dying(name, getattr(owner, name)))
            if lives(folder) or (not every and steps.count("kept") == 1):
                break
        assert finished(folder, 9, 6) == expected
        assert_equal(folder, tmp_path / "whole")
    assert number > 12
    assert {"fsync", "replace", "commit", "put_states", "put_positions", "put_batch", "kept"} <= set(steps)


CHILD = """
import sys
from pathlib import Path
import pandas, pyarrow.compute  # a long import, which would take most of the time until the kill
from tests.engines.test_stream_crashes import case
stream = case(Path(sys.argv[1]), 160, 3)
print("ready", flush=True)
stream.run(once=True)
print("done", flush=True)
"""


@pytest.mark.slow
def test_kill_9_at_many_moments_loses_nothing_and_counts_nothing_twice(tmp_path):
    expected = finished(tmp_path / "whole", 160, 3)
    folder, draw, kills = tmp_path / "killed", random.Random(0), 0
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    while True:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(draw.uniform(0, 0.12) if kills < 20 else 0)
        if kills < 20:
            child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
        child.wait()
        if rest == "done\n":
            break
        assert child.returncode == -signal.SIGKILL
        kills += 1
    assert kills >= 6
    assert finished(folder, 160, 3) == expected
    assert_equal(folder, tmp_path / "whole")
