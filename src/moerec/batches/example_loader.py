"""Training batches of examples; their order is a function of (seed, epoch) alone, so a run resumes exactly.

Shape letters: N examples of the table, R train rows, B examples of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moerec.batches.examples import ExampleBatch, ExampleTable

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ExampleLoader:
    """Every row once an epoch, shuffled."""

    table: ExampleTable
    """All examples."""
    rows: Ints  # [R]
    """The rows to train on."""
    values: Mapping[str, NDArray[np.float32]]  # each [N]
    """The labels of each task."""
    masks: Mapping[str, NDArray[np.bool_]]  # each [N]
    """The rows that count for each task."""
    batch_size: int
    """Examples of one batch; the last one of an epoch may be smaller."""
    seed: int

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches, the same in each epoch."""
        return -(-len(self.rows) // self.batch_size)

    def batches(self, epoch: int) -> ExampleBatches:
        """The batches of an epoch, each made when it is asked for."""
        return ExampleBatches(self, np.random.default_rng([self.seed, epoch]).permutation(self.rows))


@dataclass(frozen=True, eq=False)
class ExampleBatches:
    """The batches of one epoch in order."""

    loader: ExampleLoader
    rows: Ints  # [R]
    """Rows in the order of training."""

    def __len__(self) -> int:
        return self.loader.batches_per_epoch(0)

    def __getitem__(self, number: int) -> ExampleBatch:
        size = self.loader.batch_size
        chosen = self.rows[number * size : (number + 1) * size]  # [B]
        return self.loader.table.batch(chosen, self.loader.values, self.loader.masks)
