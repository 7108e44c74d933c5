"""The project's own side of benchmarks/mixtures.py, and the plain one: a list of experts called one after another.

Shape letters: B examples, N rows, C categorical columns, F numbers, D width of embeddings, I width of the flat input,
E experts, H width of an expert's output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from rivals.conversation import answer_orders
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.examples import ExampleSchema, ExampleTable
from moerec.features.spec import FeatureSpec
from moerec.memory import keep_freed_memory
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.nn.experts import MLPExpertConfig
from moerec.tasks import TaskConfig, TaskStatistics, make_target
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig

TASKS = (TaskConfig(name="click", label="click"), TaskConfig(name="buy", label="buy"))
STATE: dict[str, Any] = {}


class PlainMMoE(nn.Module):
    """The same model as most tutorials write it."""

    def __init__(self, sizes: list[int], numbers: int, shape: dict[str, Any]) -> None:
        super().__init__()
        width, hidden, out = shape["width"], *shape["expert"]
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        flat = len(sizes) * width + 2 * numbers

        def layers(*widths: int) -> nn.Sequential:
            made: list[nn.Module] = []
            for below, above in pairwise(widths):
                made += [nn.Linear(below, above), nn.ReLU(), nn.Dropout(shape["dropout"])]
            return nn.Sequential(*made)

        self.experts = nn.ModuleList(layers(flat, hidden, out) for _ in range(shape["experts"]))
        self.gates = nn.ModuleList(nn.Linear(flat, shape["experts"]) for _ in TASKS)
        self.heads = nn.ModuleList(
            nn.Sequential(layers(out, *shape["head"]), nn.Linear(shape["head"][-1], 1)) for _ in TASKS
        )

    def forward(self, codes: Tensor, numbers: Tensor) -> list[Tensor]:
        """[B, C] and [B, F] -> logits [B] of each task."""
        fields = [embedding(codes[:, column]) for column, embedding in enumerate(self.embeddings)]  # each [B, D]
        x = torch.cat([*fields, numbers, torch.zeros_like(numbers)], dim=1)  # [B, I]
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # [B, E, H]
        logits = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            weights = torch.softmax(gate(x), dim=-1).unsqueeze(2)  # [B, E, 1]
            logits.append(head((weights * experts).sum(1)).squeeze(1))
        return logits


def setup_plain(data: dict[str, np.ndarray], shape: dict[str, Any], batch: int) -> nn.Module:
    """Model and an endless source of losses; the columns lie in memory as tensors, batches are slices of them."""
    model = PlainMMoE(data["sizes"].tolist(), data["numbers"].shape[1], shape).train()
    codes, numbers, labels = (torch.from_numpy(data[name]) for name in ("codes", "numbers", "labels"))

    def losses() -> Iterator[Tensor]:
        while True:
            for first in range(0, len(codes) - batch + 1, batch):
                rows = slice(first, first + batch)
                logits = model(codes[rows], numbers[rows])
                yield torch.stack(
                    [F.binary_cross_entropy_with_logits(logit, labels[rows, k]) for k, logit in enumerate(logits)]
                ).sum()

    STATE["losses"] = losses()
    return model


def table_of(data: dict[str, np.ndarray]) -> ExampleTable:
    """The data as examples of a ranker."""
    sizes, count = data["sizes"].tolist(), len(data["codes"])
    specs = [FeatureSpec(name=f"code_{c}", kind="categorical") for c in range(len(sizes))]
    specs += [FeatureSpec(name=f"number_{n}", kind="dense") for n in range(data["numbers"].shape[1])]
    columns: dict[str, Any] = {f"code_{c}": np.ascontiguousarray(data["codes"][:, c]) for c in range(len(sizes))}
    columns |= {f"number_{n}": np.ascontiguousarray(data["numbers"][:, n]) for n in range(data["numbers"].shape[1])}
    zeros = np.zeros(count, np.int64)
    return ExampleTable(
        schema=ExampleSchema(tuple(specs), {f"code_{c}": size for c, size in enumerate(sizes)}),
        users=zeros,
        items=zeros,
        timestamps=zeros,
        negative=np.zeros(count, np.bool_),
        labels={name: data["labels"][:, k].astype(np.float64) for k, name in enumerate(("click", "buy"))},
        columns=columns,
        present={},
    )


def setup_moerec(data: dict[str, np.ndarray], shape: dict[str, Any], batch: int) -> nn.Module:
    """Model and an endless source of losses, cut from an example table as in every training of the project."""
    keep_freed_memory()  # as the trainer does
    table = table_of(data)
    targets = {task.name: make_target(task, table.labels, table.negative) for task in TASKS}
    statistics = {name: TaskStatistics.of(target) for name, target in targets.items()}
    hidden, out = shape["expert"]
    config = MMoEConfig(
        width=shape["width"],
        interactions=False,
        dropout=shape["dropout"],
        experts=shape["experts"],
        head_hidden=tuple(shape["head"]),
        expert=MLPExpertConfig(hidden=(hidden,), width=out, activation="relu", activate_output=True),
    )
    model = config.build(table.schema, TASKS, statistics).train()
    objective = RankingObjective(model, table, np.arange(len(table)), targets, seed=0)
    stage = RankerStageConfig(epochs=1, batch_size=batch)

    def losses() -> Iterator[Tensor]:
        epoch = 0
        while True:
            for examples in objective.epoch(stage, epoch, 0):
                if len(examples) == batch:
                    yield objective.loss(stage, examples) / batch
            epoch += 1

    STATE["losses"] = losses()
    return model


SIDES: dict[str, Callable[[dict[str, np.ndarray], dict[str, Any], int], nn.Module]] = {
    "plain": setup_plain,
    "moerec": setup_moerec,
}


def setup(path: str, side: str, shape: dict[str, Any], threads: int, batch: int) -> dict[str, Any]:
    """Read the data and build one side."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = SIDES[side](dict(np.load(path)), shape, batch)
    STATE.update(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True))
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def steps(count: int) -> dict[str, float]:
    """Train on some batches."""
    started = time.perf_counter()
    for _, loss in zip(range(count), STATE["losses"], strict=False):
        STATE["optimizer"].zero_grad(set_to_none=True)
        loss.backward()
        STATE["optimizer"].step()
    return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    answer_orders({"setup": setup, "steps": steps})
