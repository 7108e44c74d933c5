"""What commands print: results on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
import logging
import sys
from functools import cache
from typing import Any

from rich.console import Console

PIPE_WIDTH = 10_000
"""Columns where no terminal sets a limit: whoever reads a pipe wants whole lines."""


@cache
def progress_console() -> Console:
    """Progress goes to standard error, so that standard output holds results alone.

    It is one object, so that a note appears above a progress bar and not within.
    """
    return _plain_console(stderr=True)


def _plain_console(*, stderr: bool = False) -> Console:
    """A console that takes brackets and colons in names for what they are."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def show(result: Any, *, wrap: bool = True) -> None:
    """Print a result for people; without `wrap`, paths and commands stay in one piece for copying."""
    _plain_console().print(result, soft_wrap=not wrap)


def print_json(value: Any) -> None:
    """Print a result for programs."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


class _NoteHandler(logging.Handler):
    """Shows a record of the package's loggers as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        progress_console().print(f"note: {' '.join(record.getMessage().split())}", soft_wrap=True)


def show_notes() -> None:
    """Let warnings of the package appear, a line each."""
    logger = logging.getLogger("moerec")
    if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
        logger.addHandler(_NoteHandler(logging.WARNING))
