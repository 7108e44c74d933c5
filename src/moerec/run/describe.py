"""What the report tells beside the metrics: the data, the experts, example users."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moerec.config import kind_of
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import FIRST_ITEM, PADDING
from moerec.evaluation.evaluate import EvaluationResult
from moerec.evaluation.slices import head_items
from moerec.models.roles import Retriever
from moerec.nn.gates import utilisation
from moerec.run.prepare import Prepared, item_details

HISTORY_SHOWN = 12
HISTOGRAM_BINS = 14


def describe_dataset(prepared: Prepared) -> dict[str, Any]:
    """Counts, times, ties, activity, rejects and modality coverage."""
    dataset = prepared.dataset
    info, counts = dataset.info, dataset.info.counts
    lengths = np.diff(dataset.user_offsets)
    described: dict[str, Any] = {
        "name": info.name,
        "source": info.source.get("place", info.source.get("source", info.name)),
        "licence": info.licence,
        "users": counts.users,
        "items": counts.items,
        "events": counts.events,
        "rejected": sum(counts.rejected.values()),
        "reject_reasons": dict(counts.rejected),
        "events_per_user": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "mean": round(float(lengths.mean()), 1),
            "max": int(lengths.max()),
            "histogram": _histogram(lengths),
        },
        "cold_items": int((~prepared.trained[FIRST_ITEM:]).sum()),
        "modalities": {
            name: {
                "encoder": store.metadata.get("encoder"),
                "dim": store.dim,
                "present": store.num_present,
                "missing": store.num_items - store.num_present,
            }
            for name, store in prepared.stores.items()
        },
    }
    if dataset.timestamps is not None:
        described |= {
            "first": _day(int(dataset.timestamps.min())),
            "last": _day(int(dataset.timestamps.max())),
            "tie_share": tie_share(dataset),
        }
    return described


def tie_share(dataset: Dataset) -> float:
    """Share of events whose predecessor of the same user has the same timestamp."""
    times, users = dataset.timestamps, dataset.event_users
    assert times is not None
    follows = users[1:] == users[:-1]
    return float((times[1:] == times[:-1])[follows].mean()) if follows.any() else 0.0


def describe_experts(model: Retriever, train_counts: np.ndarray[Any, Any]) -> dict[str, Any] | None:
    """How the item tower weighs its experts, or its inputs, over the catalogue and its popular, rare and new items.

    None for a tower that weighs neither.
    """
    tower = model.item_tower
    with torch.no_grad():
        weights, inputs = tower.gate_weights(), tower.input_weights()
    head = torch.from_numpy(head_items(train_counts))[FIRST_ITEM:]
    new = torch.from_numpy(np.asarray(train_counts) == 0)[FIRST_ITEM:]
    groups = {"all": torch.ones_like(head), "head": head, "tail": ~head & ~new, "new": new}
    groups = {name: chosen for name, chosen in groups.items() if bool(chosen.any())}
    if weights is not None:
        weights = weights.cpu()[FIRST_ITEM:]  # [items, E]
        return {
            "gate": kind_of("gate", tower.config.gate),
            "names": [f"expert {number + 1}" for number in range(weights.shape[1])],
            **asdict(utilisation(weights)),
            "by_group": _by_group(weights, groups),
        }
    if inputs is not None:
        inputs = inputs.cpu()[FIRST_ITEM:]  # [items, F]
        return {
            "inputs": {
                "fusion": tower.config.fusion,
                "names": list(tower.input_names),
                "mean_weight": inputs.mean(0).tolist(),
                "by_group": _by_group(inputs, groups),
            }
        }
    return None


def _by_group(weights: Tensor, groups: dict[str, Tensor]) -> dict[str, Any]:
    """Mean weights by group of items: a row for each expert or input, a column for each group."""
    rows = torch.stack([weights[chosen].mean(0) for chosen in groups.values()], dim=1)
    return {"columns": list(groups), "rows": rows.tolist()}


def example_users(prepared: Prepared, result: EvaluationResult, count: int, seed: int) -> list[dict[str, Any]]:
    """A few users drawn at random: what they had, what was held out, what was recommended."""
    dataset, cases = prepared.dataset, result.cases
    details = item_details(dataset.items)
    chosen = np.random.default_rng([seed, 11]).choice(len(cases), size=min(count, len(cases)), replace=False)
    examples = []
    for case in sorted(chosen.tolist()):
        first, last = cases.history_offsets[case : case + 2]
        shown = slice(max(first, last - HISTORY_SHOWN), last)
        history = _items(dataset, details, cases.history_items[shown])
        if cases.history_timestamps is not None:
            for entry, time in zip(history, cases.history_timestamps[shown], strict=True):
                entry["when"] = _day(int(time))
        target = int(cases.target_offsets[case])
        held_out = _items(dataset, details, cases.target_items[target : target + 1])[0]
        top = result.top_items[case]
        top = top[top != PADDING][:10]
        listed = _items(dataset, details, top)
        targets = set(cases.target_items[target : cases.target_offsets[case + 1]].tolist())
        for place, (entry, item) in enumerate(zip(listed, top.tolist(), strict=True), start=1):
            entry |= {"rank": place, "hit": item in targets}
        examples.append(
            {
                "user_id": dataset.users["user_id"][int(cases.users[case])],
                "history_length": int(last - first),
                "history": history,
                "held_out": held_out | {"rank": round(float(result.ranks[target]), 1)},
                "list": listed,
            }
        )
    return examples


def _items(dataset: Dataset, details: dict[str, list[str]], indices: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    ids = dataset.items["item_id"]
    rows = (np.asarray(indices) - FIRST_ITEM).tolist()
    return [{"item_id": ids[row], "title": details["title"][row], "details": details["details"][row]} for row in rows]


def _histogram(lengths: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """Users by number of events, in bins of equal width on a logarithmic scale."""
    edges = np.unique(np.round(np.geomspace(lengths.min(), lengths.max() + 1, HISTOGRAM_BINS + 1)))
    counts, _ = np.histogram(lengths, bins=edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).date().isoformat()
