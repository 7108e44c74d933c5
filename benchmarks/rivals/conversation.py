"""Workers that do as they are told, a JSON line for each order, so that sides in different environments take turns.

A worker imports nothing of this project but this file, which needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


class Worker:
    """A process that answers orders."""

    def __init__(self, python: Path | str, script: Path, *arguments: str, threads: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [str(python), str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, order: str, **values: Any) -> dict[str, Any]:
        """Give an order and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"order": order, **values}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}; run it by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def answer_orders(orders: Mapping[str, Callable[..., Mapping[str, Any]]]) -> None:
    """The worker's side: call a function for each line until there are no more; what it prints meanwhile is dropped."""
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115, PTH123
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(dict(orders[order.pop("order")](**order))) + "\n")
        answers.flush()
