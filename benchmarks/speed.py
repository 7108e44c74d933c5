"""Speed on ML-100K: preparing, full-rank evaluation, training beside a plain torch loop of the same model.

    python benchmarks/speed.py [--threads 1]

Ratios are what counts: both sides of a ratio are measured in turns within one run, on one machine. Results go to
results/speed.json with versions and machine. The plain loop is what most tutorials do: sequences padded to L, one
cross-entropy over all items at every place, padding ignored.

Shape letters: B sequences, L padded length, N items of the index, D width.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.artifacts import ArtifactCache
from moerec.batches.histories import TrainHistories
from moerec.evaluation.evaluate import evaluate
from moerec.files import write_json
from moerec.models.sasrec import SASRec, SASRecConfig
from moerec.recipe import Recipe, parse_recipe
from moerec.run.folder import environment
from moerec.run.judge import Judge
from moerec.run.prepare import Prepared, prepare
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "speed.json"
WIDTH, BLOCKS, HEADS, LENGTH, BATCH, DROPOUT = 64, 2, 2, 50, 128, 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = parse_recipe(
        {
            "name": "speed",
            "dataset": {"source": "movielens", "variant": "ml-100k"},
            "retriever": {"kind": "sasrec"},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        prepare_seconds, prepared = time_prepare(recipe, options.rounds, Path(folder))
        result: dict[str, Any] = {
            "command": f"python benchmarks/speed.py --threads {options.threads}",
            "environment": environment(),
            "prepare_ml_100k_s": prepare_seconds,
            "training": time_training(prepared, options.rounds),
            "evaluation": time_evaluation(recipe, prepared, options.rounds),
        }
    recorded = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    write_json(RESULTS, recorded | {f"threads_{options.threads}": result})
    print(json.dumps({key: value for key, value in result.items() if key != "environment"}, indent=2))


def time_prepare(recipe: Recipe, rounds: int, folder: Path) -> tuple[dict[str, float], Prepared]:
    """Seconds from the source's files to a split data set with candidate lists on disk, each time from nothing."""
    seconds = []
    for number in range(rounds):
        started = time.perf_counter()
        prepared = prepare(recipe, ArtifactCache(folder / str(number)), Console(quiet=True))
        seconds.append(time.perf_counter() - started)
    return summary(seconds), prepared


def time_training(prepared: Prepared, rounds: int) -> dict[str, Any]:
    """Targets per second of the plain loop and of ours, in turns."""
    histories = prepared.train
    sides: dict[str, Callable[[], tuple[int, float]]] = {
        "plain torch": plain_round(histories),
        "moerec, seen items are negatives too": our_round(prepared, histories, exclude_seen=False),
        "moerec": our_round(prepared, histories, exclude_seen=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            targets, seconds = run()
            if number > 0:  # the first turn warms up
                rates[name].append(targets / seconds)
    plain = rates["plain torch"]
    return {
        "model": f"SASRec, {WIDTH} wide, {BLOCKS} blocks, {HEADS} heads, L={LENGTH}, batch {BATCH}, full softmax",
        "targets_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio_to_plain": {
            name: summary([ours / theirs for ours, theirs in zip(values, plain, strict=True)])
            for name, values in rates.items()
            if name != "plain torch"
        },
    }


def our_round(prepared: Prepared, histories: TrainHistories, *, exclude_seen: bool) -> Callable[[], tuple[int, float]]:
    """One epoch of most recent windows by our loader, model and loss."""
    torch.manual_seed(0)
    trained = torch.from_numpy(prepared.trained)
    config = SASRecConfig(
        width=WIDTH, blocks=BLOCKS, heads=HEADS, max_length=LENGTH, feed_forward=4 * WIDTH, dropout=DROPOUT
    )
    model: SASRec = config.build(trained).train()
    objective = RetrievalObjective(model, histories, trained, seed=0)
    stage = RetrieverStageConfig(epochs=1, batch_size=BATCH, windows="last", loss={"exclude_seen": exclude_seen})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def run() -> tuple[int, float]:
        count, started = 0, time.perf_counter()
        for batch in objective.epoch(stage, 0, 0):
            optimizer.zero_grad()
            targets = objective.targets(batch)
            (objective.loss(stage, batch) / targets).backward()
            optimizer.step()
            count += targets
        return count, time.perf_counter() - started

    return run


class PlainSASRec(nn.Module):
    """The same layers, written the usual way."""

    def __init__(self, num_indices: int) -> None:
        super().__init__()
        self.items = nn.Embedding(num_indices, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(PlainBlock() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, items: Tensor) -> Tensor:
        """[B, L] -> logits [B, L, N]."""
        x = self.items(items) + self.positions(torch.arange(items.shape[1]))  # [B, L, D]
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.items.weight.T


class PlainBlock(nn.Module):
    """Pre-norm block with fused attention and no dropout inside it, as in ours."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.feed(self.norm_2(x)))


def plain_round(histories: TrainHistories) -> Callable[[], tuple[int, float]]:
    """One epoch of the same windows in padded blocks, shuffled."""
    torch.manual_seed(0)
    model = PlainSASRec(histories.num_indices).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    inputs, targets = padded_windows(histories)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            yield inputs[chosen], targets[chosen]

    def run() -> tuple[int, float]:
        count, started = 0, time.perf_counter()
        for items, positives in batches():
            optimizer.zero_grad()
            logits = model(items)  # [B, L, N]
            F.cross_entropy(logits.flatten(0, 1), positives.flatten(), ignore_index=0).backward()
            optimizer.step()
            count += int((positives != 0).sum())
        return count, time.perf_counter() - started

    return run


def padded_windows(histories: TrainHistories) -> tuple[Tensor, Tensor]:
    """The most recent L pairs of each user, padded on the right: inputs and positives, each [users, L]."""
    users = [
        histories.items[a:b] for a, b in zip(histories.offsets[:-1], histories.offsets[1:], strict=True) if b - a > 1
    ]
    inputs = torch.zeros(len(users), LENGTH, dtype=torch.int64)
    targets = torch.zeros_like(inputs)
    for row, items in enumerate(users):
        window = torch.from_numpy(items[-LENGTH - 1 :].astype(np.int64))
        inputs[row, : len(window) - 1], targets[row, : len(window) - 1] = window[:-1], window[1:]
    return inputs, targets


def time_evaluation(recipe: Recipe, prepared: Prepared, rounds: int) -> dict[str, Any]:
    """Users per second of the whole evaluation: encoding histories, scoring, ranking, all metrics."""
    test = Judge(recipe, prepared, "test")
    config = SASRecConfig(width=WIDTH, blocks=BLOCKS, heads=HEADS, max_length=LENGTH)
    model = config.build(torch.from_numpy(prepared.trained)).eval()
    rates = [evaluate(model, test.cases, test.protocol).users_per_second for _ in range(rounds + 1)][1:]
    return {"users": len(test.cases), "items": prepared.dataset.num_items, "users_per_second": summary(rates)}


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
