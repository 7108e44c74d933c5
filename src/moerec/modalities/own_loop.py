"""Coroutines behind a plain function: in a thread of their own, for the caller (a notebook) may have a loop already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class StoppedError(Exception):
    """What the caller's own function raised; a bare KeyboardInterrupt would tear the loop apart and leave its tasks."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


def run_in_own_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine in a thread of its own: a notebook has a loop already. Ctrl-C cancels it."""
    ended: list[T] = []
    failed: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def watched() -> T:
        task = asyncio.current_task()
        if task is not None:
            running.append((asyncio.get_running_loop(), task))
        return await make()

    def work() -> None:
        try:
            ended.append(asyncio.run(watched()))
        except BaseException as error:  # noqa: BLE001  it is raised again where the caller waits
            failed.append(error)

    thread = threading.Thread(target=work, name="fetch", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        for loop, task in running:
            with suppress(RuntimeError):  # it has just ended by itself
                loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if failed:
        error = failed[0]
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error.error if isinstance(error, StoppedError) else error
    return ended[0]
