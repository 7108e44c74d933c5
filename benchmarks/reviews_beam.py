"""Reviews to examples on Apache Beam's direct runner, beside the local engine on the same files.

    python benchmarks/reviews_beam.py [--reviews 400000] [--write]

The direct runner is the one inside the process (FnApiRunner), and once more with a worker process for each core. Both
engines are processes of their own, and all of each is counted: imports, reading, both shuffles, writing. `times` is how
many times as fast the local engine is by wall time; `times_by_cpu` the same if every process had a core of its own.
Afterwards the examples are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from reviews import DIRT, EACH_USER, RESULTS, RULE, measured, rates

from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.engines.beam.engine import BeamConfig, find_addresses, run_beam
from moerec.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=400_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="of the direct runner")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    parser.add_argument("--engine", nargs=2, type=Path, metavar=("RAW", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        run_engine(*options.engine, options.processes)
        return
    with tempfile.TemporaryDirectory(prefix="moerec-reviews-") as folder:
        work = Path(folder)
        users = options.reviews // EACH_USER
        shape = GeneratedReviews(users, options.items, reviews_per_user=EACH_USER, dirt=DIRT, compressed=False)
        generate_amazon_reviews(work / "raw", shape)
        load = os.getloadavg()[0]
        local = measured(work / "raw", work / "local", options.processes)
        beams = {
            processes: measured(work / "raw", work / f"beam-{processes}", processes, Path(__file__))
            for processes in options.workers
        }
        for processes in beams:
            require_equal(work / "local", work / f"beam-{processes}")
        result: dict[str, Any] = {
            "command": " ".join(["python benchmarks/reviews_beam.py", *sys.argv[1:]]),
            "data": f"{local['reviews']:,} generated reviews with texts by {users:,} users of {options.items:,} "
            f"products; {DIRT:.1%} broken lines beside; plain files",
            "load_of_the_machine_before": round(load, 1),
            "local": row(local, options.processes),
        }
        for processes, beam in beams.items():
            found = row(beam, processes)
            result[f"beam, {processes} worker{'s'[: processes - 1]}"] = found | {
                name.replace("per_second", "times"): round(result["local"][name] / found[name], 1)
                for name in ("per_second", "per_second_by_cpu")
            }
    print(json.dumps(result, indent=2))
    if options.write:
        from moerec.run.folder import environment

        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        write_json(RESULTS, known | {"beam": result | {"environment": environment()}})


def run_engine(raw: Path, out: Path, processes: int) -> None:
    """The engine in a process of its own, which says what it did."""
    modes = ("--direct_running_mode=multi_processing", f"--direct_num_workers={processes}") if processes > 1 else ()
    began = time.perf_counter()
    settings = BeamConfig(options=modes)
    manifest = run_beam(find_addresses(2023, (), str(raw)), 2023, RULE, str(out), settings=settings).manifest
    found = {name: manifest[name] for name in ("reviews", "examples")}
    print(json.dumps(found | {"seconds": time.perf_counter() - began}))


def row(found: dict[str, Any], processes: int) -> dict[str, Any]:
    speed = rates(found["reviews"], found["seconds"], found["cpu_seconds"], processes)
    return speed | {"peak_mib": found["peak_mib"]}


def require_equal(local: Path, beam: Path) -> None:
    """The examples of both, row by row."""
    tables = [pl.read_parquet(out / "examples" / "part-*.parquet").sort("key") for out in (local, beam)]
    if not tables[0].equals(tables[1]):
        raise SystemExit("the engines do not give the same examples")


if __name__ == "__main__":
    main()
