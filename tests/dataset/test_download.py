"""Downloads against a server on this machine that cuts off, fails, ignores ranges and sends the wrong thing."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import pytest

from moerec.dataset import download as download_module
from moerec.dataset.download import cache_directory, download, mirror_directory
from moerec.errors import DatasetError

CONTENT = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `content` at any path; each entry of `faults` spoils one answer."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.ranges = True
        self.length = True
        self.faults: list[str] = []
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append(asked)
        fault = server.faults.pop(0) if server.faults else ""
        if fault.isdigit():
            self.send_error(int(fault))
            return
        if fault == "hang up":
            self.connection.close()
            return
        start = 0
        if asked and server.ranges and self.headers.get("If-Range") == server.etag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if server.etag:
            self.send_header("ETag", server.etag)
        if start:
            shift = 7 if fault == "other range" else 0
            span = f"bytes {start + shift}-{len(server.content) - 1}/{len(server.content)}"
            self.send_header("Content-Range", span)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 3] if fault == "cut" else body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("MOEREC_MIRROR", raising=False)
    monkeypatch.setattr(download_module.urllib.request, "getproxies", dict)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: Server, folder: Path, **options: object) -> Path:
    return download(server.url, folder / "file.bin", backoff=0.001, timeout=5, **options)  # type: ignore[arg-type]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_whole_file_arrives_once(server: Server, tmp_path: Path) -> None:
    path = get(server, tmp_path, sha256=SHA256, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == {"file.bin"}
    get(server, tmp_path, sha256=SHA256)
    assert len(server.requests) == 1


def test_a_cut_transfer_is_continued_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut", "cut"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    third = len(CONTENT) // 3
    second = third + (len(CONTENT) - third) // 3
    assert server.requests == [None, f"bytes={third}-", f"bytes={second}-"]
    assert names(tmp_path) == {"file.bin"}


def test_a_download_is_continued_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(DatasetError, match=r"of 1,024,000 bytes.*run again"):
        get(server, tmp_path, attempts=1)
    assert not (tmp_path / "file.bin").exists()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[1] == f"bytes={len(CONTENT) // 3}-"


def test_a_server_that_ignores_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.faults = ["cut"]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(DatasetError):
        get(server, tmp_path, attempts=1)
    server.content, server.etag = CONTENT[::-1], '"two"'
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]


def test_without_a_mark_of_the_version_nothing_is_continued(server: Server, tmp_path: Path) -> None:
    server.etag = None
    server.faults = ["cut"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_another_range_than_asked_is_not_appended(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut", "other range"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(DatasetError):
        get(server, tmp_path, attempts=1)
    with (tmp_path / "file.bin.part").open("ab") as stream:
        stream.write(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", ["500", "503", "429", "hang up"])
def test_a_passing_failure_is_tried_again(server: Server, tmp_path: Path, fault: str) -> None:
    server.faults = [fault, fault]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_a_lasting_failure_is_not_tried_again(server: Server, tmp_path: Path) -> None:
    server.faults = ["404", "404"]
    with pytest.raises(DatasetError, match="404"):
        get(server, tmp_path)
    assert len(server.requests) == 1
    assert names(tmp_path) == set()


def test_patience_ends(server: Server, tmp_path: Path) -> None:
    server.faults = ["500"] * 9
    with pytest.raises(DatasetError, match=r"500.*tried 3 times"):
        get(server, tmp_path, attempts=3)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("options", [{"sha256": "0" * 64}, {"size": 12}])
def test_wrong_content_is_refused(server: Server, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(DatasetError, match="not the expected file"):
        get(server, tmp_path, **options)
    assert len(server.requests) == 1
    assert names(tmp_path) == set()


def test_a_spoilt_part_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.faults = ["cut"]
    with pytest.raises(DatasetError):
        get(server, tmp_path, attempts=1)
    part = tmp_path / "file.bin.part"
    part.write_bytes(b"x" * part.stat().st_size)
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_without_a_length_a_cut_could_not_be_seen(server: Server, tmp_path: Path) -> None:
    server.length = False
    with pytest.raises(DatasetError, match="how long"):
        get(server, tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_a_wrong_file_in_the_way_is_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(b"half")
    assert get(server, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_two_at_once_share_one_file(server: Server, tmp_path: Path) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(get(server, tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in results] == [True] * 4
    assert names(tmp_path) == {"file.bin"}


@pytest.mark.parametrize("finisher", ["renames", "removes"])
def test_the_part_may_go_while_its_lock_is_awaited(
    finisher: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = download_module._lock
    looks = iter(range(100))

    def lock_late(stream: IO[bytes]) -> None:
        lock(stream)
        part = tmp_path / "file.bin.part"
        if next(looks) == 0:
            part.rename(tmp_path / "elsewhere") if finisher == "renames" else part.unlink()

    monkeypatch.setattr(download_module, "_lock", lock_late)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert names(tmp_path) - {"elsewhere"} == {"file.bin"}


def test_the_mirror_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("MOEREC_MIRROR", str(mirror))
    (mirror / "file.bin").write_bytes(b"mirrored")
    assert get(server, tmp_path / "to").read_bytes() == b"mirrored"
    assert server.requests == []
    with pytest.raises(DatasetError, match="sha256"):
        get(server, tmp_path / "to", sha256=SHA256)
    assert get(server, tmp_path / "to", mirror_name="other.bin").read_bytes() == CONTENT


def test_a_mirror_that_is_no_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(DatasetError, match="MOEREC_MIRROR"):
        mirror_directory()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/hostname", "only http"),
        ("http://no-such-host.invalid/x", "looked up"),
        ("http://127.0.0.1:1/x", "no connection"),
    ],
)
def test_no_way_to_the_server_is_told_at_once(
    url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MOEREC_MIRROR", raising=False)
    monkeypatch.setattr(download_module.urllib.request, "getproxies", dict)
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(DatasetError, match=words):
        download(url, tmp_path / "x")
    assert names(tmp_path) == set()


def test_the_cache_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEREC_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path / "downloads"
    monkeypatch.delenv("MOEREC_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "moerec" / "downloads"
