"""What benchmarks of whole runs share: a run for each row, a results file that grows row by row, paired differences."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.evaluation.significance import compare_paired

PerUser = dict[str, NDArray[np.float64]]
"""Values of the users, by metric."""
RECIPES = Path(__file__).parent.parent / "recipes"


def recorded(path: Path, *parts: str) -> dict[str, Any]:
    """What a results file holds; where there is none, these parts, empty."""
    return json.loads(path.read_text()) if path.is_file() else {part: {} for part in parts}


def run_recipe(recipe: Path, out: Path, artifacts: Path, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Do a run in a process of its own, or go on with it where it was stopped, and read its metrics."""
    command = [sys.executable, "-m", "moerec", "run", str(recipe), "--out", str(out), "--artifacts", str(artifacts)]
    command += [part for setting in settings for part in ("--set", setting)]
    if (out / "recipe.yaml").is_file():
        command.append("--resume")
    subprocess.run(command, check=True)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def environment_of(out: Path) -> dict[str, Any]:
    """Versions and machine of a run."""
    found: dict[str, Any] = json.loads((out / "environment.json").read_text())
    return found


def mean_per_user(folders: Iterable[Path], metrics: Iterable[str], column: str = "model") -> PerUser | None:
    """Each user's mean over runs, by metric; None where a run's users are not on this machine."""
    files = [folder / "per_case.parquet" for folder in folders]
    if not all(file.is_file() for file in files):
        return None
    frames = [pl.read_parquet(file) for file in files]
    return {name: np.mean([frame[f"{column} {name}"].to_numpy() for frame in frames], axis=0) for name in metrics}


def paired(first: PerUser, second: PerUser) -> dict[str, Any]:
    """By how much the first is better, metric by metric: difference, interval over users, p."""
    return {name: vars(compare_paired(first[name], second[name], np.random.default_rng(0))) for name in first}


def difference(compared: Mapping[str, Any] | None, metric: str = "ndcg@10") -> str:
    """A paired comparison as a cell: the difference, its interval over users, and p; empty for none."""
    if compared is None:
        return ""
    values = compared[metric]
    low, high = values["interval"]
    return f"{values['difference']:+.4f} [{low:+.4f}, {high:+.4f}], p = {values['p_value']:.4f}"
