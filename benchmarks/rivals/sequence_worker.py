"""What the workers of benchmarks/sequences.py share: the data, the watch over a training loop that is not ours, orders.

A rival trains in its own loop. It tells a watch of each batch and each epoch, and the watch decides: `Selection` keeps
the vectors of the best validation until the budget is used up, `Turns` measures and lets other sides have their turn.
This file needs NumPy and the standard library alone, so every environment can import it.

Shape letters: T train events of all users together, U users, N item indices (0 is padding, 1 an unknown item), C cases
of a part, H events of all their histories together, D width of vectors.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from conversation import Orders

DEPTH = 10
"""The k of the validation metric, NDCG@10."""
Vectors = tuple[np.ndarray, np.ndarray]
"""Users of a part [C, D] and items [N, D]; their dot product is the score."""


class Finished(Exception):  # noqa: N818 - it is no error
    """The watch has seen enough; it ends the training from inside."""


@dataclass(frozen=True)
class Cases:
    """What is known of users, oldest first, and the one item that each should be shown."""

    items: np.ndarray  # [H]
    offsets: np.ndarray  # [C + 1]
    targets: np.ndarray  # [C]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def rows(self) -> np.ndarray:
        """The case of each event, [H]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


class SequenceData:
    """The file that benchmarks/sequences.py writes."""

    def __init__(self, path: str) -> None:
        stored = dict(np.load(path))
        self.items: np.ndarray = stored["items"]  # [T]
        self.offsets: np.ndarray = stored["offsets"]  # [U + 1]
        self.timestamps: np.ndarray = stored["timestamps"]  # [T]
        self.trained: np.ndarray = stored["trained"]  # [N]
        self.cases = {
            part: Cases(stored[f"{part}_items"], stored[f"{part}_offsets"], stored[f"{part}_targets"])
            for part in ("valid", "test")
            if f"{part}_items" in stored
        }

    @property
    def rows(self) -> np.ndarray:
        """The user of each train event, [T]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def histories(self) -> list[np.ndarray]:
        """The train events of each user with a pair to learn from."""
        parts = np.split(self.items, self.offsets[1:-1])
        return [items for items in parts if len(items) > 1]


class Turns:
    """Trains for the seconds that an order names, answers what was done, and waits for the next order."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.seconds = self.cpu = self.wall = 0.0
        self.targets = self.batches = 0

    def begin(self, parameters: int, represent: Callable[[str], Vectors]) -> None:
        """The loop is about to start."""
        self.orders.answer({"parameters": parameters})
        self._wait()

    def after_batch(self, targets: int) -> None:
        """A batch with so many targets was trained on; a target is a real place with a positive."""
        self.targets, self.batches = self.targets + targets, self.batches + 1
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        if cpu >= self.seconds:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kibibytes on Linux
            done = {"targets": self.targets, "batches": self.batches, "cpu_s": cpu, "wall_s": wall, "peak_mib": peak}
            self.orders.answer(done)
            self._wait()

    def after_epoch(self) -> None:
        """The loop has been through its data; it goes on."""

    def _wait(self) -> None:
        order = self.orders.next()
        if order is None:
            raise Finished
        self.seconds, self.targets, self.batches = order["seconds"], 0, 0
        self.cpu, self.wall = time.process_time(), time.perf_counter()


class Selection:
    """Ends a training at its budget of processor time, and keeps the vectors of the best validation NDCG@10."""

    def __init__(self, data: SequenceData, minutes: float, patience: int, out: str) -> None:
        self.data, self.out = data, out
        self.budget, self.patience = 60 * minutes, patience
        self.parameters = self.targets = self.epochs = self.validations = self.stale = 0
        self.cpu = self.wall = self.paused_cpu = self.paused_wall = self.validated = 0.0
        self.best, self.best_epoch, self.reason = -1.0, 0.0, "the loop ended by itself"
        self.represent: Callable[[str], Vectors] = lambda part: (np.empty((0, 0)), np.empty((0, 0)))

    def begin(self, parameters: int, represent: Callable[[str], Vectors]) -> None:
        """The loop is about to start; `represent` gives the vectors of a part as they are by then."""
        self.parameters, self.represent = parameters, represent
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    @property
    def trained_s(self) -> float:
        """Processor time of the training alone."""
        return time.process_time() - self.cpu - self.paused_cpu

    def after_batch(self, targets: int) -> None:
        """A batch with so many targets was trained on."""
        self.targets += targets
        if self.trained_s >= self.budget:
            self._end("budget")

    def after_epoch(self) -> None:
        """The loop has been through its data; validate, but at most about sixty times in a training."""
        self.epochs += 1
        if self.trained_s - self.validated >= self.budget / 60:
            self._validate()
            if self.stale >= self.patience:
                self._end("patience")

    def _end(self, reason: str) -> None:
        if reason == "budget":
            self._validate()
        self.reason = reason
        raise Finished

    def _validate(self) -> None:
        self.validated, cpu, wall = self.trained_s, time.process_time(), time.perf_counter()
        users, items = self.represent("valid")
        value = ndcg(users, items, self.data.cases["valid"], self.data.trained)
        self.validations, self.stale = self.validations + 1, self.stale + 1
        if value > self.best:
            self.best, self.best_epoch, self.stale = value, self.targets / max(1, len(self.data.items)), 0
            test_users, test_items = self.represent("test")
            np.savez(self.out, valid=users, test=test_users, items=test_items)
        self.paused_cpu += time.process_time() - cpu
        self.paused_wall += time.perf_counter() - wall

    def result(self) -> dict[str, Any]:
        """What the training was; the vectors are in the file."""
        return {
            "parameters": self.parameters,
            "valid_ndcg@10": self.best,
            "validations": self.validations,
            "epochs": self.epochs,
            "passes": self.targets / max(1, len(self.data.items)),
            "passes_at_best": self.best_epoch,
            "ended_by": self.reason,
            "train_cpu_s": self.trained_s,
            "train_wall_s": time.perf_counter() - self.wall - self.paused_wall,
        }


Watch = Turns | Selection


def ndcg(users: np.ndarray, items: np.ndarray, cases: Cases, trained: np.ndarray) -> float:
    """NDCG@10 of one target each among the items that the user has not met; as our evaluator counts it."""
    total, rows = 0.0, cases.rows
    for first in range(0, len(cases), 512):
        chosen = slice(first, min(first + 512, len(cases)))
        scores = users[chosen] @ items.T  # [512, N]
        scores[:, ~trained] = np.finfo(np.float32).min
        scores[:, :2] = -np.inf
        events = slice(cases.offsets[chosen.start], cases.offsets[chosen.stop])
        scores[rows[events] - first, cases.items[events]] = -np.inf
        wanted = scores[np.arange(len(scores)), cases.targets[chosen], None]
        better, tied = (scores > wanted).sum(1), (scores == wanted).sum(1)
        ranks = better + (tied - 1) / 2
        total += float(np.where(ranks < DEPTH, 1 / np.log2(ranks + 2), 0).sum())
    return total / len(cases)


def padded(items: np.ndarray, offsets: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The most recent events of each history, padded on the left with 0: [C, L], and the real lengths [C]."""
    lengths = np.minimum(np.diff(offsets), length)
    block = np.zeros((len(lengths), length), np.int64)
    for row, (end, kept) in enumerate(zip(offsets[1:], lengths, strict=True)):
        block[row, length - kept :] = items[end - kept : end]
    return block, lengths


def serve(train: Callable[[SequenceData, dict[str, Any], int, Watch], None], *packages: str) -> None:
    """Answer one order: `turns`, measured until there are no more orders, or `fit`, answered when it is done.

    Args:
        train: builds, calls `watch.begin`, and trains until the watch raises `Finished`.
        packages: whose versions are answered.
    """
    orders = Orders()
    order = orders.next()
    if order is None:
        return
    data = SequenceData(order["path"])
    measured = order["order"] == "turns"
    watch: Watch = Turns(orders) if measured else Selection(data, order["minutes"], order["patience"], order["out"])
    with suppress(Finished):
        train(data, order["settings"], order["seed"], watch)
    if isinstance(watch, Selection):
        orders.answer(watch.result() | {"versions": {name: version(name) for name in packages}})
