"""Examples of every kind, each a function of its number alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from moerec.dataset.shards.examples import ShardExample

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))


def key_of(number: int) -> str:
    return f"{number * 2654435761 % 2**128:032x}"


def example(number: int) -> ShardExample:
    random = np.random.default_rng(number)
    pictures: list[Any] = [
        None,
        JPEG[: 4 + number % 200],
        random.integers(0, 256, (6, 5, 3), dtype=np.uint8),
        random.integers(0, 256, (4, 3, 2, 2), dtype=np.uint8),
    ]
    record = {"number": number, "text": f"Käse {number} \n\U0001f600", "price": None if number % 3 else 0.1 * number}
    arrays: dict[str, Any] = {}
    if number % 2:
        arrays = {"tokens": random.integers(0, 30000, (2, 7), dtype=np.int32), "mask": np.ones((2, 7), dtype=bool)}
    return ShardExample(key_of(number), record, pictures[number % 4], arrays)


def examples_from(start: int, stop: int) -> Iterator[ShardExample]:
    return (example(number) for number in range(start, stop))
