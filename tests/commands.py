"""What a command leaves behind, for tests of the command line; the fixtures `moerec` and `here` are in conftest.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest


@dataclass
class Finished:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document by the letter of the standard."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


Moerec = Callable[..., Finished]


def assert_one_line(finished: Finished, says: str, status: int = 2) -> None:
    assert finished.status == status
    assert finished.out == ""
    assert finished.err.startswith("error: ")
    assert says in finished.err
    assert finished.err.count("\n") == 1
    assert finished.err.endswith("\n")
    assert "Traceback" not in finished.err
