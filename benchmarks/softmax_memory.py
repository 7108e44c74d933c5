"""Peak memory of the full softmax over a million items, by the setting that bounds it.

    python benchmarks/softmax_memory.py [--write]

Each setting runs in a process of its own, one thread: forward and backward of 1,024 events over 1,000,000 items of
width 64, with and without `exclude_seen`, for which each event has a sequence of its own with eight items met. What is
counted is the resident memory at its peak less what the process held before the loss: vectors of users and items. That
is the logits at once, which the setting bounds, and the gradient of the item vectors, which nothing can bound: 244 MiB
while it is made and as much again when it is scaled. `--write` records results/softmax_memory.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from moerec.files import write_json
from moerec.losses.retrieval import FullSoftmaxConfig, NextItems, SeenItems
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "softmax_memory.json"
EVENTS, ITEMS, WIDTH, MET = 1024, 1_000_000, 64, 8
SETTINGS = tuple({"memory_mb": size, "exclude_seen": seen} for size in (64, 512) for seen in (True, False))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record the result")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measure(json.loads(options.one))))
        return
    rows = []
    for setting in SETTINGS:
        command = [sys.executable, __file__, "--one", json.dumps(setting)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append({"setting": setting} | json.loads(done.stdout))
        print(rows[-1])
    if options.write:
        shape = {"events": EVENTS, "items": ITEMS, "width": WIDTH, "met": MET}
        command_line = "python benchmarks/softmax_memory.py --write"
        write_json(RESULTS, {"command": command_line, "environment": environment(), "shape": shape, "rows": rows})


def measure(setting: dict[str, Any]) -> dict[str, Any]:
    """Memory in MiB and CPU seconds of one forward and backward pass."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    users = torch.randn(EVENTS, WIDTH, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, requires_grad=True)
    events = NextItems(users, items, torch.randint(ITEMS, (EVENTS,)))
    before, started = peak_mib(), time.process_time()
    if setting["exclude_seen"]:
        rows = torch.arange(EVENTS)
        met = rows.repeat(MET), torch.randint(ITEMS, (EVENTS * MET,)), torch.zeros(EVENTS * MET, dtype=torch.int64)
        seen = SeenItems.of(met, EVENTS, ITEMS, rows, torch.zeros(EVENTS, dtype=torch.int16))
        events = replace(events, seen=seen)
    FullSoftmaxConfig.model_validate(setting)(events).backward()
    seconds = time.process_time() - started
    return {"before_mib": before, "more_at_peak_mib": peak_mib() - before, "cpu_seconds": round(seconds, 1)}


def peak_mib() -> int:
    """Most resident memory of this process so far."""
    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return round(kibibytes / 1024)


if __name__ == "__main__":
    main()
