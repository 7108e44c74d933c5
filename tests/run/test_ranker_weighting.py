"""A run whose tasks are weighed: what it says, what it records, and siblings that share nothing."""

import io
import json

import pytest
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.errors import ConfigError
from moerec.recipe import parse_recipe
from moerec.run import RunOptions, run_recipe
from moerec.run.plan import plan_run

RECIPE = {
    "name": "weighed",
    "dataset": {
        "source": "synthetic",
        "users": 30,
        "items": 72,
        "events_per_user": 15,
        "candidates": None,
        "split": {"kind": "user_time", "valid": 0.1, "test": 0.2},
    },
    "causal_features": {"users": {"kind": "user_statistics", "labels": ["rating"]}},
    "ranker": {
        "kind": "mmoe",
        "width": 4,
        "experts": 2,
        "history": 3,
        "tasks": [
            {"name": "like", "label": "rating", "at_least": 4},
            {"name": "rating", "type": "regression", "label": "rating"},
        ],
    },
    "ranking_baselines": {"kinds": [], "siblings": ["single_task", "shared_bottom"]},
    "training": {"threads": 1, "log_every": 1, "ranker": [{"updates": 4, "weighting": {"kind": "gradnorm"}}]},
    "evaluation": {"resamples": 100, "examples": 0},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run's folder, the folder of its artifacts, and what was said."""
    folder, said = tmp_path_factory.mktemp("run"), io.StringIO()
    recipe = parse_recipe(RECIPE)
    options = RunOptions(out=folder / "run", artifacts=folder / "artifacts")
    return recipe, run_recipe(recipe, options, Console(file=said, width=200)), folder, said.getvalue()


def weights_of(path) -> list[dict[str, float]]:
    return [record["weights"] for record in map(json.loads, path.open()) if "weights" in record]


def test_a_sibling_that_shares_nothing_is_trained_by_plain_losses_and_says_so(done):
    _, run, _, said = done
    notes = [line.strip() for line in said.splitlines() if "share nothing" in line]
    assert len(notes) == 1
    before = said[: said.index("share nothing")].splitlines()
    assert before[-2].startswith("ranker single_task")
    assert all(len(set(each.values())) == 1 for each in weights_of(run / "ranker/single_task/history.jsonl"))
    for moved in (run / "ranker/history.jsonl", run / "ranker/shared_bottom/history.jsonl"):
        assert any(len(set(each.values())) > 1 for each in weights_of(moved))


def test_the_results_and_the_plan_name_the_weighting(done):
    recipe, run, folder, _ = done
    assert json.loads((run / "metrics.json").read_text())["ranking"]["model"]["weighting"] == {"main": "gradnorm"}
    plan = plan_run(recipe, ArtifactCache(folder / "artifacts"), Console(quiet=True))
    assert plan["ranker"]["stages"][0]["weighting"] == "gradnorm"
    assert plan["ranker"]["stages"][0]["updates"] == 4


def test_a_ranker_that_shares_nothing_is_refused_before_any_work(done):
    _, _, folder, _ = done
    ranker = {key: value for key, value in RECIPE["ranker"].items() if key != "experts"} | {"kind": "single_task"}
    recipe = parse_recipe(RECIPE | {"ranker": ranker, "ranking_baselines": {"kinds": []}})
    with pytest.raises(ConfigError, match="stage 'main': weighting gradnorm needs a model"):
        run_recipe(recipe, RunOptions(out=folder / "refused", artifacts=folder / "artifacts"), Console(quiet=True))
    assert not (folder / "refused/ranker").exists()
