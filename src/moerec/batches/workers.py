"""Processes that make batches ahead of the training; the numbers are those of making them here.

A worker is asked for (stage, epoch, number) and makes that very batch, so order and resume do not depend on workers.
They are started afresh (spawn): a forked copy of a process that has used Polars can wait for ever.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from types import ModuleType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from moerec.batches.shared_copy import SharedCopy
from moerec.batches.sources import Batches, BatchSource
from moerec.errors import MoerecError

Key = tuple[int, int, int]
AHEAD = 4
"""Batches that each worker makes ahead."""


class BatchStream:
    """Batches of all stages of a training, made by workers, or here where there are none.

    It is closed when its `with` block ends, however it ends, and its workers end then.
    """

    def __init__(self, sources: Sequence[BatchSource], workers: int = 0) -> None:
        """Nothing is started before the first epoch.

        Args:
            sources: of each stage.
            workers: number of processes; 0 for none.
        """
        self._sources, self._workers = sources, workers
        self._keys = _Keys()
        self._loader: DataLoader[Any] | None = None
        self._running: Any = None

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, *_: object) -> None:
        running, self._running, self._loader = self._running, None, None
        if running is not None:
            # A traceback may hold the iterator for long; the workers must not live as long as that.
            running._shutdown_workers()

    def epoch(self, stage: int, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch of a stage, from number `start` on.

        Raises:
            MoerecError: a worker cannot make a batch, or has ended.
        """
        if self._workers == 0:
            batches = self._sources[stage].batches(epoch)
            return (batches[number] for number in range(start, len(batches)))
        size = self._sources[stage].batches_per_epoch(epoch)
        return self._from_workers([(stage, epoch, number) for number in range(start, size)])

    def _from_workers(self, keys: list[Key]) -> Iterator[Any]:
        self._keys.keys = keys
        begun = False
        while True:
            try:
                if not begun:
                    self._running, begun = self._begin(), True
                batch = next(self._running)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:  # what comes of a worker that is no more
                said = " ".join(str(error).split()) or type(error).__name__
                raise MoerecError(
                    f"training.workers: a worker process is no more ({said}); "
                    "memory may be short: write fewer workers, or workers: 0"
                ) from error
            if isinstance(batch, _Failure):
                raise batch.error()
            yield batch

    def _begin(self) -> Any:
        """The loader's iterator over the keys; the first time its processes start."""
        if self._loader is not None:
            return iter(self._loader)
        self._loader = _loader(self._sources, self._workers, self._keys)
        with _started_apart():
            return iter(self._loader)


def _loader(sources: Sequence[BatchSource], workers: int, keys: _Keys) -> DataLoader[Any]:
    return DataLoader(
        _MadeBatches(SharedCopy.of(list(sources))),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        collate_fn=_as_it_is,
        multiprocessing_context="spawn",
        persistent_workers=True,
        prefetch_factor=AHEAD,
        generator=torch.Generator(),  # else the loader would draw from the generator that dropout uses
    )


class _Keys(Sampler[Key]):
    """What is to be made, in order; set anew for each epoch."""

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def __iter__(self) -> Iterator[Key]:
        return iter(self.keys)


@dataclass
class _MadeBatches(Dataset[Any]):
    """In a worker: the batch of each key."""

    shared: SharedCopy
    sources: Sequence[BatchSource] | None = None
    """The sources, once the shared memory has been opened here."""
    at: tuple[int, int] | None = None
    """Stage and epoch of `batches`."""
    batches: Batches | None = None

    def __getitem__(self, key: Key) -> Any:
        *at, number = key
        try:
            if self.sources is None:
                self.sources = self.shared.value()
            if self.batches is None or self.at != tuple(at):
                self.batches, self.at = self.sources[key[0]].batches(key[1]), key[:2]
            return self.batches[number]
        except Exception as error:  # noqa: BLE001 - told to the parent, whatever it is
            return _Failure(key, type(error).__name__, str(error), isinstance(error, MoerecError))


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a worker; an exception itself may not survive the way here."""

    key: Key
    kind: str
    message: str
    is_known: bool
    """Whether the message says already what to do."""

    def error(self) -> MoerecError:
        if self.is_known:
            return MoerecError(self.message)
        _, epoch, number = self.key
        said = " ".join(self.message.split())
        return MoerecError(
            f"training.workers: a worker could not make batch {number} of epoch {epoch + 1} ({self.kind}: {said}); "
            "write workers: 0 to see where"
        )


def _as_it_is(batch: Any) -> Any:
    return batch


@contextmanager
def _started_apart() -> Iterator[None]:
    """Processes that start inside know neither Ctrl-C, which is for their parent, nor the parent's main module.

    Without the second a script would run again in each worker, and do again all that it does.
    """
    before = None
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # started later it would open the signal again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
