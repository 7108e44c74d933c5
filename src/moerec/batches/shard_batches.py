"""Batches of shards for training: any batch of an epoch is made by itself, so workers and resume change nothing.

Shape letters: B examples of a batch, S the shape of one picture.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from moerec.dataset.shards.ahead import FetchAhead
from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.order import EpochOrder, ShardOrder
from moerec.dataset.shards.reader import ShardReader
from moerec.errors import DatasetError
from moerec.modalities.images import BrokenImageError, open_jpeg, read_image


@dataclass(frozen=True, eq=False)
class ShardBatch:
    """Several examples, their pictures as one tensor."""

    keys: list[str]
    records: list[Mapping[str, Any]]
    pictures: Tensor | None  # [B, *S]
    """uint8; zeros where there is none. None if no example of the batch has one."""
    present: Tensor  # [B]
    """Whether an example has a picture."""
    arrays: list[Mapping[str, NDArray[Any]]]
    """The further arrays of each example."""


def shard_batch(examples: Sequence[ShardExample]) -> ShardBatch:
    """Put examples together; JPEG files are decoded.

    Raises:
        DatasetError: a picture cannot be decoded, or two are of different shapes.
    """
    pictures: Tensor | None = None
    present = [example.picture is not None for example in examples]
    for row, example in enumerate(examples):
        # One after another: a picture is copied to its place while the processor's cache still has it.
        picture = _of_jpeg(example) if isinstance(example.picture, bytes) else example.picture  # [*S]
        if picture is None:
            continue
        if pictures is None:
            pictures = _zeros((len(examples), *picture.shape))  # [B, *S]
            target = pictures.numpy()
        if picture.shape != target.shape[1:]:
            raise DatasetError(
                f"example '{example.key}': its picture has the shape {list(picture.shape)}, others of the batch have "
                f"{list(target.shape[1:])}; write all pictures in one size"
            )
        target[row] = picture
    return ShardBatch(
        keys=[example.key for example in examples],
        records=[example.record for example in examples],
        pictures=pictures,
        present=torch.tensor(present),  # [B]
        arrays=[example.arrays for example in examples],
    )


@dataclass(frozen=True, eq=False)
class ShardLoader:
    """Batches of the share of one rank; a source for `BatchStream`."""

    reader: ShardReader
    order: ShardOrder
    """What `reader.order` gave."""
    batch_size: int
    """Examples of one batch; the last one of an epoch may be smaller."""
    collate: Callable[[Sequence[ShardExample]], Any] = shard_batch
    """What makes a batch of examples; a function that can be imported, for workers are other processes."""

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches, the same in each epoch."""
        return -(-len(self.order) // self.batch_size)

    def batches(self, epoch: int) -> ShardBatches:
        """The batches of an epoch, each made when it is asked for."""
        return ShardBatches(self, self.order.epoch(epoch))


@dataclass(eq=False)
class ShardBatches:
    """The batches of one epoch in order."""

    loader: ShardLoader
    order: EpochOrder
    fetching: FetchAhead | None = None
    """What fetches the next shards, once the first batch was asked for."""

    def __len__(self) -> int:
        return self.loader.batches_per_epoch(self.order.epoch)

    def __getitem__(self, number: int) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no batch {number} of {len(self)}")
        reader, start = self.loader.reader, number * self.loader.batch_size
        if self.fetching is None:
            self.fetching = reader.fetching(self.order, start)
            weakref.finalize(self, self.fetching.close)
        stop = start + self.loader.batch_size
        return self.loader.collate(list(reader.read_ahead(self.order, self.fetching, start, stop)))


def _of_jpeg(example: ShardExample) -> NDArray[np.uint8]:
    """Decode a JPEG file; one that is RGB, and of which no camera says that it is turned, needs no further copy."""
    assert isinstance(example.picture, bytes)
    try:
        with suppress(OSError, SyntaxError), open_jpeg(example.picture) as opened:
            if opened.mode == "RGB" and "exif" not in opened.info:
                return np.asarray(opened)
        return np.asarray(read_image(example.picture))
    except BrokenImageError as error:
        raise DatasetError(f"example '{example.key}': its picture cannot be decoded ({error})") from None


def _zeros(shape: tuple[int, ...]) -> Tensor:
    """Zeros of uint8; in a worker they lie where the main process reads them, so nothing is copied on the way."""
    if get_worker_info() is None:
        return torch.from_numpy(np.zeros(shape, dtype=np.uint8))  # unlike torch's own they are not written twice
    storage = torch.UntypedStorage._new_shared(math.prod(shape), device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8).set_(storage).view(shape)
