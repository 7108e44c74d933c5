"""A fetch against a local server that misbehaves in every way: each address ends with a file or a reason."""

import asyncio
import hashlib
import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from moerec.modalities.fetch import fetch, run_fetch
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.images import image_problem


class Handler(BaseHTTPRequestHandler):
    """The path says how to behave; the server counts what it was asked."""

    protocol_version = "HTTP/1.1"
    # Head and body are written one after the other; the kernel would hold the body back for 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self):
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            count = server.asked[self.path]
            server.at_once += 1
            server.most = max(server.most, server.at_once)
        try:
            self.behave(server, count)
        finally:
            with server.lock:
                server.at_once -= 1

    def behave(self, server, count):
        kind = self.path.strip("/").split("/")[0]
        picture = server.picture
        if kind in ("ok", "%C3%A9%20x.png") or (kind == "flaky" and count >= 3):
            self.answer(200, picture)
        elif kind == "flaky":
            self.answer(503, b"later")
        elif kind == "nap":
            time.sleep(0.05)
            self.answer(200, picture)
        elif kind == "broken":
            self.answer(500, b"")
        elif kind == "slow-down":
            self.answer(*((429, b"") if count == 1 else (200, picture)), {"Retry-After": "1"})
        elif kind == "junk":
            self.answer(200, b"<html><body>not here</body></html>")
        elif kind == "redirect":
            self.answer(302, b"", {"Location": "/ok/redirected"})
        elif kind == "loop":
            self.answer(302, b"", {"Location": "/loop"})
        elif kind == "away":
            self.answer(302, b"", {"Location": "file:///etc/hostname"})
        elif kind == "large":
            self.answer(200, b"x" * 50_000)
        elif kind == "endless":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            while not server.stopping.is_set():
                self.wfile.write(b"x" * 10_000)
        elif kind == "truncated":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", str(len(picture)))
            self.end_headers()
            self.wfile.write(picture[:-50])
        elif kind == "stall":
            server.stopping.wait(5)
        elif kind == "drip":
            self.close_connection = True
            self.send_response(200)
            self.end_headers()
            while not server.stopping.wait(0.05):
                self.wfile.write(b"x")
        elif kind == "drip-header":
            self.close_connection = True
            while not server.stopping.wait(0.05):
                self.wfile.write(b"H")
        elif kind == "nonsense":
            self.close_connection = True
            self.wfile.write(b"hello\r\n\r\n")
        elif kind == "hang-up":
            self.close_connection = True
        else:
            self.answer(404, b"")

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_given):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # The default of 5 makes the kernel drop the connections of twelve workers, which then wait a second.
    request_queue_size = 128

    def handle_error(self, *_given):
        """A client that hangs up is what these tests are about."""


@contextmanager
def serving(picture):
    server = Server(("127.0.0.1", 0), Handler)
    server.picture, server.asked = picture, Counter()
    server.at_once = server.most = 0
    server.lock, server.stopping = threading.Lock(), threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(make_picture):
    with serving(make_picture(1, (200, 150), form="PNG")) as running:
        yield running


def settings(**changes) -> FetchConfig:
    quick = {"timeout_seconds": 10.0, "backoff_seconds": 0.01, "attempts": 2, "workers": 4, "maximum_bytes": 40_000}
    return FetchConfig(**{**quick, "allow_private": True, **changes})


def get(server, tmp_path, paths, progress=None, **changes):
    base = f"http://127.0.0.1:{server.server_port}/"
    results = fetch([base + path for path in paths], tmp_path / "files", settings(**changes), image_problem, progress)
    assert list(results) == [base + path for path in dict.fromkeys(paths)]
    assert all((result.path is None) != (result.reason is None) for result in results.values())
    return {url.removeprefix(base): result for url, result in results.items()}


def test_every_address_ends_with_a_file_or_a_reason(server, tmp_path):
    reasons = {
        "missing": "http 404",
        "junk": "not an image",
        "truncated": "cut short",
        "stall": "timeout",
        "drip": "timeout",
        "drip-header": "not an HTTP answer",
        "large": "larger than 40000 bytes",
        "endless": "larger than 40000 bytes",
        "loop": "more than 5 redirects",
        "away": "not an http or https address",
        "nonsense": "not an HTTP answer",
        "hang-up": "no connection",
    }
    begin = time.monotonic()
    results = get(server, tmp_path, list(reasons), attempts=1, timeout_seconds=0.8, workers=12)
    assert time.monotonic() - begin < 5
    assert {path: result.reason for path, result in results.items()} == reasons
    results = get(server, tmp_path, ["ok/1", "redirect", "ok/1", "é x.png"])
    for path in ("ok/1", "redirect", "é x.png"):
        assert results[path].path.read_bytes() == server.picture
    assert server.asked["/ok/1"] == 1


def test_what_may_pass_is_tried_again(server, tmp_path):
    begin = time.monotonic()
    results = get(server, tmp_path, ["flaky", "slow-down", "truncated", "missing", "junk"], attempts=3)
    assert results["flaky"].path is not None
    assert results["slow-down"].path is not None
    assert time.monotonic() - begin >= 1
    assert server.asked == {"/flaky": 3, "/slow-down": 2, "/truncated": 3, "/missing": 1, "/junk": 1}


def test_a_second_run_asks_only_for_what_may_have_come_back(server, tmp_path):
    paths = ["ok/1", "missing", "junk", "truncated"]
    first = get(server, tmp_path, paths, attempts=1)
    server.asked.clear()
    assert get(server, tmp_path, paths, attempts=1) == first
    assert server.asked == {"/truncated": 1}
    server.asked.clear()
    get(server, tmp_path, paths, attempts=1, retry_failed=True)
    assert server.asked == {"/missing": 1, "/junk": 1, "/truncated": 1}
    contents = [path.name for path in (tmp_path / "files" / "content").rglob("*") if path.is_file()]
    assert contents == [hashlib.sha256(server.picture).hexdigest()]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_host_is_given_up_after_twenty_failures_in_a_row(server, tmp_path, workers):
    with serving(server.picture) as other:
        base = f"http://127.0.0.1:{server.server_port}/"
        healthy = [f"http://127.0.0.1:{other.server_port}/ok/{i}" for i in range(5)]
        urls = [base + f"broken/{i}" for i in range(40)] + healthy
        given = settings(workers=workers, attempts=1)
        results = fetch(urls, tmp_path, given, image_problem)
    asked = sum(server.asked.values())
    assert 20 <= asked < 20 + workers
    reasons = Counter(result.reason for result in results.values())
    assert reasons == {"http 500": asked, "host given up after 20 failures in a row": 40 - asked, None: 5}
    server.asked.clear()
    fetch(urls[:3], tmp_path, given, image_problem)
    assert sum(server.asked.values()) == 3, "the next run asks again"


def test_a_host_that_answers_is_not_given_up(server, tmp_path):
    """Links die in clusters; second attempts at bad addresses come together at the end of a run."""
    paths = [f"missing/{i}" for i in range(30)] + [f"junk/{i}" for i in range(30)]
    results = get(server, tmp_path, paths, workers=1)
    assert {result.reason for result in results.values()} == {"http 404", "not an image"}
    paths = [f"{kind}/late{i}" for i in range(15) for kind in ("broken", "ok")]
    results = get(server, tmp_path, paths, workers=1, attempts=4, backoff_seconds=0.05)
    assert Counter(result.reason for result in results.values()) == {"http 500": 15, None: 15}


def test_a_success_begins_the_count_anew(server, tmp_path):
    paths = [f"broken/{i}" for i in range(30)]
    for place in (10, 25):
        paths.insert(place, f"ok/{place}")
    results = get(server, tmp_path, paths, workers=1, attempts=1)
    assert {result.reason for result in results.values()} == {"http 500", None}


def test_requests_that_fail_together_are_not_failures_in_a_row(server, tmp_path):
    """The line is cut for a moment while thirty requests are under way."""
    paths = [f"stall/{i}" for i in range(30)] + [f"ok/{i}" for i in range(30)]
    limits = {"workers": 30, "host_connections": 30, "attempts": 1, "timeout_seconds": 0.4}
    results = get(server, tmp_path, paths, **limits)
    assert Counter(result.reason for result in results.values()) == {"timeout": 30, None: 30}


def test_connections_are_used_again(server, tmp_path):
    base = f"http://127.0.0.1:{server.server_port}/"
    summary = run_fetch([f"{base}ok/{i}" for i in range(60)], tmp_path, settings(workers=3))
    assert (summary.ok, summary.requests, summary.kept) == (60, 60, 0)
    assert summary.connections <= 3


def test_a_host_has_few_connections_and_pauses_and_others_need_not_wait_for_it(server, tmp_path):
    with serving(server.picture) as other:
        slow, quick = (f"http://127.0.0.1:{one.server_port}/" for one in (server, other))
        urls = [f"{slow}nap/{i}" for i in range(6)] + [f"{quick}ok/{i}" for i in range(6)]
        asked = []

        def note(_done, _total):
            asked.append(sum(other.asked.values()))

        run_fetch(urls, tmp_path, settings(workers=2, host_connections=1), progress=note)
        assert server.most == 1
        assert asked[8] == 6, "the six addresses behind those of the slow host do not wait for all of them"
        began = time.monotonic()
        run_fetch([f"{quick}ok/p{i}" for i in range(5)], tmp_path, settings(host_pause_seconds=0.1))
        assert time.monotonic() - began >= 0.4


def test_a_host_that_asks_for_a_long_pause_waits_for_the_next_run(server, tmp_path):
    urls = [f"http://127.0.0.1:{server.server_port}/{path}" for path in ("slow-down/1", "ok/1", "ok/2")]
    given = settings(workers=1, longest_pause_seconds=0.5)
    first = run_fetch(urls, tmp_path, given)
    assert first.reasons == {"host asks to wait more than 0.5 s": 3}
    assert sum(server.asked.values()) == 1
    second = run_fetch(urls, tmp_path, given)
    assert (second.ok, second.kept) == (3, 0)


def test_a_run_ends_in_time(server, tmp_path):
    urls = [f"http://127.0.0.1:{server.server_port}/{path}" for path in ("stall", *(f"nap/{i}" for i in range(60)))]
    began = time.monotonic()
    summary = run_fetch(urls, tmp_path, settings(workers=2, run_seconds=0.6))
    assert time.monotonic() - began < 2
    assert 0 < summary.ok < 60
    assert summary.ok + sum(summary.reasons.values()) == summary.addresses == 61
    assert summary.reasons["out of time for this run"] > 0


def test_addresses_are_read_as_they_are_needed(server, tmp_path):
    read, settled = [], []

    def addresses():
        for i in range(300):
            read.append(i)
            assert i - len(settled) <= 2 * 8 + 1, "no more than are looked ahead for"
            yield f"http://127.0.0.1:{server.server_port}/ok/{i}"
        for i in range(100):
            yield f"http://127.0.0.1:{server.server_port}/ok/{i}"

    summary = run_fetch(addresses(), tmp_path, settings(workers=2), progress=lambda *_: settled.append(1))
    assert len(read) == 300
    assert summary.addresses == summary.ok == len(settled) == sum(server.asked.values()) == 300


def test_a_notebook_can_fetch(server, tmp_path):
    async def cell():
        return get(server, tmp_path, ["ok/1"])

    assert asyncio.run(cell())["ok/1"].path is not None


def test_private_addresses_are_refused(server, tmp_path):
    paths = [f"ok/{i}" for i in range(25)]
    results = get(server, tmp_path, paths, allow_private=False)
    assert {result.reason for result in results.values()} == {"address of a private network"}
    assert not server.asked


def test_what_is_no_web_address_is_refused(tmp_path):
    urls = [
        "ftp://example.org/a",
        "file:///etc/passwd",
        "a.jpg",
        "",
        "http://",
        "http://[::1",
        "http://a:b/",
        "http://a b/",
    ]
    results = fetch(urls, tmp_path, settings(), image_problem)
    reasons = ["not an http or https address"] * len(urls)
    reasons[urls.index("")] = "no address"
    assert [results[url].reason for url in urls] == reasons


def test_a_host_that_is_not_there(tmp_path):
    results = fetch(["http://nowhere.invalid/a", "http://127.0.0.1:9/a"], tmp_path, settings(attempts=1), image_problem)
    assert [result.reason for result in results.values()] == ["host name not found", "no connection"]


def test_a_host_that_does_not_speak_tls(server, tmp_path):
    url = f"https://127.0.0.1:{server.server_port}/ok/1"
    assert fetch([url], tmp_path, settings(attempts=1), image_problem)[url].reason == "no connection"


def test_progress_counts_every_address(server, tmp_path):
    seen = []
    get(server, tmp_path, ["ok/1", "missing", "junk"], progress=lambda *given: seen.append(given))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_interruption_ends_all_workers(server, tmp_path):
    def interrupt(done, _total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, [f"ok/{i}" for i in range(200)], progress=interrupt, workers=2)
    assert sum(server.asked.values()) < 200
    results = get(server, tmp_path, [f"ok/{i}" for i in range(10)])
    assert all(result.path is not None for result in results.values())


def test_ctrl_c_ends_a_run_that_waits(server, tmp_path):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        get(server, tmp_path, [f"stall/{i}" for i in range(20)])
    assert time.monotonic() - began < 3
    timer.join()
    names = [thread.name for thread in threading.enumerate() if thread.is_alive()]
    assert not any(name.startswith(("fetch", "pictures")) for name in names)
