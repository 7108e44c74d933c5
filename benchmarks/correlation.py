"""Loss against task correlation, MMoE beside shared bottom, after figure 4 of Ma et al. (2018).

    python benchmarks/correlation.py [--seeds 0 1 ...] [--write]

Two regressions on 100 normal numbers, related by the cosine of their weight vectors (the source `correlated_tasks`).
MMoE has 8 experts of 16 hidden units and the shared bottom one layer, as wide as gives it as many parameters; both have
towers of 8 units. Each is trained with each learning rate, the best by validation is judged once on test rows. Data,
order of rows and learning rates are the same for both. Train rows must be many: with a first choice of 20,000, for 30
epochs, the mixture lost on two of three draws at correlation 0 (0.087 and 0.097 against 0.060 and 0.065, the third
0.018 against 0.022). `--write` records results/correlation.json.

Shape letters: N rows, D dimensions.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from moerec.dataset.sources.correlated_tasks import correlated_tasks
from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json
from moerec.models.mmoe import MMoEModel
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "correlation.json"
CORRELATIONS = (0.0, 0.5, 0.9, 1.0)
LEARNING_RATES = (0.001, 0.003, 0.01)
DIMENSIONS, TRAIN, VALID, TEST, BATCH, EPOCHS = 100, 100_000, 5_000, 20_000, 512, 10
EXPERTS, UNITS, TOWER = 8, 16, 8


class SharedBottom(nn.Module):
    """One layer for both tasks, and a tower for each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(DIMENSIONS, width), nn.ReLU())
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, TOWER), nn.ReLU(), nn.Linear(TOWER, 1)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """[N, D] -> [N, 1] of each task."""
        shared = self.bottom(x)
        return [tower(shared) for tower in self.towers]


def mmoe() -> nn.Module:
    """The mixture, from the library."""
    return MMoEModel(
        DIMENSIONS,
        num_experts=EXPERTS,
        num_tasks=2,
        expert_hidden_dims=[UNITS],
        tower_hidden_dims=[TOWER],
        dropout_rate=0.0,
    )


def shared_bottom() -> nn.Module:
    """The shared bottom of about as many parameters as the mixture, never fewer."""
    wanted = count(mmoe())
    return next(model for width in range(1, 1000) if count(model := SharedBottom(width)) >= wanted)


MODELS: dict[str, Callable[[], nn.Module]] = {"mmoe": mmoe, "shared_bottom": shared_bottom}


def count(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--correlations", type=float, nargs="+", default=list(CORRELATIONS))
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(correlation, seed) for correlation in options.correlations for seed in options.seeds]
    result = {
        "command": f"python benchmarks/correlation.py --seeds {' '.join(map(str, options.seeds))}",
        "environment": environment(),
        "protocol": " ".join(__doc__.split("\n\n")[2].split()),
        "parameters": {name: count(build()) for name, build in MODELS.items()},
        "rows": rows,
        "summary": {f"{correlation:g}": summarise(rows, correlation) for correlation in options.correlations},
    }
    if options.write:
        write_json(RESULTS, result)
    print(f"{'correlation':>12}{'mmoe':>10}{'shared':>10}{'shared - mmoe, 95 %':>32}")
    for correlation, found in result["summary"].items():
        low, high = found["difference"]["interval"] or (float("nan"),) * 2
        told = f"{found['difference']['mean']:.4f} [{low:.4f}, {high:.4f}]"
        print(f"{correlation:>12}{found['mmoe']['mean']:>10.4f}{found['shared_bottom']['mean']:>10.4f}{told:>32}")


def summarise(rows: list[dict[str, Any]], correlation: float) -> dict[str, Any]:
    """Means over seeds, and of the difference seed by seed."""
    chosen = [row for row in rows if row["correlation"] == correlation]
    found = {name: dict(vars(summarise_seeds([row[name] for row in chosen]))) for name in MODELS}
    apart = [row["shared_bottom"] - row["mmoe"] for row in chosen]
    return found | {"difference": dict(vars(summarise_seeds(apart)))}


def row(correlation: float, seed: int) -> dict[str, Any]:
    """Test loss of both models on one draw of the data: mean over tasks of the squared error, in label variances."""
    x, *labels = correlated_tasks(TRAIN + VALID + TEST, DIMENSIONS, correlation, seed=seed)
    y = np.stack(labels, axis=1)
    y = (y - y[:TRAIN].mean(0)) / y[:TRAIN].std(0)
    parts = np.split(np.arange(len(x)), [TRAIN, TRAIN + VALID])
    data = [(torch.from_numpy(x[part]), torch.from_numpy(y[part]).float()) for part in parts]
    found: dict[str, Any] = {"correlation": correlation, "seed": seed}
    found["label_correlation"] = float(np.corrcoef(labels[0], labels[1])[0, 1])
    for name, build in MODELS.items():
        tried = [train(build, rate, seed, data) for rate in LEARNING_RATES]
        found[name] = min(tried)[1]
    print(found, flush=True)
    return found


def train(
    build: Callable[[], nn.Module], rate: float, seed: int, data: list[tuple[Tensor, Tensor]]
) -> tuple[float, float]:
    """Validation and test loss at the epoch with the best validation."""
    torch.manual_seed(seed)
    model, (x, y) = build(), data[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    steps = EPOCHS * (TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = (float("inf"), float("inf"))
    for epoch in range(EPOCHS):
        model.train()
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(TRAIN))
        for first in range(0, TRAIN - BATCH + 1, BATCH):
            chosen = order[first : first + BATCH]
            optimizer.zero_grad(set_to_none=True)
            squared_error(model, x[chosen], y[chosen]).backward()
            optimizer.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            valid, test = (float(squared_error(model, *part)) for part in data[1:])
        best = min(best, (valid, test))
    return best


def squared_error(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean over both tasks of the mean squared error; y is [N, 2]."""
    return (torch.cat(list(model(x)), dim=1) - y).square().mean()


if __name__ == "__main__":
    main()
