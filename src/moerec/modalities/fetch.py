"""Many small files from the web: concurrent, bounded, resumable, and with a result or a reason for every address."""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from moerec.config import Config
from moerec.files import atomic_file
from moerec.modalities.encoders import Progress
from moerec.modalities.web import FetchError, download, host_of

Check = Callable[[bytes], "str | None"]
"""Looks at the bytes that came; gives the reason why they are not what was asked for, or None."""

_LONGEST_PAUSE = 30.0


class FetchConfig(Config):
    """Limits of a fetch."""

    workers: int = Field(default=16, ge=1)
    """Addresses fetched at the same time."""
    timeout_seconds: float = Field(default=20.0, gt=0)
    """For one attempt from the connection to the last byte, redirects included."""
    attempts: int = Field(default=3, ge=1)
    """How often an address is tried when the failure may pass: no connection, time-out, cut short, 429, 5xx."""
    backoff_seconds: float = Field(default=0.5, ge=0)
    """Pause before the second attempt; it doubles, with jitter, up to 30 s."""
    maximum_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    """Larger files are refused."""
    maximum_redirects: int = Field(default=5, ge=0)
    """Redirects followed for one address."""
    host_failures: int = Field(default=20, ge=1)
    """A host is given up after so many failures in a row."""
    allow_private: bool = False
    """Fetch from addresses of this machine and of private networks too."""
    retry_failed: bool = False
    """Ask again for addresses that were refused for good in an earlier run (404, not an image)."""


@dataclass(frozen=True)
class FetchResult:
    """What became of one address: a file, or the reason why there is none."""

    path: Path | None = None
    """The file, if it came."""
    reason: str | None = None
    """Why it did not; short and without the address, so that reasons can be counted."""


@dataclass
class _Hosts:
    """Failures in a row of each host, and the hosts that are given up."""

    limit: int
    in_a_row: Counter[str] = field(default_factory=Counter)
    given_up: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, host: str, succeeded: bool) -> None:
        with self.lock:
            self.in_a_row[host] = 0 if succeeded else self.in_a_row[host] + 1
            if self.in_a_row[host] >= self.limit:
                self.given_up.add(host)


def fetch(
    urls: Iterable[str],
    folder: Path,
    config: FetchConfig,
    check: Check,
    progress: Progress | None = None,
) -> dict[str, FetchResult]:
    """Fetch each address once into a folder; what an earlier run fetched is not asked for again.

    Failures that may pass are tried again in the next run; those for good are remembered. Proxies are not used.

    Args:
        urls: http and https addresses; repeats are fetched once.
        folder: content by the SHA-256 of the address.
        config: limits.
        check: refuses content that is not what was asked for.
        progress: called with the number of addresses settled and their total.

    Returns:
        a result for every address, in the order of first appearance.
    """
    distinct = list(dict.fromkeys(urls))
    results: dict[str, FetchResult] = {}
    hosts = _Hosts(config.host_failures)
    waiting = iter(distinct)
    lock = threading.Lock()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with lock:
                url = next(waiting, None)
            if url is None:
                return
            result = _settle(url, folder, config, check, hosts, stop)
            with lock:
                results[url] = result
                if progress is not None:
                    progress(len(results), len(distinct))

    with ThreadPoolExecutor(config.workers, "fetch") as pool:
        workers = [pool.submit(work) for _ in range(min(config.workers, len(distinct)))]
        try:
            wait(workers, return_when=FIRST_EXCEPTION)
        finally:
            # After Ctrl-C, or an error in one worker, the others end with the address they are at.
            stop.set()
        for worker in workers:
            worker.result()
    return {url: results[url] for url in distinct}


def _settle(
    url: str, folder: Path, config: FetchConfig, check: Check, hosts: _Hosts, stop: threading.Event
) -> FetchResult:
    name = hashlib.sha256(url.encode()).hexdigest()
    path = folder / name[:2] / name
    remembered = path.with_suffix(".failed")
    if path.is_file():
        return FetchResult(path=path)
    if remembered.is_file() and not config.retry_failed:
        return FetchResult(reason=json.loads(remembered.read_text(encoding="utf-8"))["reason"])
    try:
        host = host_of(url)
    except FetchError as failure:
        return FetchResult(reason=failure.reason)
    if host in hosts.given_up:
        return FetchResult(reason=f"host given up after {config.host_failures} failures in a row")
    try:
        content = _attempts(url, config, check, stop)
    except FetchError as failure:
        # A refusal of our own says nothing about the host.
        if failure.asked:
            hosts.record(host, succeeded=False)
        if failure.final:
            with atomic_file(remembered) as temporary:
                temporary.write_text(json.dumps({"url": url, "reason": failure.reason}), encoding="utf-8")
        return FetchResult(reason=failure.reason)
    hosts.record(host, succeeded=True)
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
    remembered.unlink(missing_ok=True)
    return FetchResult(path=path)


def _attempts(url: str, config: FetchConfig, check: Check, stop: threading.Event) -> bytes:
    """The checked content; the failure of the last attempt if none succeeds."""
    # Jitter by address: hosts are not hit in step, and a run can be repeated.
    jitter = random.Random(url)
    attempt = 0
    while True:
        attempt += 1
        try:
            content = download(
                url, config.timeout_seconds, config.maximum_bytes, config.maximum_redirects, config.allow_private
            )
            reason = check(content)
            if reason is not None:
                raise FetchError(reason, final=True)
            return content
        except FetchError as failure:
            if not failure.passing or attempt == config.attempts:
                raise
            pause = config.backoff_seconds * 2 ** (attempt - 1) * jitter.uniform(0.5, 1.0)
            if stop.wait(min(max(pause, failure.retry_after), _LONGEST_PAUSE)):
                raise
