"""Speed of the statistics features on a generated log, beside plain Polars expressions for the same few numbers.

    POLARS_MAX_THREADS=2 python benchmarks/features.py [--write]

Events per second of `fit` (all events are train events) and of `apply` where the examples are the events, and where
they are looked up (the events in a drawn order). The plain side computes the count, the mean and deviation of the
label, the gaps and one window, with `over` and `rolling`; ours computes these and everything else that the feature
gives. Both sides are measured in turns, and their numbers must be equal. Threads of both: POLARS_MAX_THREADS.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moerec.dataset.schema import FIRST_ITEM
from moerec.features.feature import Catalogue, FeatureConfig
from moerec.features.item_statistics import ItemStatisticsConfig
from moerec.features.user_statistics import UserStatisticsConfig
from moerec.files import write_json
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "features.json"
DAY = 86_400_000
WINDOW = 7
GAPS = ("since_first", "since_previous")
FEATURES: dict[str, FeatureConfig] = {
    "user_statistics": UserStatisticsConfig(labels=("rating",)),
    "item_statistics": ItemStatisticsConfig(labels=("rating",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[1_000_000, 5_000_000])
    parser.add_argument("--users", type=int, default=50_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": f"POLARS_MAX_THREADS={pl.thread_pool_size()} python benchmarks/features.py",
        "environment": environment() | {"threads": pl.thread_pool_size()},
        "log": f"{options.users:,} users, {options.items:,} items by a power law, three years, ratings 1 to 5",
        "rounds": options.rounds,
        "sizes": {},
    }
    for count in options.events:
        events = generated(count, options.users, options.items)
        catalogue = Catalogue(pl.DataFrame(), options.items + FIRST_ITEM)
        result["sizes"][f"{count}"] = {
            name: measured(feature, name.partition("_")[0], events, catalogue, options.rounds)
            for name, feature in FEATURES.items()
        }
    print(json.dumps(result, indent=2))
    if options.write:
        write_json(RESULTS, result)


def generated(count: int, users: int, items: int, seed: int = 0) -> pl.DataFrame:
    """A log by user and time; item popularity falls by a power law, a tenth of the events share a user's time."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, items + 1) ** 0.9
    times = generator.integers(0, 3 * 365 * 86_400, count) * 1000
    owners = generator.integers(0, users, count)
    order = np.lexsort((times, owners))
    owners, times = owners[order], times[order]
    tied = np.flatnonzero((generator.random(count - 1) < 0.1) & (owners[1:] == owners[:-1])) + 1
    times[tied] = times[tied - 1]
    return pl.DataFrame(
        {
            "user": owners.astype(np.int32),
            "item": (generator.choice(items, count, p=weights / weights.sum()) + FIRST_ITEM).astype(np.int32),
            "timestamp": times,
            "rating": generator.integers(1, 6, count).astype(np.float64),
        }
    ).sort("user", "timestamp", maintain_order=True)


def measured(
    feature: FeatureConfig, side: str, events: pl.DataFrame, catalogue: Catalogue, rounds: int
) -> dict[str, Any]:
    """Rates of one feature, and how many times as long the plain expressions take."""
    state = feature.fit(events, catalogue)
    order = np.random.default_rng(1).permutation(events.height)
    drawn = events[order]
    compare(feature.apply(events, events, state), plain(events, side), side)
    turns: dict[str, Callable[[], object]] = {
        "fit": lambda: feature.fit(events, catalogue),
        "apply": lambda: feature.apply(events, events, state),
        "apply_looked_up": lambda: feature.apply(events, drawn, state),
        "plain_polars": lambda: plain(events, side),
    }
    wall: dict[str, list[float]] = {name: [] for name in turns}
    cpu: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            started = time.perf_counter(), time.process_time()
            turn()
            wall[name].append(time.perf_counter() - started[0])
            cpu[name].append(time.process_time() - started[1])
    return {
        "columns": len(feature.specs),
        "state_bytes_per_train_event": round(sum(a.nbytes for a in state.arrays.values()) / events.height, 1),
        "million_events_per_second": {name: rates(events.height, seconds) for name, seconds in wall.items()},
        "million_events_per_cpu_second": {name: rates(events.height, seconds) for name, seconds in cpu.items()},
        "plain_polars_time_over_apply_time": ratio(wall["plain_polars"], wall["apply"]),
        "plain_polars_cpu_time_over_apply_cpu_time": ratio(cpu["plain_polars"], cpu["apply"]),
    }


def rates(count: int, seconds: list[float]) -> dict[str, float]:
    """Millions in a second, of each turn."""
    return summary([count / value / 1e6 for value in seconds])


def ratio(theirs: list[float], ours: list[float]) -> dict[str, float]:
    """How many times as long theirs took, turn by turn."""
    return summary([one / two for one, two in zip(theirs, ours, strict=True)])


def plain(events: pl.DataFrame, side: str) -> pl.DataFrame:
    """Count, mean, deviation, gaps and a window over strictly earlier events, as one writes them in Polars."""
    rating, time_column = pl.col("rating"), pl.col("timestamp")
    log = events.with_row_index().sort(side, "timestamp", maintain_order=True)
    recent = log.rolling("timestamp", period=f"{WINDOW * DAY}i", closed="left", group_by=side).agg(pl.len())
    before = log.with_columns(
        pl.int_range(pl.len()).over(side).alias("count"),
        (rating.cum_sum() - rating).over(side).alias("sum"),
        (rating.pow(2).cum_sum() - rating.pow(2)).over(side).alias("squares"),
        time_column.first().over(side).alias("first"),
        time_column.shift(1).over(side).alias("previous"),
        recent["len"].alias("recent"),
    ).with_columns(pl.col("count", "sum", "squares", "previous").first().over(side, "timestamp"))
    count, total = pl.col("count"), pl.col("sum")
    known = count > 0
    return before.sort("index").select(
        count.cast(pl.Float64),
        pl.col("recent").cast(pl.Float64),
        pl.when(known).then((time_column - pl.col("first")) / 1000).alias("since_first"),
        pl.when(known).then((time_column - pl.col("previous")) / 1000).alias("since_previous"),
        pl.when(known).then(total / count).alias("mean"),
        pl.when(count > 1)
        .then(((pl.col("squares") - total**2 / count).clip(0) / (count - 1)).sqrt())
        .alias("deviation"),
    )


def compare(ours: pl.DataFrame, theirs: pl.DataFrame, side: str) -> None:
    """Raises AssertionError unless both sides found the same."""
    names = {"count": f"{side}_count", "recent": f"{side}_count_{WINDOW}d", "mean": f"{side}_rating_mean"}
    names |= {"deviation": f"{side}_rating_deviation"}
    names |= {"since_first": "item_age"} if side == "item" else {name: f"user_{name}" for name in GAPS}
    for name, own in names.items():
        one, two = (column.fill_null(np.nan).to_numpy() for column in (ours[own], theirs[name]))
        np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-6, err_msg=name)


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
