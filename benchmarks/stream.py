"""Work of the stream engine: micro-batches behind a log, and behind one ten times as long.

    OMP_NUM_THREADS=1 python benchmarks/stream.py [--write]

The store begins with the users of prepared examples of 1x and of 10x as many reviews: by ten times as many users, or by
the same users. Then micro-batches of the same number of new reviews arrive in both stores in turns. What is measured:
seconds of a micro-batch (everything is flushed to disk), seconds of the processor, rows read from the store, steps of
SQLite's machine. Beside it, how long it takes to make all examples of the prepared reviews anew in memory, which a full
re-run would do after reading and sorting them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moerec.engines.manifest import MANIFEST
from moerec.engines.state_files import save_state
from moerec.engines.stream import Stream, open_stream
from moerec.features.reviews import ReviewExamplesConfig, make_examples, merge, summarise, with_keys
from moerec.files import write_json
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "stream.json"
FIRST, DAY = 1_600_000_000_000, 86_400_000
CATEGORIES = ("Beauty", "Books", "Games", "Tools")
CONFIG = ReviewExamplesConfig()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=100_000, help="length of the short log")
    parser.add_argument("--users", type=int, default=10_000, help="users of the short log")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--new", type=int, default=2_000, help="reviews of a micro-batch")
    parser.add_argument("--rounds", type=int, default=7, help="micro-batches on each side")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/stream.py",
        "environment": environment(),
        "log": f"{options.reviews:,} reviews of {options.users:,} users, {options.items:,} items, drawn uniformly",
        "new": options.new,
        "rounds": options.rounds,
        "ten times": {},
    }
    for name, users in (("the users", 10 * options.users), ("the reviews of a user", options.users)):
        with tempfile.TemporaryDirectory() as folder:
            result["ten times"][name] = compared(Path(folder), options, users)
    print(json.dumps(result, indent=2))
    if options.write:
        write_json(RESULTS, result)


def compared(folder: Path, options: argparse.Namespace, users: int) -> dict[str, Any]:
    """Both sides in turns."""
    with ExitStack() as opened:
        sides = {}
        for side, count, of_users in (("1x", options.reviews, options.users), ("10x", 10 * options.reviews, users)):
            events = drawn(count, of_users, options.items, seed=0)
            begun = prepared(folder / side, events)
            where = (folder / side / "log", folder / side, folder / side / "kept", folder / side / "out")
            where[0].mkdir()
            began = time.perf_counter()
            stream = opened.enter_context(open_stream(*where, batch_records=options.new))
            begun["seconds to begin with the users"] = round(time.perf_counter() - began, 2)
            stream.recover()
            sides[side] = (stream, where[0], begun)
        measured: dict[str, list[tuple[float, float, int, int]]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            # The same users on both sides; the first micro-batch warms up.
            events = drawn(
                options.new, options.users, options.items, seed=1 + number, first=FIRST + (900 + number) * DAY
            )
            for side, (stream, log, _) in sides.items():
                write(log, events)
                work = one_batch(stream, options.new)
                if number:
                    measured[side].append(work)
        found = {}
        for side, (_, _, begun) in sides.items():
            seconds, processor, rows, steps = zip(*measured[side], strict=True)
            found[side] = {
                "seconds": {"median": round(statistics.median(seconds), 3), "min": round(min(seconds), 3)},
                "processor seconds": {
                    "median": round(statistics.median(processor), 3),
                    "min": round(min(processor), 3),
                },
                "reviews per processor second": round(options.new / statistics.median(processor)),
                "rows read": round(statistics.mean(rows)),
                "sqlite steps": round(statistics.mean(steps)),
            } | begun
        short, long = found["1x"], found["10x"]
        ratios = {name: round(long[name] / short[name], 2) for name in ("rows read", "sqlite steps")}
        for name in ("seconds", "processor seconds"):
            # The least of the rounds: what else runs on the machine only adds.
            ratios[name] = round(long[name]["min"] / short[name]["min"], 2)
        return found | {"10x over 1x": ratios}


def one_batch(stream: Stream, count: int) -> tuple[float, float, int, int]:
    """Seconds, seconds of the processor, rows read and steps of SQLite's machine of the next micro-batch."""
    steps, rows = itertools.count(), stream.store.rows_read
    stream.store.connection.set_progress_handler(lambda: next(steps) and None, 1000)
    began, worked = time.perf_counter(), time.process_time()
    counts = stream.step(0.0)
    seconds, processor = time.perf_counter() - began, time.process_time() - worked
    assert counts is not None
    assert counts["reviews"] == count
    return seconds, processor, stream.store.rows_read - rows, 1000 * next(steps)


def drawn(count: int, users: int, items: int, seed: int, first: int = FIRST) -> pl.DataFrame:
    """Reviews of distinct users and times, by user and time, as the engines write them."""
    draw = np.random.default_rng(seed)
    span = 850 * DAY if first == FIRST else DAY
    item = draw.integers(items, size=count)
    frame = pl.DataFrame(
        {
            "user_id": pl.Series(draw.integers(users, size=count)).cast(pl.String).str.zfill(9),
            "item_id": pl.Series(item).cast(pl.String).str.zfill(9),
            "timestamp": first + draw.permutation(span // count * np.arange(count)),
            "rating": draw.integers(1, 6, count).astype(np.float64),
            "category": pl.Series(item % (len(CATEGORIES) + 1), dtype=pl.Int32),
            "price": item % 97 + 0.99,
        }
    )
    return frame.sort("user_id", "timestamp", "item_id")


def prepared(folder: Path, events: pl.DataFrame) -> dict[str, Any]:
    """A folder as the local engine makes it, as far as a stream reads it; how long its examples take."""
    (folder / "events").mkdir(parents=True)
    with_keys(events).write_parquet(folder / "events/part-00000.parquet")
    events.select("item_id", "category", "price").unique("item_id").write_parquet(folder / "items.parquet")
    state = merge([summarise(events, CONFIG)], CATEGORIES, CONFIG)
    save_state(folder / "state", state)
    manifest = {"config": CONFIG.model_dump(mode="json"), "seed": 0, "year": 2023, "fingerprint": f"{len(events)}"}
    write_json(folder / MANIFEST, manifest)
    began = time.perf_counter()
    make_examples(events, state, CONFIG, 0)
    return {"seconds to make all examples anew": round(time.perf_counter() - began, 2)}


def write(log: Path, events: pl.DataFrame) -> None:
    """Append reviews in the order of time, as lines of the release of 2023."""
    with (log / "reviews.jsonl").open("a", encoding="utf-8") as stream:
        for row in events.sort("timestamp").iter_rows(named=True):
            text = "It does what it says, and it came in two days. " * 3
            review = {name: row[name] for name in ("user_id", "timestamp", "rating")}
            stream.write(json.dumps({**review, "parent_asin": row["item_id"], "title": "Good", "text": text}) + "\n")


if __name__ == "__main__":
    main()
