"""Where the batches of a training come from: numbered within an epoch, so that any process can make any of them."""

from __future__ import annotations

from typing import Any, Protocol


class Batches(Protocol):
    """The batches of one epoch, in order; each is made when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Any: ...


class BatchSource(Protocol):
    """Makes batches; what it makes is a function of the epoch and the number alone. It can be pickled."""

    def batches_per_epoch(self, epoch: int) -> int:
        """Number of batches of an epoch."""

    def batches(self, epoch: int) -> Batches:
        """The batches of an epoch."""
