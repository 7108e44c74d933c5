"""A server of generated pictures on this machine that can be told to misbehave like the web does.

    /I/<item>.jpg, /I/<item>._<size>_.jpg   the picture of an item, or now and then a fault: a given share of addresses
    /fault/<kind>/<anything>                that fault at each request
    /once/<kind>/<path>                     that fault at the first request, then what <path> gives
    /asked                                  how often each address was asked for, as JSON

Which addresses fail, and how, is decided by the seed and the address, so a benchmark can be repeated. It speaks just
enough HTTP/1.1 for that (GET, kept-alive connections) and is no server for anything else.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from moerec.dataset.generators.odd_pictures import ODD_PICTURES, odd_picture
from moerec.errors import DatasetError

HOST, PORT = "127.0.0.1", 8765
ADDRESS = f"http://{HOST}:{PORT}"
"""Where `moerec generate image-server` listens if nothing else is asked for."""
_MODIFIERS = re.compile(r"\._[^/]*_(?=\.)")
_LONGEST_HEAD = 16 * 1024

Writer = asyncio.StreamWriter


@dataclass(frozen=True)
class ImageServerConfig:
    """How a server behaves."""

    faults: float = 0.0
    """Share of the addresses of pictures that fail."""
    kinds: tuple[str, ...] = ()
    """The faults that are drawn, one like the other; by default all of `FAULTS`."""
    recover_after: int | None = None
    """A fault that may pass is over after so many requests for the address; None never ends it."""
    retry_after: int = 1
    """Seconds that a busy answer asks to wait."""
    stall_seconds: float = 60.0
    """How long a stalled answer takes before the connection is closed."""
    seed: int = 0
    """Decides which addresses fail and how."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(FAULTS) - set(ODD_PICTURES))
        if unknown:
            raise DatasetError(
                f"image server: no fault '{unknown[0]}'; there are {', '.join([*FAULTS, *ODD_PICTURES])}"
            )
        if not 0 <= self.faults <= 1:
            raise DatasetError("image server: faults is a share from 0 to 1")


@dataclass
class ImageServer:
    """Serves `<folder>/images/I/<item>.jpg`; as a context manager in a thread of its own."""

    folder: Path
    """What `generate_amazon_reviews` made."""
    config: ImageServerConfig = field(default_factory=ImageServerConfig)
    port: int = 0
    """0 takes any free one."""
    asked: Counter[str] = field(default_factory=Counter)
    """Requests by path."""
    connections: int = 0
    """Connections that were opened."""
    _open: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    @property
    def address(self) -> str:
        """Base of all addresses, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def fault_of(self, path: str) -> str | None:
        """The fault that the address of a picture has, if any."""
        digest = hashlib.blake2b(f"{self.config.seed}\0{path}".encode(), digest_size=16).digest()
        if int.from_bytes(digest[:8], "big") >= self.config.faults * 2**64:
            return None
        kinds = self.config.kinds or tuple(FAULTS)
        return kinds[int.from_bytes(digest[8:], "big") % len(kinds)]

    async def serve(self, started: Callable[[], None] | None = None) -> None:
        """Serve until cancelled.

        Args:
            started: called when connections are taken; the port is known then.

        Raises:
            DatasetError: there are no pictures in the folder, or the port is taken.
        """
        if not (self.folder / "images" / "I").is_dir():
            raise DatasetError(
                f"{self.folder}: no folder images/I; make it with: moerec generate amazon-reviews --images"
            )
        if self.config.faults > 0:
            for kind in ODD_PICTURES:  # so that the first request need not wait
                odd_picture(kind)
        try:
            server = await asyncio.start_server(self._connection, HOST, self.port, backlog=1024, limit=_LONGEST_HEAD)
        except OSError as error:
            raise DatasetError(
                f"image server: port {self.port} cannot be used ({error.strerror}); take another"
            ) from None
        self.port = server.sockets[0].getsockname()[1]
        if started is not None:
            started()
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for connection in self._open:
                connection.cancel()

    def __enter__(self) -> ImageServer:
        ready = threading.Event()
        failed: list[DatasetError] = []

        async def serve() -> None:
            self._loop, self._serving = asyncio.get_running_loop(), asyncio.current_task()
            await self.serve(ready.set)

        def work() -> None:
            try:
                with suppress(asyncio.CancelledError):
                    asyncio.run(serve())
            except DatasetError as error:
                failed.append(error)
            finally:
                ready.set()

        self._thread = threading.Thread(target=work, name="image-server", daemon=True)
        self._thread.start()
        ready.wait()
        if failed:
            raise failed[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._serving is not None:
            self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join()

    async def _connection(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        # Whoever hangs up, also in the middle, is what this server is about.
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            kept = True
            while kept:
                head = await reader.readuntil(b"\r\n\r\n")
                words = head.split(b" ", 2)
                if len(words) < 3 or words[0] != b"GET":
                    break
                kept = await self._answer(words[1].decode("ascii", "replace"), writer)
                await writer.drain()
        writer.close()

    async def _answer(self, path: str, writer: Writer) -> bool:
        """Answer one request; False closes the connection."""
        if path == "/asked":
            return _send(writer, 200, json.dumps(dict(self.asked)).encode(), "Content-Type: application/json")
        self.asked[path] += 1
        count = self.asked[path]
        part, _, rest = path.strip("/").partition("/")
        if part == "fault":
            return await self._fault(rest.partition("/")[0], writer)
        if part == "once":
            kind, _, path = rest.partition("/")
            if count == 1:
                return await self._fault(kind, writer)
            path = f"/{path}"
        else:
            drawn = self.fault_of(path)
            over = drawn in PASSING and self.config.recover_after is not None and count > self.config.recover_after
            if drawn is not None and not over:
                return await self._fault(drawn, writer)
        content = self._picture(path)
        return _send(writer, 404, b"no such picture") if content is None else _send(writer, 200, content)

    def _picture(self, path: str) -> bytes | None:
        place = self.folder / "images" / _MODIFIERS.sub("", path.partition("?")[0]).strip("/")
        if ".." in path or not place.is_file():
            return None
        return place.read_bytes()

    async def _fault(self, kind: str, writer: Writer) -> bool:
        if kind in ODD_PICTURES:
            return await _picture_of(kind)(self, writer)
        if kind not in FAULTS:
            return _send(writer, 404, b"no such fault")
        return await FAULTS[kind](self, writer)


def _send(writer: Writer, status: int, body: bytes, *headers: str) -> bool:
    lines = (f"HTTP/1.1 {status} -", f"Content-Length: {len(body)}", *headers, "", "")
    writer.write("\r\n".join(lines).encode() + body)
    return True


Fault = Callable[[ImageServer, Writer], Awaitable[bool]]


def _status(status: int, *headers: str) -> Fault:
    async def fault(server: ImageServer, writer: Writer) -> bool:
        return _send(writer, status, b"no", *(header.format(**vars(server.config)) for header in headers))

    return fault


def _picture_of(kind: str) -> Fault:
    async def fault(_server: ImageServer, writer: Writer) -> bool:
        # Making one may take a while, which others need not wait for.
        return _send(writer, 200, await asyncio.to_thread(odd_picture, kind))

    return fault


async def _loop(server: ImageServer, writer: Writer) -> bool:
    return _send(writer, 302, b"", "Location: /fault/redirect-loop/x")


async def _stall(server: ImageServer, _writer: Writer) -> bool:
    await asyncio.sleep(server.config.stall_seconds)
    return False


async def _drip(server: ImageServer, writer: Writer) -> bool:
    writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 30000\r\n\r\n\xff\xd8\xff")
    for _ in range(int(server.config.stall_seconds / 0.05)):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)
    return False


async def _truncated(_server: ImageServer, writer: Writer) -> bool:
    body = odd_picture("half-a-file")
    writer.write(f"HTTP/1.1 200 -\r\nContent-Length: {2 * len(body)}\r\n\r\n".encode() + body)
    return False


async def _hang_up(_server: ImageServer, _writer: Writer) -> bool:
    return False


async def _nonsense(_server: ImageServer, writer: Writer) -> bool:
    writer.write(b"hello\r\n\r\n")
    return False


async def _endless(_server: ImageServer, writer: Writer) -> bool:
    writer.write(b"HTTP/1.1 200 -\r\n\r\n\xff\xd8\xff")
    while True:
        writer.write(bytes(64 * 1024))
        await writer.drain()


FAULTS: dict[str, Fault] = {
    "error": _status(500),
    "busy": _status(503, "Retry-After: {retry_after}"),
    "slow-down": _status(429, "Retry-After: {retry_after}"),
    "stall": _stall,
    "drip": _drip,
    "truncated": _truncated,
    "hang-up": _hang_up,
    "nonsense": _nonsense,
    "missing": _status(404),
    "endless": _endless,
    "redirect-loop": _loop,
    "redirect-private": _status(302, "Location: http://10.0.0.1/secret.jpg"),
    "redirect-link-local": _status(302, "Location: http://169.254.169.254/latest/meta-data/"),
    "redirect-file": _status(302, "Location: file:///etc/passwd"),
    "html": _picture_of("html"),
    "one-pixel": _picture_of("one-pixel"),
    "bomb": _picture_of("bomb"),
    "half-a-file": _picture_of("half-a-file"),
}
"""What an address can do instead of giving a picture."""
PASSING = frozenset(["error", "busy", "slow-down", "stall", "drip", "truncated", "hang-up", "nonsense"])
"""Those that a second request may find gone."""
