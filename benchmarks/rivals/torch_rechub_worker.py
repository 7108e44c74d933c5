"""torch-rechub's MMoE and PLE, in its own environment; see conversation.py.

`steps` trains on batches that lie ready as tensors: forward, loss, backward and step as in its MTLTrainer, which feeds
them from a DataLoader that collates row by row; `loader_steps` is that trainer as its users call it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch_rechub.basic.features import DenseFeature, SparseFeature
from torch_rechub.models.multi_task import MMOE, PLE
from torch_rechub.trainers import MTLTrainer
from torch_rechub.utils.data import DataGenerator

sys.path.insert(0, str(Path(__file__).parent))
from conversation import answer_orders

STATE: dict[str, Any] = {}


def build(kind: str, data: Mapping[str, Any], shape: Mapping[str, Any]) -> torch.nn.Module:
    """A model of the given shape."""
    sizes = data["sizes"].tolist()
    features = [SparseFeature(f"code_{c}", vocab_size=size, embed_dim=shape["width"]) for c, size in enumerate(sizes)]
    features += [DenseFeature(f"number_{n}") for n in range(data["numbers"].shape[1])]
    expert = {"dims": list(shape["expert"]), "activation": "relu", "dropout": shape["dropout"]}
    towers = [{"dims": list(shape["head"]), "activation": "relu", "dropout": shape["dropout"]}] * 2
    tasks = ["classification", "classification"]
    if kind == "mmoe":
        return MMOE(features, tasks, shape["experts"], expert, towers)
    return PLE(features, tasks, shape["levels"], shape["own_experts"], shape["shared_experts"], expert, towers)


def columns(data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns by the names of the features."""
    return {f"code_{c}": data["codes"][:, c] for c in range(data["codes"].shape[1])} | {
        f"number_{n}": data["numbers"][:, n] for n in range(data["numbers"].shape[1])
    }


def setup(path: str, kind: str, shape: dict[str, Any], threads: int, batch: int) -> dict[str, Any]:
    """Read the data, build the model and its trainer."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    data = dict(np.load(path))
    x, y = columns(data), data["labels"]
    model = build(kind, data, shape)
    trainer = MTLTrainer(model, ["classification", "classification"], n_epoch=1)
    tensors = {name: torch.from_numpy(values) for name, values in x.items()}
    ready = [
        (
            {name: values[first : first + batch] for name, values in tensors.items()},
            torch.from_numpy(y[first : first + batch]),
        )
        for first in range(0, len(y) - batch + 1, batch)
    ]
    loader, _, _ = DataGenerator(x, y).generate_dataloader(x_val=x, y_val=y, x_test=x, y_test=y, batch_size=batch)
    STATE.update(trainer=trainer, ready=ready, loader=loader, batch=batch)
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def steps(count: int) -> dict[str, float]:
    """Train on some ready batches."""
    chosen = [STATE["ready"][number % len(STATE["ready"])] for number in range(count)]
    started = time.perf_counter()
    STATE["trainer"].train_one_epoch(chosen)
    return {"seconds": time.perf_counter() - started}


def loader_steps(count: int) -> dict[str, float]:
    """Train on some batches of its own loader."""
    started = time.perf_counter()
    STATE["trainer"].train_one_epoch([batch for _, batch in zip(range(count), STATE["loader"], strict=False)])
    return {"seconds": time.perf_counter() - started}


def fit(
    path: str,
    kind: str,
    shape: dict[str, Any],
    rates: dict[str, float],
    seed: int,
    epochs: int,
    batch: int,
    out: str,
) -> dict[str, float]:
    """Train by its trainer, keep the epoch with the best mean AUC on validation, write the scores of both parts."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = dict(np.load(path))
    model = build(kind, data, shape)
    trainer = MTLTrainer(model, ["classification", "classification"], optimizer_params=rates, n_epoch=1)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in columns(data).items()}
    labels = torch.from_numpy(data["labels"])
    best: tuple[float, dict[str, np.ndarray]] = (0.0, {})
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(data["train"]))
        parts = [order[first : first + batch] for first in range(0, len(order), batch)]
        # Its batch normalisation cannot train on a single row.
        trainer.train_one_epoch(
            [({name: v[rows] for name, v in tensors.items()}, labels[rows]) for rows in parts if len(rows) > 1]
        )
        scores = {part: predict(model, tensors, data[part]) for part in ("valid", "test")}
        truth = data["labels"][data["valid"]]
        value = float(np.mean([roc_auc_score(truth[:, task], scores["valid"][:, task]) for task in range(2)]))
        if value > best[0]:
            best = value, scores
    np.savez(out, **best[1])
    return {"valid": best[0]}


def predict(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], rows: np.ndarray) -> np.ndarray:
    """Probabilities of both tasks for some rows."""
    model.eval()
    with torch.no_grad():
        parts = [
            model({name: values[rows[first : first + 8192]] for name, values in tensors.items()})
            for first in range(0, len(rows), 8192)
        ]
    return torch.cat(parts).numpy()


if __name__ == "__main__":
    answer_orders({"setup": setup, "steps": steps, "loader_steps": loader_steps, "fit": fit})
