"""A run of a few seconds on generated data, without any text encoder, for tests of all that stands on runs."""

from __future__ import annotations

import copy
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from moerec.recipe import Recipe, apply_override, parse_recipe
from moerec.run import RunOptions, run_recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 5,
    "dataset": {"source": "synthetic", "users": 60, "items": 72, "events_per_user": 12, "candidates": 20},
    "features": [{"name": "genres", "kind": "multi"}, {"name": "year", "kind": "dense"}],
    "retriever": {
        "kind": "sasrec",
        "width": 16,
        "blocks": 1,
        "max_length": 8,
        "feed_forward": 16,
        "dropout": 0.1,
        "item_tower": {"fusion": "mixture", "experts": 3, "expert_hidden": 8},
    },
    "baselines": {"kinds": ["popularity", "item_knn"], "trials": 2},
    "training": {"threads": 1, "log_every": 2, "retriever": [{"epochs": 2, "batch_size": 16, "learning_rate": 0.01}]},
    "evaluation": {"cutoffs": [5, 10], "resamples": 100, "examples": 2},
}


def small_values(*overrides: str) -> dict[str, Any]:
    """The recipe as plain data, with changes as `--set` takes them."""
    values = copy.deepcopy(SMALL)
    for override in overrides:
        apply_override(values, override)
    return values


def small_recipe(*overrides: str) -> Recipe:
    """The recipe."""
    return parse_recipe(small_values(*overrides))


def write_recipe(path: Path, *overrides: str) -> Path:
    """The recipe as a file."""
    path.write_text(yaml.safe_dump(small_values(*overrides), sort_keys=False))
    return path


def options(folder: Path, **changes: Any) -> RunOptions:
    """Runs and artifacts below one folder."""
    return RunOptions(**({"runs": folder / "runs", "artifacts": folder / "artifacts"} | changes))


def do(folder: Path, overrides: Sequence[str] = (), **changes: Any) -> tuple[Path, str]:
    """Run the recipe; gives the run's folder and what was said."""
    said = io.StringIO()
    directory = run_recipe(small_recipe(*overrides), options(folder, **changes), Console(file=said, width=200))
    return directory, said.getvalue()
