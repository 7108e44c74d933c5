"""Full ranking: time on MovieLens-1M, time and memory on 100,000 users x 1,000,000 items, beside plain torch.

    MOEREC_MIRROR=folder python benchmarks/full_ranking.py [--users 100000] [--items 1000000] [--write]

On MovieLens-1M an untrained SASRec (64 wide, 2 blocks, L=200) is judged on the test part: histories are encoded, all
unseen items scored, targets placed, lists made, all metrics computed. The plain side pads every history to L,
multiplies, masks, takes `topk` and counts what is above the target. Both are measured in turns.

On the big catalogue vectors are random and a user is the mean of eight items, so what is measured is the ranking. Our
side judges all users given; the plain side, whole rows of scores for blocks of users, judges a sample of them, and its
time for all of them is extrapolated. Memory is the peak of the process without the items' vectors, so Python and torch
are in it. Each measurement has a process of its own. Wall-clock time counts the load of others; time of the processor
does not, but for what they take of the shared core.

Shape letters: B users of a block, L padded length, N items of the index, D width.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from moerec.artifacts import ArtifactCache
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import FIRST_ITEM
from moerec.evaluation.evaluate import EvaluationResult, evaluate
from moerec.evaluation.protocols import EvaluationCases, ProtocolConfig, make_cases
from moerec.files import write_json
from moerec.models.roles import Retriever
from moerec.models.sasrec import SASRecConfig
from moerec.recipe import parse_recipe
from moerec.run.folder import environment
from moerec.run.judge import Judge
from moerec.run.prepare import prepare

RESULTS = Path(__file__).parent / "results" / "full_ranking.json"
WIDTH, LENGTH, BLOCK, TOP = 64, 200, 256, 20
EVENTS = 8
"""Events of a user's history beside the big catalogue."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=100_000, help="users beside the big catalogue")
    parser.add_argument("--items", type=int, default=1_000_000, help="items of the big catalogue")
    parser.add_argument("--sample", type=int, default=512, help="users that the plain side ranks there")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side on MovieLens-1M; 0 leaves it out")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    parser.add_argument("--only", nargs=2, metavar=("WHAT", "THREADS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        what, threads = options.only
        torch.set_num_threads(int(threads))
        print(json.dumps(MEASURED[what](options)))
        return
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if options.write and RESULTS.is_file() else {}
    if options.rounds:
        found["ml_1m"] = recorded({f"threads_{threads}": apart("ml-1m", threads) for threads in (1, 2)})
    big = recorded(beside(apart("ours", 1), apart("plain", 1)))
    found["big_catalogue"] = found.get("big_catalogue", {}) | {f"{options.users} x {options.items}": big}
    found["environment"] = environment()
    if options.write:
        write_json(RESULTS, found)
    print(json.dumps({key: value for key, value in found.items() if key != "environment"}, indent=2))


def recorded(measurement: dict[str, Any]) -> dict[str, Any]:
    """The same with the command, and how many programs wanted the processor just after it."""
    command = " ".join(["python benchmarks/full_ranking.py", *sys.argv[1:]])
    return {"command": command, "load_average": [round(load, 1) for load in os.getloadavg()]} | measurement


def apart(what: str, threads: int) -> dict[str, Any]:
    """A measurement in a process of its own, so that peaks of memory do not mix."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", what, str(threads)]
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# --- MovieLens-1M


def ml_1m(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the whole evaluation, ours and plain, in turns."""
    recipe = parse_recipe(
        {
            "name": "full-ranking",
            "dataset": {"source": "movielens", "variant": "ml-1m-sequences"},
            "retriever": {"kind": "sasrec"},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(recipe, ArtifactCache(Path(folder)), Console(quiet=True))
        test = Judge(recipe, prepared, "test")
        torch.manual_seed(0)
        config = SASRecConfig(width=WIDTH, blocks=2, heads=2, max_length=LENGTH)
        model = config.build(torch.from_numpy(prepared.trained)).eval()
        results: list[EvaluationResult] = []
        sides: dict[str, Callable[[], Any]] = {
            "moerec": lambda: results.append(evaluate(model, test.cases, test.protocol)),
            "plain torch": lambda: plain(model, test.cases, np.arange(len(test.cases)), LENGTH),
        }
        found: dict[str, Any] = {"users": len(test.cases), "items": prepared.dataset.num_items}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for number in range(options.rounds + 1):
            for name, run in sides.items():
                wall, processor = time.perf_counter(), time.process_time()
                run()
                if number > 0:  # the first turn warms up
                    seconds[name].append((time.perf_counter() - wall, time.process_time() - processor))
        for name, turns in seconds.items():
            walls, processors = zip(*turns, strict=True)
            found[name] = {"seconds": summary(walls), "processor_seconds": summary(processors)}
    return found


def plain(model: Retriever, cases: EvaluationCases, chosen: np.ndarray[Any, Any], block: int) -> Tensor:
    """How many unseen items score above the target of each case, the way it is usually written.

    Args:
        model: the retriever.
        cases: with one target each.
        chosen: the cases.
        block: users that are scored at once; histories are padded to the model's longest.
    """
    above = []
    with torch.inference_mode():
        vectors = model.encode_items()  # [N, D]
        for start in range(0, len(chosen), block):
            some = chosen[start : start + block]
            batch = cases.batch(some)
            items, lengths = padded(batch, min(LENGTH, model.max_length))
            scores = model.encode_padded(items, lengths, vectors) @ vectors.T  # [B, N]
            scores[:, :FIRST_ITEM] = -torch.inf
            rows, _ = batch.padded_index()
            scores[rows, batch.items] = -torch.inf
            targets = torch.from_numpy(cases.target_items[cases.target_offsets[some]])
            scores.topk(TOP, dim=1)
            above.append((scores > scores.gather(1, targets[:, None])).sum(1))
    return torch.cat(above)


def padded(batch: SequenceBatch, length: int) -> tuple[Tensor, Tensor]:
    """The most recent events, [B, L] padded on the right, and their numbers [B]."""
    recent = batch.last(length)
    rows, columns = recent.padded_index()
    items = torch.zeros(len(batch), length, dtype=torch.int64)
    items[rows, columns] = recent.items
    return items, recent.lengths


# --- the big catalogue


class MeanOfItems(Retriever):
    """The smallest retriever: random item vectors, a user is the mean of the history."""

    def __init__(self, num_indices: int) -> None:
        super().__init__()
        drawn = torch.randn(num_indices, WIDTH, generator=torch.Generator().manual_seed(0))
        self.vectors = nn.Parameter(drawn, requires_grad=False)
        self.empty_history = nn.Parameter(torch.zeros(WIDTH))

    @property
    def num_indices(self) -> int:
        """See `Retriever`."""
        return len(self.vectors)

    @property
    def max_length(self) -> int:
        """See `Retriever`."""
        return EVENTS

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """See `Retriever`."""
        return self.vectors if items is None else self.vectors[items]

    def encode_events(self, batch: SequenceBatch, item_vectors: Tensor | None = None) -> Tensor:
        """See `Retriever`; not asked for here."""
        raise NotImplementedError

    def encode_padded(
        self, items: Tensor, lengths: Tensor, item_vectors: Tensor | None = None, timestamps: Tensor | None = None
    ) -> Tensor:
        """See `Retriever`; every history has EVENTS events."""
        return self.vectors[items].mean(1)


def big_cases(users: int, items: int) -> EvaluationCases:
    """Histories of random items and one random target each."""
    drawn = np.random.default_rng(0).integers(FIRST_ITEM, items + FIRST_ITEM, size=(users, EVENTS + 1))
    codes = np.tile([0] * EVENTS + [2], users)
    return make_cases(np.repeat(np.arange(users), EVENTS + 1), drawn.ravel(), None, codes, ProtocolConfig())


def beside(our: dict[str, Any], their: dict[str, Any]) -> dict[str, Any]:
    """Both sides, and how far they agree on how many items stand before the targets of the sample."""
    one, other = (np.array(side.pop("above_of_sample")) for side in (our, their))
    count = min(len(one), len(other))
    difference = np.abs(one[:count] - other[:count])
    return {
        "moerec": our,
        "plain torch": their,
        "ratio_of_seconds": round(their["seconds"] / our["seconds"], 2),
        "ratio_of_processor_seconds": round(their["processor_seconds"] / our["processor_seconds"], 2),
        "largest_difference_of_a_rank": int(difference.max()),
    }


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """All users by `evaluate`."""
    model, cases = MeanOfItems(options.items + FIRST_ITEM), big_cases(options.users, options.items)
    started = time.process_time()
    result = evaluate(model, cases, cases.protocol)
    return measured(model, len(cases), result.seconds, time.process_time() - started) | {
        "users_judged": len(cases),
        "above_of_sample": result.places.better[: options.sample].tolist(),
    }


def whole_rows(options: argparse.Namespace) -> dict[str, Any]:
    """A sample of the users by whole rows of scores."""
    model, cases = MeanOfItems(options.items + FIRST_ITEM), big_cases(options.users, options.items)
    wall, processor = time.perf_counter(), time.process_time()
    above = plain(model, cases, np.arange(options.sample), block=64)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    times = len(cases) / options.sample
    return measured(model, len(cases), wall * times, processor * times) | {
        "users_judged": options.sample,
        "above_of_sample": above.tolist(),
    }


MEASURED: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "ml-1m": ml_1m,
    "ours": ours,
    "plain": whole_rows,
}


def measured(model: MeanOfItems, users: int, seconds: float, processor_seconds: float) -> dict[str, Any]:
    """Time for all users, and the peak of memory beside the items' vectors."""
    peak, vectors = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, model.vectors.nbytes
    return {
        "users": users,
        "items": model.num_indices - FIRST_ITEM,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor_seconds, 1),
        "vectors_gib": round(vectors / 2**30, 3),
        "peak_gib_beside_vectors": round((peak - vectors) / 2**30, 3),
    }


def summary(values: Any) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
