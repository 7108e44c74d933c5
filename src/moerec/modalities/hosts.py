"""What is owed to each host that is asked: few connections, pauses, and an end where it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from moerec.modalities.web import FetchError

# Requests that run side by side fail together when the line is cut for a moment, or this machine sleeps.
_ROUNDS = 3


@dataclass
class Host:
    """One host and port."""

    places: asyncio.Semaphore
    """Requests that may run at the same time."""
    not_before: float = 0.0
    """Time of the loop before which it is not asked."""
    failures: int = 0
    """In a row; see `Hosts.record`."""
    rounds: int = 0
    """Of these, failures that did not run side by side."""
    last_answer: float = -1.0
    """Time of the loop at which it last answered well."""
    last_round: float = -1.0
    """Time of the loop at which the first failure of the last round ended."""


class Hosts:
    """All hosts of a run."""

    def __init__(
        self, everywhere: int, for_each: int, pause_seconds: float, longest_pause: float, failures: int
    ) -> None:
        self._everywhere = asyncio.Semaphore(everywhere)
        self._for_each = for_each
        self._pause = pause_seconds
        self._longest_pause = max(longest_pause, pause_seconds)
        self._failures = failures
        self._hosts: dict[str, Host] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait until the host may be asked.

        A request that waits for its host takes no place from requests to other hosts.

        Raises:
            FetchError: the host is given up, or asks for a pause that is too long.
        """
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(asyncio.Semaphore(self._for_each))
        self._refuse_given_up(host)
        async with host.places:
            while True:
                await self._wait(host)
                async with self._everywhere:
                    # While this one waited for a place, the host may have asked for a pause.
                    if self._pause_of(host) <= 0:
                        self._refuse_given_up(host)
                        host.not_before = asyncio.get_running_loop().time() + self._pause
                        yield
                        return

    def record(self, name: str, failure: FetchError | None, began: float, first: bool) -> None:
        """Remember how a request ended.

        Only a first attempt that began after the last good answer counts against the host. At the end of a run second
        attempts at bad addresses come one after the other, and the host is well all the same.

        Args:
            name: of the host.
            failure: None for a good answer.
            began: time of the loop at which the request was sent.
            first: it is the first attempt at its address.
        """
        host = self._hosts.get(name)
        if host is None:
            return
        now = asyncio.get_running_loop().time()
        if failure is None or failure.host_is_well:
            host.failures, host.rounds, host.last_answer = 0, 0, now
            return
        if first and began >= host.last_answer:
            host.failures += 1
            if began >= host.last_round:
                host.rounds, host.last_round = host.rounds + 1, now
        if failure.retry_after > 0:
            host.not_before = max(host.not_before, now + failure.retry_after)

    def _refuse_given_up(self, host: Host) -> None:
        if host.failures >= self._failures and host.rounds >= min(_ROUNDS, self._failures):
            raise FetchError(f"host given up after {self._failures} failures in a row", host_is_well=True)

    def _pause_of(self, host: Host) -> float:
        return host.not_before - asyncio.get_running_loop().time()

    async def _wait(self, host: Host) -> None:
        while (pause := self._pause_of(host)) > 0:
            if pause > self._longest_pause:
                raise FetchError(f"host asks to wait more than {self._longest_pause:g} s", host_is_well=True)
            await asyncio.sleep(pause)
