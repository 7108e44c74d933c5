"""Pictures a second: fetched from a local server with faults, decoded, brought to 224 and written, on the same cores.

    taskset -c 0,1 python benchmarks/images.py --write

The server is a process of its own on the same cores. A share of the addresses fails in every way that the server knows;
what the client says of each is compared with what the server was told to do, and a second run must ask for nothing that
was settled for good. `images_per_second` is by the clock, and so falls with whatever else the machine does (`load` is
its load average before each round); `images_per_second_by_cpu_time` is what the two cores give if both are free: images
over half the processor time of client and server together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from moerec.dataset.generators.amazon_tastes import GeneratedReviews, draw_products
from moerec.dataset.generators.image_server import PASSING, ImageServer, ImageServerConfig
from moerec.dataset.generators.product_pictures import write_pictures
from moerec.files import write_json
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.picture_store import PictureStore, fetch_pictures
from moerec.modalities.pictures import PictureConfig
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "images.json"
REASONS = {
    "error": "http 500",
    "busy": "http 503",
    "slow-down": "http 429",
    "stall": "timeout",
    "drip": "timeout",
    "truncated": "cut short",
    "hang-up": "no connection",
    "nonsense": "not an HTTP answer",
    "missing": "http 404",
    "endless": "larger than 2000000 bytes",
    "redirect-loop": "more than 5 redirects",
    "redirect-private": "address of a private network",
    "redirect-link-local": "address of a private network",
    "redirect-file": "not an http or https address",
    "html": "not an image",
    "one-pixel": "smaller than 16 pixels",
    "bomb": "more than 50000000 pixels",
    "half-a-file": "damaged image",
}
"""What must become of an address with a fault."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--form", choices=["jpeg", "array"], default="jpeg")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moerec-") as folder:
        place = Path(folder)
        shape = GeneratedReviews(users=1, items=options.images)
        ids = [f"B0{item:08d}" for item in range(options.images)]
        write_pictures(place / "made", shape, draw_products(shape), ids)
        rounds = [one_round(place / "made", place / f"cache{number}", ids, options) for number in range(options.rounds)]
    rates, by_cpu = ([turn[name] for turn in rounds] for name in ("images_per_second", "images_per_second_by_cpu_time"))
    result = {
        "command": "taskset -c 0,1 python benchmarks/images.py --write",
        "environment": environment() | {"cores_used": len(os.sched_getaffinity(0))},
        "images": options.images,
        "share_of_faults": options.faults,
        "kinds_of_faults": sorted(REASONS),
        "form": options.form,
        "images_per_second": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "images_per_second_by_cpu_time": {"median": statistics.median(by_cpu), "min": min(by_cpu), "max": max(by_cpu)},
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rounds": rounds,
    }
    print(json.dumps(result, indent=2))
    if options.write:
        write_json(RESULTS, result)


def one_round(made: Path, cache: Path, ids: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Fetch everything into an empty cache, compare with what the server did, and fetch again."""
    fetch = FetchConfig(
        allow_networks=("127.0.0.0/8",),
        host_connections=32,
        timeout_seconds=2.0,
        attempts=2,
        backoff_seconds=0.05,
        maximum_bytes=2_000_000,
    )
    picture = PictureConfig(form=options.form)
    load = os.getloadavg()[0]
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    with serving(made, options.faults) as address:
        urls = [f"{address}/I/{item_id}._AC_SL1500_.jpg" for item_id in ids]
        processor = time.process_time()
        first = fetch_pictures(urls, cache, fetch, picture)
        processor = time.process_time() - processor
        asked = asked_of(address)
        again = fetch_pictures(urls, cache, fetch, picture)
        asked_again = asked_of(address)
    faults = compare(cache, picture, urls, options.faults)
    passing = sum(count for kind, count in faults.items() if kind in PASSING)
    assert first.addresses == len(urls) == first.ok + sum(first.reasons.values())
    assert first.ok == len(urls) - sum(faults.values())
    assert again.kept == len(urls) - passing - faults["endless"] - sum(
        faults[kind] for kind in ("redirect-private", "redirect-link-local", "redirect-file")
    ), "what was settled is not done again"
    # The second run is counted in, and so is the server's start.
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    server = ended.ru_utime + ended.ru_stime - children.ru_utime - children.ru_stime
    return {
        "load": round(load, 1),
        "seconds": round(first.seconds, 2),
        "images_per_second": round(first.addresses / first.seconds, 1),
        "images_per_second_by_cpu_time": round(2 * first.addresses / (processor + server), 1),
        "pictures_per_second": round(first.ok / first.seconds, 1),
        "client_cpu_seconds": round(processor, 2),
        "server_cpu_seconds": round(server, 2),
        "megabytes": round(first.bytes / 1e6, 1),
        "addresses": first.addresses,
        "ok": first.ok,
        "reasons": first.reasons,
        "faults_of_the_server": dict(sorted(faults.items())),
        "requests": first.requests,
        "connections": first.connections,
        "requests_counted_by_the_server": sum(asked.values()),
        "second_run": {
            "seconds": round(again.seconds, 2),
            "kept": again.kept,
            "requests_counted_by_the_server": sum(asked_again.values()) - sum(asked.values()),
        },
    }


def compare(cache: Path, picture: PictureConfig, urls: list[str], share: float) -> Counter[str]:
    """The faults that the server has, by kind; raises AssertionError unless each address came to its right end."""
    told = ImageServer(Path(), ImageServerConfig(faults=share))
    faults: Counter[str] = Counter()
    with PictureStore(cache, picture) as store:
        for url in urls:
            kind = told.fault_of(re.sub(r"^http://[^/]*", "", url))
            found = store.find(url)
            assert found.reason == (None if kind is None else REASONS[kind]), (url, kind, found.reason)
            faults.update([] if kind is None else [kind])
    return faults


def asked_of(address: str) -> Counter[str]:
    """What the server was asked for."""
    with urlopen(f"{address}/asked") as answer:
        return Counter(json.load(answer))


@contextmanager
def serving(made: Path, faults: float) -> Iterator[str]:
    """A server in a process of its own; its address."""
    command = [sys.executable, "-m", "moerec.cli", "generate", "image-server", str(made)]
    options = ["--port", "0", "--faults", str(faults), "--retry-after", "0"]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().split(" ")[0]
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
