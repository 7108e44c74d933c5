"""Workers that do as they are told, a JSON line for each order, so that sides in different environments take turns.

A worker imports nothing of this project but this file, which needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


class Worker:
    """A process that answers orders."""

    def __init__(self, python: Path | str, script: Path, *arguments: str, threads: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it lives as long as the process
        self.process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        """Give an order and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"order": order, **values}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}: {self._last_errors()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process: it ends by itself after the last order, but not while it works on one."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()  # Lightning takes SIGTERM for a wish
            self.process.wait()
        self.errors.close()

    def _last_errors(self) -> str:
        """The end of what the process wrote about its failure, where the reason stands."""
        self.errors.seek(0)
        return self.errors.read()[-1500:].strip()


class Orders:
    """The worker's side, one order at a time; what is printed meanwhile is dropped."""

    def __init__(self) -> None:
        self._answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123

    def next(self) -> dict[str, Any] | None:
        """The next order as it was given, None after the last."""
        line = sys.stdin.readline()
        order: dict[str, Any] | None = json.loads(line) if line else None
        return order

    def answer(self, values: Mapping[str, Any]) -> None:
        """Answer the order at hand."""
        self._answers.write(json.dumps(dict(values)) + "\n")
        self._answers.flush()


def answer_orders(orders: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """The worker's side: call a function for each order until there are no more."""
    given = Orders()
    while (order := given.next()) is not None:
        given.answer(orders[order.pop("order")](**order))
