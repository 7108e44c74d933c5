"""Small tables and two checks that several tests of the data set share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moerec.errors import DatasetError


@pytest.fixture
def events() -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "user_id": random.integers(1, 15, 200),
            "item_id": random.integers(1, 40, 200),
            "timestamp": random.integers(10**12, 10**12 + 60, 200),
            "rating": random.integers(1, 6, 200).astype(np.float64),
        }
    )


@pytest.fixture
def items() -> pl.DataFrame:
    return pl.DataFrame({"item_id": range(1, 51), "title": [f"Title {number}" for number in range(1, 51)]})


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of all files of a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    return read


@pytest.fixture(scope="session")
def refusal() -> Callable[..., str]:
    """The one line with which a call is refused."""

    def call(action: Callable[..., Any], *arguments: Any, **named: Any) -> str:
        with pytest.raises(DatasetError) as caught:
            action(*arguments, **named)
        assert "\n" not in str(caught.value), "one line"
        return str(caught.value)

    return call
