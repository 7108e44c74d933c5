"""Names, directions, refusals, and populations that never share a name."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from moerec.errors import ConfigError, DatasetError
from moerec.evaluation.predictions import (
    HIGHER_IS_BETTER,
    METRICS,
    Predictions,
    describe_rows,
    evaluate_predictions,
    is_higher_better,
    metric_name,
    metric_names,
    selection_value,
)
from moerec.tasks import TaskConfig, TaskStatistics, make_target

from .prediction_cases import (
    DEVICE,
    LIKE,
    RATING,
    STARS,
    binary_predictions,
    class_predictions,
    rating_predictions,
    star_predictions,
)

MAKERS = (binary_predictions, rating_predictions, class_predictions, star_predictions)


def table(rows=600, seed=0):
    """A table whose second half are drawn negatives: users, raw labels, negative."""
    generator = np.random.default_rng(seed)
    negative = np.arange(rows) >= rows // 2
    rating = np.where(negative, np.nan, generator.integers(1, 6, rows))
    return generator.integers(0, 20, rows), {"rating": rating}, negative


def test_knowing_the_drawn_rows_is_not_knowing_what_is_liked():
    """A predictor that only tells drawn rows from real ones must not look as if it knew satisfaction."""
    users, labels, negative = table()
    mixed = LIKE.model_copy(update={"population": "reviews+negatives"})
    only_tells_negatives = np.where(negative, 0.1, 0.9)
    real, with_negatives = (
        evaluate_predictions(
            Predictions.of(task, users, make_target(task, labels, negative), only_tells_negatives, negative)
        )
        for task in (LIKE, mixed)
    )
    assert real["like/auc"] == 0.5
    assert with_negatives["like/auc/reviews+negatives"] > 0.7
    assert not set(real) & set(with_negatives)


def test_the_real_rows_of_a_mixed_population_are_those_of_reviews():
    users, labels, negative = table()
    scores = np.random.default_rng(1).random(len(users))
    mixed = LIKE.model_copy(update={"population": "reviews+negatives"})
    whole = Predictions.of(mixed, users, make_target(mixed, labels, negative), scores, negative)
    real = Predictions.of(LIKE, users, make_target(LIKE, labels, negative), scores, negative)
    assert len(whole) == 2 * len(real)
    assert evaluate_predictions(whole.reviews()) == evaluate_predictions(real)
    met = TaskConfig(name="met", population="reviews+negatives")
    with pytest.raises(ValueError, match="no label"):
        Predictions.of(met, users, make_target(met, labels, negative), scores, negative).reviews()


def test_masked_rows_count_nowhere():
    users, labels, negative = table()
    labels["known"] = np.random.default_rng(2).integers(0, 2, len(users)).astype(float)
    task = LIKE.model_copy(update={"mask": "known"})
    target = make_target(task, labels, negative)
    scores = np.random.default_rng(3).random(len(users))
    expected = evaluate_predictions(Predictions.of(task, users, target, scores, negative))
    counted = (labels["known"] == 1) & ~negative
    assert expected["like/auc"] == pytest.approx(roc_auc_score(labels["rating"][counted] >= 4, scores[counted]))
    scores[~target.mask] = np.nan  # what a model says of the other rows is nobody's business
    assert evaluate_predictions(Predictions.of(task, users, target, scores, negative)) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "1 of 400 .* NaN"),
        (np.inf, "1 of 400 .* infinite"),
        (1.2, "1 of 400 .* outside .* logits"),
        (-1e-9, "outside"),
    ],
)
def test_broken_predictions_are_refused_in_one_line(value, message):
    scores = np.full(400, 0.4)
    scores[7] = value
    with pytest.raises(DatasetError, match=f"mmoe, task 'like': .*{message}") as caught:
        binary_predictions(scores=scores, model="mmoe")
    assert "\n" not in str(caught.value)


def test_a_number_may_lie_anywhere_but_must_be_finite():
    good = rating_predictions()
    Predictions(RATING, good.users, good.labels, good.scores - 100, good.negative)
    with pytest.raises(DatasetError, match="task 'rating'"):
        Predictions(RATING, good.users, good.labels, good.scores * np.inf, good.negative)


def test_wrong_rows_are_refused():
    good = binary_predictions()
    with pytest.raises(ValueError, match="drawn negatives"):
        Predictions(LIKE, good.users, good.labels, good.scores, ~good.negative)
    with pytest.raises(ValueError, match="one length"):
        Predictions(LIKE, good.users[1:], good.labels, good.scores, good.negative)
    with pytest.raises(ValueError, match="0 or 1"):
        Predictions(LIKE, good.users, good.labels * 5, good.scores, good.negative)


def test_every_metric_has_a_direction_and_is_defined_on_ordinary_rows():
    names = set()
    for make in MAKERS:
        found = {name.split("/")[1] for name in evaluate_predictions(make())}
        assert found == set(METRICS[make().task.type])
        names |= found
    assert names == set(HIGHER_IS_BETTER)
    assert "device/macro_f1" in metric_names([DEVICE, STARS])
    assert "stars/auc" not in metric_names([DEVICE, STARS])
    assert is_higher_better("like/auc")
    assert not is_higher_better("click/log_loss/reviews+negatives")
    assert not is_higher_better("rmse")
    with pytest.raises(ConfigError, match="like/fun"):
        is_higher_better("like/fun")
    with pytest.raises(ConfigError, match="like"):
        is_higher_better("like")


def test_better_predictions_are_better_in_the_stated_direction():
    for make in MAKERS:
        good, bad = (evaluate_predictions(make(rows=3000, noise=noise, spread=0.1)) for noise in (0.1, 4.0))
        for name, value in good.items():
            assert (value > bad[name]) == is_higher_better(name), name


@pytest.mark.parametrize("make", [class_predictions, star_predictions])
def test_class_probabilities_must_be_probabilities_that_sum_to_one(make):
    good = make()

    def refused(scores, message, error=DatasetError):
        with pytest.raises(error, match=message) as caught:
            Predictions(good.task, good.users, good.labels, scores, good.negative)
        assert "\n" not in str(caught.value)

    refused(np.log(good.scores), "400 of 400 predictions lie outside .* not logits")
    refused(good.scores * 0.9, "sum to 0.9, not to 1")
    refused(np.where(np.arange(400)[:, None] == 7, np.nan, good.scores), "1 of 400 predictions are NaN")
    refused(good.scores[:, 0], r"must be rows of 4 probabilities, not an array of shape \(400,\)", ValueError)
    with pytest.raises(ValueError, match="must be places of classes, 0 to 3"):
        Predictions(good.task, good.users, good.labels + 1, good.scores, good.negative)
    with pytest.raises(ValueError, match="must be a vector"):
        Predictions(RATING, good.users, good.labels, good.scores, good.negative)


def test_masked_rows_of_a_task_with_classes_count_nowhere():
    users, labels, negative = table()
    target = make_target(TaskConfig(name="s", label="rating", type="ordinal", values=range(1, 6)), labels, negative)
    scores = np.random.default_rng(0).dirichlet(np.ones(5), len(users))
    task = TaskConfig(name="s", label="rating", type="ordinal", values=range(1, 6))
    expected = evaluate_predictions(Predictions.of(task, users, target, scores, negative))
    scores[~target.mask] = np.nan
    assert evaluate_predictions(Predictions.of(task, users, target, scores, negative)) == expected
    assert len(Predictions.of(task, users, target, scores, negative)) == 300


def test_the_rows_of_tasks_with_classes_are_described_in_the_labels_own_unit():
    for make in (class_predictions, star_predictions):
        predictions = make()
        task, facts = predictions.task, describe_rows(predictions)
        shares = np.bincount(predictions.labels.astype(int), minlength=4) / 400
        always = Predictions(
            task, predictions.users, predictions.labels, np.tile(shares, (400, 1)), predictions.negative
        )
        values = evaluate_predictions(always)
        assert values[f"{task.name}/accuracy"] == pytest.approx(facts[f"{task.name}/majority_accuracy"])
        assert values[f"{task.name}/log_loss"] == pytest.approx(facts[f"{task.name}/label_entropy"])
        if task is STARS:
            assert values["stars/rmse"] == pytest.approx(facts["stars/label_deviation"])
            assert facts["stars/label_mean"] == pytest.approx(shares @ np.array(STARS.values))
        else:
            assert "device/label_mean" not in facts


def test_an_undefined_metric_is_left_out():
    predictions = binary_predictions()
    positive = predictions.select(predictions.labels == 1)
    values = evaluate_predictions(positive)
    assert "like/auc" not in values
    assert "like/gauc" not in values
    assert values["like/log_loss"] > 0
    assert evaluate_predictions(predictions.select(predictions.labels > 1)) == {}
    json.dumps(values, allow_nan=False)


def test_the_rows_are_described():
    predictions = binary_predictions()
    facts = describe_rows(predictions)
    share = predictions.labels.mean()
    assert facts["like/rows"] == 400
    assert facts["like/users"] == len(np.unique(predictions.users))
    assert facts["like/majority_accuracy"] == max(share, 1 - share)
    always = Predictions(
        LIKE, predictions.users, predictions.labels, np.full(400, float(share > 0.5)), predictions.negative
    )
    assert evaluate_predictions(always)["like/accuracy"] == pytest.approx(facts["like/majority_accuracy"])
    ratings = rating_predictions()
    mean = Predictions(RATING, ratings.users, ratings.labels, np.full(400, ratings.labels.mean()), ratings.negative)
    assert evaluate_predictions(mean)["rating/rmse"] == pytest.approx(describe_rows(ratings)["rating/label_deviation"])
    assert describe_rows(predictions.select(predictions.labels > 1)) == {"like/rows": 0, "like/users": 0}


def test_the_selection_value_is_the_mean_over_tasks():
    statistics = {"like": TaskStatistics(0.5, 0.5), "rating": TaskStatistics(3.5, 1.25)}
    values = {"like/auc": 0.8, "rating/rmse": 1.0, "like/log_loss": 9.0}
    assert selection_value(values, [LIKE, RATING], statistics) == pytest.approx((0.8 + 0.2) / 2)
    assert selection_value(values, [LIKE], statistics) == 0.8
    statistics |= {"device": TaskStatistics(0, 1, (0.25,) * 4), "stars": TaskStatistics(3, 1.2, (0.25,) * 4)}
    values |= {"device/auc": 0.9, "device/accuracy": 0.1, "stars/rmse": 0.6, "stars/kappa": 0.2}
    assert selection_value(values, [DEVICE], statistics) == 0.9
    assert selection_value(values, [STARS], statistics) == pytest.approx(0.5)
    mixed = LIKE.model_copy(update={"population": "reviews+negatives"})
    assert selection_value({metric_name(mixed, "auc"): 0.9, "like/auc": 0.1}, [mixed], statistics) == 0.9
    with pytest.raises(DatasetError, match="rating/rmse is not defined"):
        selection_value({"like/auc": 0.8}, [LIKE, RATING], statistics)
