"""Speed of MMoE training beside torch-rechub and a plain list of experts, in turns within one run.

    python benchmarks/mixtures.py [--threads 2] [--write]

All sides train the same shape (about 329,000 parameters) on the same generated rows in batches of 1,024: each in a
process of its own, the rival in an environment of its own that is made at the first call. `torch-rechub` gets batches
that lie ready as tensors, which its users do not have; `torch-rechub, own loader` is its trainer with its loader. Our
side cuts its shuffled batches from the example table, as every training does. `--write` records results/mixtures.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rivals.conversation import Worker
from rivals.environments import PACKAGES, python_of

from moerec.files import write_json
from moerec.run.folder import environment

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "mixtures.json"
ROWS, BATCH = 102_400, 1024
SIZES = (2000, 1000, 700, 400, 200, 60, 30, 12, 8, 4)
NUMBERS = 10
SHAPE = {"width": 16, "experts": 8, "expert": [128, 64], "head": [32], "dropout": 0.1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        training = time_training(write_data(Path(folder)), options.threads, options.rounds, options.steps)
    result = {
        "command": f"python benchmarks/mixtures.py --threads {options.threads}",
        "environment": environment(),
        "rivals": PACKAGES,
        "training": training,
    }
    if options.write:
        recorded = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        write_json(RESULTS, recorded | {f"speed_threads_{options.threads}": result})
    print(json.dumps(training, indent=2))


def write_data(folder: Path) -> Path:
    """Generated rows: codes, numbers, two labels."""
    generator = np.random.default_rng(0)
    path = folder / "data.npz"
    np.savez(
        path,
        codes=np.stack([generator.integers(1, size, ROWS) for size in SIZES], axis=1),
        sizes=np.array(SIZES),
        numbers=generator.normal(size=(ROWS, NUMBERS)).astype(np.float32),
        labels=(generator.random((ROWS, 2)) < (0.3, 0.1)).astype(np.float32),
    )
    return path


def time_training(data: Path, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Rows per second of all sides, in turns."""
    common = {"path": str(data), "shape": SHAPE, "threads": threads, "batch": BATCH}
    own, rival = HERE / "mixtures_worker.py", HERE / "rivals" / "torch_rechub_worker.py"
    workers = {
        "torch-rechub": Worker(python_of("torch-rechub"), rival, threads=threads),
        "plain torch": Worker(sys.executable, own, threads=threads),
        "moerec": Worker(sys.executable, own, threads=threads),
    }
    try:
        parameters = {
            "torch-rechub": workers["torch-rechub"].ask("setup", kind="mmoe", **common)["parameters"],
            "plain torch": workers["plain torch"].ask("setup", side="plain", **common)["parameters"],
            "moerec": workers["moerec"].ask("setup", side="moerec", **common)["parameters"],
        }
        orders = {
            "torch-rechub, own loader": ("torch-rechub", "loader_steps", max(steps // 6, 3)),
            **{name: (name, "steps", steps) for name in workers},
        }
        rates: dict[str, list[float]] = {name: [] for name in orders}
        for number in range(rounds + 1):
            for name, (worker, order, count) in orders.items():
                seconds = workers[worker].ask(order, count=count)["seconds"]
                if number:  # the first turn warms up
                    rates[name].append(count * BATCH / seconds)
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "model": f"MMoE, {SHAPE['experts']} experts {SHAPE['expert']}, heads {SHAPE['head']}, two binary tasks",
        "inputs": f"{len(SIZES)} categorical ({sum(SIZES)} codes, {SHAPE['width']} wide), {NUMBERS} numbers",
        "batch_size": BATCH,
        "parameters": parameters,
        "rows_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio": {
            name: summary([ours / theirs for ours, theirs in zip(rates["moerec"], values, strict=True)])
            for name, values in rates.items()
            if name != "moerec"
        },
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and range of the turns."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
