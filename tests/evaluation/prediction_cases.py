"""Predictions for the tests: rows of users with tastes of their own, with ties."""

import numpy as np

from moerec.evaluation.predictions import Predictions
from moerec.tasks import TaskConfig

LIKE = TaskConfig(name="like", label="rating", at_least=4)
RATING = TaskConfig(name="rating", label="rating", type="regression")


def binary_predictions(users=30, rows=400, noise=1.0, spread=1.0, seed=0, decimals=None, scores=None, model="model"):
    """Labels from a user's own level and the row's own; scores see both through noise."""
    generator = np.random.default_rng(seed)
    of_row = generator.integers(0, users, rows)
    level = generator.normal(0, spread, users)[of_row] + generator.normal(0, 1, rows)
    labels = (generator.random(rows) < 1 / (1 + np.exp(-level))).astype(np.float64)
    seen = 1 / (1 + np.exp(-(level + generator.normal(0, noise, rows))))
    seen = seen if decimals is None else seen.round(decimals)
    return Predictions(LIKE, 7 * of_row + 3, labels, seen if scores is None else scores, np.zeros(rows, bool), model)


def rating_predictions(users=30, rows=400, noise=0.5, spread=0.5, seed=0, model="model"):
    """Ratings with a mistake of each user and one of each row."""
    generator = np.random.default_rng(seed)
    of_row = generator.integers(0, users, rows)
    labels = generator.integers(1, 6, rows).astype(np.float64)
    wrong = generator.normal(0, spread, users)[of_row] + generator.normal(0, noise, rows)
    return Predictions(RATING, 7 * of_row + 3, labels, labels + wrong, np.zeros(rows, bool), model)
