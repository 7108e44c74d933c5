"""Balance of experts on a skewed stream: none, auxiliary loss and loss-free bias, by load and by task loss.

    python benchmarks/balance.py [--seeds 0 1 2 3 4] [--write]

The stream is a mixture of eight kinds of rows whose shares fall as a power of their rank; each kind has its own answer
to two tasks. MMoE has eight experts, of which two speak for a row. Every setting is trained on the same rows and the
same order; load and loss are measured on rows that were not trained on. `--write` records results/balance.json.

Shape letters: N rows, F numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moerec.batches.examples import ExampleSchema, ExampleTable
from moerec.evaluation.significance import summarise_seeds
from moerec.features.spec import FeatureSpec
from moerec.files import write_json
from moerec.losses.multitask import task_losses
from moerec.models.predict import gate_weights
from moerec.models.rankers.mmoe import MMoE, MMoEConfig
from moerec.nn.gates import TopKGateConfig, utilisation
from moerec.run.folder import environment
from moerec.tasks import TaskConfig, TaskStatistics, make_target
from moerec.training.balance import LossFreeBalance
from moerec.training.hooks import Moment
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig

RESULTS = Path(__file__).parent / "results" / "balance.json"
KINDS, NUMBERS, SKEW, EXPERTS, K = 8, 16, 1.5, 8, 2
TRAIN, TEST, BATCH, EPOCHS = 60_000, 20_000, 512, 8
TASKS = (
    TaskConfig(name="first", label="first", type="regression"),
    TaskConfig(name="second", label="second", type="regression"),
)
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {"kind": "none"},
    "auxiliary 0.001": {"kind": "auxiliary", "weight": 0.001},
    "auxiliary 0.01": {"kind": "auxiliary", "weight": 0.01},
    "auxiliary 0.1": {"kind": "auxiliary", "weight": 0.1},
    "loss_free 0.001": {"kind": "loss_free", "rate": 0.001},
    "loss_free 0.01": {"kind": "loss_free", "rate": 0.01},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: [train(setting, seed) for seed in options.seeds] for name, setting in SETTINGS.items()}
    result = {
        "command": f"python benchmarks/balance.py --seeds {' '.join(map(str, options.seeds))}",
        "environment": environment(),
        "protocol": " ".join(__doc__.split("\n\n")[2].split()),
        "rows": rows,
        "summary": {
            name: {key: summarise_seeds([row[key] for row in of_setting]).mean for key in of_setting[0]}
            for name, of_setting in rows.items()
        },
    }
    if options.write:
        write_json(RESULTS, result)
    print(f"{'balance':<18}{'max/mean load':>15}{'entropy':>10}{'task loss':>12}")
    for name, values in result["summary"].items():
        print(f"{name:<18}{values['max_over_mean_load']:>15.3f}{values['entropy']:>10.3f}{values['task_loss']:>12.4f}")


def stream(rows: int, seed: int) -> ExampleTable:
    """Rows of eight kinds in falling shares; a row's kind decides where its numbers lie and what they mean."""
    fixed, generator = np.random.default_rng(7), np.random.default_rng([11, seed, rows])
    centres = fixed.normal(size=(KINDS, NUMBERS)) * 1.5
    answers = fixed.normal(size=(2, KINDS, NUMBERS)) / np.sqrt(NUMBERS)
    shares = np.arange(1, KINDS + 1) ** -SKEW
    kind = generator.choice(KINDS, size=rows, p=shares / shares.sum())
    noise = generator.normal(size=(rows, NUMBERS))
    x = centres[kind] + noise
    labels = [(noise * answers[task][kind]).sum(1) + 0.1 * generator.normal(size=rows) for task in range(2)]
    names = [f"number_{number}" for number in range(NUMBERS)]
    zeros = np.zeros(rows, np.int64)
    return ExampleTable(
        schema=ExampleSchema(tuple(FeatureSpec(name=name, kind="dense") for name in names), dict.fromkeys(names, 1)),
        users=zeros,
        items=zeros,
        timestamps=zeros,
        negative=np.zeros(rows, np.bool_),
        labels=dict(zip(("first", "second"), labels, strict=True)),
        columns={name: x[:, place].astype(np.float32) for place, name in enumerate(names)},
        present={},
    )


def train(balance: dict[str, Any], seed: int) -> dict[str, float]:
    """Train one setting and measure it on new rows."""
    table = stream(TRAIN, seed)
    targets = {task.name: make_target(task, table.labels, table.negative) for task in TASKS}
    statistics = {name: TaskStatistics.of(target) for name, target in targets.items()}
    torch.manual_seed(seed)
    gate = TopKGateConfig.model_validate({"k": K, "balance": balance})
    config = MMoEConfig(experts=EXPERTS, gate=gate, interactions=False, dropout=0.0)
    model = config.build(table.schema, TASKS, statistics).train()
    objective = RankingObjective(model, table, np.arange(TRAIN), targets, seed)
    stage, hook = RankerStageConfig(epochs=EPOCHS, batch_size=BATCH), LossFreeBalance()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
    update, total = 0, EPOCHS * objective.batches_per_epoch(stage, 0)
    for epoch in range(EPOCHS):
        for batch in objective.epoch(stage, epoch, 0):
            optimizer.zero_grad(set_to_none=True)
            (objective.loss(stage, batch) / len(batch)).backward()
            optimizer.step()
            update += 1
            hook.after_step(Moment(model, stage, epoch, update, total))
    return measured(model, stream(TEST, seed), statistics)


def measured(model: MMoE, table: ExampleTable, statistics: dict[str, TaskStatistics]) -> dict[str, float]:
    """The worst gate's load, the mean entropy, and the mean loss of both tasks in variances of their labels."""
    model.eval()
    targets = {task.name: make_target(task, table.labels, table.negative) for task in TASKS}
    rows = np.arange(len(table))
    batch = table.batch(
        rows,
        {name: target.values for name, target in targets.items()},
        {name: target.mask for name, target in targets.items()},
    )
    with torch.no_grad():
        losses = task_losses(model(batch), batch, TASKS, statistics)
    uses = [utilisation(torch.from_numpy(weights)) for weights in gate_weights(model, table, rows).values()]
    return {
        "max_over_mean_load": max(use.max_over_mean_load for use in uses),
        "entropy": float(np.mean([use.entropy for use in uses])),
        "dead": float(max(use.dead for use in uses)),
        "task_loss": float(np.mean([float(loss) / len(table) for loss in losses.values()])),
    }


if __name__ == "__main__":
    main()
