"""An example of a shard, and the members of the archive that hold it.

The member `<key>.json` is real JSON. A picture is `<key>.jpg`, its bytes as they came, or `<key>.u8.npy`, numbers of
uint8; an example without one has no such member. Further arrays are `<key>.<name>.npy`. These are endings that the
library webdataset decodes by itself.

Shape letters: H height, W width, N patches, P side of a patch.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moerec.errors import DatasetError

Bytes = NDArray[np.uint8]
RECORD, JPEG, RAW_PICTURE, ARRAY = "json", "jpg", "u8.npy", ".npy"
JPEG_MAGIC = b"\xff\xd8\xff"
LONGEST_MEMBER_NAME = 100
"""Characters; longer ones would need an extension of the tar format."""
_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, eq=False)
class ShardExample:
    """One example."""

    key: str
    """Its name, unique in all shards: letters, digits, `-` and `_`."""
    record: Mapping[str, Any]
    """Labels, ids, profile, texts: whatever JSON can hold, but no NaN."""
    picture: bytes | Bytes | None = None
    """A JPEG file, or uint8 [H, W, 3], or patches [N, P, P, 3] or [N, 3, P, P]; None if there is none."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Further arrays by name, such as `tokens`."""

    def __eq__(self, other: object) -> bool:
        """Whether every member is the same, types and shapes included."""
        return isinstance(other, ShardExample) and members_of(self) == members_of(other)

    __hash__ = None  # type: ignore[assignment]


def members_of(example: ShardExample) -> list[tuple[str, bytes]]:
    """(ending, content) of each member, always in the same order.

    Raises:
        DatasetError: the key, the record, the picture or an array cannot be written.
    """
    if not _KEY.fullmatch(example.key):
        raise DatasetError(f"example '{example.key}': a key holds only letters, digits, - and _")
    members = [(RECORD, _json(example))]
    if isinstance(example.picture, bytes):
        if not example.picture.startswith(JPEG_MAGIC):
            raise DatasetError(f"example '{example.key}': the picture is no JPEG file; decode it and give the numbers")
        members.append((JPEG, example.picture))
    elif example.picture is not None:
        picture = example.picture
        if picture.dtype != np.uint8 or not _is_picture(picture.shape):
            raise DatasetError(
                f"example '{example.key}': the picture is {picture.dtype} {list(picture.shape)}; "
                "give uint8 [height, width, 3] or [patches, side, side, 3]"
            )
        members.append((RAW_PICTURE, _npy(picture)))
    for name in sorted(example.arrays):
        if not _ARRAY_NAME.fullmatch(name) or f"{name}{ARRAY}" == RAW_PICTURE:
            raise DatasetError(f"example '{example.key}': an array cannot have the name '{name}'")
        if example.arrays[name].dtype.hasobject:
            raise DatasetError(f"example '{example.key}': the array '{name}' holds objects; give numbers")
        members.append((f"{name}{ARRAY}", _npy(example.arrays[name])))
    longest = max(len(example.key) + 1 + len(ending) for ending, _ in members)
    if longest > LONGEST_MEMBER_NAME:
        raise DatasetError(f"example '{example.key}': its key is too long by {longest - LONGEST_MEMBER_NAME}")
    return members


def example_of(key: str, members: Mapping[str, memoryview]) -> ShardExample:
    """The example that members hold; its arrays are not copied, and are read only if the memory is.

    Raises:
        DatasetError: there is no record, or one of the members is damaged.
    """
    picture: bytes | Bytes | None = None
    arrays: dict[str, NDArray[Any]] = {}
    try:
        record = json.loads(str(members[RECORD], "utf-8"))
        for ending, content in members.items():
            if ending == JPEG:
                picture = bytes(content)
            elif ending == RAW_PICTURE:
                picture = _array(content)
            elif ending.endswith(ARRAY):
                arrays[ending.removesuffix(ARRAY)] = _array(content)
    except KeyError:
        raise DatasetError(f"example '{key}': it has no record; write the shards again") from None
    except ValueError as error:
        raise DatasetError(f"example '{key}': a member is damaged ({error}); write the shards again") from None
    return ShardExample(key, record, picture, arrays)


def _json(example: ShardExample) -> bytes:
    try:
        # Sorted keys: the same record gives the same bytes, whoever made its dictionary.
        text = json.dumps(
            dict(example.record), ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise DatasetError(f"example '{example.key}': the record is no JSON ({error})") from None


def _is_picture(shape: tuple[int, ...]) -> bool:
    if len(shape) == 3:
        return shape[2] == 3
    # Patches with the colours first, as published, or last, as `moerec.modalities.pictures` cuts them.
    return len(shape) == 4 and ((shape[1], shape[2]) == (3, shape[3]) or (shape[3], shape[1]) == (3, shape[2]))


def _npy(array: NDArray[Any]) -> bytes:
    return (
        _header(array.dtype.newbyteorder("<").str, array.shape)
        + np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    )


@lru_cache(maxsize=256)
def _header(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def _array(content: memoryview) -> NDArray[Any]:
    length = 10 + int.from_bytes(content[8:10], "little")
    dtype, shape = _parsed(bytes(content[:length]))
    return np.frombuffer(content, dtype=dtype, offset=length).reshape(shape)


@lru_cache(maxsize=256)
def _parsed(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Of an array file's beginning its type and shape; the parser of NumPy is slow, and most files begin alike."""
    stream = io.BytesIO(header)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject:
        raise ValueError("an array of another order or kind")
    return dtype, shape
