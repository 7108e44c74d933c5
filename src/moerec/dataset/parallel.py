"""Several transfers at once: the first that fails ends the others at their next block, and so does Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

from moerec.dataset.progress import bytes_progress

T = TypeVar("T")
CONNECTIONS = 4


@dataclass(frozen=True)
class Watch:
    """What a transfer tells, and asks."""

    advance: Callable[[int], None]
    """To be told of every block of bytes."""
    stop: threading.Event
    """Set when the transfer is to end."""


def in_parallel(transfers: Sequence[Callable[[Watch], T]], what: str, connections: int = CONNECTIONS) -> list[T]:
    """Do transfers in threads, under one bar; return their results in order.

    Args:
        transfers: each moves one file.
        what: the words of the bar.
        connections: how many run at once.

    Raises:
        Exception: that of the first transfer in order that failed by itself.
    """
    stop = threading.Event()
    with bytes_progress(what, None) as advance, ThreadPoolExecutor(connections) as pool:
        futures = [pool.submit(transfer, Watch(advance, stop)) for transfer in transfers]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            # Those that are stopped now fail because of it, which is not what to tell.
            failed = next((future for future in futures if future in done and future.exception()), None)
        finally:
            stop.set()
            for future in futures:
                future.cancel()
    return [failed.result()] if failed is not None else [future.result() for future in futures]
