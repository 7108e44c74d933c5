"""Gradient boosting: what the trees read, and with how many threads."""

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.utils._openmp_helpers import _openmp_effective_n_threads
from threadpoolctl import threadpool_limits

from moerec.models.ranking_baselines import GradientBoostingConfig, boosting

from .tables import LIKE, RATING, fit, make_table, with_columns

ALL, TRAIN = np.arange(200), np.arange(150)


def test_the_trees_read_what_a_naive_loop_finds(monkeypatch):
    monkeypatch.setattr(boosting, "MOST_VALUES", 4)
    table = make_table()
    columns = boosting.fit_columns(table, TRAIN, components=2)
    matrix = columns.matrix(table, ALL)
    city, genres, device = (table.column(name, ALL) for name in ("city", "genres", "device"))
    seen = [int((genres[TRAIN] == code).sum()) for code in range(1, 7)]
    kept = sorted(1 + place for place in sorted(range(6), key=lambda place: (-seen[place], place))[:4])
    for row in range(200):
        wanted = [
            table.column(name, ALL)[row] if table.presence(name, ALL)[row] else np.nan for name in ("age", "price")
        ]
        wanted.append(device[row] if device[row] else np.nan)
        wanted.append(np.log1p((city[TRAIN] == city[row]).sum()) if city[row] else np.nan)
        wanted += [float(code in genres[row]) for code in kept]
        np.testing.assert_allclose(matrix[row, : len(wanted)], wanted, rtol=1e-6)
        assert np.isnan(matrix[row, len(wanted) :]).all() == (not table.presence("text", ALL)[row])
    assert columns.categorical == [2]
    assert matrix.shape[1] == len(wanted) + 2


def test_a_set_of_codes_is_one_split():
    table = make_table(400)
    device = table.column("device", np.arange(400))
    wanted = np.isin(device, (1, 3))  # no threshold parts these codes from 2 and 4
    table.labels["rating"][:] = np.where(wanted, 5.0, 1.0)
    stump = GradientBoostingConfig(iterations=1, leaves=2, learning_rate=1.0)
    known = np.flatnonzero(device > 0)
    scores = fit(stump, table, known, LIKE).predict(table, known)
    np.testing.assert_array_equal(scores > 0.5, wanted[known])


def test_ids_and_histories_are_not_read():
    table = make_table()
    generator = np.random.default_rng(0)
    other = with_columns(
        table, user=generator.permutation(table.column("user", ALL)), history=np.zeros((200, 4), np.int64)
    )
    config = GradientBoostingConfig(iterations=5)
    first, second = (fit(config, one, TRAIN, RATING).predict(one, ALL) for one in (table, other))
    np.testing.assert_array_equal(first, second)


def test_features_that_train_rows_never_have_are_harmless():
    table = make_table()
    empty = with_columns(table, city=np.where(ALL < 150, 0, 7), device=np.where(ALL < 150, 0, 3))
    empty.present["price"][:150] = False
    empty.present["price"][150:] = True
    scores = fit(GradientBoostingConfig(iterations=5), empty, TRAIN, RATING).predict(empty, ALL)
    assert np.isfinite(scores).all()


def test_it_uses_no_more_threads_than_torch(monkeypatch):
    used = []

    class Watched(HistGradientBoostingRegressor):
        def fit(self, *arguments):
            used.append(_openmp_effective_n_threads())
            return super().fit(*arguments)

        def predict(self, *arguments):
            used.append(_openmp_effective_n_threads())
            return super().predict(*arguments)

    monkeypatch.setattr(boosting, "HistGradientBoostingRegressor", Watched)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    table = make_table()
    with threadpool_limits(2):  # what scikit-learn would use by itself
        fit(GradientBoostingConfig(iterations=1), table, TRAIN, RATING).predict(table, ALL)
    assert used == [1, 1]
