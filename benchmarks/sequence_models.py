"""Which next-item models benchmarks/sequences.py knows, and what all of them are given: shape, data, a process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rivals.conversation import Worker
from rivals.environments import python_of

from moerec.evaluation.protocols import EvaluationCases
from moerec.recipe import Recipe, parse_recipe
from moerec.run.prepare import Prepared

HERE = Path(__file__).parent
WORK = HERE.parent / "local" / "sequences"
DATASETS = ("ml-100k", "ml-1m-sequences")
GENERATED = "amazon-lengths"
"""For speed alone: 50,000 users, 20,000 items, lengths like Amazon's."""
LENGTHS = {"ml-100k": 50, "ml-1m-sequences": 200, GENERATED: 50}
"""Events that a model sees, where `--length` does not say otherwise."""
WIDTH, BLOCKS, HEADS, BATCH, DROPOUT = 64, 2, 2, 128, 0.2
MAIN = "moerec-sasrec"
"""The model that others are compared with, user by user."""


@dataclass(frozen=True)
class Model:
    """One row of the tables."""

    label: str
    """Its name in the tables."""
    side: str
    """moerec, plain, or the name of a rival's environment."""
    variant: str
    """Which of the side's models; of ours, which loss."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What a rival is told beside the shape, where its default is not meant for this size; of ours, the retriever."""
    speed_options: Mapping[str, Any] = field(default_factory=dict)
    """The same in the speed turns, where all have one dropout."""


LOSSES: dict[str, dict[str, Any]] = {
    "full": {},
    "shared512": {"kind": "sampled_softmax", "negatives": {"kind": "uniform", "count": 512}},
}
"""Losses of our stages by name; a model whose loss or retriever is not there (yet) is skipped, and that is said."""
RECBOLE_DROPOUT = {"hidden_dropout_prob": DROPOUT, "attn_dropout_prob": DROPOUT}
MODELS: dict[str, Model] = {
    "moerec-sasrec": Model("moerec SASRec, full softmax", "moerec", "full", {"kind": "sasrec"}),
    "moerec-sasrec-shared512": Model("moerec SASRec, 512 shared negatives", "moerec", "shared512", {"kind": "sasrec"}),
    "plain-full": Model("plain torch SASRec, full softmax", "plain", "full"),
    "plain-shared512": Model("plain torch SASRec, 512 shared negatives", "plain", "shared512"),
    "rectools-sasrec": Model(
        "RecTools SASRec, full softmax", "rectools", "sasrec", speed_options={"dropout_rate": DROPOUT}
    ),
    "rectools-esasrec": Model(
        "RecTools eSASRec (LiGR), 256 negatives",
        "rectools",
        "esasrec",
        {"n_negatives": 256},
        {"n_negatives": 256, "dropout_rate": DROPOUT},
    ),
    "replay-sasrec": Model("RePlay SASRec, full softmax", "replay", "sasrec", speed_options={"dropout": DROPOUT}),
    "replay-sasrec-buckets": Model(
        "RePlay SASRec with its length buckets",
        "replay",
        "buckets",
        speed_options={"dropout": DROPOUT},
    ),
    "recbole-sasrec": Model("RecBole SASRec, full softmax", "recbole", "sasrec", speed_options=RECBOLE_DROPOUT),
}
STAGES: dict[str, dict[str, Any]] = {
    "ml-100k": {
        "batch_size": 32,
        "learning_rate": 0.002,
        "average": 0.99,
        "schedule": {"kind": "cosine", "warmup": 100},
    },
    "ml-1m-sequences": {
        "batch_size": None,
        "batch_events": 6400,
        "learning_rate": 0.002,
        "average": 0.999,
        "schedule": {"kind": "cosine", "warmup": 300},
    },
}
"""How ours is trained, beside the epochs; on ML-100K as in recipes/quickstart.yaml, on ML-1M as in
recipes/ml-1m-sasrec.yaml."""
OUR_DROPOUT = {"ml-100k": 0.3, "ml-1m-sequences": 0.2}


def recipe_of(dataset: str, model: str, length: int, seed: int, epochs: int, *, shared: bool = False) -> Recipe:
    """The recipe of one of our models; `shared` gives it the shape and the batch of the speed turns.

    Raises:
        ConfigError: the retriever or the loss is not there.
    """
    chosen = MODELS[model]
    stage = {"batch_size": BATCH} if shared else STAGES[dataset]
    windows = "last" if shared else "all"  # rivals train on the most recent window of a user
    return parse_recipe(
        {
            "name": model,
            "seed": seed,
            "dataset": {
                "source": "movielens",
                "variant": dataset if dataset in DATASETS else DATASETS[0],
                "split": {"kind": "leave_last_out"},
                "candidates": 100,
            },
            "retriever": {
                "width": WIDTH,
                "blocks": BLOCKS,
                "heads": HEADS,
                "max_length": length,
                "dropout": DROPOUT if shared else OUR_DROPOUT[dataset],
            }
            | chosen.options,
            "baselines": {"kinds": []},
            "training": {
                "threads": 1,
                "device": "cpu",
                "retriever": [
                    {"name": "main", "epochs": epochs, "windows": windows, "loss": LOSSES[chosen.variant]} | stage
                ],
            },
        },
        model,
    )


def stored_data(prepared: Prepared, cases: Mapping[str, EvaluationCases], path: Path) -> Path:
    """The file that workers read: train events, and the histories and targets of both parts."""
    train = prepared.train
    arrays: dict[str, Any] = {
        "items": train.items,
        "offsets": train.offsets,
        "timestamps": np.zeros_like(train.items) if train.timestamps is None else train.timestamps,
        "trained": prepared.trained,
    }
    for part, judged in cases.items():
        arrays |= {
            f"{part}_items": judged.history_items,
            f"{part}_offsets": judged.history_offsets,
            f"{part}_targets": judged.target_items,  # leave-last-out: one for each case
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def generated_data(path: Path) -> Path:
    """Events without meaning whose numbers are like Amazon's: 8 inputs of at most 50 on average, a long tail."""
    generator = np.random.default_rng(0)
    users, items = 50_000, 20_000
    inputs = np.minimum(generator.geometric(1 / 8, users), 50)
    offsets = np.concatenate([[0], np.cumsum(inputs + 1)])  # the last event is a positive alone
    weights = 1 / (np.arange(items) + 20)
    drawn = generator.choice(items, offsets[-1], p=weights / weights.sum()) + 2
    trained = np.zeros(items + 2, bool)
    trained[drawn] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, items=drawn, offsets=offsets, timestamps=np.arange(len(drawn)), trained=trained)
    return path


def started_worker(model: str) -> Worker:
    """The process that trains a model, of our interpreter or of a rival's."""
    side = MODELS[model].side
    if side in ("moerec", "plain"):
        return Worker(sys.executable, HERE / "sequences_worker.py", threads=1)
    return Worker(python_of(side), HERE / "rivals" / f"{side}_worker.py", threads=1)


def without_place(error: Exception) -> str:
    """What went wrong, without the folder that this checkout happens to lie in."""
    return str(error).replace(f"{HERE.parent}/", "")


def settings_of(model: str, length: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker is told: the shape, and what is the model's own."""
    chosen = MODELS[model]
    # RecBole makes a row of each target, so 128 rows would be a batch of 128 targets; it gets its default, or as many
    # rows as keep the attention of long histories within memory.
    batch = min(2048, 102_400 // length) if chosen.side == "recbole" else BATCH
    shape = {"width": WIDTH, "blocks": BLOCKS, "heads": HEADS, "length": length, "batch": batch, "threads": 1}
    return shape | {"side": chosen.side, "variant": chosen.variant, "options": dict(options), "dropout": DROPOUT}
