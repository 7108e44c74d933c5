"""A thread that fetches the shards that come next while the present ones are read."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from moerec.errors import MoerecError

logger = logging.getLogger(__name__)


class FetchAhead:
    """Fetches shards in the order in which they will be needed, at most `ahead` before the one in use.

    A shard that cannot be fetched is left to the reader, who tries again and tells why it fails.
    """

    def __init__(self, shards: Iterator[int], fetch: Callable[[int], object], ahead: int) -> None:
        self._shards, self._fetch, self._ahead = shards, fetch, ahead
        self._waiting: list[int] = []
        """Fetched, or being fetched, and not in use yet."""
        self._used: set[int] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def used(self, shard: int) -> None:
        """Tell that a shard is in use now, so those before it are done with; the first call starts the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="moerec-shards", daemon=True)
            self._thread.start()
        if shard in self._used:
            return
        with self._changed:
            self._used.add(shard)
            if shard in self._waiting:
                del self._waiting[: self._waiting.index(shard) + 1]
                self._changed.notify_all()

    def close(self) -> None:
        """End the thread after the file that it is at."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _run(self) -> None:
        for shard in self._shards:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._ahead)
                if self._closed:
                    return
                if shard in self._used:
                    continue
                self._waiting.append(shard)
            try:
                self._fetch(shard)
            except MoerecError as error:
                logger.warning("fetched ahead: %s", error)
