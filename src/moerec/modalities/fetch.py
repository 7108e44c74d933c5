"""Many files from the web: concurrent, bounded, resumable, and with a content or a reason for every address."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moerec.modalities.encoders import Progress
from moerec.modalities.fetch_cache import FetchCache, Outcome
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.hosts import Hosts
from moerec.modalities.http2 import Http2Client
from moerec.modalities.own_loop import StoppedError, run_in_own_loop
from moerec.modalities.web import AllowedAddresses, FetchError, Redirect, Start, WebClient, checked_url, host_of

if TYPE_CHECKING:
    from yarl import URL

Check = Callable[[bytes], "str | None"]
"""Looks at the bytes that came; gives the reason why they are not what was asked for, or None."""

# Addresses looked at for each that is fetched, so that a slow host does not hold up the others.
_LOOKAHEAD = 8


@dataclass(frozen=True)
class FetchResult:
    """What became of one address: a file, or the reason why there is none."""

    path: Path | None = None
    """The file, if it came."""
    reason: str | None = None
    """Why it did not; short and without the address, so that reasons can be counted."""


def _nothing(*_given: Any) -> None:
    return None


def _always(_sha256: str) -> bool:
    return True


@dataclass(frozen=True)
class Use:
    """What is done with what comes. All but `start` and `done` are called from several threads."""

    start: Start = _nothing
    """Refuses a body by its first bytes, so that the rest need not come."""
    check: Check = _nothing
    """Refuses a content, which is then not kept."""
    take: Callable[[str, bytes], None] = _nothing
    """Gets the SHA-256 and each content that is kept, once or again when an earlier run was killed."""
    done: Callable[[str], bool] = _always
    """Whether the content of that SHA-256 has been taken before."""
    problem: Callable[[str], str | None] = _nothing
    """Why a content that was taken is of no use; it is counted as a reason."""


@dataclass(frozen=True)
class FetchSummary:
    """What a run did. `addresses` = `ok` + the sum of `reasons`."""

    addresses: int
    """Distinct addresses."""
    ok: int
    """Addresses with a content that is of use."""
    reasons: dict[str, int]
    """How many of the others for each reason, the most frequent first."""
    kept: int
    """Addresses, good and bad, that an earlier run had settled."""
    requests: int
    """Requests sent, second attempts and redirects included."""
    connections: int
    """Connections opened for them."""
    bytes: int
    """Bytes of contents that came."""
    seconds: float
    """Wall-clock time."""


def run_fetch(
    urls: Iterable[str],
    folder: Path,
    config: FetchConfig,
    use: Use | None = None,
    progress: Progress | None = None,
    total: int | None = None,
) -> FetchSummary:
    """Settle each address once; memory does not grow with their number.

    What an earlier run fetched or was refused for good is not asked for again. What may have passed is.

    Args:
        urls: http and https addresses, read as they are needed; repeats are fetched once.
        folder: a `FetchCache`.
        config: limits.
        use: what is done with the contents.
        progress: called, from another thread, with the number of addresses settled and their total.
        total: distinct addresses, if it is known, for `progress`.

    Raises:
        MissingExtraError: aiohttp is not installed.
        DatasetError: the table of the folder is damaged.
    """
    return run_in_own_loop(lambda: _Run(folder, config, use or Use(), progress, total).settle_all(iter(urls)))


def fetch(
    urls: Iterable[str],
    folder: Path,
    config: FetchConfig,
    check: Check,
    progress: Progress | None = None,
    start: Start = _nothing,
) -> dict[str, FetchResult]:
    """Fetch each address once; see `run_fetch`.

    Args:
        urls: http and https addresses.
        folder: a `FetchCache`.
        config: limits.
        check: refuses content that is not what was asked for; called from several threads.
        progress: called, from another thread, with the number of addresses settled and their total.
        start: refuses content by its first bytes.

    Returns:
        a result for every address, in the order of first appearance.
    """
    distinct = list(dict.fromkeys(urls))
    run_fetch(distinct, folder, config, Use(start=start, check=check), progress, len(distinct))
    with FetchCache(folder) as cache:
        return {url: _result(cache, cache.get(url)) for url in distinct}


def _result(cache: FetchCache, outcome: Outcome | None) -> FetchResult:
    if outcome is None:
        raise ValueError("every address that was given has an outcome")
    return FetchResult(cache.path(outcome.sha256) if outcome.sha256 else None, outcome.reason)


class _Run:
    """The state of one run."""

    def __init__(
        self, folder: Path, config: FetchConfig, use: Use, progress: Progress | None, total: int | None
    ) -> None:
        self.folder, self.config, self.use = folder, config, use
        self.progress, self.total = progress, total
        self.reasons: Counter[str | None] = Counter()
        self.kept = self.bytes = 0
        self.under_way: set[str] = set()

    async def settle_all(self, urls: Iterator[str]) -> FetchSummary:
        config = self.config
        began = time.monotonic()
        self.ends = None if config.run_seconds is None else began + config.run_seconds
        self.hosts = Hosts(
            config.workers,
            config.host_connections,
            config.host_pause_seconds,
            config.longest_pause_seconds,
            config.host_failures,
        )
        allowed = AllowedAddresses(config.allow_private, [ip_network(network) for network in config.allow_networks])
        client_type = Http2Client if config.http2 else WebClient
        # Decoding leaves Python's lock, so threads use all cores.
        self.pool = ThreadPoolExecutor(_cores(), "pictures")
        try:
            with FetchCache(self.folder) as self.cache:
                async with client_type(allowed) as self.client:
                    self.number = self.cache.begin_run()
                    async with asyncio.TaskGroup() as group:
                        for _ in range(config.workers * _LOOKAHEAD):
                            group.create_task(self._work(urls))
        finally:
            self.pool.shutdown(wait=True, cancel_futures=True)
        ok = self.reasons.pop(None, 0)
        return FetchSummary(
            addresses=ok + self.reasons.total(),
            ok=ok,
            reasons={str(reason): count for reason, count in self.reasons.most_common()},
            kept=self.kept,
            requests=self.client.requests,
            connections=self.client.connections,
            bytes=self.bytes,
            seconds=time.monotonic() - began,
        )

    async def _work(self, urls: Iterator[str]) -> None:
        for url in urls:
            await self._settle(url)

    async def _settle(self, url: str) -> None:
        known = self.cache.get(url)
        if url in self.under_way or (known is not None and known.run == self.number):
            return  # a repeat
        self.under_way.add(url)
        try:
            outcome = await self._outcome(url, known)
            self.cache.put(url, replace(outcome, run=self.number))
        finally:
            self.under_way.remove(url)
        problem = self.use.problem(outcome.sha256) if outcome.sha256 else outcome.reason
        self.reasons[problem] += 1
        if self.progress is not None:
            done = self.reasons.total()
            try:
                self.progress(done, self.total or done)
            except BaseException as error:  # noqa: BLE001  it is raised again where the caller waits
                raise StoppedError(error) from None

    async def _outcome(self, url: str, known: Outcome | None) -> Outcome:
        if known is not None and known.sha256 is not None and self.cache.holds(known):
            if not self.use.done(known.sha256):
                await self._in_thread(self._take_kept, known.sha256)
            self.kept += 1
            return known
        if known is not None and known.final and not self.config.retry_failed:
            self.kept += 1
            return known
        # Jitter by address: hosts are not hit in step, and a run can be repeated.
        jitter = random.Random(f"{self.config.seed}\0{url}")
        attempt = 0
        while True:
            attempt += 1
            try:
                sha256, size = await self._attempt(url, first=attempt == 1)
                return Outcome(sha256, size, attempts=attempt)
            except FetchError as failure:
                if not failure.passing or attempt == self.config.attempts:
                    return Outcome(reason=failure.reason, final=failure.final, attempts=attempt)
            pause = self.config.backoff_seconds * 2 ** (attempt - 1) * jitter.uniform(0.5, 1.0)
            await asyncio.sleep(min(pause, self.config.longest_pause_seconds))

    async def _attempt(self, url: str, first: bool) -> tuple[str, int]:
        """Follow redirects to a content; its SHA-256 and size."""
        left = self.config.timeout_seconds
        for _ in range(self.config.maximum_redirects + 1):
            address = checked_url(url)
            host = host_of(address)
            async with self.hosts.turn(host):
                began = time.monotonic()
                answer = await self._ask(address, host, left, first)
                left -= time.monotonic() - began
                if isinstance(answer, bytes):
                    # The place is kept until the content is taken, so that contents do not pile up in memory.
                    return await self._in_thread(self._take, answer)
            url = answer.url
        raise FetchError(f"more than {self.config.maximum_redirects} redirects", final=True, host_is_well=True)

    async def _ask(self, address: URL, host: str, seconds: float, first: bool) -> bytes | Redirect:
        if self.ends is not None:
            seconds = min(seconds, self.ends - time.monotonic())
            if seconds <= 0:
                raise FetchError("out of time for this run", host_is_well=True)
        began = asyncio.get_running_loop().time()
        failure: FetchError | None = None
        try:
            async with asyncio.timeout(seconds):
                answer = await self.client.ask(address, self.config.maximum_bytes, self.use.start)
        except TimeoutError:
            failure = FetchError("timeout", passing=True)
            raise failure from None
        except FetchError as refused:
            failure = refused
            raise
        finally:
            self.hosts.record(host, failure, began, first)
        self.bytes += len(answer) if isinstance(answer, bytes) else 0
        return answer

    def _take(self, content: bytes) -> tuple[str, int]:
        reason = self.use.check(content)
        if reason is not None:
            raise FetchError(reason, final=True, host_is_well=True)
        sha256 = self.cache.keep(content)
        self.use.take(sha256, content)
        return sha256, len(content)

    def _take_kept(self, sha256: str) -> None:
        self.use.take(sha256, self.cache.path(sha256).read_bytes())

    async def _in_thread(self, function: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.pool, function, *given)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
