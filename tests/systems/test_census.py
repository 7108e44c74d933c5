"""A table of people without items, times and history, from end to end: trained, judged, described, asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from moerec import RankingModel
from moerec.artifacts import ArtifactCache
from moerec.dataset.sources.census_income import CensusIncomeConfig
from moerec.errors import ConfigError, DatasetError, MoerecError
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe
from moerec.run.auditing import audit_recipe
from moerec.run.evaluation import evaluate_run

RECIPE = Path(__file__).parents[2] / "recipes/census-ple-debug.yaml"
SMALL = ("ranking_baselines.trials=1", "ranking_baselines.siblings=[single_task]", "evaluation.resamples=100")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def run(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return do(artifacts, tmp_path_factory.mktemp("census") / "run")


def do(artifacts: Path, out: Path, *overrides: str) -> Path:
    return run_recipe(load_recipe(RECIPE, [*SMALL, *overrides]), RunOptions(artifacts=artifacts, out=out), QUIET)


def refusal(artifacts: Path, out: Path, *overrides: str) -> str:
    with pytest.raises((ConfigError, DatasetError)) as caught:
        do(artifacts, out, *overrides)
    assert not out.exists(), "what cannot work leaves no folder"
    return str(caught.value)


def ranking(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())["ranking"]
    return found


def test_both_tasks_are_found_and_told_apart(run: Path) -> None:
    found = ranking(run)
    assert found["test"]["income/auc"] > 0.75
    assert found["test"]["never_married/auc"] > 0.93
    assert set(found["baselines"]) == {"means", "logistic_regression", "gradient_boosting"}
    # With one row a user and one item there is nothing that means could know.
    assert found["baselines"]["means"]["income/auc"] == 0.5
    assert found["baselines"]["gradient_boosting"]["income/auc"] > 0.8
    assert found["sibling_details"]["single_task"]["against_model"]["income/auc"]["users"] == 450


def test_what_one_row_a_user_does_not_define_is_left_out(run: Path) -> None:
    found = ranking(run)
    assert not [name for name in found["test"] | found["intervals"] if "gauc" in name]
    assert found["slices"] == {}
    assert found["tasks"]["income"]["gauc_users_left_out"] == 1
    assert "nothing is computed from events" in found["protocol"]["features"]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "GAUC is not defined, for no user has labels of both kinds" in page
    assert "drawn from the same table as the train rows" in page
    assert "users chose to rate" not in page
    example = json.loads((run / "ranking_examples.json").read_text())[0]
    assert (example["when"], example["history"]) == ("", [])
    assert {"age", "education"} <= example["features"].keys()


def test_predictions_are_in_raw_ids_without_times(run: Path) -> None:
    frame = pl.read_parquet(run / "predictions.parquet")
    assert frame["timestamp"].null_count() == frame.height == 2 * 450
    assert frame["user_id"].str.starts_with("generated-").all()
    model = RankingModel.from_pretrained(run)
    income = frame.filter(task="income")
    again = model.predict(income.select("user_id", "item_id"))
    np.testing.assert_allclose(again["income"], income["prediction"], atol=1e-6)
    assert again.schema["timestamp"] == pl.Int64
    assert again["timestamp"].null_count() == 450
    with pytest.raises(MoerecError, match="keeps no profile of user"):
        model.profile("generated-1")


def test_new_people_are_predicted_by_their_columns(run: Path) -> None:
    model = RankingModel.from_pretrained(run)
    people = CensusIncomeConfig(variant="generated").read().users.head(20)
    new = people.with_columns(pl.format("new-{}", "user_id").alias("user_id"))
    known, asked = (
        model.predict(pl.DataFrame({"user_id": ids, "item_id": "survey"}), users=users)
        for ids, users in ((people["user_id"], None), (new["user_id"], new))
    )
    for task in ("income", "never_married"):
        np.testing.assert_array_equal(asked[task], known[task])
    pairs = pl.DataFrame({"user_id": ["new"], "item_id": ["survey"]})
    with pytest.raises(MoerecError, match="the ranker knows no user 'new'"):
        model.predict(pairs)
    with pytest.raises(MoerecError, match="users: 'generated-1' is known already"):
        model.predict(pairs, users=people)
    with pytest.raises(MoerecError, match=r"features\.class_of_worker: there is no column"):
        model.predict(pairs, users=pl.DataFrame({"user_id": ["new"], "education": ["x"]}))


def test_the_saved_model_is_judged_as_the_run_was(run: Path, artifacts: Path) -> None:
    judged = evaluate_run(run, "test", artifacts, QUIET, {})
    assert judged["ranking"]["test"] == ranking(run)["test"]


def test_the_audit_speaks_of_rows_and_finds_a_number_that_never_differs(artifacts: Path) -> None:
    report = audit_recipe(load_recipe(RECIPE), ArtifactCache(artifacts), QUIET)
    names = {finding.name for finding in report.findings}
    assert {"rows", "user columns", "leaks", "constant inputs"} <= names
    assert not {"user activity", "popularity", "cold users", "future of the user"} & names
    assert not report.warnings
    report = audit_recipe(load_recipe(RECIPE, ["ranker.use_item_id=true"]), ArtifactCache(artifacts), QUIET)
    assert report["constant inputs"].values == {"inputs": ["item"]}
    assert [finding.name for finding in report.warnings] == ["constant inputs"]


def test_what_cannot_work_is_said_before_any_training(artifacts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    says = refusal(artifacts, out, "training.ranker_metric=income/gauc")
    assert says.startswith("training.ranker_metric: income/gauc is not defined, for no user has valid rows of both")
    assert says.endswith("write income/auc")
    says = refusal(artifacts, out, "ranker.tasks[1]={name: rich, label: income, at_least: 0.5}")
    assert says.startswith("ranker.tasks: tasks 'income' and 'rich' have the same label in every row")
    says = refusal(artifacts, out, "ranker.history=5", "dataset.split={kind: leave_last_out}")
    assert "no user has 3 events" in says
