"""Predictions for the tests: rows of users with tastes of their own, with ties."""

import numpy as np

from moerec.evaluation.predictions import Predictions
from moerec.tasks import TaskConfig

LIKE = TaskConfig(name="like", label="rating", at_least=4)
RATING = TaskConfig(name="rating", label="rating", type="regression")
STARS = TaskConfig(name="stars", label="rating", type="ordinal", values=(1, 2, 3, 4.5))
DEVICE = TaskConfig(name="device", label="device", type="multiclass", values=(7, 5, 9, 2))


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


def class_predictions(task=DEVICE, users=30, rows=400, noise=1.0, spread=1.0, seed=0, decimals=None, model="model"):
    """Classes drawn from probabilities of the user and the row; the scores see these through noise."""
    generator = np.random.default_rng(seed)
    of_row, count = generator.integers(0, users, rows), task.num_classes
    if task.type == "multiclass":
        logits = generator.normal(0, spread, (users, count))[of_row] + 2 * generator.normal(size=(rows, count))
        labels = (logits + generator.gumbel(size=logits.shape)).argmax(1)
        seen = logits + generator.normal(0, noise, logits.shape)
        scores = np.exp(seen) / np.exp(seen).sum(1, keepdims=True)
    else:
        cuts = np.linspace(-2, 2, count - 1)
        level = generator.normal(0, spread, users)[of_row] + 2 * generator.normal(size=rows)
        labels = np.digitize(level + generator.logistic(size=rows), cuts)
        seen = level + generator.normal(0, noise, rows)
        above = 1 / (1 + np.exp(cuts - seen[:, None]))
        ends = np.ones((rows, 1))
        scores = -np.diff(np.concatenate([ends, above, 0 * ends], axis=1), axis=1)
    if decimals is not None:
        scores = scores.round(decimals) + 0.01
        scores /= scores.sum(1, keepdims=True)
    return Predictions(task, 7 * of_row + 3, labels.astype(np.float64), scores, np.zeros(rows, bool), model)


def star_predictions(**others):
    """The same from low to high."""
    return class_predictions(STARS, **others)
