"""A value whose arrays lie once in shared memory, however many processes read it."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moerec.errors import ConfigError

ALIGNMENT = 64
MEMORY = Path("/dev/shm")


@dataclass(frozen=True, eq=False)
class SharedCopy:
    """What `of` was given; sent to another process it carries a handle of the memory and not the arrays."""

    plain: bytes
    """The value without its arrays."""
    memory: Tensor
    """[bytes] uint8 in shared memory: the arrays, one after another."""
    bounds: tuple[tuple[int, int], ...]
    """Where each of them lies."""

    @classmethod
    def of(cls, value: Any) -> SharedCopy:
        """Copy a value.

        Raises:
            ConfigError: shared memory is too small for it.
        """
        buffers: list[pickle.PickleBuffer] = []
        plain = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        parts = [buffer.raw() for buffer in buffers]
        bounds, end = [], 0
        for part in parts:
            bounds.append((end, end + part.nbytes))
            end += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free < end:
            raise ConfigError(
                f"training.workers: the data need {end / 2**20:,.0f} MiB of shared memory, and {MEMORY} has less free; "
                "make it larger (docker run --shm-size), or write workers: 0"
            )
        memory = torch.empty(max(1, end), dtype=torch.uint8)
        memory.share_memory_()  # type: ignore[no-untyped-call]
        target = _bytes_of(memory)
        for (start, stop), part in zip(bounds, parts, strict=True):
            target[start:stop] = part.cast("B") if part.nbytes else b""
        return cls(plain, memory, tuple(bounds))

    def value(self) -> Any:
        """The value; its arrays are read where they lie."""
        memory = _bytes_of(self.memory)
        return pickle.loads(self.plain, buffers=[memory[start:stop] for start, stop in self.bounds])  # noqa: S301


def _bytes_of(memory: Tensor) -> memoryview:
    values: Any = memory.numpy()
    return memoryview(values)
