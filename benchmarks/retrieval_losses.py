"""Training speed of the retrieval losses beside a plain torch loop, and what 16 bits bring.

    python benchmarks/retrieval_losses.py [--threads 1] [--write]

Whole steps are measured in turns within one run: cutting the batch, encoder, loss, backward, AdamW. The plain side is
what most tutorials do: sequences padded to the longest of the batch, embedding look-ups, fused attention, one product
with 512 negatives that the batch shares, cross-entropy at every place, padding ignored. Seconds
are of CPU time, so that neighbours on the machine disturb little. Histories are random, with the
lengths and the number of items of MovieLens-1M (log-normal, mean 165; 3,417 indices). `--write` records
results/retrieval_losses.json.

Shape letters: B sequences, L padded length, N negatives, D width.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.histories import TrainHistories
from moerec.files import write_json
from moerec.losses.retrieval import FullSoftmaxConfig, NextItems
from moerec.models.sasrec import SASRecConfig
from moerec.run.folder import environment
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig

RESULTS = Path(__file__).parent / "results" / "retrieval_losses.json"
WIDTH, BLOCKS, HEADS, BATCH, DROPOUT, NEGATIVES, INDICES, USERS = 64, 2, 2, 64, 0.2, 512, 3417, 256
LOSSES: dict[str, dict[str, Any]] = {
    "sampled_softmax": {"kind": "sampled_softmax", "negatives": {"count": NEGATIVES}, "exclude_seen": False},
    "sampled_softmax, seen left out": {"kind": "sampled_softmax", "negatives": {"count": NEGATIVES}},
    "info_nce, mixed": {"kind": "info_nce", "negatives": {"kind": "mixed", "count": NEGATIVES}, "exclude_seen": False},
    "bce, one own negative": {"kind": "bce", "exclude_seen": False},
    "gbce, 256 shared": {"kind": "gbce", "exclude_seen": False},
    "full_softmax": {"kind": "full_softmax", "exclude_seen": False},
}
Round = Callable[[], tuple[int, float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    command = f"python benchmarks/retrieval_losses.py --threads {options.threads} --rounds {options.rounds}"
    result = {
        "command": f"{command} --write",
        "environment": environment(),
        "model": f"SASRec, {WIDTH} wide, {BLOCKS} blocks, {HEADS} heads, batch {BATCH}, {NEGATIVES} shared negatives",
        "training": {f"L={length}": time_training(length, options.rounds) for length in (50, 200)},
        "full_softmax_alone": time_precision(options.rounds),
    }
    for name, part in result["training"].items():
        print(name, part["targets_per_second"]["plain torch"], part["ratio_to_plain"])
    print(result["full_softmax_alone"])
    if options.write:
        write_json(RESULTS, result)


def random_histories() -> TrainHistories:
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(4.6, 0.95, USERS).astype(np.int64), 20, 2000)
    popularity = 1 / np.arange(1, INDICES - 1) ** 0.8
    items = generator.choice(INDICES - 2, lengths.sum(), p=popularity / popularity.sum()) + 2
    return TrainHistories(items, np.concatenate([[0], np.cumsum(lengths)]), None, INDICES)


def time_training(length: int, rounds: int) -> dict[str, Any]:
    """Targets per second of each side over most recent windows, in turns."""
    histories = random_histories()
    sides: dict[str, Round] = {"plain torch": plain_round(histories, length)}
    sides |= {name: our_round(histories, length, loss) for name, loss in LOSSES.items()}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            targets, seconds = run()
            if number > 0:  # the first turn warms up
                rates[name].append(targets / seconds)
    plain = rates.pop("plain torch")
    ratios = {name: [a / b for a, b in zip(ours, plain, strict=True)] for name, ours in rates.items()}
    return {
        "targets_per_second": {"plain torch": summary(plain)} | {name: summary(ours) for name, ours in rates.items()},
        "ratio_to_plain": {name: summary(values) for name, values in ratios.items()},
    }


def our_round(histories: TrainHistories, length: int, loss: dict[str, Any]) -> Round:
    """One epoch of most recent windows by our loader, model and loss."""
    torch.manual_seed(0)
    trained = torch.ones(INDICES, dtype=torch.bool)
    trained[:2] = False
    config = SASRecConfig(width=WIDTH, blocks=BLOCKS, heads=HEADS, max_length=length, dropout=DROPOUT)
    model = config.build(trained).train()
    objective = RetrievalObjective(model, histories, trained, seed=0)
    stage = RetrieverStageConfig.model_validate({"epochs": 1, "batch_size": BATCH, "windows": "last", "loss": loss})
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def run() -> tuple[int, float]:
        count, started = 0.0, time.process_time()
        for batch in objective.epoch(stage, 0, 0):
            optimizer.zero_grad()
            targets = objective.targets(batch)
            (objective.loss(stage, batch) / targets).backward()
            optimizer.step()
            count += targets
        return int(count), time.process_time() - started

    return run


class PlainSASRec(nn.Module):
    """The same layers, written the usual way."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.items = nn.Embedding(INDICES, WIDTH, padding_idx=0)
        self.positions = nn.Embedding(length, WIDTH)
        self.dropout = nn.Dropout(DROPOUT)
        self.blocks = nn.ModuleList(PlainBlock() for _ in range(BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, items: Tensor, positives: Tensor) -> Tensor:
        """[B, L], [B, L] -> the mean cross-entropy of the positives among shared negatives."""
        x = self.dropout(self.items(items) + self.positions(torch.arange(items.shape[1])))  # [B, L, D]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        negatives = self.items(torch.randint(2, INDICES, (NEGATIVES,)))  # [N, D]
        positive = (x * self.items(positives)).sum(-1, keepdim=True)  # [B, L, 1]
        logits = torch.cat([positive, x @ negatives.T], dim=-1).flatten(0, 1)  # [B * L, 1 + N]
        wanted = torch.where(positives.flatten() == 0, -100, 0)
        return F.cross_entropy(logits, wanted)


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


def plain_round(histories: TrainHistories, length: int) -> Round:
    """One epoch of the same windows in padded blocks, shuffled."""
    torch.manual_seed(0)
    model = PlainSASRec(length).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    windows = [
        torch.from_numpy(histories.items[max(a, b - length - 1) : b])
        for a, b in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    ]

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = np.random.default_rng(0).permutation(len(windows))
        for start in range(0, len(order), BATCH):
            chosen = [windows[place] for place in order[start : start + BATCH]]
            pad = torch.nn.utils.rnn.pad_sequence
            yield (
                pad([one[:-1] for one in chosen], batch_first=True),
                pad([one[1:] for one in chosen], batch_first=True),
            )

    def run() -> tuple[int, float]:
        count, started = 0, time.process_time()
        for items, positives in batches():
            optimizer.zero_grad()
            model(items, positives).backward()
            optimizer.step()
            count += int((positives != 0).sum())
        return count, time.process_time() - started

    return run


def time_precision(rounds: int) -> dict[str, Any]:
    """Milliseconds of the full softmax, forward and backward, of 3,000 events, in 32 and in 16 bits."""
    torch.manual_seed(0)
    users = torch.randn(3000, WIDTH, requires_grad=True)
    items = torch.randn(INDICES, WIDTH, requires_grad=True)
    events = NextItems(users, items, torch.randint(INDICES, (3000,)))
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 2):
        for narrow, found in seconds.items():
            started = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
                loss = FullSoftmaxConfig()(events)
            loss.backward()
            if number > 1:
                found.append(1000 * (time.process_time() - started))
    return {
        "fp32_ms": summary(seconds[False]),
        "bf16_ms": summary(seconds[True]),
        "gain": summary([a / b for a, b in zip(seconds[False], seconds[True], strict=True)]),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
