"""Training speed of the MMoE ranker beside a plain torch MMoE of the same size.

    python benchmarks/ranker_speed.py [--threads 2] [--write]

Both sides are measured in turns within one run, over whole steps: cutting the batch, forward, backward, clipping,
AdamW. The plain side is what most tutorials do: one `nn.Embedding` per feature, a list of experts called one after
another, the activation unit of the history on the concatenation of event, candidate, product and difference, and
columns that lie in memory as tensors. Both shapes have about 330,000 parameters: with a small catalogue most of them
are in the experts, with a larger one in the embeddings. `--write` records results/ranker_speed.json with versions and
machine.

Shape letters: B examples, N rows of the table, M values of a multi-valued feature, L places of a history, V width of
the vector, D width of embeddings, F fields of that width, P pairs of fields, I width of the flat input, E experts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.examples import ExampleBatch, ExampleSchema, ExampleTable, Gathered
from moerec.features.spec import FeatureSpec
from moerec.files import write_json
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.nn.experts import MLPExpertConfig
from moerec.run.folder import environment
from moerec.tasks import Target, TaskConfig, TaskStatistics, make_target
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig

RESULTS = Path(__file__).parent / "results" / "ranker_speed.json"
ROWS, BATCH, WIDTH, HISTORY, VECTOR = 100_000, 1024, 32, 20, 384
EXPERTS, HEAD, DROPOUT = 4, 32, 0.1
CODES = {"age": 9, "gender": 4, "occupation": 23, "hour": 26, "weekday": 9}
MULTI, GENRES, DENSE = 20, 6, 30
TASKS = (
    TaskConfig(name="like", label="rating", at_least=4),
    TaskConfig(name="rating", label="rating", type="regression"),
)


@dataclass(frozen=True)
class Shape:
    """A catalogue, and experts that bring the model to about 330,000 parameters."""

    users: int
    items: int
    expert_hidden: int
    expert_width: int

    @property
    def codes(self) -> dict[str, int]:
        """Number of codes of each categorical feature."""
        return {"user": self.users + 2, "item": self.items + 2} | CODES


SHAPES = {"ml-100k": Shape(943, 1682, 112, 64), "ml-1m-users-2999": Shape(2999, 3883, 48, 32)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--steps", type=int, default=60, help="updates of a turn")
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = {
        "command": f"python benchmarks/ranker_speed.py --threads {options.threads}",
        "environment": environment(),
        "training": {name: time_training(shape, options.rounds, options.steps) for name, shape in SHAPES.items()},
    }
    if options.write:
        recorded = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        write_json(RESULTS, recorded | {f"threads_{options.threads}": result})
    print(json.dumps({key: value for key, value in result.items() if key != "environment"}, indent=2))


def example_table(shape: Shape) -> ExampleTable:
    """Random examples with the inputs of a usual ranker; what hangs on the item is looked up by it."""
    generator = np.random.default_rng(0)
    specs = [FeatureSpec(name=name, kind="categorical") for name in shape.codes]
    specs.append(FeatureSpec(name="genres", kind="multi"))
    specs += [FeatureSpec(name=f"number_{place}", kind="dense") for place in range(DENSE)]
    specs += [FeatureSpec(name="text", kind="vector"), FeatureSpec(name="history", kind="sequence")]
    sizes = shape.codes | {"genres": MULTI, "text": VECTOR, "history": shape.codes["item"]}
    items = generator.integers(2, sizes["item"], ROWS)
    history = generator.integers(2, sizes["item"], (ROWS, HISTORY)).astype(np.int32)
    history[np.arange(HISTORY) < generator.integers(0, HISTORY, (ROWS, 1))] = 0
    columns: dict[str, Any] = {
        name: generator.integers(1, size, ROWS).astype(np.int32) for name, size in shape.codes.items()
    }
    columns |= {f"number_{place}": generator.normal(size=ROWS).astype(np.float32) for place in range(DENSE)}
    columns |= {
        "item": items.astype(np.int32),
        "genres": Gathered(generator.integers(0, MULTI, (sizes["item"], GENRES)).astype(np.int32), items),
        "text": Gathered(generator.normal(size=(sizes["item"], VECTOR)).astype(np.float32), items),
        "history": history,
    }
    present: dict[str, Any] = {f"number_{place}": generator.random(ROWS) < 0.9 for place in range(DENSE)}
    present["text"] = Gathered(generator.random(sizes["item"]) < 0.95, items)
    return ExampleTable(
        schema=ExampleSchema(tuple(specs), sizes | dict.fromkeys((f"number_{place}" for place in range(DENSE)), 1)),
        users=columns["user"].astype(np.int64),
        items=items,
        timestamps=np.zeros(ROWS, np.int64),
        negative=np.zeros(ROWS, np.bool_),
        labels={"rating": generator.integers(1, 6, ROWS).astype(np.float64)},
        columns=columns,
        present=present,
    )


def time_training(shape: Shape, rounds: int, steps: int) -> dict[str, Any]:
    """Rows per second of both sides, in turns."""
    table = example_table(shape)
    labels = {task.name: make_target(task, table.labels, table.negative) for task in TASKS}
    ours, our_model = our_round(shape, table, labels, steps)
    plain, plain_model = plain_round(shape, table, labels, steps)
    sides = {"plain torch": plain, "moerec": ours}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if number > 0:  # the first turn warms up
                rates[name].append(steps * BATCH / (time.perf_counter() - started))
    return {
        "model": f"MMoE, {EXPERTS} experts {shape.expert_hidden} -> {shape.expert_width}, embeddings {WIDTH} wide",
        "catalogue": f"{shape.users} users, {shape.items} items",
        "inputs": f"{len(shape.codes)} categorical, 1 multi, {DENSE} dense, vector of {VECTOR}, history of {HISTORY}",
        "batch_size": BATCH,
        "parameters": {"plain torch": count(plain_model), "moerec": count(our_model)},
        "rows_per_second": {name: summary(values) for name, values in rates.items()},
        "ratio_to_plain": summary([a / b for a, b in zip(rates["moerec"], rates["plain torch"], strict=True)]),
    }


def our_round(
    shape: Shape, table: ExampleTable, labels: dict[str, Target], steps: int
) -> tuple[Callable[[], None], nn.Module]:
    """Some updates through our objective."""
    torch.manual_seed(0)
    config = MMoEConfig(
        width=WIDTH,
        experts=EXPERTS,
        expert=MLPExpertConfig(hidden=(shape.expert_hidden,), width=shape.expert_width),
        head_hidden=(HEAD,),
        dropout=DROPOUT,
    )
    model = config.build(table.schema, TASKS, {name: TaskStatistics.of(target) for name, target in labels.items()})
    objective = RankingObjective(model.train(), table, np.arange(len(table)), labels, seed=0)
    stage = RankerStageConfig(epochs=1, batch_size=BATCH)

    def batches() -> Iterator[tuple[int, Callable[[], Tensor]]]:
        for batch in objective.epoch(stage, 0, 0):
            yield objective.targets(batch), lambda batch=batch: objective.loss(stage, batch)

    return updates(model, batches, steps), model


def updates(
    model: nn.Module, batches: Callable[[], Iterator[tuple[int, Callable[[], Tensor]]]], steps: int
) -> Callable[[], None]:
    """The steps that both sides share: gradient of the mean loss, clipping, fused AdamW."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def run() -> None:
        for _, (targets, loss) in zip(range(steps), batches(), strict=False):
            optimizer.zero_grad(set_to_none=True)
            (loss() / targets).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return run


class PlainMMoE(nn.Module):
    """The same inputs, experts, gates and heads, written the usual way."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({name: nn.Embedding(size, WIDTH) for name, size in shape.codes.items()})
        self.genres = nn.Embedding(MULTI, WIDTH, padding_idx=0)
        self.text = nn.Linear(VECTOR, WIDTH)
        self.unit = nn.Sequential(nn.Linear(4 * WIDTH, 16), nn.ReLU(), nn.Linear(16, 1))
        fields = len(shape.codes) + 3
        width = fields * WIDTH + fields * (fields - 1) // 2 + 2 * DENSE
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, shape.expert_hidden),
                nn.GELU(),
                nn.Dropout(DROPOUT),
                nn.Linear(shape.expert_hidden, shape.expert_width),
            )
            for _ in range(EXPERTS)
        )
        self.gates = nn.ModuleList(nn.Linear(width, EXPERTS) for _ in TASKS)
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(shape.expert_width, HEAD), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HEAD, 1))
            for _ in TASKS
        )

    def forward(self, columns: dict[str, Tensor], present: dict[str, Tensor]) -> list[Tensor]:
        """Columns as in an ExampleBatch -> outputs [B] of each task."""
        fields = [embedding(columns[name]) for name, embedding in self.embeddings.items()]  # each [B, D]
        real = (columns["genres"] > 0).unsqueeze(2)  # [B, M, 1]
        fields.append((self.genres(columns["genres"]) * real).sum(1) / real.sum(1).clamp(min=1))
        fields.append(self.text(columns["text"]) * present["text"].unsqueeze(1))
        fields.append(self.pooled(columns["history"], fields[list(self.embeddings).index("item")]))
        stacked = torch.stack(fields, dim=1)  # [B, F, D]
        rows, columns_above = torch.triu_indices(len(fields), len(fields), offset=1)
        products = (stacked @ stacked.transpose(1, 2))[:, rows, columns_above]  # [B, P]
        numbers = [columns[f"number_{place}"] for place in range(DENSE)]
        flags = [present[f"number_{place}"].float() for place in range(DENSE)]
        x = torch.cat([*fields, products, torch.stack([*numbers, *flags], dim=1)], dim=1)  # [B, I]
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)  # [B, E, D]
        outputs = []
        for gate, head in zip(self.gates, self.heads, strict=True):
            weights = torch.softmax(gate(x), dim=-1)  # [B, E]
            outputs.append(head((weights.unsqueeze(2) * experts).sum(1)).squeeze(1))
        return outputs

    def pooled(self, history: Tensor, candidate: Tensor) -> Tensor:
        """[B, L] codes and [B, D] candidate -> [B, D]."""
        events = self.embeddings["item"](history)  # [B, L, D]
        query = candidate.unsqueeze(1).expand_as(events)  # [B, L, D]
        logits = self.unit(torch.cat([events, query, events * query, events - query], dim=2))  # [B, L, 1]
        weights = torch.softmax(logits.masked_fill((history == 0).unsqueeze(2), -1e9), dim=1)
        return (weights * events).sum(1)


def plain_round(
    shape: Shape, table: ExampleTable, labels: dict[str, Target], steps: int
) -> tuple[Callable[[], None], nn.Module]:
    """Some updates of the plain model, with all columns in memory as tensors."""
    torch.manual_seed(0)
    model = PlainMMoE(shape).train()
    everything = table.batch(
        np.arange(len(table)),
        {name: target.values for name, target in labels.items()},
        {name: target.mask for name, target in labels.items()},
    )

    def loss(batch: ExampleBatch) -> Tensor:
        like, rating = model(batch.columns, batch.present)
        return F.binary_cross_entropy_with_logits(like, batch.labels["like"], reduction="sum") + F.mse_loss(
            rating, batch.labels["rating"], reduction="sum"
        )

    def batches() -> Iterator[tuple[int, Callable[[], Tensor]]]:
        order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            parts = (everything.columns, everything.present, everything.labels, everything.masks)
            batch = ExampleBatch(*({name: tensor[rows] for name, tensor in part.items()} for part in parts))
            yield len(rows), lambda batch=batch: loss(batch)

    return updates(model, batches, steps), model


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def summary(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


if __name__ == "__main__":
    main()
