"""A finished ranking as the command writes it: drawn predictions, their real metrics and curves, invented titles."""

from __future__ import annotations

import json
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from moerec.evaluation.curves import curves
from moerec.evaluation.predictions import Predictions, evaluate_predictions
from moerec.report.run_files import RunFiles
from moerec.tasks import TaskConfig
from tests.report.sample_run import files, metrics, title, write_sample_run

LIKE = TaskConfig(name="like", label="rating", at_least=4)
RATING = TaskConfig(name="rating", type="regression", label="rating")
INTERACT = TaskConfig(name="interact", population="reviews+negatives")
TASKS = (LIKE, RATING, INTERACT)
ROWS = 4000
FEATURES = [
    "user_id", "item_id", "genres", "user_rating_mean", "user_rating_deviation", "user_events", "item_rating_mean",
    "item_rating_deviation", "item_events", "share_Drama", "share_Comedy", "share_Thriller", "year", "year_gap",
    "hour", "weekday", "gap_bucket", "popularity_30d", "text_similarity", "history",
]  # fmt: skip


@cache
def predictions(noise: float, seed: int = 3) -> dict[str, Predictions]:
    """Predictions of a system by task: the less noise the better; the labels are the same for all."""
    truth, draw = np.random.default_rng(1), np.random.default_rng(seed)
    users = truth.integers(0, 300, ROWS)
    taste = truth.normal(3.5, 0.75, ROWS)
    rating = np.clip(np.round(taste + truth.normal(0, 0.8, ROWS)), 1, 5)
    met = truth.random(ROWS) < 0.25
    blurred = taste + draw.normal(0, noise, ROWS)
    chance = 1 / (1 + np.exp(-1.3 * (blurred - 3.4)))
    interest = 1 / (1 + np.exp(-(draw.normal(0, 0.8 + noise, ROWS) + 2.4 * met - 1.9)))
    nothing = np.zeros(ROWS, np.bool_)
    return {
        "like": Predictions(LIKE, users, (rating >= 4).astype(float), chance, nothing),
        "rating": Predictions(RATING, users, rating, blurred, nothing),
        "interact": Predictions(INTERACT, users, met.astype(float), interest, ~met),
    }


@cache
def measured(noise: float) -> dict[str, float]:
    """Metrics of a system."""
    found: dict[str, float] = {}
    for drawn in predictions(noise).values():
        found |= evaluate_predictions(drawn)
    return {key: round(value, 5) for key, value in found.items()}


def ranking_curves() -> dict[str, Any]:
    """`ranking_curves.json`."""
    return {name: curves(drawn) for name, drawn in predictions(0.3).items()}


def around(values: dict[str, float], half: float = 0.008) -> dict[str, list[float]]:
    return {key: [round(value - half, 5), round(value + half, 5)] for key, value in values.items()}


def against(model: dict[str, float], other: dict[str, float], half: float = 0.004) -> dict[str, Any]:
    found = {}
    for key, value in model.items():
        gap = value - other[key]
        found[key] = {
            "difference": round(gap, 5),
            "interval": [round(gap - half, 5), round(gap + half, 5)],
            "p_value": round(math.erfc(abs(gap) / (half / 1.96) / math.sqrt(2)), 5),
        }
    return found


def ranking(best_baseline: float = 0.35) -> dict[str, Any]:
    """`ranking` of metrics.json; the best baseline has this noise, the model 0.3."""
    model, gradient, means = measured(0.3), measured(best_baseline), measured(0.9)
    draw = random.Random(5)
    described = {}
    for task in TASKS:
        drawn = predictions(0.3)[task.name]
        described[task.name] = {
            "type": task.type,
            "describe": task.describe(),
            "population": task.population,
            "label": task.label,
            "at_least": task.at_least,
            "rows": {"train": 70_103, "valid": 10_010, "test": len(drawn)},
        } | (
            {"positive_share": round(float(drawn.labels.mean()), 4)}
            if task.type == "binary"
            else {"label_mean": round(float(drawn.labels.mean()), 4), "label_deviation": 1.11}
        )
    slices = {}
    for name, share in (("cold user", 0.01), ("known user", 0.99), ("head item", 0.5), ("cold item", 0.02)):
        slices[name] = {"rows": round(ROWS * share)} | {
            key: round(value + draw.gauss(0, 0.01), 4) for key, value in model.items()
        }
        slices[name] |= {f"{task.name}/rows": round(ROWS * share) for task in (LIKE, RATING)}
    return {
        "tasks": described,
        "test": model,
        "valid": {key: round(value * 1.004, 5) for key, value in model.items()},
        "intervals": around(model),
        "slices": slices,
        "baselines": {"means": means, "logistic_regression": measured(0.5), "gradient_boosting": gradient},
        "baseline_details": {
            "means": {"trials": 5, "config": {"shrink": 10.0}, "against_model": against(model, means)},
            "logistic_regression": {
                "trials": 9,
                "config": {"like": {"c": 0.3}, "rating": {"alpha": 12.0}},
                "against_model": against(model, measured(0.5)),
            },
            "gradient_boosting": {
                "trials": 45,
                "config": {
                    "like": {"learning_rate": 0.05, "max_leaf_nodes": 31},
                    "rating": {"learning_rate": 0.1, "max_leaf_nodes": 15},
                },
                "intervals": around(gradient),
                "against_model": against(model, gradient),
            },
        },
        "siblings": {"single_task": measured(0.33), "shared_bottom": measured(0.34)},
        "importance": {
            feature: {
                task.name: {"drop": round(0.05 * 0.72**place * draw.uniform(0.5, 1.2), 5), "deviation": 0.0009}
                for task in TASKS
            }
            for place, feature in enumerate(FEATURES)
        },
        "experts": {
            "gate": {"kind": "dense", "temperature": 1.0, "expert_dropout": 0.0, "balance": {"kind": "none"}},
            "tasks": {
                "like": gate([0.41, 0.29, 0.21, 0.09], [0.55, 0.25, 0.15, 0.05], 1.02),
                "rating": gate([0.12, 0.44, 0.18, 0.26], [0.08, 0.58, 0.11, 0.23], 1.11),
                "interact": gate([0.05, 0.02, 0.9, 0.03], [0.01, 0.0, 0.98, 0.01], 0.35),
            },
        },
        "model": {
            "kind": "mmoe",
            "parameters": 331_204,
            "trials": 8,
            "best_update": 1840,
            "updates": 2600,
            "features": FEATURES,
        },
        "protocol": {
            "split": "per-user time split: the last 20 % of each user's events are test, the 10 % before validation",
            "features": "computed from events strictly earlier than the row",
            "populations": "reviews: real rows; reviews+negatives: four drawn items for each real row",
            "interval": "95% percentile bootstrap over users, 1,000 resamples",
            "test": "paired bootstrap over users, two-sided",
        },
        "seconds": {"features": 0.8, "train": 21.4, "evaluate": 2.2, "baselines": 30.1},
    }


def gate(
    weights: list[float], load: list[float], entropy: float, names: list[str] | None = None, selected: int = 0
) -> dict[str, Any]:
    return {
        "names": names or [f"expert {place + 1}" for place in range(len(weights))],
        "mean_weight": weights,
        "load": load,
        "entropy": entropy,
        "max_over_mean_load": round(max(load) * len(load), 2),
        "dead": sum(weight < 0.1 / len(weights) for weight in weights),
        "selected": selected or len(weights),
    }


def two_stage(gain: float = 0.006, on: bool = True) -> dict[str, Any]:
    """`two_stage` of metrics.json."""
    first = {key: metrics()["retrieval"]["test"][key] for key in ("hr@10", "ndcg@10", "mrr@10", "hr@20")}
    both = {key: round(value + gain, 4) for key, value in first.items()}
    return {
        "on": on,
        "candidates": 200,
        "recall": {"recall@200": 0.823},
        "formula": {"retrieval": 1.0, "interact": 0.3, "like": 0.0},
        "tried": [
            {"formula": {"retrieval": 1.0, "interact": weight, "like": 0.0}, "valid": {"ndcg@10": value}}
            for weight, value in ((0.0, 0.1102), (0.3, 0.1174), (1.0, 0.1099))
        ],
        "why": "it improves NDCG@10 on the validation split" if on else "it does not improve NDCG@10 on validation",
        "first_stage": first,
        "test": both,
        "intervals": {key: [round(value - 0.018, 4), round(value + 0.018, 4)] for key, value in both.items()},
        "against_first_stage": {
            "metric": "ndcg@10",
            "difference": gain,
            "interval": [round(gain - 0.004, 4), round(gain + 0.004, 4)],
            "p_value": 0.004,
        },
        "valid": {"first_stage": {"ndcg@10": 0.1102}, "two_stage": {"ndcg@10": 0.1174}},
    }


def ranker_history(updates: int = 2600) -> list[dict[str, Any]]:
    draw, records = random.Random(9), []
    for update in range(20, updates + 1, 20):
        loss = 0.95 + 0.6 * math.exp(-update / 400) + draw.gauss(0, 0.01)
        records.append({"stage": "main", "update": update, "epoch": update // 69, "loss": loss, "seconds": update / 90})
        if update % 260 == 0:
            valid = {
                "like/auc": 0.8 - 0.15 * math.exp(-update / 400) - max(0, update - 1840) * 1e-5,
                "rating/rmse": 0.9 + 0.2 * math.exp(-update / 400) + max(0, update - 1840) * 1e-5,
                "interact/auc/reviews+negatives": 0.93 - 0.1 * math.exp(-update / 300),
            }
            records.append(
                {
                    "stage": "main",
                    "update": update,
                    "valid": valid,
                    "gates": {
                        task.name: {"entropy": 1.386 - update * 1e-4, "max_over_mean_load": 1.5 + place, "dead": place}
                        for place, task in enumerate(TASKS)
                    },
                    "best": update <= 1840,
                    "seconds": update / 90,
                }
            )
    return records


def ranking_examples(count: int = 4) -> list[dict[str, Any]]:
    """`ranking_examples.json`."""
    draw, found = random.Random(13), []
    for place in range(count):
        negative = place == 3
        rating = draw.randint(1, 5)
        weights = {}
        for task in TASKS:
            drawn = [draw.random() ** 3 for _ in range(4)]
            weights[task.name] = [round(value / sum(drawn), 4) for value in drawn]
        found.append(
            {
                "user_id": str(40 + 17 * place),
                "item_id": str(900 + place),
                "title": title(900 + place),
                "details": "Drama, Romance",
                "when": "1998-02-11",
                "negative": negative,
                "labels": {} if negative else {"rating": float(rating)},
                "predictions": {"like": 0.812, "rating": 3.876, "interact": 0.274},
                "baselines": {"gradient_boosting": {"like": 0.794, "rating": 3.91}},
                "experts": weights,
                "history": [
                    {
                        "title": title(item),
                        "details": "Comedy",
                        "when": "1998-01-30",
                        "label": float(draw.randint(1, 5)),
                    }
                    for item in range(700 + place, 712 + place)
                ],
                "history_length": 57,
                "features": {
                    "user_rating_mean": 3.4125,
                    "user_events": 57,
                    "genres": ["Drama", "Romance"],
                    "text_similarity": None,
                    "hour": 21,
                }
                | {f"share_{genre}": round(draw.random(), 4) for genre in ("Drama", "Comedy", "Thriller")},
            }
        )
    return found


def ranking_files(*, retrieval: bool = True, **changed: Any) -> RunFiles:
    """A run of both stages as it is read, or of ranking alone; the arguments replace parts of it."""
    recorded = metrics() | {"ranking": ranking(), "two_stage": two_stage()}
    content: dict[str, Any] = {
        "metrics": recorded,
        "ranking_curves": ranking_curves(),
        "ranking_examples": ranking_examples(),
        "ranker_history": ranker_history(),
    }
    if not retrieval:
        for key in ("retrieval", "two_stage", "experts", "protocol", "model"):
            recorded.pop(key)
        content |= {"history": [], "examples": []}
    return files(**(content | changed))


def write_ranking_run(directory: Path, *, retrieval: bool = True, **changed: Any) -> Path:
    """Write the files of such a run."""
    run = ranking_files(retrieval=retrieval, **changed)
    write_sample_run(
        directory,
        metrics=run.metrics,
        history=list(run.history) if retrieval else None,
        examples=list(run.examples) if retrieval else None,
    )
    (directory / "ranking_curves.json").write_text(json.dumps(run.ranking_curves), encoding="utf-8")
    (directory / "ranking_examples.json").write_text(json.dumps(run.ranking_examples), encoding="utf-8")
    (directory / "ranker").mkdir()
    lines = "".join(json.dumps(record) + "\n" for record in run.ranker_history)
    (directory / "ranker" / "history.jsonl").write_text(lines, encoding="utf-8")
    return directory
