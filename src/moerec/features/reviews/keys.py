"""Keys of examples: 128 bits that follow from what the example is, and from nothing else.

They name rows in every file and seed what is drawn for them, so that no engine, partition or order changes a thing.

Shape letters: N rows.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import polars as pl
import pyarrow as pa

from moerec.features.counter_random import Words, stream

_BYTES = 16
_DIGITS = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint16)  # two characters of each byte


def review_key(user_id: str, item_id: str, timestamp: int) -> str:
    """The key of a review: 32 hexadecimal digits of a hash of who, what and when."""
    return blake2b(f"{user_id}\0{item_id}\0{timestamp}".encode(), digest_size=_BYTES).hexdigest()


def with_keys(events: pl.DataFrame) -> pl.DataFrame:
    """The events with a column `key`; one that is there already stays."""
    if "key" in events.columns:
        return events
    columns = (events[name].to_list() for name in ("user_id", "item_id", "timestamp"))
    digests = b"".join(
        [
            blake2b(f"{user}\0{item}\0{time}".encode(), digest_size=_BYTES).digest()
            for user, item, time in zip(*columns, strict=True)
        ]
    )
    return events.with_columns(key_texts(np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)).alias("key"))


def key_words(keys: pl.Series) -> Words:
    """The two halves of each key, [N, 2]."""
    digits = keys.to_arrow().cast(pa.large_string())
    assert digits.null_count == 0
    offsets, data = digits.buffers()[1:]
    start = int(np.frombuffer(offsets, np.int64)[digits.offset])
    characters = np.frombuffer(data, np.uint8)[start : start + 2 * _BYTES * len(digits)]
    # '0' to '9' are 48 to 57, 'a' to 'f' are 97 to 102.
    halves = np.where(characters > 96, characters - 87, characters - 48).reshape(-1, 2)
    whole = np.ascontiguousarray(halves[:, 0] << 4 | halves[:, 1])
    return whole.view(">u8").reshape(-1, 2).astype(np.uint64)


def key_texts(words: Words) -> pl.Series:
    """Keys as text from their halves [N, 2]."""
    digits = _DIGITS[np.ascontiguousarray(words.astype(">u8")).view(np.uint8)]  # [N * 16] pairs of characters
    offsets = np.arange(len(words) + 1, dtype=np.int64) * (2 * _BYTES)
    array = pa.LargeStringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(digits))
    return pl.Series("key", array)


def negative_words(words: Words, number: int) -> Words:
    """The halves of the key of a positive's negative, by its number from 1 on: [N, 2].

    Both halves go through a bijection, so that different positives have different negatives.
    """
    return stream(words, number)
