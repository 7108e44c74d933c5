"""A progress bar for bytes, with rate and time left; silent where nobody looks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


@contextmanager
def bytes_progress(description: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Give a function that is told of every further block of bytes.

    The bar goes to standard error, vanishes at the end, and is drawn only on a terminal.

    Args:
        description: what is being read or fetched.
        total: bytes in all; None if nobody knows.
        done: bytes that were there before.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda count: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(description, total=total, completed=done)
        yield lambda count: progress.advance(task, count)
