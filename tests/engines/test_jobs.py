"""Jobs: results in order, markers, few at a time, and one line when a process dies."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from moerec.engines.jobs import Workers, workers
from moerec.errors import DatasetError


@dataclass(frozen=True)
class Square:
    number: int
    folder: Path

    @property
    def marker(self) -> Path:
        return self.folder / f"{self.number}.json"

    def run(self) -> dict[str, int]:
        return {"square": self.number**2}


class Later:
    """A pool whose jobs are done when somebody waits for them, and which knows how many were waiting at most."""

    def __init__(self) -> None:
        self.waiting = self.most = 0

    def submit(self, work: Any, job: Square) -> Future[Any]:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        pool = self

        class Lazy(Future):  # type: ignore[type-arg]
            def result(self, timeout: float | None = None) -> Any:
                pool.waiting -= 1
                return super().result(timeout)

        future: Future[Any] = Lazy()
        future.set_result(work(job))
        return future


def test_results_come_in_order_and_finished_jobs_are_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "2.json").write_text(json.dumps({"square": -1}))
    with workers(1) as here:
        results = here.run(Square(number, tmp_path) for number in range(4))
    assert [result["square"] for result in results] == [0, 1, -1, 9]
    assert json.loads((tmp_path / "3.json").read_text()) == {"square": 9}


def test_jobs_are_made_as_processes_become_free(tmp_path: Path) -> None:
    pool = Later()
    made = []

    def jobs() -> Iterator[Square]:
        for number in range(30):
            made.append(number)
            yield Square(number, tmp_path)

    results = Workers(pool, 2).run(jobs())  # type: ignore[arg-type]
    assert [result["square"] for result in results] == [number**2 for number in range(30)]
    assert pool.most <= 3
    assert made == list(range(30))


def test_a_process_that_died_is_one_line(tmp_path: Path) -> None:
    class Dead:
        def submit(self, work: Any, job: Square) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool())
            return future

    with pytest.raises(DatasetError, match="fewer processes"):
        Workers(Dead(), 2).run([Square(1, tmp_path)])  # type: ignore[arg-type]


ORPHANS = """
import os, signal, sys, time
from moerec.engines.jobs import workers
if __name__ == "__main__":
    with workers(2) as pool:
        print(pool._pool.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_leave_with_the_one_that_started_them(tmp_path: Path) -> None:
    program = tmp_path / "orphans.py"
    program.write_text(ORPHANS)
    killed = subprocess.run([sys.executable, str(program)], stdout=subprocess.PIPE, text=True, check=False)
    worker = int(killed.stdout)
    waited = time.monotonic()
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() - waited < 60, "the worker is still there"
        time.sleep(0.05)
