"""A finished run as the command writes it, with generated numbers and invented titles."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from moerec.report.run_files import RunFiles

_FIRST = ["Glass", "Silent", "Copper", "Last", "Paper", "Winter", "Salt", "Hidden", "Crimson", "Second", "Tin", "Open"]
_SECOND = ["Harbour", "Orchard", "Letters", "Meridian", "Lanterns", "Ferry", "Winter", "Kingdom", "Atlas", "Tide"]
_GENRES = ["Drama", "Comedy", "Thriller", "Romance", "Documentary", "Adventure"]

_BASELINES = {  # name: HR@10, tuning trials, settings
    "ease_recency": (0.177, 24, {"l2": 180.0, "half_life": 40}),
    "ease": (0.161, 24, {"l2": 320.0}),
    "item_transitions": (0.154, 24, {"smoothing": 0.5, "window": 2}),
    "item_knn": (0.142, 24, {"neighbours": 80, "shrink": 20.0}),
    "recent_popularity": (0.081, 12, {"days": 30}),
    "popularity": (0.062, 1, {}),
}


def title(number: int) -> str:
    """An invented title, the same for the same number."""
    draw = random.Random(number)
    return f"The {draw.choice(_FIRST)} {draw.choice(_SECOND)} ({draw.randint(1931, 1998)})"


def ranking_metrics(hit_rate: float) -> dict[str, float]:
    """Metrics that fit a hit rate at 10."""
    full = {
        "hr@5": hit_rate * 0.58,
        "hr@10": hit_rate,
        "hr@20": hit_rate * 1.55,
        "ndcg@10": hit_rate * 0.5,
        "mrr@10": hit_rate * 0.35,
        "recall@10": hit_rate,
        "mean_rank": 300 - 700 * hit_rate,
    }
    sampled = {"hr@10/uniform100": min(3.5 * hit_rate, 0.95), "ndcg@10/uniform100": min(2.1 * hit_rate, 0.9)}
    return {key: round(value, 4) for key, value in (full | sampled).items()}


def around(value: float, cases: int = 943) -> list[float]:
    """A 95 % interval of a share."""
    half = 1.96 * math.sqrt(max(value * (1 - value), 1e-6) / cases)
    return [round(value - half, 4), round(value + half, 4)]


def slices_of(hit_rate: float) -> dict[str, dict[str, float]]:
    factors = {
        "head": (612, 1.3),
        "tail": (314, 0.48),
        "new items": (17, 0.28),
        "known users": (943, 1.0),
        "new users": (0, 1.0),
        "short history": (318, 1.2),
        "medium history": (311, 1.0),
        "long history": (314, 0.8),
    }
    return {
        name: {"cases": cases, "hr@10": round(hit_rate * factor, 4), "ndcg@10": round(hit_rate * factor * 0.5, 4)}
        for name, (cases, factor) in factors.items()
    }


def beyond_of(strength: float) -> dict[str, float]:
    return {
        "coverage@10": round(strength * 2.2, 3),
        "novelty@10": round(8 + 9 * strength, 2),
        "gini@10": round(0.99 - strength, 3),
        "popularity@10": round(260 - 700 * strength, 1),
    }


def metrics(hit_rate: float = 0.209) -> dict[str, Any]:
    baselines = {name: ranking_metrics(value) for name, (value, _, _) in _BASELINES.items()}
    details = {}
    for name, (value, trials, config) in _BASELINES.items():
        gap = hit_rate - value
        details[name] = {
            "trials": trials,
            "config": config,
            "valid": ranking_metrics(value * 1.06),
            "intervals": {"hr@10": around(value), "ndcg@10": around(value * 0.5)},
            "slices": slices_of(value),
            "beyond": beyond_of(value),
            "against_model": {
                "metric": "hr@10",
                "difference": round(gap, 4),
                "interval": [round(gap - 0.0235, 4), round(gap + 0.0235, 4)],
                "p_value": round(math.erfc(abs(gap) / 0.012 / math.sqrt(2)), 5),
            },
        }
    return {
        "name": "quickstart",
        "seed": 42,
        "model": {"kind": "sasrec", "parameters": 273_216, "trials": 12},
        "dataset": {
            "name": "village-cinema",
            "source": "generated for tests",
            "licence": "none needed",
            "users": 943,
            "items": 1682,
            "events": 100_000,
            "rejected": 37,
            "reject_reasons": {"bad timestamp": 21, "duplicate": 12, "too few columns": 4},
            "tie_share": 0.51,
            "first": "1997-09-20",
            "last": "1998-04-22",
            "events_per_user": {"min": 20, "median": 65, "mean": 106.0, "max": 737},
            "modalities": {
                "text": {"encoder": "all-MiniLM-L6-v2", "dim": 384, "present": 1680, "missing": 2},
                "image": {"encoder": "efficientnet-lite0", "dim": 1280, "present": 1401, "missing": 281},
            },
        },
        "retrieval": {
            "valid": ranking_metrics(hit_rate * 1.07),
            "test": ranking_metrics(hit_rate),
            "intervals": {key: around(value) for key, value in ranking_metrics(hit_rate).items() if value < 1},
            "beyond": beyond_of(hit_rate * 1.1),
            "slices": slices_of(hit_rate),
            "baselines": baselines,
            "baseline_details": details,
        },
        "experts": {
            "gate": "dense",
            "names": ["expert 1", "expert 2", "expert 3", "expert 4"],
            "mean_weight": [0.31, 0.27, 0.24, 0.18],
            "load": [0.38, 0.29, 0.21, 0.12],
            "entropy": 1.02,
            "max_over_mean_load": 1.52,
            "dead": 0,
            "by_group": {
                "columns": ["all", "head", "tail", "new"],
                "rows": [
                    [0.31, 0.39, 0.27, 0.08],
                    [0.27, 0.30, 0.25, 0.12],
                    [0.24, 0.19, 0.27, 0.31],
                    [0.18, 0.12, 0.21, 0.49],
                ],
            },
            "inputs": {
                "names": ["id", "text", "genres"],
                "mean_weight": [0.52, 0.33, 0.15],
                "by_group": {
                    "columns": ["all", "head", "tail", "new"],
                    "rows": [[0.52, 0.66, 0.45, 0.02], [0.33, 0.22, 0.38, 0.71], [0.15, 0.12, 0.17, 0.27]],
                },
            },
        },
        "protocol": {
            "split": "leave-last-out: each user's last event is test, the one before it validation, the rest training",
            "ranking": "full ranking over all catalogue items that the user has not seen in training or validation",
            "ties": "expected rank over a random order of equal scores",
            "interval": "95% percentile bootstrap over users, 1,000 resamples",
            "test": "paired randomisation test over users, two-sided, 10,000 random sign flips",
        },
        "timing": {
            "prepare_s": 1.2,
            "encode_s": 9.0,
            "baselines_s": 30.4,
            "train_s": 71.3,
            "evaluate_s": 0.4,
            "users_per_second": 7312.4,
            "targets_per_second": 29_150.0,
        },
    }


def history(seed: int = 7, validations: int = 24) -> list[dict[str, Any]]:
    draw, records, best = random.Random(seed), [], 0.0
    for step in range(1, validations * 6 + 1):
        update = step * 20
        loss = 4.9 + 2.5 * math.exp(-update / 500) + draw.gauss(0, 0.02)
        records.append(
            {
                "stage": "main",
                "update": update,
                "epoch": step // 3,
                "loss": round(loss, 4),
                "learning_rate": 1e-3,
                "gradient_norm": 1.1,
                "seconds": step * 0.5,
            }
        )
        if step % 6 == 0:
            reached = 0.226 * (1 - math.exp(-update / 450)) - max(0, update - 1800) * 1.3e-5 + draw.gauss(0, 0.002)
            valid = {"hr@10": round(reached, 4), "ndcg@10": round(reached * 0.5, 4)}
            records.append(
                {
                    "stage": "main",
                    "update": update,
                    "epoch": step // 3,
                    "valid": valid,
                    "best": reached > best,
                    "seconds": step * 0.5,
                }
            )
            best = max(best, reached)
    return records


def examples(users: int = 4, seed: int = 11) -> list[dict[str, Any]]:
    draw, found = random.Random(seed), []
    for user in range(users):
        seen = [draw.randint(2, 1683) for _ in range(draw.randint(8, 60))]
        shown = [
            {
                "item_id": str(item),
                "title": title(item),
                "details": ", ".join(sorted(draw.sample(_GENRES, draw.randint(1, 2)))),
                "when": f"1997-{1 + place * 11 // len(seen):02d}-{1 + place % 28:02d}",
            }
            for place, item in enumerate(seen)
        ]
        rank = [3, 41, 1, 260][user % 4]
        held_out = draw.randint(2, 1683)
        listed = [draw.randint(2, 1683) for _ in range(10)]
        if rank <= 10:
            listed[rank - 1] = held_out
        recommended = [
            {
                "rank": place + 1,
                "item_id": str(item),
                "title": title(item),
                "details": draw.choice(_GENRES),
                "score": round(8.2 - 0.31 * place, 3),
                "hit": place + 1 == rank,
            }
            for place, item in enumerate(listed)
        ]
        found.append(
            {
                "user_id": str(100 + 37 * user),
                "history": shown,
                "held_out": {"item_id": str(held_out), "title": title(held_out), "rank": rank},
                "list": recommended,
            }
        )
    return found


ENVIRONMENT = {
    "moerec": "0.1.0",
    "python": "3.11.7",
    "torch": "2.13.0",
    "platform": "Linux-6.1-x86_64",
    "cpu": "a processor with two cores",
    "cores": 2,
    "threads": 2,
    "memory_gib": 23.5,
    "libraries": {"numpy": "2.1.0", "polars": "1.20.0", "safetensors": "0.5.2"},
}

RECIPE = """name: quickstart
seed: 42
dataset: {source: movielens, variant: ml-100k}
modalities:
  text: {encoder: all-MiniLM-L6-v2}
retriever:
  kind: sasrec
  width: 64
  blocks: 2
"""


def write_sample_run(directory: Path, **changed: Any) -> Path:
    """Write the files of a run; `metrics`, `history`, `examples`, `environment`, `recipe` replace the sample's.

    None leaves a file out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    content = {
        "metrics": metrics(),
        "history": history(),
        "examples": examples(),
        "environment": ENVIRONMENT,
        "recipe": RECIPE,
    } | changed
    for name in ("metrics", "examples", "environment"):
        if content[name] is not None:
            (directory / f"{name}.json").write_text(json.dumps(content[name]), encoding="utf-8")
    if content["history"] is not None:
        lines = "".join(json.dumps(record) + "\n" for record in content["history"])
        (directory / "history.jsonl").write_text(lines, encoding="utf-8")
    if content["recipe"] is not None:
        (directory / "recipe.yaml").write_text(content["recipe"], encoding="utf-8")
    return directory


def files(**changed: Any) -> RunFiles:
    """The same run as it is read; the arguments replace parts of it."""
    content = {
        "metrics": metrics(),
        "history": history(),
        "unreadable_history_lines": 0,
        "examples": examples(),
        "environment": {"moerec": "0.1.0", "libraries": {"numpy": "2.1.0"}},
        "recipe": "name: quickstart\n",
    }
    return RunFiles(**(content | changed))
