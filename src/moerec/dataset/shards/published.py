"""The layout in which multimodal Amazon reviews were published: `data-*-*.tar.gz`, five members for each example.

`user.json` and `item.json` hold plain text in spite of their names. `patch.bin` holds the picture as patches of
uint8, or of float16. `misc.json` has `has_image` and `shape`; where there is no image, `patch.bin` is all zeros, of
whatever length. `label.json` has `label_good` and `label_best`. A key is the user, the item and six random digits,
joined by `-`. There is no time.

Shape letters: N patches, P side of a patch.
"""

from __future__ import annotations

import json
import math
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.sources.source_files import SourceFile

USER, ITEM, PATCH, MISC, LABEL = "user.json", "item.json", "patch.bin", "misc.json", "label.json"
MEMBERS = (USER, ITEM, PATCH, MISC, LABEL)
LARGEST_MEMBER = 1 << 26
"""Bytes; no picture or text of this layout is nearly as large, and a larger one is not read into memory."""

DAMAGED_ARCHIVE = "the archive is damaged or cut off here"
UNKNOWN_MEMBER = "no member of this layout"
TOO_LARGE = f"a member is larger than {LARGEST_MEMBER >> 20} MiB"
REPEATED_MEMBER = "a member stands there twice"
NOT_UTF_8 = "a text is not UTF-8"
BAD_KEY = "the key names no user and item"
BAD_LABEL = "label.json does not hold label_good and label_best, each 0 or 1"
BAD_MISC = "misc.json does not hold has_image, 0 or 1, and shape, [patches, 3, side, side]"
BAD_PATCH = "patch.bin has not as many bytes as its shape says"
REPEATED_KEY = "the key stands there a second time"


@dataclass(frozen=True, eq=False)
class PublishedExample:
    """One example of the layout."""

    key: str
    user_id: str
    item_id: str
    user_text: str
    """A profile of the user over all of the user's reviews, this one among them."""
    item_text: str
    patches: NDArray[Any] | None  # [N, 3, P, P]
    """uint8 or float16; None if there is no image."""
    good: int
    best: int

    def to_shard(self) -> ShardExample:
        """The same in our own layout; patches of float16 are an array beside and no picture."""
        record = {
            "user_id": self.user_id,
            "item_id": self.item_id,
            "user_text": self.user_text,
            "item_text": self.item_text,
            "good": self.good,
            "best": self.best,
        }
        if self.patches is None or self.patches.dtype == np.uint8:
            return ShardExample(self.key, record, self.patches)
        return ShardExample(self.key, record, arrays={"patches": self.patches})


@dataclass(frozen=True)
class RefusedExample:
    """What could not be read, and why."""

    line: int
    """Number of the member in its archive, 1 is the first."""
    reason: str
    name: str
    """Key of the example, or name of the member."""


class _RefusedError(Exception):
    pass


def read_published(file: SourceFile, with_patches: bool = True) -> Iterator[PublishedExample | RefusedExample]:
    """The examples of an archive, one after another; of a damaged one, those before the damage.

    Args:
        file: the archive, gzipped or plain.
        with_patches: whether pictures are unpacked too; their size is checked either way.

    Raises:
        DatasetError: there is no such file.
    """
    with file.open() as stream:
        yield from _examples(stream, with_patches)


@dataclass
class _Open:
    """An example of which the members are still coming."""

    key: str
    line: int
    members: dict[str, bytes]
    problem: str | None = None


class _Watched:
    """Remembers how a stream ended: tarfile takes an archive that is cut between two members for a whole one."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        content = self._stream.read(size)
        self._last = (self._last + content)[-tarfile.BLOCKSIZE :]
        return content

    @property
    def is_whole(self) -> bool:
        """Whether the last block was the end mark of an archive."""
        return self._last == bytes(tarfile.BLOCKSIZE)


def _examples(stream: IO[bytes], with_patches: bool) -> Iterator[PublishedExample | RefusedExample]:
    waiting: _Open | None = None
    seen: set[str] = set()
    line, is_whole = 0, False
    watched = _Watched(stream)
    try:
        with tarfile.open(fileobj=watched, mode="r|") as archive:  # type: ignore[call-overload]
            for member in archive:
                line += 1
                if not member.isfile():
                    continue
                key, _, ending = member.name.rpartition("/")[2].partition(".")
                if ending not in MEMBERS:
                    yield RefusedExample(line, UNKNOWN_MEMBER, member.name)
                    continue
                if waiting is not None and waiting.key != key:
                    yield _finished(waiting, seen, with_patches)
                    waiting = None
                waiting = waiting or _Open(key, line, {})
                if ending in waiting.members:
                    waiting.problem = REPEATED_MEMBER
                elif member.size > LARGEST_MEMBER:
                    waiting.problem, waiting.members[ending] = TOO_LARGE, b""
                else:
                    content = archive.extractfile(member)
                    assert content is not None
                    waiting.members[ending] = content.read()
        is_whole = watched.is_whole
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError):
        pass  # told below
    if waiting is not None and (is_whole or len(waiting.members) == len(MEMBERS)):
        yield _finished(waiting, seen, with_patches)
    if not is_whole:
        yield RefusedExample(line + 1, DAMAGED_ARCHIVE, "" if waiting is None else waiting.key)


def _finished(found: _Open, seen: set[str], with_patches: bool) -> PublishedExample | RefusedExample:
    try:
        example = _example(found, with_patches)
        if found.key in seen:
            raise _RefusedError(REPEATED_KEY)
    except _RefusedError as reason:
        return RefusedExample(found.line, str(reason), found.key)
    seen.add(found.key)
    return example


def _example(found: _Open, with_patches: bool) -> PublishedExample:
    """Check what came.

    Raises:
        _RefusedError: why it is no example.
    """
    if found.problem is not None:
        raise _RefusedError(found.problem)
    for name in MEMBERS:
        if name not in found.members:
            raise _RefusedError(f"there is no {name}")
    # Item ids hold no dash; user ids do not either, but nothing hangs on that.
    user_id, _, item_id = found.key.rpartition("-")[0].rpartition("-")
    if not user_id or not item_id:
        raise _RefusedError(BAD_KEY)
    try:
        user_text, item_text = (found.members[name].decode("utf-8") for name in (USER, ITEM))
    except UnicodeDecodeError:
        raise _RefusedError(NOT_UTF_8) from None
    labels, misc = (_object(found.members[name]) for name in (LABEL, MISC))
    good, best = labels.get("label_good"), labels.get("label_best")
    if good not in (0, 1) or best not in (0, 1):
        raise _RefusedError(BAD_LABEL)
    patches = _patches(found.members[PATCH], misc)
    kept = patches if with_patches else None
    return PublishedExample(found.key, user_id, item_id, user_text, item_text, kept, int(good), int(best))


def _patches(content: bytes, misc: dict[str, Any]) -> NDArray[Any] | None:
    if misc.get("has_image") == 0:
        return None
    shape = misc.get("shape")
    if misc.get("has_image") != 1 or not isinstance(shape, list) or len(shape) != 4:
        raise _RefusedError(BAD_MISC)
    if not all(isinstance(size, int) and size > 0 for size in shape) or shape[1] != 3 or shape[2] != shape[3]:
        raise _RefusedError(BAD_MISC)
    values = math.prod(shape)
    if len(content) not in (values, 2 * values):
        raise _RefusedError(BAD_PATCH)
    return np.frombuffer(content, dtype=np.uint8 if len(content) == values else np.dtype("<f2")).reshape(shape)


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}
