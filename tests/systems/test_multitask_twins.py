"""The debug twins of the multi-task recipes from end to end: what is planted is found, and by the task that should."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def do(folder: Path, recipe: str, *overrides: str) -> dict[str, Any]:
    options = RunOptions(artifacts=folder / "artifacts", out=folder / recipe)
    out = run_recipe(load_recipe(RECIPES / f"{recipe}.yaml", overrides), options, Console(quiet=True))
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())["ranking"]
    return found


@pytest.mark.slow
def test_related_regressions_are_learned_down_to_the_noise(tmp_path: Path) -> None:
    found = do(tmp_path, "synthetic-mmoe-debug")
    for task in ("y1", "y2"):
        assert found["test"][f"{task}/rmse"] < 0.2  # the noise is 0.1, the labels deviate by about 1.5
        for kind, least in (("means", 1.2), ("logistic_regression", 0.7), ("gradient_boosting", 0.35)):
            assert found["baselines"][kind][f"{task}/rmse"] > least
