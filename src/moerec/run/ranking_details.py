"""What the report tells of a ranker beside its metrics: slices, gates, importance of inputs, single examples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moerec.batches.examples import ExampleTable
from moerec.config import kind_of
from moerec.dataset.schema import FIRST_ITEM
from moerec.evaluation.importance import permutation_importance
from moerec.evaluation.prediction_slices import count_earlier_events, evaluate_prediction_slices, slice_rows
from moerec.evaluation.predictions import Predictions, metric_name
from moerec.features.columns import FIRST_VALUE, MISSING
from moerec.models.predict import gate_weights, predict_rows
from moerec.models.rankers.base import numbered
from moerec.models.roles import Ranker
from moerec.nn.gates import GateConfig, utilisation
from moerec.run.prepare import Prepared, item_details
from moerec.run.ranker import RankingData, main_metric
from moerec.tasks import predicted_value

Ints = NDArray[np.int64]
HISTORY_SHOWN = 8
GATE_ROWS = 20_000
"""Rows over which the use of experts is summed up, at most."""
IMPORTANCE_ROWS = 3_000
"""Validation rows on which features are shuffled."""
IMPORTANCE_REPEATS = 2
IMPORTANCE_WORDS = (
    f"an input is shuffled among up to {IMPORTANCE_ROWS:,} validation rows of a task's population, "
    f"{IMPORTANCE_REPEATS} times; what the task's main metric loses is shown"
)


def slice_metrics(
    data: RankingData, prepared: Prepared, predicted: list[Predictions], part: str = "test"
) -> dict[str, dict[str, float]]:
    """Metrics of all tasks by slice of a part's rows, with each task's counts of rows and users under its own name."""
    table, rows, train = data.table, data.rows[part], data.rows["train"]
    real = train[~table.negative[train]]
    earlier = None  # without times nobody has a past
    if table.timestamps is not None:
        times = table.timestamps
        earlier = count_earlier_events(table.users[rows], times[rows], table.users[real], times[real])
    slices = slice_rows(table.items[rows], earlier, prepared.train.counts)
    found: dict[str, dict[str, float]] = {}
    for predictions in predicted:
        mask = data.targets[predictions.task.name].mask[rows]
        of_task = evaluate_prediction_slices(predictions, mask, table.negative[rows], slices)
        for name, values in of_task.items():
            if not values["rows"]:
                continue
            counts = {key: values[key] for key in ("rows", "users", "label_known")}
            named = {metric_name(predictions.task, key): value for key, value in counts.items()}
            metrics = {key: value for key, value in values.items() if key not in counts}
            found.setdefault(name, {}).update(named | metrics)
    return found


def describe_gates(model: Ranker, data: RankingData) -> dict[str, Any] | None:
    """How each gate uses its experts over test rows; None for a model without gates.

    A task's own gate is judged on rows of its population, under `tasks`; gates of lower levels, which no task owns
    alone, on all rows, under `inner`. `gate` is how they are configured.
    """
    names, rows = model.expert_names(), data.rows["test"]
    found: dict[str, Any] = {}
    for task in model.tasks:
        of_task = _spaced(rows[data.targets[task.name].mask[rows]])
        weights = gate_weights(model, data.table, of_task).get(task.name)
        if weights is not None and len(of_task):
            found[task.name] = _use(weights, names.get(task.name))
    if not found:
        return None
    inner = {
        gate: _use(weights, names.get(gate))
        for gate, weights in gate_weights(model, data.table, _spaced(rows)).items()
        if gate not in {task.name for task in model.tasks}
    }
    gate = getattr(model.config, "gate", None)
    described = {}
    if isinstance(gate, GateConfig):
        described["gate"] = {"kind": kind_of("gate", gate)} | gate.model_dump(mode="json")
    return {**described, "tasks": found, **({"inner": inner} if inner else {})}


def _spaced(rows: Ints) -> Ints:
    """Rows from everywhere: the first ones would be those of a few users."""
    return rows[:: max(1, -(-len(rows) // GATE_ROWS))]


def _use(weights: NDArray[np.float32], names: tuple[str, ...] | None) -> dict[str, Any]:
    """The use of one gate's experts, with their names."""
    return {
        "names": list(names or numbered("expert", weights.shape[1])),
        **asdict(utilisation(torch.from_numpy(weights))),
    }


def feature_importance(model: Ranker, data: RankingData, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """What each task loses on validation rows when an input is shuffled; {input: {metric: {drop, deviation}}}.

    Each task is judged on rows of its own population: shuffling among drawn rows would mix two questions.
    """
    names = [spec.name for spec in data.table.schema.specs]
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in names}
    for population in dict.fromkeys(task.population for task in model.tasks):
        tasks = [task for task in model.tasks if task.population == population]
        rows = data.rows["valid"]
        rows = rows[np.logical_or.reduce([data.targets[task.name].mask[rows] for task in tasks])]
        chosen = np.random.default_rng([seed, 13]).permutation(len(rows))[:IMPORTANCE_ROWS]
        rows = rows[np.sort(chosen)]
        importance = permutation_importance(
            partial(_predict_permuted, model, data.table, rows),
            names,
            tasks,
            {name: target.take(rows) for name, target in data.targets.items()},
            IMPORTANCE_REPEATS,
            seed,
        )
        for name, of_tasks in importance.items():
            for task in tasks:
                if task.name in of_tasks and not math.isnan(of_tasks[task.name].drop):
                    found[name][main_metric(task)] = asdict(of_tasks[task.name])
    return found


def _predict_permuted(
    model: Ranker, table: ExampleTable, rows: Ints, permuted: Mapping[str, Ints]
) -> dict[str, NDArray[np.float64]]:
    return predict_rows(model, table, rows, {name: rows[places] for name, places in permuted.items()})


def example_predictions(
    model: Ranker, data: RankingData, prepared: Prepared, count: int, seed: int
) -> list[dict[str, Any]]:
    """A few test examples drawn at random: the user's history, the inputs, the predictions, which expert spoke."""
    table, dataset = data.table, prepared.dataset
    rows = data.rows["test"]
    drawn = np.random.default_rng([seed, 17]).permutation(len(rows))[:count]
    rows = rows[np.sort(drawn)]
    if len(rows) == 0:
        return []
    scores, gates = predict_rows(model, table, rows), gate_weights(model, table, rows)
    said = {task.name: predicted_value(task, scores[task.name]) for task in model.tasks}
    with_classes = [task for task in model.tasks if task.num_classes]
    details = item_details(dataset.items)
    shown = []
    for place, row in enumerate(rows.tolist()):
        item = int(table.items[row])
        shown.append(
            {
                "user_id": dataset.users["user_id"][int(table.users[row])],
                **_item(dataset.items["item_id"], details, item),
                "when": "" if table.timestamps is None else _day(int(table.timestamps[row])),
                "negative": bool(table.negative[row]),
                "labels": {
                    name: float(values[row]) for name, values in table.labels.items() if not math.isnan(values[row])
                },
                "predictions": {name: float(values[place]) for name, values in said.items()},
                "probabilities": {task.name: scores[task.name][place].tolist() for task in with_classes},
                "experts": {name: [float(weight) for weight in weights[place]] for name, weights in gates.items()},
                "history": _history(prepared, details, row, table),
                "features": _inputs(data, row),
            }
        )
    return shown


def _history(prepared: Prepared, details: dict[str, list[str]], row: int, table: ExampleTable) -> list[dict[str, Any]]:
    """The user's most recent events strictly before the example, oldest first."""
    dataset = prepared.dataset
    if dataset.timestamps is None or table.timestamps is None:
        return []
    first, last = dataset.user_offsets[int(table.users[row]) : int(table.users[row]) + 2].tolist()
    end = first + int(np.searchsorted(dataset.timestamps[first:last], table.timestamps[row]))
    labels = [name for name in table.labels if name in dataset.events.columns]
    history = []
    for event in range(max(first, end - HISTORY_SHOWN), end):
        entry = _item(dataset.items["item_id"], details, int(dataset.event_items[event]))
        entry["when"] = _day(int(dataset.timestamps[event]))
        values = {name: dataset.events[name][event] for name in labels}
        entry["label"] = ", ".join(f"{name} {float(value):g}" for name, value in values.items() if value is not None)
        history.append(entry)
    return history


def _inputs(data: RankingData, row: int) -> dict[str, float | str]:
    """The dense inputs of an example as the model reads them, after their transform, and the values of categorical
    columns; missing ones are left out."""
    table, found = data.table, dict[str, float | str]()
    rows = np.array([row], dtype=np.int64)
    for side in (data.builder.users, data.builder.items):
        for column in side.state.columns:
            code = int(table.column(column.spec.name, rows)[0]) if column.spec.kind == "categorical" else MISSING
            if code != MISSING:
                known = code - FIRST_VALUE
                found[column.spec.name] = column.values[known] if known >= 0 else "(a value that training did not have)"
    for name in table.names(("dense",)):
        presence = table.presence(name, rows)
        if presence is None or bool(presence[0]):
            found[name] = round(float(table.column(name, rows)[0]), 4)
    return found


def _item(ids: Any, details: dict[str, list[str]], item: int) -> dict[str, Any]:
    row = item - FIRST_ITEM
    return {"item_id": ids[row], "title": details["title"][row], "details": details["details"][row]}


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
