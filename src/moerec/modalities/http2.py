"""The requests of `web` over HTTP/2, where a host offers it: many at a time over one connection.

It pays where connections are dear: far hosts, or hosts that allow few.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from moerec.errors import MissingExtraError
from moerec.modalities.web import (
    HEADERS,
    KEPT_ALIVE_SECONDS,
    REDIRECTS,
    AllowedAddresses,
    FetchError,
    PrivateAddressError,
    Redirect,
    Start,
    read_body,
    refusal,
)

if TYPE_CHECKING:
    from yarl import URL


class Http2Client:
    """Connections to many hosts; as an asynchronous context manager. See `web.WebClient`, whose place it takes."""

    def __init__(self, allowed: AllowedAddresses, tls: ssl.SSLContext | None = None) -> None:
        self._allowed = allowed
        self._tls = tls
        self.requests = 0
        """Requests sent, redirects followed included."""
        self.connections = 0
        """Connections opened."""

    async def __aenter__(self) -> Http2Client:
        try:
            self._library: Any = import_module("httpcore2")
            import_module("h2")
            import_module("anyio")
        except ImportError:
            raise MissingExtraError("httpcore2[asyncio,http2]", "http2", "fetching over HTTP/2") from None
        self._pool = self._library.AsyncConnectionPool(
            # The machine's certificates, read once.
            ssl_context=self._tls or ssl.create_default_context(),
            max_connections=None,
            keepalive_expiry=KEPT_ALIVE_SECONDS,
            http2=True,
            network_backend=_CheckedNetwork(self, self._library.AnyIOBackend()),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def ask(self, address: URL, maximum_bytes: int, start: Start) -> bytes | Redirect:
        """Send one request; the caller sets the time that it may take.

        Args:
            address: from `checked_url`.
            maximum_bytes: a larger body is refused.
            start: refuses a body by its first bytes.

        Raises:
            FetchError: with the reason, and whether another attempt makes sense.
        """
        library = self._library
        self.requests += 1
        try:
            async with self._pool.stream(
                "GET", str(address), headers=[("Host", _host(address)), *HEADERS.items()]
            ) as got:
                found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in got.headers}
                if got.status in REDIRECTS and found.get("location"):
                    return Redirect(urljoin(str(address), found["location"]))
                if got.status != 200:
                    raise refusal(got.status, found.get("retry-after", ""))
                length = found.get("content-length", "")
                announced = int(length) if length.isdigit() else None
                body = await read_body(got.aiter_stream(), announced, maximum_bytes, start)
                if announced is not None and len(body) < announced:
                    raise FetchError("cut short", passing=True)
                return body
        except PrivateAddressError:
            raise FetchError("address of a private network", host_is_well=True) from None
        except socket.gaierror:
            raise FetchError("host name not found", passing=True) from None
        except library.ProtocolError as error:
            raise FetchError(_reason_of(str(error)), passing=True) from None
        except library.ConnectError as error:
            if isinstance(error.__cause__, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY" in str(error):
                raise FetchError("certificate refused", final=True) from None
            raise FetchError("no connection", passing=True) from None
        except library.TimeoutException:
            raise FetchError("timeout", passing=True) from None
        except (library.NetworkError, OSError):
            raise FetchError("no connection", passing=True) from None


class _CheckedNetwork:
    """The library's network, to which names are resolved and checked beforehand."""

    def __init__(self, client: Http2Client, network: Any) -> None:
        self._client = client
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Any:
        """A connection to the first address of the host; to the very address that was checked."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(entry[4][0]) for entry in found]
        if not all(address in self._client._allowed for address in addresses):
            raise PrivateAddressError("address of a private network")
        self._client.connections += 1
        return await self._network.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """The library waits between attempts of its own."""
        await asyncio.sleep(seconds)


def _reason_of(error: str) -> str:
    """The library has one type for these, and tells them apart in words."""
    if "complete message body" in error:
        return "cut short"
    return "no connection" if "disconnected" in error.lower() else "not an HTTP answer"


def _host(address: URL) -> str:
    return address.raw_authority if address.explicit_port is not None else str(address.raw_host)
