"""Files from the network: mirror first, resumed, checked, and never half a file that looks whole."""

from __future__ import annotations

import http.client
import json
import logging
import os
import random
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO

from moerec.dataset.progress import bytes_progress
from moerec.errors import DatasetError
from moerec.files import sha256_of_file

logger = logging.getLogger(__name__)

MIRROR_VARIABLE = "MOEREC_MIRROR"
CACHE_VARIABLE = "MOEREC_CACHE"
BLOCK = 1 << 18
LONGEST_WAIT = 30.0


class NotThereError(DatasetError):
    """The server knows no such file; another address may."""


@dataclass(frozen=True)
class Credential:
    """A secret that one server may see, and no other that it sends us to."""

    origin: str
    """Scheme, host and port of the server, for instance `https://huggingface.co`."""
    token: str | None
    variable: str
    """Environment variable that holds the token; named when the server refuses."""

    def belongs_to(self, url: str) -> bool:
        """Whether an address is one of the server's."""
        return _origin(url) == _origin(self.origin)


class _PassingError(Exception):
    """A failure that may be gone at the next attempt."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _Expected:
    """What is known beforehand about the file."""

    sha256: str | None
    size: int | None

    def problem(self, path: Path) -> str | None:
        """Why `path` is not the file that was asked for, or None."""
        if self.size is not None and path.stat().st_size != self.size:
            return f"it has {path.stat().st_size:,} bytes, expected {self.size:,}"
        if self.sha256 is not None and (found := sha256_of_file(path)) != self.sha256.lower():
            return f"its sha256 is {found[:16]}..., expected {self.sha256[:16]}..."
        return None


def cache_directory() -> Path:
    """Where downloads are kept: `downloads` in the folder `MOEREC_CACHE`, or in `~/.cache/moerec`."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return (Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "moerec") / "downloads"


def mirror_directory() -> Path | None:
    """The folder that the environment variable `MOEREC_MIRROR` names, if it names one.

    Raises:
        DatasetError: the variable is set and is not a folder.
    """
    chosen = os.environ.get(MIRROR_VARIABLE)
    if not chosen:
        return None
    directory = Path(chosen).expanduser()
    if not directory.is_dir():
        raise DatasetError(f"{MIRROR_VARIABLE}={chosen} is not a folder; correct the variable or unset it")
    return directory


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    mirror_name: str | None = None,
    *,
    use_mirror: bool = True,
    credential: Credential | None = None,
    advance: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
    attempts: int = 5,
    timeout: float = 10.0,
    backoff: float = 0.5,
) -> Path:
    """Get a file, from the mirror if it is there, else from `url` into `target`; return where it lies.

    What has come of an interrupted download waits in `<target>.part` and is continued with an HTTP range
    request, if the server still offers the same file. The name `target` appears only when every byte is
    there: as many as the server announced, and of the given size and checksum.

    Args:
        url: http or https address.
        target: the file to make. If it is there already and right, nothing is fetched.
        sha256: expected checksum, hexadecimal.
        size: expected number of bytes.
        mirror_name: name under `MOEREC_MIRROR`, by default the last part of the address.
        use_mirror: whether the mirror is looked at.
        credential: what a certain server is shown; it never follows a redirect to another.
        advance: is told of every block of bytes; by default there is a bar of its own.
        stop: ends the transfer at the next block once it is set.
        attempts: how often a broken transfer or an overloaded server is tried.
        timeout: seconds to wait for a connection, and for each further block.
        backoff: seconds before the second attempt; doubled for each further one.

    Raises:
        NotThereError: the server knows no such file.
        DatasetError: unreachable, refused, cut off at every attempt, or not the expected content.
    """
    expected = _Expected(sha256, size)
    mirrored = _in_mirror(mirror_name or _file_name(url), expected) if use_mirror else None
    if mirrored is not None:
        return mirrored
    if target.is_file() and expected.problem(target) is None:
        return target
    _check_address(url, timeout)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = _Source(url, credential, timeout, advance, stop or threading.Event())
    for attempt in range(1, attempts + 1):
        try:
            return _attempt(source, target, expected)
        except _PassingError as failure:
            if attempt == attempts:
                raise DatasetError(
                    f"{url}: {failure} (tried {attempts} times); run again to continue the download"
                ) from None
            # Some randomness, so that many machines do not come back at the same moment.
            wait = failure.wait or min(backoff * 2 ** (attempt - 1), LONGEST_WAIT) * random.uniform(0.75, 1.25)
            logger.info("%s: %s; trying again in %.1f s", url, failure, wait)
            source.sleep(wait)
    raise ValueError(f"attempts must be at least 1, got {attempts}")


def _in_mirror(name: str, expected: _Expected) -> Path | None:
    mirror = mirror_directory()
    if mirror is None or not (mirror / name).is_file():
        return None
    problem = expected.problem(mirror / name)
    if problem:
        raise DatasetError(f"{mirror / name}: {problem}; replace it in the mirror or remove it")
    return mirror / name


def _check_address(url: str, timeout: float) -> None:
    """Refuse what is not http(s), and a host whose name nobody knows: without a network this fails at once."""
    address = urllib.parse.urlsplit(url)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise DatasetError(f"{url}: only http and https addresses can be downloaded")
    if address.scheme in urllib.request.getproxies():
        return  # the proxy looks the name up, not this machine
    outcome: list[OSError | None] = []

    def look_up() -> None:
        try:
            socket.getaddrinfo(address.hostname, None)
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    # A resolver can hang far longer than any connection; the thread is left behind if it does.
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome or outcome[0] is not None:
        reason = f"no answer in {timeout:g} s" if not outcome else outcome[0]
        raise DatasetError(f"{url}: the host name cannot be looked up ({reason})")


@dataclass(frozen=True)
class _Source:
    """Where a file comes from, and who watches."""

    url: str
    credential: Credential | None
    timeout: float
    advance: Callable[[int], None] | None
    stop: threading.Event

    def headers(self) -> dict[str, str]:
        headers = {"User-Agent": "moerec", "Accept-Encoding": "identity"}
        if self.credential is not None and self.credential.token and self.credential.belongs_to(self.url):
            headers["Authorization"] = f"Bearer {self.credential.token}"
        return headers

    def refusal(self, code: int, reason: str) -> DatasetError:
        """What a refused request is told as."""
        said = f"{self.url}: the server answers {code} {reason}"
        if code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
            return NotThereError(said)
        credential = self.credential
        if credential is None or not credential.belongs_to(self.url):
            return DatasetError(said)
        if code not in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            return DatasetError(said)
        if credential.token:
            return DatasetError(f"{said}; the token in {credential.variable} may not read it, or is no longer valid")
        return DatasetError(f"{said}; set {credential.variable} to a token of an account that may read it")

    def progress(self, total: int, done: int) -> AbstractContextManager[Callable[[int], None]]:
        if self.advance is not None:
            return nullcontext(self.advance)
        return bytes_progress(_file_name(self.url), total, done=done)

    def sleep(self, seconds: float) -> None:
        """Wait, unless somebody says stop."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self.stop.is_set():
            time.sleep(min(left, 0.2))
        self.check()

    def check(self) -> None:
        """End here if somebody said stop."""
        if self.stop.is_set():
            raise DatasetError(f"{self.url}: the download was stopped; run again to continue it")


def _attempt(source: _Source, target: Path, expected: _Expected) -> Path:
    """One transfer into the part beside the target, continuing what is there; then the check and the rename."""
    part = target.with_name(target.name + ".part")
    with _locked(part) as stream:
        if target.is_file() and expected.problem(target) is None:
            return target  # another process has finished it while this one waited
        resumed, announced = _transfer(source, part, stream)
        stream.flush()
        os.fsync(stream.fileno())
        problem = expected.problem(part) or announced.problem(part)
        if problem is None:
            if sys.platform == "win32":
                stream.close()  # an open file cannot be renamed there
            os.replace(part, target)
            _validator_file(part).unlink(missing_ok=True)
            return target
        stream.truncate(0)
    if resumed:
        raise _PassingError(f"the continued file is not the expected one: {problem}")
    raise DatasetError(f"{source.url}: what came is not the expected file: {problem}")


def _transfer(source: _Source, part: Path, stream: IO[bytes]) -> tuple[bool, _Expected]:
    """Append the missing bytes to `part`; return whether some were there before, and what a hub says of the file.

    Raises:
        _PassingError: cut off, slow, or the server is overloaded.
        DatasetError: no such file, no connection, or a server that does not tell the length.
    """
    offset, validator = _what_is_there(part, stream)
    headers = source.headers()
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    redirects = _Redirects()
    with _open(source, redirects, urllib.request.Request(source.url, headers=headers), stream) as response:
        whole = response.status != http.HTTPStatus.PARTIAL_CONTENT
        if whole:
            stream.truncate(0)  # a server that ignores the range, or has another file by now, sends all of it
            offset = 0
        total = _announced_length(source.url, response.headers) if whole else _total_of_range(response.headers, offset)
        if total is None:
            stream.truncate(0)
            raise _PassingError(f"the server sent another range: {response.headers.get('Content-Range')!r}")
        _remember_validator(part, response.headers)
        with source.progress(total, offset) as advance:
            received = offset + _copy(source, response, stream, advance)
    if received < total:
        raise _PassingError(f"the connection ended after {received:,} of {total:,} bytes")
    if received > total:
        stream.truncate(0)
        raise _PassingError(f"{received:,} bytes came instead of {total:,}")
    return offset > 0, redirects.linked


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but takes no secret to another server; keeps what a hub says of the file it points to."""

    def __init__(self) -> None:
        self.linked = _Expected(None, None)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows."""
        tag, size = headers.get("X-Linked-ETag", "").strip('"'), headers.get("X-Linked-Size", "")
        if size.isdigit():
            is_checksum = re.fullmatch(r"[0-9a-f]{64}", tag)
            self.linked = _Expected(tag if is_checksum else None, int(size))
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None and _origin(newurl) != _origin(req.full_url):
            request.remove_header("Authorization")
        return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    address = urllib.parse.urlsplit(url)
    return address.scheme, address.hostname, address.port or {"http": 80, "https": 443}.get(address.scheme)


def _file_name(url: str) -> str:
    return Path(urllib.parse.urlsplit(url).path).name


def _open(
    source: _Source, redirects: _Redirects, request: urllib.request.Request, stream: IO[bytes]
) -> http.client.HTTPResponse:
    """Open a connection and sort failures into passing and lasting ones."""
    try:
        opener = urllib.request.build_opener(redirects)
        response: http.client.HTTPResponse = opener.open(request, timeout=source.timeout)
        return response
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            stream.truncate(0)
            raise _PassingError("the part that was there does not fit the server's file") from None
        if error.code >= 500 or error.code in (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS):
            raise _PassingError(f"the server answers {error.code} {error.reason}", _asked_wait(error)) from None
        raise source.refusal(error.code, error.reason) from None
    except urllib.error.URLError as error:
        # No connection at all: there is no network, or no such server; waiting would only cost time.
        raise DatasetError(f"{source.url}: no connection ({error.reason})") from None
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"no answer ({error or type(error).__name__})") from None


def _asked_wait(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the server asks to wait, which it tells as a number or as a date."""
    asked = error.headers.get("Retry-After", "")
    if asked.isdigit():
        return min(float(asked), LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(asked) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _announced_length(url: str, headers: Message) -> int:
    length = headers.get("Content-Length", "")
    if not length.isdigit():
        raise DatasetError(f"{url}: the server does not say how long the file is, so a cut could not be noticed")
    return int(length)


def _total_of_range(headers: Message, offset: int) -> int | None:
    """Length of the whole file, from the answer to a range request; None if it is not the range asked for."""
    first, _, total = headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    return int(total) if first.partition("-")[0] == str(offset) and total.isdigit() else None


def _copy(
    source: _Source, response: http.client.HTTPResponse, stream: IO[bytes], advance: Callable[[int], None]
) -> int:
    """Copy the body to the file; what came before a failure stays there for the next attempt."""
    count = 0
    try:
        while block := response.read(BLOCK):
            stream.write(block)
            count += len(block)
            advance(len(block))
            source.check()
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"the connection broke ({error or type(error).__name__})") from None
    return count


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _what_is_there(part: Path, stream: IO[bytes]) -> tuple[int, str]:
    """Size of the part that can be continued, and the server's mark of the file it belongs to."""
    offset = part.stat().st_size
    marks = _validator_file(part)
    if not offset or not marks.is_file():
        stream.truncate(0)
        return 0, ""
    return offset, str(json.loads(marks.read_text(encoding="utf-8"))["validator"])


def _remember_validator(part: Path, headers: Message) -> None:
    """Keep the mark by which the server knows this very content; without one a part is never continued."""
    etag = headers.get("ETag", "")
    # A weak tag (W/...) names the meaning, not the bytes, so it cannot guard a continuation.
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if validator:
        _validator_file(part).write_text(json.dumps({"validator": validator}), encoding="utf-8")
    else:
        _validator_file(part).unlink(missing_ok=True)


@contextmanager
def _locked(part: Path) -> Iterator[IO[bytes]]:
    """Open `part` for appending; two processes that want the same file take turns (on systems with `flock`)."""
    while True:
        stream = part.open("ab")
        _lock(stream)
        # While this process waited, another may have renamed or removed the file; then a new one is needed.
        if _is_still(part, stream):
            break
        stream.close()
    try:
        yield stream
    finally:
        if not stream.closed:
            stream.flush()
            if os.fstat(stream.fileno()).st_size == 0:
                part.unlink(missing_ok=True)
                _validator_file(part).unlink(missing_ok=True)
            stream.close()  # and with it the lock


def _is_still(part: Path, stream: IO[bytes]) -> bool:
    """Whether the open file is the one under the name `part`. One look: the name may go between two."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _lock(stream: IO[bytes]) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    fcntl.flock(stream, fcntl.LOCK_EX)
