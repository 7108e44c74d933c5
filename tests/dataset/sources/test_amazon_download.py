"""Amazon reviews from a server on this machine that cuts off, redirects, asks for patience and for a token."""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from moerec.dataset import download as download_module
from moerec.dataset import storage as storage_module
from moerec.dataset.parallel import Watch, in_parallel
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError

TOKEN = "hf_secret"


def review(number: int) -> dict[str, Any]:
    text = f"text {number} " * 40
    return {
        "rating": 4.0,
        "title": "t",
        "text": text,
        "parent_asin": f"B{number % 5}",
        "user_id": f"U{number}",
        "timestamp": 1_600_000_000_000 + number,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def product(number: int) -> dict[str, Any]:
    return {"title": f"Product {number}", "parent_asin": f"B{number}", "price": 1.0, "main_category": "A"}


def lines(records: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def old_review(number: int) -> dict[str, Any]:
    return {"overall": 5.0, "reviewerID": f"A{number}", "asin": "B1", "unixReviewTime": 1_441_324_800 + number}


CATEGORIES = ("All_Beauty", "Gift_Cards", "Toys")
FILES = {
    name: content
    for at, category in enumerate(CATEGORIES)
    for name, content in (
        (f"raw/review_categories/{category}.jsonl", lines([review(at * 100 + number) for number in range(60)])),
        (f"raw/meta_categories/meta_{category}.jsonl", lines([product(number) for number in range(5)])),
    )
}


class Server(ThreadingHTTPServer):
    """Files below a folder; each entry of `faults` of a name spoils one answer."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], below: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {f"/{below}{name}": content for name, content in files.items()}
        self.below = below
        self.faults: defaultdict[str, list[str]] = defaultdict(list)
        self.ranges = True
        self.token: str | None = None
        self.sends_to: Server | None = None
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.busy = self.most_busy = 0
        self.delay = 0.0

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/{self.below}".rstrip("/")

    def requests_of(self, ending: str) -> list[str | None]:
        """The ranges that were asked of a file."""
        return [asked for path, asked, _ in self.asked if path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        server.busy += 1
        server.most_busy = max(server.busy, server.most_busy)
        try:
            time.sleep(server.delay)
            self._answer(server)
        finally:
            server.busy -= 1
            self.close_connection = True

    def _answer(self, server: Server) -> None:
        asked, shown = self.headers.get("Range"), self.headers.get("Authorization")
        server.asked.append((self.path, asked, shown))
        content = server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        if server.token is not None and shown != f"Bearer {server.token}":
            self.send_error(403 if shown else 401)
            return
        fault = server.faults[self.path].pop(0) if server.faults[self.path] else ""
        if fault.startswith("429"):
            self.send_response(429)
            self.send_header("Retry-After", fault.removeprefix("429 "))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.sends_to is not None:
            self.send_response(302)
            self.send_header("Location", f"{server.sends_to.origin}{self.path}?signed=1")
            checksum = "0" * 64 if fault == "other content" else sha256(content).hexdigest()
            self.send_header("X-Linked-ETag", f'"{checksum}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)


class SecondHandler(Handler):
    """Of the server that another one sends to; its addresses are signed."""

    def do_GET(self) -> None:
        self.path = self.path.removesuffix("?signed=1")
        super().do_GET()


def running(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MOEREC_MIRROR", "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download_module.urllib.request, "getproxies", dict)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module._Source, "sleep", lambda source, seconds: source.check())


@pytest.fixture
def server() -> Iterator[Server]:
    yield from running(Server(FILES))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server in the place of the hub, with the hub's layout."""
    for made in running(Server(FILES, "datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main/")):
        monkeypatch.setenv("HF_ENDPOINT", made.origin)
        yield made


def config(**settings: Any) -> AmazonReviewsConfig:
    return AmazonReviewsConfig(**({"categories": CATEGORIES[:2], "download": True} | settings))


def refusal(wanted: AmazonReviewsConfig) -> str:
    with pytest.raises(DatasetError) as caught:
        wanted.read()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_named_categories_come_from_the_hub(hub: Server, tmp_path: Path) -> None:
    before = config().fingerprint_inputs()
    assert hub.asked == [], "nothing is downloaded for it"
    raw = config().read()
    assert raw.events.height == 120
    assert raw.source["categories"] == list(CATEGORIES[:2])
    below = tmp_path / "cache" / "downloads" / "amazon-2023"
    for name, content in FILES.items():
        assert ((below / name).read_bytes() == content) if "Toys" not in name else not (below / name).exists()
    assert not list(below.rglob("*.part*"))
    count = len(hub.asked)
    assert count == 4
    assert config().read().events.equals(raw.events)
    assert len(hub.asked) == count, "what is there is not asked for"
    assert config().fingerprint_inputs() == before
    assert config(categories=CATEGORIES).read().events.height == 180
    assert len(hub.asked) == count + 2


def test_files_come_over_several_connections(server: Server) -> None:
    server.delay = 0.1
    config(url=server.url, categories=CATEGORIES).read()
    assert 2 <= server.most_busy <= 4


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_continued(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.ranges = ranges
    name = "raw/review_categories/All_Beauty.jsonl"
    server.faults[f"/{name}"] = ["cut", "cut"]
    raw = config(url=server.url, path=str(tmp_path / "mine")).read()
    assert raw.events.height == 120
    assert (tmp_path / "mine" / name).read_bytes() == FILES[name]
    half = len(FILES[name]) // 2
    second = half + (len(FILES[name]) - half) // 2
    third = f"bytes={second}-" if ranges else f"bytes={half}-"
    assert server.requests_of("/All_Beauty.jsonl") == [None, f"bytes={half}-", third]


def test_a_stopped_download_goes_on_at_the_next_call(server: Server, tmp_path: Path) -> None:
    name = "raw/review_categories/All_Beauty.jsonl"
    server.faults[f"/{name}"] = ["cut"] * 5
    folder = tmp_path / "mine"
    assert "run again to continue" in refusal(config(url=server.url, path=str(folder)))
    assert not (folder / name).exists()
    part = (folder / f"{name}.part").stat().st_size
    assert config(url=server.url, path=str(folder)).read().events.height == 120
    assert server.requests_of("/All_Beauty.jsonl")[-1] == f"bytes={part}-"


def test_the_token_goes_to_the_hub_alone(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.token = TOKEN
    other = Server({})
    other.files, other.RequestHandlerClass = hub.files, SecondHandler
    for store in running(other):
        hub.sends_to = store
        assert config().read().events.height == 120
        assert {shown for _, _, shown in hub.asked} == {f"Bearer {TOKEN}"}
        assert len(store.asked) == 4
        assert {shown for _, _, shown in store.asked} == {None}
        assert config(url=f"{store.url}/{hub.below}", categories=("Toys",)).read().events.height == 60
        assert {shown for _, _, shown in store.asked} == {None}


def test_a_redirect_within_the_hub_keeps_the_token(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.token = TOKEN
    hub.RequestHandlerClass = Turning
    assert config(categories=("Toys",)).read().events.height == 60
    assert {shown for _, _, shown in hub.asked} == {f"Bearer {TOKEN}"}


class Turning(Handler):
    def do_GET(self) -> None:
        if self.path.endswith("?here"):
            self.path = self.path.removesuffix("?here")
            super().do_GET()
            return
        self.server.asked.append((self.path, None, self.headers.get("Authorization")))
        self.send_response(307)
        self.send_header("Location", f"{self.path}?here")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_content_that_the_hub_does_not_vouch_for_is_refused(hub: Server, tmp_path: Path) -> None:
    other = Server({})
    other.files, other.RequestHandlerClass = hub.files, SecondHandler
    for store in running(other):
        hub.sends_to = store
        name = f"/{hub.below}raw/review_categories/All_Beauty.jsonl"
        hub.faults[name] = ["other content"]
        assert "what came is not the expected file: its sha256" in refusal(config())
        assert not list((tmp_path / "cache").rglob("All_Beauty.jsonl*"))
        store.files = dict(store.files) | {name: store.files[name] + b"more"}
        assert "bytes, expected" in refusal(config())


@pytest.mark.parametrize("kind", ["seconds", "date"])
def test_a_server_that_asks_for_patience_gets_it(server: Server, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    waited: list[float] = []
    monkeypatch.setattr(download_module._Source, "sleep", lambda source, seconds: waited.append(seconds))
    asked = "7" if kind == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
    server.faults["/raw/meta_categories/meta_Toys.jsonl"] = [f"429 {asked}", "429 99999"]
    assert config(url=server.url, categories=("Toys",)).read().events.height == 60
    assert len(waited) == 2
    assert 5 < waited[0] <= 7
    assert waited[1] == download_module.LONGEST_WAIT


def test_a_refusal_names_the_token(hub: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    said = refusal(config())
    assert re.search(r"the server answers 401 .*; set HF_TOKEN to a token", said), said
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    said = refusal(config())
    assert re.search(r"the server answers 403 .*; the token in HF_TOKEN may not read it", said), said
    assert "hf_other" not in said
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert refusal(config(url=hub.url)).endswith("the server answers 401 Unauthorized"), "it is not the hub"
    assert hub.asked[-1][2] is None


def test_an_unknown_category_is_told(server: Server) -> None:
    said = refusal(config(url=server.url, categories=("Tois",)))
    assert re.search(r"none of raw/\w+/(meta_)?Tois\.jsonl, .*such as All_Beauty", said), said
    assert {path for path, _, _ in server.asked} <= {
        f"/raw/{name}{end}"
        for name in ("review_categories/Tois.jsonl", "meta_categories/meta_Tois.jsonl")
        for end in ("", ".gz")
    }


def test_a_category_without_products(server: Server) -> None:
    del server.files["/raw/meta_categories/meta_Toys.jsonl"]
    settings: dict[str, Any] = {"url": server.url, "categories": ("Toys",)}
    assert "meta_Toys.jsonl" in refusal(config(**settings))
    assert config(**settings, metadata="optional").read().source["categories_without_products"] == ["Toys"]


@pytest.mark.parametrize(("year", "below"), [(2018, "categoryFilesSmall/"), (2018, ""), (2014, "")])
def test_older_releases_by_their_address(year: int, below: str) -> None:
    before = "reviews_" if year == 2014 else ""
    products = "metaFiles2/" if below else ""
    files = {
        f"{below}{before}C_5.json.gz": gzip.compress(lines([old_review(number) for number in range(9)])),
        f"{products}meta_C.json.gz": gzip.compress(lines([{"asin": "B1", "title": "One"}])),
        f"{before}C.json.gz": gzip.compress(lines([old_review(number) for number in range(12)])),
    }
    for server in running(Server(files, "public/")):
        wanted: dict[str, Any] = {"year": year, "categories": ("C",), "url": server.url}
        assert config(**wanted).read().events.height == 9
        assert config(**wanted, core=False, metadata="none").read().events.height == 12


def test_the_mirror_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path / "mirror"))
    for name in FILES:
        if "Toys" not in name:
            path = tmp_path / "mirror" / "amazon-2023" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(FILES[name])
    assert config(url=server.url).read().events.height == 120
    assert server.asked == []
    assert "files" in config(url=server.url).fingerprint_inputs(), "known by its content"
    assert config(url=server.url, categories=CATEGORIES).read().events.height == 180


def test_any_address_of_fsspec_is_a_folder(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    for name, content in FILES.items():
        fs.pipe_file(f"/{tmp_path.name}/{name}", content)
    address = f"memory://{tmp_path.name}"
    wanted = AmazonReviewsConfig(path=address)
    assert len(wanted.fingerprint_inputs()["files"]) == 6
    assert not (tmp_path / "cache").exists(), "nothing is copied for it"
    assert wanted.read().events.height == 180
    assert wanted.read().source["categories"] == list(CATEGORIES)
    fs.pipe_file(f"/{tmp_path.name}/raw/review_categories/Toys.jsonl", lines([review(999)]))
    assert wanted.read().events.height == 121, "a file that has changed is copied again"
    for name, content in FILES.items():
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).write_bytes(content)
    assert AmazonReviewsConfig(path=f"file://{tmp_path}/here").read().events.height == 180
    with pytest.raises(DatasetError, match="no reviews of 'C'"):
        AmazonReviewsConfig(path=address, categories=("C",)).read()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"download": True}, "name the `categories`"),
        ({"download": True, "categories": ("C",), "year": 2018}, "write `url`"),
        ({"url": "https://host/x"}, "download: true"),
        ({"path": "https://host/x"}, "`url` instead"),
        ({"path": "s3://host/x", "download": True, "categories": ("C",)}, "on this machine"),
        ({"variant": "generated", "download": True}, "generated"),
    ],
)
def test_contradictions_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AmazonReviewsConfig(**settings)


def test_the_first_failure_ends_the_other_transfers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "BLOCK_BYTES", 10)
    monkeypatch.setattr(storage_module, "BACKOFF", 0.0)
    fs = fsspec.filesystem("memory")
    fs.pipe_file(f"/{tmp_path.name}/long", bytes(10_000_000))
    storage = Storage(f"memory://{tmp_path.name}")
    started = threading.Event()

    def long(watch: Watch) -> Path:
        started.set()
        return storage.fetch("long", tmp_path / "long", watch=watch)

    def short(watch: Watch) -> Path:
        started.wait(20)
        return storage.fetch("missing", tmp_path / "missing", watch=watch)

    with pytest.raises(DatasetError, match="missing: there is no such file"):
        in_parallel([long, short, long], "files", connections=2)
    assert not (tmp_path / "long").exists()
