"""Predictions of a ranker for rows of an example table, in blocks of bounded memory.

Shape letters: R rows, C classes, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from moerec.batches.examples import ExampleTable
from moerec.models.roles import Ranker
from moerec.nn.gates import Gating

Ints = NDArray[np.int64]
ROWS_AT_ONCE = 8192


def predict_rows(
    model: Ranker,
    table: ExampleTable,
    rows: Ints | None = None,
    instead: Mapping[str, Ints] | None = None,
    watch: Callable[[int, Mapping[str, Gating]], None] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Probabilities and numbers of some rows by task, [R], or class probabilities [R, C].

    The model is in evaluation mode meanwhile.

    Args:
        model: the ranker.
        table: the examples.
        rows: [R] rows; all by default.
        instead: inputs to take from other rows than their own: {feature: [R] rows}.
        watch: is told of each block the place of its first row and what its gates said.
    """
    chosen = np.arange(len(table), dtype=np.int64) if rows is None else rows
    device = next(model.parameters()).device
    parts: dict[str, list[NDArray[np.float64]]] = {
        task.name: [np.zeros((0, task.num_classes) if task.num_classes else 0)] for task in model.tasks
    }
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(chosen), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            others = {name: places[some] for name, places in (instead or {}).items()}
            outputs, gatings = model.forward_with_gates(table.batch(chosen[some], instead=others).to(device))
            if watch is not None:
                watch(start, gatings)
            for name, values in model.predictions(outputs).items():
                parts[name].append(values.double().cpu().numpy())
    model.train(was_training)
    return {name: np.concatenate(values) for name, values in parts.items()}


def gate_weights(model: Ranker, table: ExampleTable, rows: Ints) -> dict[str, NDArray[np.float32]]:
    """The experts' weights of some rows by task, [R, E]; empty for a model without gates."""
    device = next(model.parameters()).device
    parts: dict[str, list[NDArray[np.float32]]] = {}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), ROWS_AT_ONCE):
            batch = table.batch(rows[start : start + ROWS_AT_ONCE]).to(device)
            for name, weights in model.gate_weights(batch).items():
                parts.setdefault(name, []).append(weights.float().cpu().numpy())
    model.train(was_training)
    return {name: np.concatenate(weights) for name, weights in parts.items()}
