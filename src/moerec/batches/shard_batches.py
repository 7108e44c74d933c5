"""Batches of shards for training: any batch of an epoch is made by itself, so workers and resume change nothing.

Shape letters: B examples of a batch, S the shape of one picture.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moerec.dataset.shards.ahead import FetchAhead
from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.order import EpochOrder, ShardOrder
from moerec.dataset.shards.reader import ShardReader
from moerec.errors import DatasetError
from moerec.modalities.images import BrokenImageError, read_image


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
    decoded = [_decoded(example) for example in examples]
    shapes = {array.shape for array in decoded if array is not None}
    if len(shapes) > 1:
        one, other = sorted(shapes)[:2]
        raise DatasetError(
            f"shards: pictures of shapes {list(one)} and {list(other)} in one batch; write all in one size"
        )
    pictures = None
    if shapes:
        pictures = torch.zeros(len(examples), *shapes.pop(), dtype=torch.uint8)  # [B, *S]
        target = pictures.numpy()
        for row, array in enumerate(decoded):
            if array is not None:
                target[row] = array
    return ShardBatch(
        keys=[example.key for example in examples],
        records=[example.record for example in examples],
        pictures=pictures,
        present=torch.tensor([array is not None for array in decoded]),  # [B]
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


def _decoded(example: ShardExample) -> NDArray[np.uint8] | None:
    if not isinstance(example.picture, bytes):
        return example.picture
    try:
        return np.asarray(read_image(example.picture))
    except BrokenImageError as error:
        raise DatasetError(f"example '{example.key}': its picture cannot be decoded ({error})") from None
