"""The project's own side of benchmarks/sequences.py in its speed turns, and the plain torch loop most tutorials write.

`moerec` is the trainer of `moerec run` with its loader, objective, optimizer and clipping; a hook counts. `plain` pads
each user's most recent window on the right to L, and learns either by cross-entropy over all items or against negatives
that a whole batch shares.

Shape letters: B sequences, L padded length, M real places of a batch, N item indices, K shared negatives, D width,
H heads.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent / "rivals"))
from sequence_worker import SequenceData, Vectors, Watch, padded, serve

from moerec.batches.histories import TrainHistories
from moerec.losses.criterion import Criterion
from moerec.recipe import parse_recipe
from moerec.training.hooks import Hook, Moment
from moerec.training.logs import TrainingLog
from moerec.training.objective import Passes, RetrievalObjective
from moerec.training.trainer import Trainer, TrainerConfig

NEVER = 10**9


class CountedObjective(RetrievalObjective):
    """The objective of every training; it remembers the targets of the last update."""

    count = 0

    def backward(self, stage: Any, batches: Sequence[Any], criterion: Criterion | None, passes: Passes) -> Tensor:
        """See `Objective`; a user's first event, predicted from nothing, is not counted, for no rival predicts it."""
        CountedObjective.count = sum(int((batch.positives > 0).sum()) for batch in batches)
        return super().backward(stage, batches, criterion, passes)


class Watching(Hook):
    """Tells the watch of each update."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def after_step(self, moment: Moment) -> None:
        """See `Hook`."""
        self.watch.after_batch(CountedObjective.count)


def train_moerec(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """The trainer, without validations and checkpoints."""
    recipe = parse_recipe(settings["recipe"])
    torch.manual_seed(seed)
    trained = torch.from_numpy(data.trained)
    config: Any = recipe.retriever
    model = config.build(trained, None)
    histories = TrainHistories(data.items, data.offsets, data.timestamps, len(data.trained))
    endless = {"epochs": None, "updates": NEVER, "validate_every": NEVER}
    stages = tuple(stage.model_copy(update=endless) for stage in recipe.training.retriever)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            objective=CountedObjective(model, histories, trained, seed),
            stages=stages,
            validate=lambda: {"ndcg@10": 0.0},
            directory=Path(folder),
            identity="speed",
            seed=seed,
            config=TrainerConfig(checkpoint_every=NEVER),
            log=lambda kept_bytes, kept_update: TrainingLog(
                Path(folder) / "history.jsonl", Console(quiet=True), keep_bytes=kept_bytes, keep_update=kept_update
            ),
            device=torch.device("cpu"),
            hooks=(Watching(watch),),
        )
        watch.begin(sum(parameter.numel() for parameter in model.parameters()), lambda part: _unasked())
        trainer.run()


def _unasked() -> Vectors:
    raise RuntimeError("quality of the project's own models is measured by `moerec run`")


class PlainBlock(nn.Module):
    """Pre-norm block with fused attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        batch, length, _ = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # [B, H, L, -]
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape)
        x = x + self.dropout(self.out(mixed))
        return x + self.dropout(self.feed(self.norm_2(x)))


class PlainSASRec(nn.Module):
    """SASRec written the usual way."""

    def __init__(self, num_indices: int, settings: dict[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.items = nn.Embedding(num_indices, width, padding_idx=0)
        self.positions = nn.Embedding(settings["length"], width)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.dropout = nn.Dropout(settings["dropout"])
        self.blocks = nn.ModuleList(
            PlainBlock(width, settings["heads"], settings["dropout"]) for _ in range(settings["blocks"])
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, items: Tensor) -> Tensor:
        """[B, L] -> [B, L, D]."""
        x = self.dropout(self.items(items) + self.positions.weight[: items.shape[1]])  # [B, L, D]
        for block in self.blocks:
            x = block(x)
        normed: Tensor = self.norm(x)
        return normed


def train_plain(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """Epochs over every user's most recent window, until the watch has seen enough."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = PlainSASRec(len(data.trained), settings).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    inputs, targets = windows(data, settings["length"])
    catalogue = torch.from_numpy(np.flatnonzero(data.trained))  # what negatives are drawn from
    watch.begin(sum(p.numel() for p in model.parameters()), lambda part: vectors(model, data, part, settings["length"]))
    while True:
        order = torch.from_numpy(generator.permutation(len(inputs)))
        for first in range(0, len(order), settings["batch"]):
            rows = order[first : first + settings["batch"]]
            positives = targets[rows]  # [B, L]
            optimizer.zero_grad(set_to_none=True)
            users = model(inputs[rows])  # [B, L, D]
            loss = LOSSES[settings["variant"]](model, users, positives, catalogue)
            loss.backward()
            optimizer.step()
            watch.after_batch(int((positives != 0).sum()))
        watch.after_epoch()


def full_softmax(model: PlainSASRec, users: Tensor, positives: Tensor, catalogue: Tensor) -> Tensor:
    """Cross-entropy over all items at every place, padding ignored."""
    logits = users @ model.items.weight.T  # [B, L, N]
    return F.cross_entropy(logits.flatten(0, 1), positives.flatten(), ignore_index=0)


def shared_negatives(model: PlainSASRec, users: Tensor, positives: Tensor, catalogue: Tensor) -> Tensor:
    """Cross-entropy of each positive against the same 512 uniform negatives, at the real places alone."""
    real = positives != 0  # [B, L]
    users, positives = users[real], positives[real]  # [M, D], [M]
    negatives = catalogue[torch.randint(len(catalogue), (512,))]  # [K]
    wanted = (users * model.items(positives)).sum(1, keepdim=True)  # [M, 1]
    others = users @ model.items(negatives).T  # [M, K]
    others = others.masked_fill(positives[:, None] == negatives, -torch.inf)
    logits = torch.cat([wanted, others], dim=1)  # [M, 1 + K]
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))


LOSSES = {"full": full_softmax, "shared512": shared_negatives}


def windows(data: SequenceData, length: int) -> tuple[Tensor, Tensor]:
    """The most recent L pairs of each user, padded on the right: inputs and positives, both [users, L]."""
    histories = data.histories()
    inputs = torch.zeros(len(histories), length, dtype=torch.int64)
    targets = torch.zeros_like(inputs)
    for row, items in enumerate(histories):
        window = torch.from_numpy(items[-length - 1 :].astype(np.int64))
        inputs[row, : len(window) - 1], targets[row, : len(window) - 1] = window[:-1], window[1:]
    return inputs, targets


def vectors(model: PlainSASRec, data: SequenceData, part: str, length: int) -> Vectors:
    """Users after their last event, and items."""
    cases = data.cases[part]
    block, lengths = padded(cases.items, cases.offsets, length)
    right = torch.from_numpy(np.stack([np.roll(row, count) for row, count in zip(block, lengths, strict=True)]))
    last = torch.from_numpy(np.maximum(lengths - 1, 0))
    model.eval()
    with torch.no_grad():
        parts = [
            model(right[first : first + 256])[torch.arange(len(last[first : first + 256])), last[first : first + 256]]
            for first in range(0, len(right), 256)
        ]
    model.train()
    return torch.cat(parts).numpy(), model.items.weight.detach().numpy().copy()


def train(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """Either side."""
    torch.set_num_threads(settings["threads"])
    (train_plain if settings["side"] == "plain" else train_moerec)(data, settings, seed, watch)


if __name__ == "__main__":
    serve(train, "torch", "numpy")
