"""Resamples against naive ones, coverage where rows of a user depend on each other, planted differences found."""

import numpy as np
import pytest

from moerec.evaluation import prediction_intervals as intervals
from moerec.evaluation.prediction_intervals import compare_predictions, describe, prediction_intervals
from moerec.evaluation.prediction_resamples import RESAMPLERS
from moerec.evaluation.predictions import Predictions, evaluate_predictions

from .prediction_cases import (
    LIKE,
    RATING,
    binary_predictions,
    class_predictions,
    rating_predictions,
    star_predictions,
)


def repeated(predictions, times, users):
    """The rows of each user as often as it was drawn, every time as a user of its own."""
    rows, owners = [], []
    for place, user in enumerate(users):
        own = np.flatnonzero(predictions.users == user)
        for copy in range(int(times[place])):
            rows.append(own)
            owners.append(np.full(len(own), place * 100 + copy))
    chosen = np.concatenate(rows)
    return Predictions(
        predictions.task,
        np.concatenate(owners),
        predictions.labels[chosen],
        predictions.scores[chosen],
        predictions.negative[chosen],
    )


@pytest.mark.parametrize(
    "predictions",
    [
        binary_predictions(users=12, rows=60),
        binary_predictions(users=12, rows=60, decimals=1),
        binary_predictions(users=12, rows=60, scores=np.full(60, 0.4)),
        binary_predictions(users=12, rows=14, decimals=1),
        rating_predictions(users=12, rows=60),
        class_predictions(users=12, rows=60),
        class_predictions(users=12, rows=60, decimals=1),
        class_predictions(users=12, rows=14),
        star_predictions(users=12, rows=60),
        star_predictions(users=12, rows=14, decimals=1),
        star_predictions(users=12, rows=60).select(np.arange(60) < 1),
    ],
)
def test_a_fast_resample_equals_repeated_rows(predictions):
    users = np.unique(predictions.users)
    times = np.random.default_rng(1).multinomial(len(users), np.full(len(users), 1 / len(users)), 25).astype(float)
    samples = RESAMPLERS[predictions.task.type](predictions, users)(times)
    for r in range(len(times)):
        naive = evaluate_predictions(repeated(predictions, times[r], users))
        fast = {name: value[r] for name, value in samples.items() if not np.isnan(value[r])}
        assert fast == pytest.approx(naive, rel=1e-9, abs=1e-9)


def test_tasks_share_resamples_and_blocks_change_nothing(monkeypatch):
    like, rating = binary_predictions(decimals=2), rating_predictions()
    doubled = Predictions(RATING.model_copy(update={"name": "twice"}), *double(rating), rating.negative)
    whole = prediction_intervals([like, rating, doubled], np.random.default_rng(5), resamples=60)
    assert whole["twice/rmse"] == pytest.approx(tuple(2 * value for value in whole["rating/rmse"]))
    monkeypatch.setattr(intervals, "NUMBERS_IN_MEMORY", 333)
    blocks = prediction_intervals([like, rating, doubled], np.random.default_rng(5), resamples=60)
    assert (
        set(blocks)
        == set(whole)
        == set(evaluate_predictions(like) | evaluate_predictions(rating))
        | {
            "twice/rmse",
            "twice/mae",
            "twice/r2",
        }
    )
    for name, interval in whole.items():
        assert blocks[name] == pytest.approx(interval)


def double(predictions):
    return predictions.users, 2 * predictions.labels, 2 * predictions.scores


def test_intervals_hold_the_measured_value_and_widen_with_the_level():
    for make in (binary_predictions, class_predictions, star_predictions):
        predictions = make(users=200, rows=3000)
        narrow, wide = (
            prediction_intervals([predictions], np.random.default_rng(0), level, resamples=200) for level in (0.5, 0.95)
        )
        for name, value in evaluate_predictions(predictions).items():
            assert wide[name][0] < narrow[name][0] < value < narrow[name][1] < wide[name][1], name


def test_the_interval_of_a_calibration_error_holds_it_where_resampling_adds_noise():
    generator = np.random.default_rng(0)
    scores = generator.random(300)
    calibrated = Predictions(
        LIKE, np.arange(300), (generator.random(300) < scores).astype(float), scores, np.zeros(300, bool)
    )
    users = np.unique(calibrated.users)
    resampled = intervals._resampled([calibrated], users, np.random.default_rng(0), 200)[0]
    found = prediction_intervals([calibrated], np.random.default_rng(0), resamples=200)
    for name in ("like/ece", "like/ece_mass"):
        value = evaluate_predictions(calibrated)[name]
        assert np.quantile(resampled[name], 0.1) > value  # as they come, nearly all are larger
        assert found[name][0] < value < found[name][1]


def test_intervals_cover_as_often_as_they_say_because_users_are_drawn():
    """With a strong effect of users, drawing rows would cover far too rarely."""
    # Many users tell what holds of all.
    truth = evaluate_predictions(rating_predictions(users=100_000, rows=200_000, spread=1.0))["rating/rmse"]
    truth_of_auc = evaluate_predictions(levels(users=20_000, rows=400_000))["like/auc"]
    covered = np.zeros(4)
    for seed in range(80):
        errors, ranking = rating_predictions(40, 600, spread=1.0, seed=seed), levels(40, 600, seed)
        generator = np.random.default_rng(seed)
        by_user = prediction_intervals([errors, ranking], generator, 0.9, 120)
        by_row = prediction_intervals([alone(errors), alone(ranking)], generator, 0.9, 120)
        for place, found in enumerate((by_user, by_row)):
            covered[2 * place] += found["rating/rmse"][0] <= truth <= found["rating/rmse"][1]
            covered[2 * place + 1] += found["like/auc"][0] <= truth_of_auc <= found["like/auc"][1]
    assert (covered[:2] / 80 >= 0.8).all()
    assert (covered[:2] / 80 <= 0.98).all()
    assert (covered[2:] / 80 < 0.75).all()


def levels(users, rows, seed=0):
    """The score reads the user alone, and users differ in what they like and in what the score says."""
    generator = np.random.default_rng(seed)
    of_row = generator.integers(0, users, rows)
    taste = generator.normal(0, 2, users)
    said = 1 / (1 + np.exp(-(taste + generator.normal(0, 2, users))))
    labels = (generator.random(rows) < 1 / (1 + np.exp(-taste[of_row]))).astype(float)
    return Predictions(LIKE, of_row, labels, said[of_row], np.zeros(rows, bool))


def alone(predictions):
    """Every row as a user of its own."""
    rows = np.arange(len(predictions))
    return Predictions(predictions.task, rows, predictions.labels, predictions.scores, predictions.negative)


def test_a_metric_that_too_few_resamples_define_gets_no_interval():
    users = np.arange(8)
    labels = np.array([1.0, 0, 0, 0, 0, 0, 0, 0])  # a third of the resamples miss the one positive
    predictions = Predictions(LIKE, users, labels, np.linspace(0.1, 0.9, 8), np.zeros(8, bool))
    found = prediction_intervals([predictions], np.random.default_rng(0), resamples=200)
    assert "like/auc" in evaluate_predictions(predictions)
    assert "like/auc" not in found
    assert "like/brier" in found
    nobody = predictions.select(np.zeros(8, bool))
    assert prediction_intervals([nobody], np.random.default_rng(0)) == {}
    assert prediction_intervals([], np.random.default_rng(0)) == {}


def noisy(predictions, noise, seed, model):
    """The same rows seen by another model through more noise."""
    shift = np.random.default_rng(seed).normal(0, noise, len(predictions))
    if predictions.task.type == "regression":
        scores = predictions.labels + shift
    elif predictions.task.num_classes:
        mixed = np.exp(noise * np.random.default_rng(seed).normal(size=predictions.scores.shape))
        scores = predictions.scores * mixed / (predictions.scores * mixed).sum(1, keepdims=True)
    else:
        scores = 1 / (1 + np.exp(-(np.log(predictions.scores / (1 - predictions.scores)) + shift)))
    return Predictions(predictions.task, predictions.users, predictions.labels, scores, predictions.negative, model)


def test_a_planted_difference_is_found_in_every_metric_and_a_null_one_is_not():
    for make, main in (
        (binary_predictions, "like/auc"),
        (rating_predictions, "rating/rmse"),
        (class_predictions, "device/auc"),
        (star_predictions, "stars/kappa"),
    ):
        base = make(users=100, rows=2000, noise=0.2)
        good, equal, bad = noisy(base, 0.5, 1, "a"), noisy(base, 0.5, 2, "b"), noisy(base, 2.0, 3, "c")
        planted = compare_predictions(good, bad, np.random.default_rng(0), resamples=400)[main]
        null = compare_predictions(good, equal, np.random.default_rng(0), resamples=400)[main]
        first, second = evaluate_predictions(good)[main], evaluate_predictions(bad)[main]
        assert planted.difference == first - second
        assert planted.interval[0] < planted.difference < planted.interval[1]
        assert planted.p_value < 0.01
        assert planted.users == 100
        assert not planted.interval[0] <= 0 <= planted.interval[1]
        assert null.p_value > 0.05
        assert null.interval[0] < 0 < null.interval[1]


def test_comparing_the_other_way_round_changes_the_sign_alone():
    base = binary_predictions(users=50, rows=800)
    first, second = noisy(base, 0.5, 1, "a"), noisy(base, 1.0, 2, "b")
    one = compare_predictions(first, second, np.random.default_rng(0), resamples=200)
    other = compare_predictions(second, first, np.random.default_rng(0), resamples=200)
    for name in one:
        assert one[name].difference == -other[name].difference
        assert one[name].interval == pytest.approx(tuple(-value for value in reversed(other[name].interval)))
        assert one[name].p_value == other[name].p_value
        assert 0 < one[name].p_value <= 1


def test_a_model_does_not_differ_from_itself():
    predictions = binary_predictions()
    for comparison in compare_predictions(predictions, predictions, np.random.default_rng(0), resamples=50).values():
        assert (comparison.difference, comparison.interval, comparison.p_value) == (0, (0, 0), 1)


def test_pairing_is_sharper_than_two_intervals():
    base = binary_predictions(users=60, rows=1500, spread=2.0)
    other = noisy(base, 0.3, 1, "b")
    paired = compare_predictions(base, other, np.random.default_rng(0), resamples=200)["like/auc"].interval
    alone_ = prediction_intervals([base], np.random.default_rng(0), resamples=200)["like/auc"]
    assert paired[1] - paired[0] < (alone_[1] - alone_[0]) / 2


def test_models_on_other_rows_are_not_compared():
    base = binary_predictions(model="a")
    other = base.select(np.arange(400) > 0)
    with pytest.raises(ValueError, match="a and a were not evaluated on the same rows"):
        compare_predictions(base, other, np.random.default_rng(0))
    mixed = Predictions(
        LIKE.model_copy(update={"population": "reviews+negatives"}), base.users, base.labels, base.scores, base.negative
    )
    with pytest.raises(ValueError, match="same rows"):
        compare_predictions(base, mixed, np.random.default_rng(0))


def test_the_procedures_are_said_in_words():
    words = describe(0.9, 500)
    assert "90%" in words["interval"]
    assert "users" in words["interval"]
    assert "500" in words["test"]
