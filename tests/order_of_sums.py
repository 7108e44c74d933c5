"""Catches gradients whose parts several threads add up in whatever order they come, so that no two runs are alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = str(function)
        # On the CPU this is the one operation that adds with atomics; it does no harm where no place is met twice.
        if "index_put" in name and len(args) > 3 and args[3] and _meets_twice(args[0], args[1]):
            self.found.append(f"{name} into {list(args[0].shape)}")
        return function(*args, **(kwargs or {}))


def _meets_twice(into: Tensor, index: list[Tensor | None]) -> bool:
    places = torch.arange(into.numel()).view(into.shape)
    met = torch.ops.aten.index.Tensor(places, index).flatten()
    return len(met) > len(met.unique())


@contextmanager
def sums_in_any_order() -> Iterator[list[str]]:
    """Collects the operations that add in no fixed order, forwards and backwards."""
    with torch.autograd.set_multithreading_enabled(False), _Watch() as watch:
        yield watch.found
