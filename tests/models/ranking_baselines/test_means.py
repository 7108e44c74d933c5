"""Means: a naive double loop, the ridge solution at convergence, and the unknown."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.models.ranking_baselines import MeansConfig
from moerec.models.ranking_baselines.links import link_of

from .tables import KIND, LIKE, RATING, STARS, fit, make_table, plain_table

ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(2, 7), st.integers(1, 5)), min_size=3, max_size=25)


def naive(rows, config, binary):
    """Offsets by loops over dictionaries; labels are ratings, or whether they are at least 4."""
    labels = [float(rating >= 4) if binary else float(rating) for *_, rating in rows]
    mean = sum(labels) / len(labels)
    start = math.log(mean / (1 - mean)) if binary else mean
    item_offsets, user_offsets = {}, {}

    def value(user, item):
        total = start + user_offsets.get(user, 0.0) + item_offsets.get(item, 0.0)
        return 1 / (1 + math.exp(-total)) if binary else total

    def pass_over(place, offsets, shrinkage):
        updated = {}
        for key in {row[place] for row in rows}:
            residuals, weight = 0.0, 0.0
            for row, label in zip(rows, labels, strict=True):
                if row[place] == key:
                    residuals += label - value(row[0], row[1])
                    weight += 0.25 if binary else 1.0
            old = offsets.get(key, 0.0)
            updated[key] = (residuals + weight * old) / (weight + shrinkage)
        offsets.update(updated)

    for _ in range(config.rounds):
        if config.offsets != "users":
            pass_over(1, item_offsets, config.item_shrinkage)
        if config.offsets != "items":
            pass_over(0, user_offsets, config.user_shrinkage)
    return value


@pytest.mark.parametrize("task", [LIKE, RATING], ids=lambda task: task.name)
@pytest.mark.parametrize("offsets", ["both", "items", "users"])
@settings(max_examples=20)
@given(rows=ROWS, rounds=st.integers(1, 3), shrinkage=st.floats(0.1, 50))
def test_equals_a_naive_double_loop(task, offsets, rows, rounds, shrinkage):
    if len({rating >= 4 if task is LIKE else rating for *_, rating in rows}) < 2:
        return
    config = MeansConfig(offsets=offsets, item_shrinkage=shrinkage, user_shrinkage=2 * shrinkage, rounds=rounds)
    # Two rows beside the train rows ask for users and items that these do not have.
    users, items, ratings = (np.array(column) for column in zip(*rows, (9, 3, 1), (1, 15, 1), strict=True))
    table = plain_table(users, items, ratings)
    found = fit(config, table, np.arange(len(rows)), task).predict(table, np.arange(len(table)))
    value = naive(rows, config, task is LIKE)
    np.testing.assert_allclose(found, [value(*pair) for pair in zip(users, items, strict=True)], rtol=1e-9)


def test_many_rounds_reach_the_ridge_solution():
    generator = np.random.default_rng(0)
    users, items = generator.integers(0, 6, 150), generator.integers(2, 9, 150)
    ratings = generator.integers(1, 6, 150).astype(float)
    table = plain_table(users, items, ratings)
    config = MeansConfig(item_shrinkage=4, user_shrinkage=7, rounds=300)
    found = fit(config, table, np.arange(150), RATING).predict(table, np.arange(150))
    one_hot = np.zeros((150, 15))
    one_hot[np.arange(150), users] = 1
    one_hot[np.arange(150), items + 4] = 1
    penalty = np.diag([7.0] * 6 + [4.0] * 9)
    weights = np.linalg.solve(one_hot.T @ one_hot + penalty, one_hot.T @ (ratings - ratings.mean()))
    np.testing.assert_allclose(found, ratings.mean() + one_hot @ weights, rtol=1e-9)


def test_no_round_makes_the_penalised_likelihood_of_a_rare_label_worse():
    generator = np.random.default_rng(1)
    users, items = generator.integers(0, 30, 2000), generator.integers(2, 12, 2000)
    # One user likes everything, in a world where hardly anything is liked: plain Newton steps would overshoot.
    ratings = np.where((users == 0) | (generator.random(2000) < 0.02), 5.0, 1.0)
    table = plain_table(users, items, ratings)
    losses = []
    for rounds in range(1, 8):
        predictor = fit(
            MeansConfig(item_shrinkage=0.1, user_shrinkage=0.1, rounds=rounds), table, np.arange(2000), LIKE
        )
        scores = predictor.predict(table, np.arange(2000))
        loss = -np.log(np.where(ratings == 5, scores, 1 - scores)).sum()
        losses.append(loss + 0.05 * ((predictor.users**2).sum() + (predictor.items**2).sum()))
    assert (np.diff(losses) < 0).all()


def test_an_unknown_user_with_an_unknown_item_gets_the_global_mean():
    table = plain_table(np.array([0, 0, 1, 5]), np.array([2, 3, 2, 9]), np.array([5.0, 1.0, 2.0, 4.0]))
    rows = np.arange(3)
    assert fit(MeansConfig(), table, rows, RATING).predict(table, np.array([3]))[0] == pytest.approx(8 / 3)
    assert fit(MeansConfig(), table, rows, LIKE).predict(table, np.array([3]))[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("task", [LIKE, RATING, STARS, KIND], ids=lambda task: task.name)
def test_residuals_are_the_gradient_of_the_log_likelihood_and_change_no_faster_than_the_curvature(task):
    generator = np.random.default_rng(0)
    count = task.num_classes or 2
    labels = generator.integers(0, count, 200).astype(float)
    link = link_of(task, labels)
    totals = link.start + 2 * generator.normal(size=(200, len(link.start)))

    def log_likelihood(totals):
        predicted = link.predict(totals)
        if task is RATING:
            return -((predicted - labels) ** 2) / 2
        if task is LIKE:
            return np.log(np.where(labels == 1, predicted, 1 - predicted))
        return np.log(predicted[np.arange(200), labels.astype(int)])

    residuals = link.residuals(totals, labels)
    for column in range(totals.shape[1]):
        step = np.zeros_like(totals)
        step[:, column] = 1e-5
        slopes = (log_likelihood(totals + step) - log_likelihood(totals - step)) / 2e-5
        np.testing.assert_allclose(residuals[:, column], slopes, atol=1e-6)
    moves = generator.normal(size=totals.shape)
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    falls = ((residuals - link.residuals(totals + 1e-4 * moves, labels)) * moves).sum(1) / 1e-4
    assert (falls <= link.curvature + 1e-6).all()


@pytest.mark.parametrize("task", [STARS, KIND], ids=lambda task: task.name)
def test_no_round_makes_the_penalised_likelihood_of_classes_worse(task):
    table, losses, rows = make_table(400), [], np.arange(400)
    places = np.array([task.values.index(rating) for rating in table.labels["rating"]])
    for rounds in range(1, 7):
        config = MeansConfig(item_shrinkage=0.5, user_shrinkage=0.5, rounds=rounds)
        predictor = fit(config, table, rows, task)
        loss = -np.log(predictor.predict(table, rows)[rows, places]).sum()
        losses.append(loss + 0.25 * ((predictor.users**2).sum() + (predictor.items**2).sum()))
    assert (np.diff(losses) < 0).all()


@pytest.mark.parametrize("task", [STARS, KIND], ids=lambda task: task.name)
def test_an_unknown_user_with_an_unknown_item_gets_the_train_shares(task):
    users, items = np.array([0, 0, 1, 5]), np.array([2, 3, 2, 9])
    table = plain_table(users, items, np.array([5.0, 1.0, 5.0, 4.0]))
    found = fit(MeansConfig(), table, np.arange(3), task).predict(table, np.array([3]))[0]
    shares = [{5: 2 / 3, 1: 1 / 3}.get(value, 0.0) for value in task.values]
    np.testing.assert_allclose(found, shares, atol=1e-5)
