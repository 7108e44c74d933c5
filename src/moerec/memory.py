"""How the process keeps memory between updates."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of settings in glibc's malloc.h."""
LARGEST_KEPT = 2**26
"""Blocks of more bytes go back to the system when they are freed, as before."""


def keep_freed_memory() -> bool:
    """Let the C library keep what an update frees for the next one, for the rest of the process.

    By default glibc returns blocks of some MiB to the system and gets them again page by page, each filled with zeros,
    in every update.

    Returns:
        whether the C library took the settings; False where it is not glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_MMAP_THRESHOLD: LARGEST_KEPT, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: LARGEST_KEPT}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
