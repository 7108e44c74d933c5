"""Speed and memory of reviews to examples: the local engine on generated files of Amazon Reviews 2023.

    python benchmarks/reviews.py [--reviews 5000000] [--raw FOLDER] [--write]

Rows of `local`, each by name:

- `raw_to_examples`: raw files with texts to finished examples, texts, items, rejects; all steps, both processes.
- `make`: of these the step that reads clean events, makes profiles and negatives, and writes examples.
- `profiles_and_negatives`: `make_examples` alone, from frame to frame, in two processes side by side; also with all
  five-star reviews kept, where every review becomes an example with its negatives.
- `memory`: largest sum over all processes of what each holds (its share of what they share), on the raw files and on
  their first half.

Wall time depends on what else the machine does, so the processor time stands beside it: `per_second_by_cpu` is
reviews / (processor seconds / processes), the rate if every process had a core of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl

from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_files import find_files
from moerec.engines.local import LocalEngineConfig, run_local
from moerec.engines.state_files import load_state
from moerec.features.reviews import EVENT_SCHEMA, ReviewExamplesConfig, make_examples
from moerec.files import write_json

RESULTS = Path(__file__).parent / "results" / "reviews.json"
# Generated reviews end before the default days.
RULE = ReviewExamplesConfig(train_until="2022-12-31", valid_until="2023-03-31")
EACH_USER = 8
DIRT = 0.001
SAMPLE_SECONDS = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=5_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--raw", type=Path, help="folder of the generated files; made if it is not there")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    parser.add_argument("--engine", nargs=2, type=Path, metavar=("RAW", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        run_engine(*options.engine, options.processes)
        return
    with tempfile.TemporaryDirectory(prefix="moerec-reviews-") as folder:
        work = Path(folder)
        raw = options.raw or work / "raw"
        if not raw.exists():
            shape = GeneratedReviews(
                users=options.reviews // EACH_USER,
                items=options.items,
                reviews_per_user=EACH_USER,
                dirt=DIRT,
                compressed=False,
            )
            generate_amazon_reviews(raw, shape)
        load = os.getloadavg()[0]
        half = measured(first_half(raw, work / "half"), work / "half-out", options.processes)
        whole = measured(raw, work / "out", options.processes)
        result = {
            "command": " ".join(["python benchmarks/reviews.py", *sys.argv[1:]]).replace(f" --raw {options.raw}", ""),
            "data": f"{whole['reviews']:,} generated reviews with texts by {options.reviews // EACH_USER:,} users of "
            f"{options.items:,} products; {DIRT:.1%} broken lines beside; plain files of "
            f"{sum(path.stat().st_size for path in raw.rglob('*.jsonl')) / 1e9:.2f} GB",
            "processes": options.processes,
            "load_of_the_machine_before": round(load, 1),
            "raw_to_examples": rates(whole["reviews"], whole["seconds"], whole["cpu_seconds"], options.processes)
            | {"examples": whole["examples"], "seconds_of_steps": whole["steps"]},
            "make": {"per_second": round(whole["reviews"] / whole["steps"]["make"])},
            "profiles_and_negatives": {
                "keep_five_stars 0.2": features(work / "out", RULE, options.processes),
                "keep_five_stars 1": features(
                    work / "out", RULE.model_copy(update={"keep_five_stars": 1.0}), options.processes
                ),
            },
            "memory": {f"{each['reviews']} reviews": {"peak_mib": each["peak_mib"]} for each in (half, whole)},
        }
    print(json.dumps(result, indent=2))
    if options.write:
        record(result)


def record(result: dict[str, Any]) -> None:
    """Put the rows of the local engine into the results; those of others stay."""
    from moerec.run.folder import environment

    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    write_json(RESULTS, known | {"local": result | {"environment": environment()}})


def first_half(raw: Path, target: Path) -> Path:
    """The first half of the lines of each file of reviews, and all products."""
    for path in raw.rglob("*.jsonl"):
        copy = target / path.relative_to(raw)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.name.startswith("meta_"):
            copy.symlink_to(path.resolve())
            continue
        left = path.stat().st_size // 2
        with path.open("rb") as source, copy.open("wb") as half:
            while left > 0:
                lines = source.readlines(1 << 20)
                half.writelines(lines)
                left -= sum(map(len, lines))
    return target


def run_engine(raw: Path, out: Path, processes: int) -> None:
    """The engine in a process of its own, which says what it did."""
    files = find_files(2023, (), str(raw), None, "required")
    began = time.perf_counter()
    result = run_local(files, 2023, RULE, out, settings=LocalEngineConfig(processes=processes))
    found = {
        "seconds": time.perf_counter() - began,
        "steps": {name: round(seconds, 2) for name, seconds in result.seconds.items()},
        "reviews": result.manifest["reviews"],
        "examples": result.manifest["examples"],
    }
    print(json.dumps(found))


def measured(raw: Path, out: Path, processes: int, program: Path = Path(__file__)) -> dict[str, Any]:
    """A run of the engine: what it says, its processor time, and the most memory that all its processes held."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(program), "--engine", str(raw), str(out), "--processes", str(processes)]
    engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while engine.poll() is None:
        peak = max(peak, sum(held(process) for process in family(engine.pid)))
        time.sleep(SAMPLE_SECONDS)
    assert engine.stdout is not None
    found: dict[str, Any] = json.loads(engine.stdout.read())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return found | {"cpu_seconds": used, "peak_mib": round(peak / 1024)}


def family(process: int) -> list[int]:
    """A process and all below it."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [process, *(each for child in children for each in family(int(child)))]


def held(process: int) -> int:
    """KiB of memory that a process holds; of pages that several share, its share."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def features(out: Path, config: ReviewExamplesConfig, processes: int) -> dict[str, Any]:
    """The rate of `make_examples` alone."""
    parts = sorted((out / "events").glob("part-*.parquet"))
    shares = [(out, parts[number::processes], config) for number in range(processes)]
    os.environ["POLARS_MAX_THREADS"] = "1"  # of the processes that start now
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(share_of_features, shares))
    reviews = sum(each[0] for each in found)
    wall, cpu = max(each[2] for each in found), sum(each[3] for each in found)
    return rates(reviews, wall, cpu, processes) | {"examples": sum(each[1] for each in found)}


def share_of_features(share: tuple[Path, list[Path], ReviewExamplesConfig]) -> tuple[int, int, float, float]:
    """Reviews, examples, seconds and processor seconds of some partitions; reading is not counted."""
    out, parts, config = share
    state = load_state(out / "state")
    reviews = examples = 0
    wall = cpu = 0.0
    for part in [parts[0], *parts]:  # the first one warms up
        events = pl.read_parquet(part, columns=list(EVENT_SCHEMA))
        began = time.perf_counter(), time.process_time()
        made = make_examples(events, state, config, 0).height
        if part is parts[0] and wall == 0:
            wall = 1e-9
            continue
        wall, cpu = wall + time.perf_counter() - began[0], cpu + time.process_time() - began[1]
        reviews, examples = reviews + events.height, examples + made
    return reviews, examples, wall, cpu


def rates(reviews: int, seconds: float, cpu_seconds: float, processes: int) -> dict[str, Any]:
    return {
        "reviews": reviews,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "per_second": round(reviews / seconds),
        "per_second_by_cpu": round(reviews / (cpu_seconds / processes)),
    }


if __name__ == "__main__":
    main()
