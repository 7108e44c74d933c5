"""Small logs of reviews for the tests of streams, with all that makes order and ties matter."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl

from moerec.engines.file_log import FileLog
from moerec.engines.stream import Stream
from moerec.engines.stream_parts import StreamParts
from moerec.engines.stream_reviews import ReviewRules
from moerec.engines.stream_store import StreamStore
from moerec.features.reviews import EVENT_SCHEMA, ReviewExamplesConfig, merge, summarise

DAY = 86_400_000
FIRST_DAY = 1_672_531_200_000  # 2023-01-01
CONFIG = ReviewExamplesConfig(keep_five_stars=0.5)


def reviews(seed: int, count: int, users: int = 6, items: int = 12, days: int = 360) -> list[dict[str, Any]]:
    """Reviews in the order of time; several of a user at the same time, in any order; no review twice."""
    draw = random.Random(seed)
    found = {
        (f"u{draw.randrange(users)}", f"i{draw.randrange(items)}", FIRST_DAY + draw.randrange(days) * DAY)
        for _ in range(count)
    }
    ordered = sorted(sorted(found), key=lambda each: (each[2], draw.random()))
    return [
        {
            "user_id": user,
            "parent_asin": item,
            "timestamp": time,
            "rating": float(draw.choice([1, 3, 4, 5, 5, 5])),
            "title": f"title {number}",
            "text": draw.choice(["", "good", "bad"]),
        }
        for number, (user, item, time) in enumerate(ordered)
    ]


def products(items: int = 12) -> dict[str, list[Any]]:
    """Category, price and item index of most products; some lack one, the last has no row."""
    prices = [9.99, None, 0.1, 250.0, 3.3]
    return {f"i{number}": [number % 4, prices[number % 5], number + 2] for number in range(items - 1)}


def events_of(log: list[dict[str, Any]], known: dict[str, list[Any]]) -> pl.DataFrame:
    """The frame that the batch functions read."""
    rows = []
    for review in log:
        category, price, *_ = known.get(review["parent_asin"], [0, None])
        rows.append((review["user_id"], review["parent_asin"], review["timestamp"], review["rating"], category, price))
    return pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row")


def rules_of(events: pl.DataFrame, config: ReviewExamplesConfig = CONFIG, **others: Any) -> ReviewRules:
    """Fitted on the train part of the events."""
    return ReviewRules(config, merge([summarise(events, config)], ["a", "b", "c"], config), seed=3, **others)


def line(record: Any) -> bytes:
    return json.dumps(record).encode() + b"\n"


def write_log(folder: Path, lines: list[bytes], name: str = "a.jsonl") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("ab") as stream:
        stream.writelines(lines)


def open_stream(folder: Path, rules: ReviewRules, known: dict[str, list[Any]], batch_records: int = 10) -> Stream:
    """A stream of FOLDER/log with everything it keeps beside."""
    store = StreamStore(folder / "state", rules.settings(), lambda transaction: transaction.put_items(known.items()))
    log = FileLog(folder / "log", store.position)
    return Stream(log, store, StreamParts(folder / "out"), rules, batch_records)


def output(folder: Path, kind: str) -> pl.DataFrame:
    """All visible parts of a kind, in order."""
    paths = sorted((folder / "out" / kind).glob("part-*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in paths]) if paths else pl.DataFrame()
