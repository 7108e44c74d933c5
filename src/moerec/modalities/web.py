"""One file from one web address, with every limit that an untrusted address needs."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from urllib.parse import SplitResult, quote, urljoin, urlsplit

_CHUNK = 64 * 1024
_PASSING_STATUS = {408, 425, 429}
_HEADERS = {"User-Agent": "moerec", "Accept-Encoding": "identity", "Accept": "image/*,*/*;q=0.5"}


class FetchError(Exception):
    """An address gave nothing."""

    def __init__(
        self, reason: str, passing: bool = False, final: bool = False, asked: bool = True, retry_after: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        """In few words, without the address."""
        self.passing = passing
        """Worth another attempt now."""
        self.final = final
        """Not worth another attempt in a later run either."""
        self.asked = asked
        """The host was asked; otherwise the address was refused beforehand."""
        self.retry_after = retry_after
        """Seconds that the host asks to wait."""


class _RedirectError(Exception):
    def __init__(self, location: str) -> None:
        self.location = location


def host_of(url: str) -> str:
    """Host and port of an address, in lower case.

    Raises:
        FetchError: it is not an http or https address.
    """
    return _split(url)[0].netloc.rpartition("@")[2].lower()


def download(url: str, timeout: float, maximum_bytes: int, maximum_redirects: int, allow_private: bool) -> bytes:
    """The body of one address.

    Each redirect is checked like the address itself. The connection goes to the very network address that was
    checked, so a name that changes its answer in between gains nothing.

    Args:
        url: http or https.
        timeout: seconds for everything, from the first connection to the last byte (resolving a name excepted).
        maximum_bytes: a larger body is refused.
        maximum_redirects: how many are followed.
        allow_private: also addresses that are not of the public internet.

    Raises:
        FetchError: with the reason, and whether another attempt makes sense.
    """
    deadline = time.monotonic() + timeout
    for _ in range(maximum_redirects + 1):
        try:
            return _get(url, deadline, maximum_bytes, allow_private)
        except _RedirectError as redirect:
            url = urljoin(url, redirect.location)
    raise FetchError(f"more than {maximum_redirects} redirects", final=True)


def _get(url: str, deadline: float, maximum_bytes: int, allow_private: bool) -> bytes:
    parts, host, port = _split(url)
    addresses = _checked_addresses(host, port, allow_private)
    target = quote(parts.path or "/", safe="/%:=&~+!$,;'@()*[]") + (
        f"?{quote(parts.query, safe='/%:=&?~+!$,;@()*[]')}" if parts.query else ""
    )
    with _connection(parts.scheme, host, port, addresses, deadline) as connection:
        connection.request("GET", target, headers=_HEADERS)
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308) and response.getheader("Location"):
            raise _RedirectError(str(response.getheader("Location")))
        if response.status != 200:
            passing = response.status in _PASSING_STATUS or response.status >= 500
            raise FetchError(
                f"http {response.status}", passing, final=not passing, retry_after=_seconds(response, passing)
            )
        return _body(response, maximum_bytes)


def _body(response: http.client.HTTPResponse, maximum_bytes: int) -> bytes:
    too_large = FetchError(f"larger than {maximum_bytes} bytes")
    if response.length is not None and response.length > maximum_bytes:
        raise too_large
    content = bytearray()
    while chunk := response.read1(_CHUNK):
        content += chunk
        if len(content) > maximum_bytes:
            raise too_large
    # `length` counts down what the host announced; the standard library accepts a short body in silence.
    if response.length:
        raise FetchError("cut short", passing=True)
    return bytes(content)


@contextmanager
def _connection(
    scheme: str, host: str, port: int, addresses: list[str], deadline: float
) -> Iterator[http.client.HTTPConnection]:
    """A connection to a checked network address that is cut at the deadline, however slowly bytes trickle in."""
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise FetchError("timeout", passing=True)
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = http.client.HTTPSConnection(host, port)
    else:
        connection = http.client.HTTPConnection(host, port)
    expired = threading.Event()
    # The response may outlive `connection.sock`, which is dropped as soon as the host says that it will close.
    sockets: list[socket.socket] = []

    def cut() -> None:
        expired.set()
        for opened in sockets:
            with suppress(OSError):  # it is closed already
                opened.shutdown(socket.SHUT_RDWR)

    watch = threading.Timer(remaining, cut)
    watch.daemon = True
    watch.start()
    try:
        sockets.append(_connect(addresses, port, deadline))
        if scheme == "https":
            sockets.append(_tls().wrap_socket(sockets[0], server_hostname=host))
        connection.sock = sockets[-1]
        # The watch may have fired before there was anything to cut.
        if expired.is_set():
            raise FetchError("timeout", passing=True)
        yield connection
        # A body cut by the watch looks like one that ended.
        if expired.is_set():
            raise FetchError("timeout", passing=True)
    except (FetchError, _RedirectError):
        if expired.is_set():
            raise FetchError("timeout", passing=True) from None
        raise
    except ssl.SSLCertVerificationError:
        raise FetchError("certificate refused", final=True) from None
    except (OSError, http.client.HTTPException) as error:
        if expired.is_set() or isinstance(error, TimeoutError):
            raise FetchError("timeout", passing=True) from None
        if isinstance(error, http.client.IncompleteRead):
            raise FetchError("cut short", passing=True) from None
        reason = "no connection" if isinstance(error, OSError) else "not an HTTP answer"
        raise FetchError(reason, passing=True) from None
    finally:
        watch.cancel()
        connection.close()
        for opened in sockets:
            opened.close()


@cache
def _tls() -> ssl.SSLContext:
    # Reading the machine's certificates takes longer than fetching a picture.
    return ssl.create_default_context()


def _split(url: str) -> tuple[SplitResult, str, int]:
    refused = FetchError("not an http or https address", asked=False)
    try:
        parts = urlsplit(url.strip())
        port = parts.port
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        raise refused from None
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in host):
        raise refused
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def _checked_addresses(host: str, port: int, allow_private: bool) -> list[str]:
    """The network addresses of the host; all of them must be public."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise FetchError("host name not found", passing=True) from None
    if not allow_private and not all(is_public(address) for address in found):
        raise FetchError("address of a private network", asked=False)
    return found


def _connect(addresses: list[str], port: int, deadline: float) -> socket.socket:
    """A connection to the first of the addresses that answers."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return socket.create_connection((address, port), timeout=max(0.001, deadline - time.monotonic()))
    return socket.create_connection((addresses[-1], port), timeout=max(0.001, deadline - time.monotonic()))


def is_public(address: str) -> bool:
    """Whether a network address belongs to the public internet, also where it is wrapped into IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.IPv6Network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _seconds(response: http.client.HTTPResponse, passing: bool) -> float:
    """What `Retry-After` asks for, if it is a number of seconds."""
    value = response.getheader("Retry-After") or ""
    return float(value) if passing and value.isdigit() else 0.0
