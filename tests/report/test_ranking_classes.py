"""Sections of the report about tasks with classes."""

import re

import numpy as np
import pytest

from moerec.evaluation.curves import curves
from moerec.evaluation.predictions import describe_rows, evaluate_predictions
from moerec.report.page import blocks, render
from moerec.report.ranking_confusion import confusion_figure
from moerec.report.ranking_curves import ranking_curves
from moerec.report.ranking_finding import find_ranking
from moerec.report.ranking_sentences import facts_of
from tests.evaluation.prediction_cases import class_predictions, star_predictions
from tests.report.sample_ranking import ranking_files
from tests.report.test_page import HOSTILE, Page

DRAWN = {"stars": star_predictions(), "device": class_predictions()}
CURVES = {name: curves(drawn) for name, drawn in DRAWN.items()}


def recorded():
    tasks, test = {}, {}
    for name, drawn in DRAWN.items():
        task = drawn.task
        facts = {key.split("/")[1]: value for key, value in describe_rows(drawn).items()}
        tasks[name] = facts | {
            "type": task.type,
            "describe": task.describe(),
            "label": task.label,
            "values": list(task.values),
            "population": "reviews",
            "rows": {"test": 400},
        }
        test |= evaluate_predictions(drawn)
    return {"ranking": {"tasks": tasks, "test": test, "model": {"kind": "mmoe"}}}


@pytest.fixture
def finding():
    return find_ranking(recorded())


def test_the_main_measures_and_what_they_mean(finding):
    stars, device = finding.tasks
    assert (stars.main, device.main) == ("rmse", "auc")
    assert (list(stars.values), list(device.values)) == ([1, 2, 3, 4.5], [7, 5, 9, 2])
    assert "always saying the commonest class has accuracy" in facts_of(stars)
    assert "RMSE and MAE are of the expected value" in facts_of(stars)
    assert "AUC is the mean over the classes" in facts_of(device)
    assert "mean label" not in facts_of(device)


def test_the_confusion_matrix_holds_the_share_of_every_true_class(finding):
    (part,) = ranking_curves(finding, CURVES).parts
    assert [figure.caption.partition(" (")[0] for figure in part.figures] == [
        "Confusion matrix of stars", "Calibration of stars", "Confusion matrix of device", "Calibration of device",
    ]  # fmt: skip
    chart = part.figures[0].chart
    counts = np.array(CURVES["stars"]["confusion"]["count"])
    cells = [int(share) for share in re.findall(r'class="in-cell"[^>]*>(?:&lt;\s)?(\d+)', chart)]
    expected = (100 * counts / counts.sum(1, keepdims=True)).ravel()
    np.testing.assert_allclose(cells, expected, atol=1)
    for value, rows in zip(("1", "2", "3", "4.5"), counts.sum(1), strict=True):
        assert f"true {value} ({rows} rows)" in chart


def test_many_classes_are_shown_as_far_as_they_are_legible(finding):
    counts = np.diag(np.arange(1, 41))
    figure = confusion_figure(finding.tasks[0], {"values": list(range(40)), "count": counts.tolist()})
    assert figure.caption.endswith("The 15 most frequent of 40 classes.")
    assert "true 39 (40 rows)" in figure.chart
    assert "true 24 (25 rows)" not in figure.chart


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"values": [1, 2], "count": [[1, 2]]},
        {"values": 3, "count": [[1]]},
        {"values": [1], "count": [None]},
        {"values": [], "count": []},
    ],
)
def test_a_confusion_matrix_that_is_none_is_left_out(finding, broken):
    assert confusion_figure(finding.tasks[0], broken) is None


def test_hostile_values_do_no_harm(finding):
    figure = confusion_figure(finding.tasks[0], {"values": [HOSTILE, None], "count": [[1, "x"], [float("nan"), 2]]})
    assert "<script" not in figure.chart


def test_an_example_says_the_class_and_how_likely_it_is():
    example = {
        "labels": {"rating": 3.0, "device": 9.0},
        "predictions": {"stars": 2.31, "device": 5.0},
        "probabilities": {"stars": [0.2, 0.3, 0.4, 0.1], "device": [0.1, 0.6, 0.2, 0.1]},
    }
    run = ranking_files(metrics=recorded(), ranking_curves=CURVES, ranking_examples=[example], ranker_history=[])
    (case,) = next(block for block in blocks(run) if block.key == "ranking-examples").cases
    rows = {row.label: [(cell.text, cell.note) for cell in row.cells] for row in case.predictions.rows}
    assert rows["stars (reviews)"] == [("3", ""), ("2.31", "3, 40 %")]
    assert rows["device (reviews)"] == [("9", ""), ("5", "60 %")]
    assert "stars 2.31 (3, 40 %) and device 5 (60 %)" in case.outcome
    words = Page(render(run)).words
    assert "MMoE predicts stars (population: reviews) with RMSE" in words
    assert "MMoE predicts device (population: reviews) with AUC" in words
