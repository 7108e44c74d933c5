"""Reading goes on where it stopped, in any process, and from places that break and a cache that is small."""

import multiprocessing
import pickle
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from moerec.dataset import download as download_module
from moerec.dataset import storage as storage_module
from moerec.dataset.shards.cache import FileCache
from moerec.dataset.shards.index import StoredFile, shard_name
from moerec.dataset.shards.reader import ShardReader
from moerec.dataset.shards.writer import write_shards
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError
from tests.dataset.shards.made_examples import example, examples_from

COUNT, SIZE = 60, 8


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_shards(str(folder), lambda start: examples_from(start, COUNT), examples_per_shard=SIZE)
    return folder


@pytest.fixture
def remote(written: Path, request: pytest.FixtureRequest) -> str:
    """The same shards in a store that is no disk."""
    folder = f"shards-{request.node.name}"
    fs = fsspec.filesystem("memory")
    fs.put(str(written), f"/{folder}", recursive=True)
    return f"memory://{folder}"


class Server(ThreadingHTTPServer):
    """Serves a folder, with ranges; each of `cuts` ends one answer that many bytes early."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.cuts: dict[str, list[float]] = {}
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(SimpleHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        asked = self.headers.get("Range")
        self.server.asked.append((name, asked))
        path = self.server.folder / name
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{name}"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        cuts = self.server.cuts.get(name, [])
        kept = int((len(content) - start) * (cuts.pop(0) if cuts else 1))
        self.wfile.write(content[start : start + kept])
        self.close_connection = True


@pytest.fixture
def server(written: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module.urllib.request, "getproxies", dict)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(written) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def cache_bytes(written: Path, shards: float) -> int:
    sizes = [entry.shard.size + entry.offsets.size for entry in ShardReader(str(written)).index.shards]
    return int(max(sizes) * shards) + 1024


@pytest.mark.parametrize("stopped", [0, 1, 17, 45, 60])
@pytest.mark.parametrize("workers", [1, 3])
def test_reading_goes_on_at_any_place(written: Path, stopped: int, workers: int) -> None:
    reader = ShardReader(str(written))
    epoch = reader.order(4, window=20).epoch(1)
    whole = list(reader.examples(epoch))
    assert len(whole) == COUNT
    parts = [list(reader.examples(epoch, stopped, worker=at, workers=workers, block=4)) for at in range(workers)]
    keys = [one.key for part in parts for one in part]
    assert sorted(keys) == sorted(one.key for one in whole[stopped:])
    if workers == 1:
        assert parts[0] == whole[stopped:]


def _read_here(reader: ShardReader, rank: int, queue: Any) -> None:
    order = reader.order(0, rank=rank, ranks=2, window=16)
    queue.put((rank, [one.record["number"] for one in reader.examples(order.epoch(0))]))


def test_spawned_processes_read_their_shares(written: Path) -> None:
    reader = ShardReader(str(written))
    assert reader[3] == example(3)
    reader.find("f")
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_read_here, args=(reader, rank, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    for rank in range(2):
        order = reader.order(0, rank=rank, ranks=2, window=16)
        assert found[rank] == order.epoch(0).numbers(0, COUNT).tolist()
    assert sorted(found[0] + found[1]) == list(range(COUNT))
    assert len(pickle.dumps(reader)) < 20_000


def test_arrays_are_views_of_the_file_that_nobody_can_change(written: Path) -> None:
    picture = ShardReader(str(written))[2].picture
    assert not isinstance(picture, bytes)
    assert picture is not None
    assert not picture.flags.owndata
    assert not picture.flags.writeable


@pytest.mark.parametrize("ahead", [1, 3])
def test_a_remote_set_is_read_through_a_small_cache(remote: str, written: Path, tmp_path: Path, ahead: int) -> None:
    room = cache_bytes(written, 3 + ahead)
    reader = ShardReader(remote, cache_folder=tmp_path, cache_bytes=room, ahead=ahead)
    order = reader.order(1, window=10)
    read = []
    for one in reader.examples(order.epoch(0)):
        read.append(one)
        assert reader.cache is not None
        assert reader.cache.used() <= room
    assert read == list(ShardReader(str(written)).examples(order.epoch(0)))
    assert reader.by_key(read[5].key) == read[5]
    assert not list(tmp_path.glob("*.part"))


def test_the_next_shards_are_fetched_meanwhile(remote: str, written: Path, tmp_path: Path) -> None:
    reader = ShardReader(remote, cache_folder=tmp_path, ahead=2)
    assert reader.cache is not None
    files = [entry.shard for entry in reader.index.shards]
    reading = reader.examples(reader.order(None, window=4).epoch(0))
    for number in (0, 3):
        while next(reading) != example(number * SIZE):
            pass
        deadline = time.monotonic() + 20
        while not reader.cache.holds(files[number + 2]) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert [reader.cache.holds(file) for file in files] == [at <= number + 2 for at in range(len(files))]
    reading.close()  # type: ignore[attr-defined]
    assert not reader.cache.holds(files[6]), "the thread ends with the reading"


def test_what_was_not_used_for_longest_goes_first(remote: str, written: Path, tmp_path: Path) -> None:
    index = ShardReader(str(written)).index
    files = [entry.shard for entry in index.shards]
    cache = FileCache(tmp_path, sum(file.size for file in files[:3]) + 1024)
    storage = Storage(remote)
    for number in (0, 1, 2, 0):
        cache.get(storage, files[number])
    cache.get(storage, files[-1])  # the last shard is small, so one goes
    assert [cache.holds(file) for file in (*files[:3], files[-1])] == [True, False, True, True]
    with pytest.raises(DatasetError, match="make the cache larger"):
        FileCache(tmp_path, 5000).get(storage, StoredFile("x.tar", 5000, "0" * 64))


def test_what_killed_processes_left_takes_no_room_for_good(remote: str, written: Path, tmp_path: Path) -> None:
    file = ShardReader(str(written)).index.shards[0].shard
    room = file.size + 2048
    (tmp_path / f"{'a' * 64}.tar.part").write_bytes(bytes(room - 100))
    for claim in range(64):
        (tmp_path / f"claim-{claim:02d}").write_text(f"{room} {'b' * 64}.tar.part")
    cache = FileCache(tmp_path, room)
    path = cache.get(Storage(remote), file)
    assert path.read_bytes() == (written / file.name).read_bytes()
    assert cache.used() == file.size


def test_a_cache_too_small_for_a_window_is_refused(remote: str, written: Path, tmp_path: Path) -> None:
    reader = ShardReader(remote, cache_folder=tmp_path, cache_bytes=cache_bytes(written, 2))
    with pytest.raises(DatasetError, match=r"holds 2 shards.*needs"):
        reader.order(0)


def _read_remote(url: str, folder: Path, room: int, seed: int, queue: Any) -> None:
    reader = ShardReader(url, cache_folder=folder, cache_bytes=room, ahead=1)
    used = 0
    numbers = []
    for one in reader.examples(reader.order(seed, window=8).epoch(0)):
        numbers.append(one.record["number"])
        assert reader.cache is not None
        used = max(used, reader.cache.used())
    queue.put((sorted(numbers), used))


def test_processes_share_a_cache(server: Server, written: Path, tmp_path: Path) -> None:
    room = cache_bytes(written, 4)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    arguments = (server.url, tmp_path, room)
    processes = [context.Process(target=_read_remote, args=(*arguments, seed, queue)) for seed in range(2)]
    for process in processes:
        process.start()
    for _ in processes:
        numbers, used = queue.get(timeout=60)
        assert numbers == list(range(COUNT))
        assert used <= room
    for process in processes:
        process.join()


def test_a_connection_that_breaks_goes_on_where_it_was(
    server: Server, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module._Source, "sleep", lambda source, seconds: source.check())
    cut = shard_name(2)
    server.cuts = {cut: [0.4, 0.5], "index.json": [0.1], "shard-000005.json": [0.9]}
    reader = ShardReader(server.url, cache_folder=tmp_path)
    assert list(reader.examples(reader.order(None).epoch(0))) == list(examples_from(0, COUNT))
    size = (written / cut).stat().st_size
    first = int(size * 0.4)
    second = first + int((size - first) * 0.5)
    assert [asked for name, asked in server.asked if name == cut] == [None, f"bytes={first}-", f"bytes={second}-"]
    before = len(server.asked)
    again = ShardReader(server.url, cache_folder=tmp_path)
    assert again.read(range(COUNT)) == list(examples_from(0, COUNT))
    assert [name for name, _ in server.asked[before:]] == ["index.json"], "the rest is in the cache"


def test_what_comes_damaged_is_never_taken(server: Server, written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(written, folder)
    content = bytearray((folder / shard_name(1)).read_bytes())
    content[600] ^= 255
    (folder / shard_name(1)).write_bytes(content)
    server.folder = folder
    reader = ShardReader(server.url, cache_folder=tmp_path / "cache")
    assert reader[0] == example(0)
    with pytest.raises(DatasetError, match="sha256"):
        reader[SIZE]
    assert reader.cache is not None
    assert not reader.cache.holds(reader.index.shards[1].shard)


class Breaking:
    """A file system whose every second answer fails, or is short."""

    def __init__(self, fs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        whole = fs.cat_file

        def cat_file(path: str, start: int | None = None, end: int | None = None) -> Any:
            self.calls += 1
            if start is not None and self.calls % 3 == 0:
                raise ConnectionResetError("the line is dead")
            content = whole(path, start=start, end=end)
            return content[:-1] if start is not None and self.calls % 3 == 1 else content

        monkeypatch.setattr(fs, "cat_file", cat_file)


def test_a_store_that_breaks_is_asked_again_for_the_same_block(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(storage_module, "BACKOFF", 0.0)
    broken = Breaking(fsspec.filesystem("memory"), monkeypatch)
    reader = ShardReader(remote, cache_folder=tmp_path)
    assert reader.read(range(COUNT)) == list(examples_from(0, COUNT))
    assert broken.calls > 3 * len(reader.index.shards)


def test_a_place_without_shards_is_refused_in_one_line(tmp_path: Path, refusal: Any) -> None:
    assert "index.json" in refusal(ShardReader, str(tmp_path))
    assert "index.json" in refusal(ShardReader, "memory://nowhere")
    assert "library" in refusal(ShardReader, "gs://bucket/nowhere")
    (tmp_path / "index.json").write_text("{")
    assert "damaged" in refusal(ShardReader, str(tmp_path))
    assert "nothing can be written" in refusal(Storage("https://host/folder").write, "x", b"")
