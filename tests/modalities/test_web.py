"""No address leads into a private network: not by a redirect, not by a name that changes, not in an odd notation."""

import asyncio
import ipaddress
import socket
import threading
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from moerec.modalities import web
from moerec.modalities.web import AllowedAddresses, FetchError, Redirect, WebClient, checked_url, is_public

PICTURE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


@contextmanager
def listening(answer=PICTURE):
    """A port of 127.0.0.1; the number of connections that came to it."""
    came = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(connection)
                connection.recv(4096)
                connection.sendall(answer)
                connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)


def ask(*urls, **options):
    """What each address gives, or the reason why it gives nothing; one client for all."""

    async def one(client, url):
        try:
            return await client.ask(checked_url(url), 1000, lambda _start: None)
        except FetchError as failure:
            return failure.reason

    async def all_of_them():
        async with WebClient(AllowedAddresses(**options)) as client:
            return [await one(client, url) for url in urls]

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0", "0"),
        # The same address as the operating system, but not everybody, reads it.
        *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.1", "\uff11\uff12\uff17.0.0.1"),
        *("user:secret@127.0.0.1", "127.0.0.1."),
    ],
)
def test_no_notation_of_this_machine_is_connected_to(host):
    with listening() as (port, came):
        (reason,) = ask(f"http://{host}:{port}/latest/meta-data/")
    assert not came
    assert reason in ("address of a private network", "not an http or https address", "host name not found")


def test_a_name_is_checked_by_the_address_that_is_connected_to(monkeypatch):
    """A name that first leads to the public internet and then into the private network (DNS rebinding)."""
    answers = ["93.184.216.34", "127.0.0.1"]
    looked_up = []
    plain = socket.getaddrinfo

    def rebinding(host, port, *given, **named):
        if host != "rebinding.example":
            return plain(host, port, *given, **named)
        looked_up.append(host)
        address = answers[min(len(looked_up) - 1, 1)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(web, "_NAMES_KNOWN_SECONDS", 0)
    made = []
    plain_socket = WebClient._checked_socket

    def watched(self, address):
        made.append(address[4][0])
        if address[4][0] == "93.184.216.34":
            raise OSError("the public internet is not asked in a test")
        return plain_socket(self, address)

    monkeypatch.setattr(WebClient, "_checked_socket", watched)
    with listening() as (port, came):
        reasons = ask(*[f"http://rebinding.example:{port}/a"] * 2)
    assert reasons == ["no connection", "address of a private network"]
    assert made == ["93.184.216.34", "127.0.0.1"]
    assert not came


def test_a_redirect_is_an_address_like_any_other():
    with listening() as (inside, came):
        answer = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inside}/secret\r\nContent-Length: 0\r\n\r\n"
        with listening(answer.encode()) as (port, _):
            (redirect,) = ask(f"http://127.0.0.1:{port}/a", networks=[ipaddress.ip_network("127.0.0.0/8")])
        assert redirect == Redirect(f"http://127.0.0.1:{inside}/secret")
        assert ask(redirect.url) == ["address of a private network"]
        assert not came


def test_single_networks_can_be_allowed():
    with listening() as (port, _):
        url = f"http://127.0.0.1:{port}/a"
        assert ask(url, private=True) == [b"abc"]
        assert ask(url, networks=[ipaddress.ip_network("127.0.0.0/8")]) == [b"abc"]
        assert ask(url, networks=[ipaddress.ip_network("10.0.0.0/8")]) == ["address of a private network"]


def test_a_long_redirect_or_header_is_no_http_answer():
    with listening(b"HTTP/1.1 302 Found\r\nLocation: /" + b"x" * 100_000 + b"\r\n\r\n") as (port, _):
        assert ask(f"http://127.0.0.1:{port}/", private=True) == ["not an HTTP answer"]


def test_a_compressed_body_is_not_unpacked():
    """A kilobyte of gzip can hold a megabyte."""
    body = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
    with listening(body) as (port, _):
        assert ask(f"http://127.0.0.1:{port}/", private=True) == [b"\x1f\x8b\x08\x00"]


def test_the_time_to_wait_is_a_number_or_a_date():
    assert web._seconds("7") == 7
    assert 98 < web._seconds(formatdate(web.time() + 100, usegmt=True)) <= 100
    assert web._seconds(formatdate(0, usegmt=True)) == 0
    assert [web._seconds(text) for text in ("", "soon", "-3", "1e400")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1"),
        *(
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "64:ff9b:1::1",
            "::127.0.0.1",
        ),
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address):
    assert is_public(address)
