"""A run with every type of task, from generated events to a report, a saved model and lists."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console
from sklearn.metrics import cohen_kappa_score, roc_auc_score, root_mean_squared_error

from moerec import RankingModel, Recommender
from moerec.errors import ConfigError, DatasetError, MoerecError
from moerec.run.inspect import inspect_experts, inspect_run, inspect_user
from moerec.run.ranker import check_labels
from moerec.run.tables import results_tables
from moerec.tasks import Target, TaskConfig
from tests.small_run import do

STARS, DEVICE = [f"stars_{value}" for value in range(1, 6)], [f"device_{value}" for value in range(1, 4)]
RECIPE = [
    "features=[{name: genres, kind: multi}, {name: age, kind: dense, side: user}]",
    "dataset.candidates=null",
    "dataset.split={kind: user_time, valid: 0.15, test: 0.25}",
    "dataset.users=80",
    "dataset.events_per_user=16",
    "ranker={kind: mmoe, experts: 3, history: 5}",
    """ranker.tasks=[
        {name: like, label: rating, at_least: 4},
        {name: rating, label: rating, type: regression},
        {name: stars, label: rating, type: ordinal, values: [1, 2, 3, 4, 5]},
        {name: device, label: device, type: multiclass, values: [1, 2, 3]}]""",
    "ranking_baselines={kinds: [means, logistic_regression], trials: 1}",
    "two_stage={candidates: 20, formula: {retrieval: 1, stars: [0, 0.5]}, use: always}",
    "baselines={kinds: []}",
    "training.ranker=[{epochs: 6, batch_size: 64, learning_rate: 0.01}]",
    "training.retriever=[{updates: 10, learning_rate: 0.01}]",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, _ = do(tmp_path_factory.mktemp("types"), RECIPE)
    return directory


@pytest.fixture(scope="module")
def metrics(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    return found


def test_every_type_is_measured_beside_every_baseline(metrics: dict[str, Any]) -> None:
    ranking = metrics["ranking"]
    assert {name: task["metric"] for name, task in ranking["tasks"].items()} == {
        "like": "like/auc", "rating": "rating/rmse", "stars": "stars/rmse", "device": "device/auc"
    }  # fmt: skip
    assert ranking["tasks"]["stars"]["values"] == [1, 2, 3, 4, 5]
    assert sum(ranking["tasks"]["device"]["train_shares"]) == pytest.approx(1)
    groups = {"means", "logistic_regression"}
    assert set(ranking["baselines"]) == groups
    for name in ("stars/kappa", "stars/log_loss", "device/macro_f1", "device/ece"):
        low, high = ranking["intervals"][name]
        assert low <= ranking["test"][name] <= high
        for kind in groups:
            assert name in ranking["baselines"][kind]
            assert name in ranking["baseline_details"][kind]["against_model"]
    assert {"stars/rmse", "device/auc"} <= set(ranking["importance"]["age"])
    assert 0 < ranking["test"]["selection"] < 1


def test_what_is_planted_is_found(metrics: dict[str, Any]) -> None:
    test, tasks = metrics["ranking"]["test"], metrics["ranking"]["tasks"]
    assert test["device/accuracy"] > tasks["device"]["majority_accuracy"] + 0.15
    assert test["device/log_loss"] < tasks["device"]["label_entropy"] - 0.2
    assert test["stars/rmse"] < 0.95 * tasks["stars"]["label_deviation"]
    assert test["stars/log_loss"] < tasks["stars"]["label_entropy"]
    assert metrics["ranking"]["importance"]["age"]["device/auc"]["drop"] > 0.05


def test_the_predictions_of_the_file_have_the_metrics_of_the_run(run: Path, metrics: dict[str, Any]) -> None:
    frame, test = pl.read_parquet(run / "predictions.parquet"), metrics["ranking"]["test"]
    stars, device = (frame.filter(pl.col("task") == name) for name in ("stars", "device"))
    assert root_mean_squared_error(stars["label"], stars["prediction"]) == pytest.approx(test["stars/rmse"], abs=1e-5)
    np.testing.assert_allclose(stars.select(STARS).to_numpy() @ np.arange(1, 6), stars["prediction"], atol=1e-5)
    likeliest = 1 + stars.select(STARS).to_numpy().argmax(1)
    kappa = cohen_kappa_score(stars["label"], likeliest, labels=range(1, 6), weights="quadratic")
    assert kappa == pytest.approx(test["stars/kappa"])
    assert (device["label"] == device["prediction"]).mean() == pytest.approx(test["device/accuracy"])
    probabilities = device.select(DEVICE).to_numpy().astype(np.float64)
    probabilities /= probabilities.sum(1, keepdims=True)
    auc = roc_auc_score(device["label"], probabilities, multi_class="ovr", average="macro")
    assert auc == pytest.approx(test["device/auc"], abs=1e-4)
    assert device.select(STARS).null_count().row(0) == (len(device),) * 5
    assert frame.filter(pl.col("task") == "like").select(STARS + DEVICE).null_count().sum_horizontal()[0] > 0


def test_a_saved_ranker_gives_a_value_and_the_probability_of_each(run: Path) -> None:
    model = RankingModel.from_pretrained(run)
    found = model.predict(pl.DataFrame({"user_id": ["0", "0", "1"], "item_id": ["1000", "1001", "1000"]}))
    assert found.columns == [
        "user_id", "item_id", "timestamp", "like", "rating", "stars", *STARS, "device", *DEVICE
    ]  # fmt: skip
    np.testing.assert_allclose(found.select(STARS).to_numpy() @ np.arange(1, 6), found["stars"], rtol=1e-6)
    np.testing.assert_allclose(found.select(STARS).to_numpy().sum(1), 1, atol=1e-5)
    np.testing.assert_array_equal(1 + found.select(DEVICE).to_numpy().argmax(1), found["device"])
    none = model.predict(pl.DataFrame({"user_id": [], "item_id": []}, schema={"user_id": str, "item_id": str}))
    assert none.columns == found.columns


def test_an_ordinal_task_ranks_by_its_expected_value_and_a_multiclass_one_cannot(run: Path) -> None:
    recommender = Recommender.from_pretrained(run)
    lists = recommender.recommend(users=["0"], k=5, formula={"stars": 1})
    pairs = lists.select("user_id", "item_id")
    said = RankingModel.from_pretrained(run).predict(pairs)["stars"]
    np.testing.assert_allclose(lists["score"], said, rtol=1e-5)
    assert (said.diff().drop_nulls() <= 0).all()
    with pytest.raises(MoerecError, match="task 'device' is multiclass: its values have no order"):
        recommender.recommend(users=["0"], k=5, formula={"device": 1})


def test_report_tables_and_inspection_know_every_type(run: Path, metrics: dict[str, Any]) -> None:
    page = (run / "report.html").read_text(encoding="utf-8")
    for words in (
        "Confusion matrix of stars (population: reviews)",
        "Confusion matrix of device (population: reviews)",
        "Calibration of device",
        "ROC curve of like",
        "Residuals of rating",
        "Macro F1",
        "Kappa",
    ):
        assert words in page
    assert "ROC curve of device" not in page
    stream = io.StringIO()
    for table in results_tables(metrics):
        Console(file=stream, width=120).print(table)
    assert "device (multiclass of 3 values)" in stream.getvalue()
    assert f"{metrics['ranking']['test']['stars/kappa']:.4f}" in stream.getvalue()
    assert inspect_run(run)["ranking"]["test"]["device/auc"] == metrics["ranking"]["test"]["device/auc"]
    assert set(inspect_experts(run)["ranker"]["tasks"]) == {"like", "rating", "stars", "device"}
    assert inspect_user(run, "0", 3)["profile"]


def test_a_part_that_cannot_judge_a_task_with_classes_is_found_before_any_training() -> None:
    rows = {"valid": np.array([0, 1]), "test": np.array([2, 3])}
    values, mask = np.array([1, 1, 0, 1], np.float32), np.array([True, True, True, True])
    device = TaskConfig(name="device", label="x", type="multiclass", values=(7, 9))
    stars = TaskConfig(name="stars", label="x", type="ordinal", values=(7, 9))
    targets = {name: Target(values, mask, (7.0, 9.0)) for name in ("device", "stars")}
    data: Any = SimpleNamespace(rows=rows, targets=targets)
    check_labels([stars], data, ("valid", "test"))
    check_labels([device], data, ("test",))
    with pytest.raises(DatasetError, match="task 'device' has only rows of label 9 in the valid part"):
        check_labels([device], data, ("valid",))
    data.targets["stars"] = Target(values, ~mask, (7.0, 9.0))
    with pytest.raises(DatasetError, match="task 'stars' has no row with a label in the test part"):
        check_labels([stars], data, ("test",))


def test_a_label_that_is_no_class_ends_the_run_before_any_training(tmp_path: Path) -> None:
    wrong = "ranker.tasks[2].values=[1, 2, 3, 4]"
    with pytest.raises(ConfigError, match=r"task 'stars': label 'rating' has the value 5 in .* rows"):
        do(tmp_path, [*RECIPE, wrong])
    assert not (tmp_path / "runs").exists()
