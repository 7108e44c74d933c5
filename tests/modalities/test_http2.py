"""HTTP/2 and HTTP/1.1 by the same client: many requests over one connection, and the same care for addresses."""

import asyncio
import ssl
import subprocess
from contextlib import asynccontextmanager

import pytest

from moerec.dataset.generators.image_server import ImageServer
from moerec.dataset.generators.odd_pictures import odd_picture
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.http2 import Http2Client
from moerec.modalities.picture_store import PictureStore, fetch_pictures
from moerec.modalities.pictures import PictureConfig
from moerec.modalities.web import AllowedAddresses, FetchError, Redirect, checked_url

pytest.importorskip("h2")
pytest.importorskip("httpcore2")

BODY = b"x" * 40_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder


class Server(asyncio.Protocol):
    """Answers by path: /away redirects, /busy and /missing fail, /cut ends early, all others give a body."""

    def __init__(self, asked):
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.asked = asked

    def connection_made(self, transport):
        self.transport = transport
        self.asked.append("connection")
        self.http.initiate_connection()
        transport.write(self.http.data_to_send())

    def data_received(self, data):
        from h2.events import RequestReceived

        for event in self.http.receive_data(data):
            if isinstance(event, RequestReceived):
                self.answer(event.stream_id, dict(event.headers)[":path"])
        self.transport.write(self.http.data_to_send())

    def answer(self, stream, path):
        self.asked.append(path)
        if path == "/away":
            headers, body = [(":status", "302"), ("location", "http://10.0.0.1/secret")], b""
        elif path in ("/busy", "/missing"):
            headers, body = [(":status", "503" if path == "/busy" else "404"), ("retry-after", "7")], b"no"
        elif path == "/cut":
            self.http.send_headers(stream, [(":status", "200")])
            self.http.send_data(stream, b"half")
            self.http.reset_stream(stream)
            return
        else:
            headers, body = [(":status", "200"), ("content-length", str(len(BODY)))], BODY
        self.http.send_headers(stream, headers)
        for place in range(0, len(body), 10_000):
            self.http.send_data(stream, body[place : place + 10_000])
        self.http.end_stream(stream)


@asynccontextmanager
async def serving(certificate):
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "certificate.pem", certificate / "key.pem")
    tls.set_alpn_protocols(["h2"])
    asked = []
    server = await asyncio.get_running_loop().create_server(lambda: Server(asked), "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        server.close()


def ask(certificate, *paths, private=True, known=True, maximum=100_000):
    """What each path gives, asked at the same time after the first; and what the server saw."""

    async def one(client, url):
        try:
            return await client.ask(checked_url(url), maximum, lambda _start: None)
        except FetchError as failure:
            return failure

    async def work():
        tls = ssl.create_default_context(cafile=certificate / "certificate.pem") if known else None
        async with serving(certificate) as (port, asked), Http2Client(AllowedAddresses(private), tls) as client:
            urls = [f"https://localhost:{port}{path}" for path in paths]
            first = await one(client, urls[0])
            return [first, *await asyncio.gather(*(one(client, url) for url in urls[1:]))], asked, client

    return asyncio.run(asyncio.wait_for(work(), 20))


def test_many_requests_share_one_connection(certificate):
    answers, asked, client = ask(certificate, *(f"/ok/{i}" for i in range(30)))
    assert answers == [BODY] * 30
    assert asked.count("connection") == client.connections == 1
    assert client.requests == 30


def test_answers_mean_what_they_mean_elsewhere(certificate):
    answers, _, _ = ask(certificate, "/away", "/busy", "/missing", "/cut")
    assert answers[0] == Redirect("http://10.0.0.1/secret")
    assert [answer.reason for answer in answers[1:3]] == ["http 503", "http 404"]
    assert (answers[1].retry_after, answers[1].passing, answers[2].final) == (7, True, True)
    assert answers[3].passing
    (large,), _, _ = ask(certificate, "/ok", maximum=1000)
    assert large.reason == "larger than 1000 bytes"


def test_private_addresses_and_unknown_certificates_are_refused(certificate):
    (answer,), asked, _ = ask(certificate, "/ok", private=False)
    assert (answer.reason, asked) == ("address of a private network", [])
    (answer,), _, _ = ask(certificate, "/ok", known=False)
    assert (answer.reason, answer.final) == ("certificate refused", True)


def test_a_host_without_http2_is_asked_as_ever(tmp_path):
    reasons = {
        "error": "http 500",
        "stall": "timeout",
        "drip": "timeout",
        "truncated": "cut short",
        "hang-up": "no connection",
        "nonsense": "not an HTTP answer",
        "missing": "http 404",
        "endless": "larger than 100000 bytes",
        "redirect-loop": "more than 5 redirects",
        "redirect-link-local": "address of a private network",
        "redirect-file": "not an http or https address",
        "html": "not an image",
        "cmyk": None,
        "bomb": "more than 50000000 pixels",
    }
    (tmp_path / "images/I").mkdir(parents=True)
    limits = FetchConfig(
        http2=True, attempts=1, timeout_seconds=0.8, maximum_bytes=100_000, allow_networks=("127.0.0.0/8",)
    )
    odd_picture("bomb")
    with ImageServer(tmp_path) as server:
        urls = [f"{server.address}/fault/{kind}/x" for kind in reasons]
        fetch_pictures(urls, tmp_path / "cache", limits, PictureConfig())
    with PictureStore(tmp_path / "cache", PictureConfig()) as store:
        assert {kind: store.find(url).reason for kind, url in zip(reasons, urls, strict=True)} == reasons
