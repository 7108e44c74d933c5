"""Shards: examples a second that a training gets, with raw pictures and with JPEG files, from one process and two.

    python benchmarks/shards.py [--examples 6144] [--rounds 3] [--write]

Examples are generated: a record with texts of a review's length, and a picture of 224x224 pixels, smooth enough to
be compressed as photographs are. `feed` is what the main process receives from `BatchStream` in batches of 64, pictures
as one uint8 tensor. Beside JPEG stands bare decoding: the same files from memory, decoded by Pillow to arrays, in a
loop that does nothing else; both in one process, in turns. Beside raw pictures stands the library webdataset, which
reads the same files. Wall-clock time counts the load of others; time of the processor is given where all work is
in one process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from moerec.batches.shard_batches import ShardLoader
from moerec.batches.workers import BatchStream
from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.reader import ShardReader
from moerec.dataset.shards.writer import write_shards
from moerec.files import write_json
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "shards.json"
SIDE, BATCH = 224, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=6144, help="of each kind")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each measurement")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), options.examples, options.rounds)
    command = " ".join(["python benchmarks/shards.py", *sys.argv[1:]])
    load = [round(value, 1) for value in os.getloadavg()]
    result = {"command": command, "load_average": load} | found | {"environment": environment()}
    if options.write:
        write_json(RESULTS, result)
    print(json.dumps({key: value for key, value in result.items() if key != "environment"}, indent=2))


def measured(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Examples a second of everything."""
    writing, sizes = {}, {}
    for kind in ("raw", "jpeg"):
        started = time.perf_counter()
        write_shards(str(folder / kind), lambda start, kind=kind: made(kind, start, count))
        writing[kind] = round(count / (time.perf_counter() - started))
        sizes[kind] = sum(path.stat().st_size for path in (folder / kind).glob("*.tar")) // count
    readers = {kind: ShardReader(str(folder / kind)) for kind in ("raw", "jpeg")}
    feeds: dict[str, list[float]] = {}
    for kind, reader in readers.items():
        for workers in (0, 2):
            feeds[f"{kind}, {workers or 'no'} workers"] = list(feed(reader, workers, rounds))
    found: dict[str, Any] = {
        "examples": count,
        "bytes_of_an_example": sizes,
        "written_a_second_with_making_them": writing,
        "fed_a_second": {name: summary(values) for name, values in feeds.items()},
    }
    found["jpeg_beside_bare_decoding"] = turns(
        {"shards": lambda: read_all(readers["jpeg"]), "bare": bare(readers["jpeg"])}, count, rounds
    )
    found["raw_beside_webdataset"] = turns(
        {"shards": lambda: read_all(readers["raw"]), "webdataset": webdataset(folder / "raw")}, count, rounds
    )
    found["random_access_a_second"] = round(random_access(readers["raw"]))
    return found


def made(kind: str, start: int, count: int) -> Iterator[ShardExample]:
    """Generated examples; a picture is a few soft waves with some noise."""
    axis = np.linspace(0, 6.3, SIDE)
    for number in range(start, count):
        random = np.random.default_rng(number)
        waves = [np.sin(random.uniform(0.5, 6) * axis + random.uniform(0, 6)) for _ in range(6)]
        planes = [np.outer(waves[channel], waves[channel + 3]) for channel in range(3)]
        noise = random.integers(-14, 15, (SIDE, SIDE, 3), dtype=np.int16)
        picture = ((np.stack(planes, axis=2) + 1) * 120 + 8 + noise).clip(0, 255).astype(np.uint8)  # [H, W, 3]
        words = " ".join(f"word{word}" for word in random.integers(0, 5000, 120))
        record = {"user_id": f"u{number % 997}", "good": number % 2, "text": words, "history": [words[:300]] * 3}
        if kind == "raw":
            yield ShardExample(f"{number:032x}", record, picture)
        else:
            stream = io.BytesIO()
            Image.fromarray(picture).save(stream, "JPEG", quality=85)
            yield ShardExample(f"{number:032x}", record, stream.getvalue())


def feed(reader: ShardReader, workers: int, rounds: int) -> Iterator[float]:
    """Examples a second of each epoch after the first, in which the workers start."""
    loader = ShardLoader(reader, reader.order(0), BATCH)
    with BatchStream([loader], workers) as stream:
        for epoch in range(rounds + 1):
            started, got = time.perf_counter(), 0
            for batch in stream.epoch(0, epoch):
                got += len(batch.keys)
                assert batch.pictures.shape == (len(batch.keys), SIDE, SIDE, 3)
            assert got == len(reader)
            if epoch:
                yield got / (time.perf_counter() - started)


def turns(sides: dict[str, Callable[[], int]], count: int, rounds: int) -> dict[str, Any]:
    """Each side in turns, in this process: examples a second, and the first side's speed as a share of the second's."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            assert side() == count
            seconds[name].append(time.perf_counter() - wall)
            busy[name].append(time.process_time() - cpu)
    first, second = sides
    ratios = [other / ours for ours, other in zip(busy[first][1:], busy[second][1:], strict=True)]
    return {
        "a_second": {name: round(count / statistics.median(values[1:])) for name, values in seconds.items()},
        "a_second_of_processor": {name: round(count / statistics.median(values[1:])) for name, values in busy.items()},
        "speed_by_processor": round(statistics.median(ratios), 3),
    }


def read_all(reader: ShardReader) -> int:
    """One epoch in batches."""
    batches = ShardLoader(reader, reader.order(0), BATCH).batches(0)
    return sum(len(batches[number].keys) for number in range(len(batches)))


def bare(reader: ShardReader) -> Callable[[], int]:
    """Decode the same files, which are in memory already."""
    files = [bytes(one.picture) for one in reader.read(range(len(reader))) if one.picture is not None]

    def decode() -> int:
        for content in files:
            with Image.open(io.BytesIO(content)) as image:
                array = np.asarray(image.convert("RGB"))
            assert array.shape == (SIDE, SIDE, 3)
        return len(files)

    return decode


def webdataset(folder: Path) -> Callable[[], int]:
    """Read the same files by the library, shuffled in a buffer of as many examples, and put them into batches."""
    import webdataset as wds

    files = sorted(map(str, folder.glob("*.tar")))

    def read() -> int:
        stream = wds.WebDataset(files, shardshuffle=len(files), seed=0).shuffle(1000).decode()
        got = 0
        for batch in stream.batched(BATCH, collation_fn=list, partial=True):
            pictures = torch.from_numpy(np.stack([sample["u8.npy"] for sample in batch]))  # [B, H, W, 3]
            got += len(pictures)
        return got

    return read


def random_access(reader: ShardReader) -> float:
    """Single examples by key, anywhere in the set."""
    keys = [f"{int(number):032x}" for number in np.random.default_rng(0).integers(0, len(reader), 2000)]
    started = time.perf_counter()
    for key in keys:
        assert reader.by_key(key).key == key
    return len(keys) / (time.perf_counter() - started)


def summary(values: list[float]) -> dict[str, int]:
    return {"median": round(statistics.median(values)), "least": round(min(values)), "most": round(max(values))}


if __name__ == "__main__":
    main()
