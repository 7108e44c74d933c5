"""Jobs that leave a marker when they are done: run in other processes, a few at a time, and never twice."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from moerec.errors import DatasetError
from moerec.files import write_json

Result = dict[str, Any]
"""What a job tells about its work; JSON data."""
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")


class Job(Protocol):
    """A piece of work that writes files of its own."""

    @property
    def marker(self) -> Path:
        """Where the result stands once the job is done."""

    def run(self) -> Result:
        """Do it; files must be whole or absent, since the job may be done again after a crash."""


class Workers:
    """Where jobs run: in processes of their own, or for one process right here."""

    def __init__(self, pool: ProcessPoolExecutor | None, processes: int) -> None:
        self._pool = pool
        self._processes = processes

    def run(self, jobs: Iterable[Job]) -> list[Result]:
        """The results in the order of the jobs; those of jobs that were done before are read from their markers.

        Jobs are taken from the iterable as processes become free, so that few are held at once.

        Raises:
            DatasetError: a process died.
        """
        results: dict[int, Result] = {}
        running: dict[Future[Result], int] = {}
        try:
            for number, job in enumerate(jobs):
                if job.marker.exists():
                    results[number] = json.loads(job.marker.read_text())
                elif self._pool is None:
                    results[number] = _done(job)
                else:
                    # One more than processes, so that none waits for the next job to be made.
                    if len(running) > self._processes:
                        _collect(running, results)
                    running[self._pool.submit(_done, job)] = number
            while running:
                _collect(running, results)
        except BrokenProcessPool:
            raise DatasetError(
                "local engine: a worker process died, most likely out of memory; run again with fewer processes "
                "(what is finished is not done again)"
            ) from None
        return [results[number] for number in sorted(results)]


@contextmanager
def workers(processes: int) -> Iterator[Workers]:
    """Start processes, each of one thread; at the end they are gone."""
    if processes == 1:
        yield Workers(None, 1)
        return
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))  # read when a process starts, which is at its first job
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_leave_with_parent)
    try:
        yield Workers(pool, processes)
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone: a pool of a killed process would wait for ever."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _done(job: Job) -> Result:
    result = job.run()
    write_json(job.marker, result)
    return result


def _collect(running: dict[Future[Result], int], results: dict[int, Result]) -> None:
    """Wait for a job to end."""
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        results[running.pop(future)] = future.result()
