"""One file from one web address, with every limit that an untrusted address needs.

Connections are kept alive and used again (HTTP/1.1). Each connection is checked at the moment its socket is made, by
the very network address that it will go to. So neither a redirect, nor a name that changes its answer, nor an address
in an odd notation leads into a private network. Proxies and cookies are not used.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterable, Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from moerec.errors import MissingExtraError

if TYPE_CHECKING:
    from aiohttp import ClientResponse
    from yarl import URL

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Start = Callable[[bytes], "str | None"]
"""Looks at the first bytes of a body; gives the reason why the rest need not come, or None."""

START_BYTES = 32
"""So many bytes, or all if there are fewer, are given to `Start`."""
_CHUNK = 64 * 1024
_PASSING_STATUS = {408, 425, 429}
_HOST_IS_WELL = {404, 410}
REDIRECTS = {301, 302, 303, 307, 308}
# Formats that can be read, so that a host that can choose does not send others.
HEADERS = {
    "User-Agent": "moerec",
    "Accept-Encoding": "identity",
    "Accept": "image/jpeg,image/png,image/webp,image/gif,*/*;q=0.1",
}
KEPT_ALIVE_SECONDS = 15.0
_NAMES_KNOWN_SECONDS = 60


class FetchError(Exception):
    """An address gave nothing."""

    def __init__(
        self,
        reason: str,
        passing: bool = False,
        final: bool = False,
        host_is_well: bool = False,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        """In few words, without the address."""
        self.passing = passing
        """Worth another attempt now."""
        self.final = final
        """Not worth another attempt in a later run either."""
        self.host_is_well = host_is_well
        """It says nothing against the host: the host answered, or was not asked."""
        self.retry_after = retry_after
        """Seconds that the host asks to wait."""


class PrivateAddressError(OSError):
    """The network address is not to be connected to."""


@dataclass(frozen=True)
class Redirect:
    """The answer is elsewhere."""

    url: str


def checked_url(url: str) -> URL:
    """The address in its parts, without user name and fragment.

    Raises:
        FetchError: it is empty, or no http or https address.
        MissingExtraError: aiohttp is not installed.
    """
    yarl = _aiohttp("yarl")
    if not url.strip():
        raise FetchError("no address", host_is_well=True)
    refused = FetchError("not an http or https address", host_is_well=True)
    try:
        parsed: URL = yarl.URL(url.strip())
        host = parsed.host or ""
        if parsed.scheme not in ("http", "https") or not parsed.port or not host or len(host.split()) != 1:
            raise refused
        parsed = parsed.with_fragment(None) if parsed.fragment else parsed
        return parsed.with_user(None) if parsed.user is not None else parsed
    except (ValueError, TypeError, UnicodeError):
        raise refused from None


def host_of(address: URL) -> str:
    """Host and port of an address."""
    return f"{address.host}:{address.port}"


def is_public(address: str) -> bool:
    """Whether a network address belongs to the public internet, also where it is wrapped into IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        wrapped = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.IPv6Network("64:ff9b::/96"):
            wrapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
        if ip in ipaddress.IPv6Network("64:ff9b:1::/48"):  # for use within one network; later Pythons know it
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


class AllowedAddresses:
    """Which network addresses may be connected to."""

    def __init__(self, private: bool = False, networks: Sequence[Network] = ()) -> None:
        self._private = private
        self._networks = tuple(networks)

    def __contains__(self, address: str) -> bool:
        if self._private:
            return True
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
            return is_public(address) or any(ip in network for network in self._networks)
        except ValueError:
            return False  # not in plain notation; the operating system would find some meaning in it


class WebClient:
    """Connections to many hosts; as an asynchronous context manager."""

    def __init__(self, allowed: AllowedAddresses) -> None:
        self._allowed = allowed
        self.requests = 0
        """Requests sent, redirects followed included."""
        self.connections = 0
        """Connections opened."""

    async def __aenter__(self) -> WebClient:
        aiohttp = _aiohttp("aiohttp")
        # How many connections there are, and to whom, is bounded before a request is made; see `hosts`.
        self._connector = aiohttp.TCPConnector(
            limit=0,
            keepalive_timeout=KEPT_ALIVE_SECONDS,
            ttl_dns_cache=_NAMES_KNOWN_SECONDS,
            socket_factory=self._checked_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=self._connector,
            headers=HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, address: URL, maximum_bytes: int, start: Start) -> bytes | Redirect:
        """Send one request; the caller sets the time that it may take.

        Args:
            address: from `checked_url`.
            maximum_bytes: a larger body is refused.
            start: refuses a body by its first bytes.

        Raises:
            FetchError: with the reason, and whether another attempt makes sense.
        """
        aiohttp = _aiohttp("aiohttp")
        self.requests += 1
        try:
            async with self._session.get(address, allow_redirects=False) as response:
                if response.status in REDIRECTS and response.headers.get("Location"):
                    await _drain(response)
                    return Redirect(urljoin(str(address), response.headers["Location"]))
                if response.status != 200:
                    await _drain(response)
                    raise refusal(response.status, response.headers.get("Retry-After", ""))
                return await read_body(response.content.iter_any(), response.content_length, maximum_bytes, start)
        except aiohttp.ClientConnectorCertificateError:
            raise FetchError("certificate refused", final=True) from None
        except aiohttp.ClientConnectorDNSError:
            raise FetchError("host name not found", passing=True) from None
        except aiohttp.ClientPayloadError:
            raise FetchError("cut short", passing=True) from None
        except aiohttp.ClientResponseError:
            raise FetchError("not an HTTP answer", passing=True) from None
        except aiohttp.InvalidURL:
            raise FetchError("not an http or https address", host_is_well=True) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(getattr(error, "os_error", None), PrivateAddressError):
                raise FetchError("address of a private network", host_is_well=True) from None
            raise FetchError("no connection", passing=True) from None

    def _checked_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """A socket for one network address (family, type, protocol, name, where), if that may be connected to."""
        family, kind, protocol, _, where = address
        if str(where[0]) not in self._allowed:
            raise PrivateAddressError("address of a private network")
        self.connections += 1
        return socket.socket(family, kind, protocol)


def _aiohttp(name: str) -> Any:
    """The library of requests, or of addresses, which it brings along."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise MissingExtraError("aiohttp", "images", "fetching from the web") from None


async def _drain(response: ClientResponse) -> None:
    """Read a short body that nobody wants, so that the connection can be used again."""
    if response.content_length is not None and response.content_length <= _CHUNK:
        await response.read()


async def read_body(chunks: AsyncIterable[bytes], announced: int | None, maximum_bytes: int, start: Start) -> bytes:
    """A body that is neither too large nor refused by its first bytes."""
    too_large = FetchError(f"larger than {maximum_bytes} bytes", host_is_well=True)
    if (announced or 0) > maximum_bytes:
        raise too_large
    content = bytearray()
    started = False
    async for chunk in chunks:
        content += chunk
        if len(content) > maximum_bytes:
            raise too_large
        if not started and len(content) >= START_BYTES:
            _check_start(content, start)
            started = True
    if not started:
        _check_start(content, start)
    return bytes(content)


def _check_start(content: bytearray, start: Start) -> None:
    reason = start(bytes(content[:START_BYTES]))
    if reason is not None:
        raise FetchError(reason, final=True, host_is_well=True)


def refusal(status: int, retry_after: str) -> FetchError:
    """What an answer other than 200 means."""
    passing = status in _PASSING_STATUS or status >= 500
    return FetchError(
        f"http {status}",
        passing,
        final=not passing,
        host_is_well=status in _HOST_IS_WELL,
        retry_after=_seconds(retry_after) if passing else 0.0,
    )


def _seconds(retry_after: str) -> float:
    """What `Retry-After` asks for: a number of seconds, or a date."""
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time())
    except (ValueError, TypeError):
        return 0.0
