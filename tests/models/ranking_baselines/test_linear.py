"""Linear baselines: the closed form, planted signals, what the design matrix holds."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from moerec.models.ranking_baselines import GradientBoostingConfig, LogisticRegressionConfig
from moerec.models.ranking_baselines import design as design_module
from moerec.models.ranking_baselines.design import fit_design

from .tables import LIKE, RATING, fit, make_table, plain_table, with_columns

ALL = np.arange(200)


def signal_table(count=1500, seed=0, interaction=False):
    """Ratings decided by two numbers among six: by their sum, or by whether their signs agree."""
    generator = np.random.default_rng(seed)
    dense = {f"x{number}": generator.normal(size=count) for number in range(6)}
    score = dense["x0"] * dense["x1"] * 2 if interaction else dense["x0"] + dense["x1"]
    ratings = np.where(score + generator.logistic(size=count) * 0.3 > 0, 5.0, 1.0)
    return plain_table(generator.integers(0, 40, count), generator.integers(2, 50, count), ratings, dense)


def auc(config, table):
    train, others = np.arange(1000), np.arange(1000, len(table))
    scores = fit(config, table, train, LIKE).predict(table, others)
    return roc_auc_score(table.labels["rating"][others] > 3, scores)


def test_a_planted_linear_signal_is_found():
    assert auc(LogisticRegressionConfig(), signal_table()) > 0.95


def test_a_planted_interaction_is_found_by_trees_and_not_by_a_line():
    table = signal_table(interaction=True)
    assert auc(GradientBoostingConfig(), table) > 0.85
    assert 0.4 < auc(LogisticRegressionConfig(), table) < 0.6


def test_numbers_get_the_ridge_solution_in_closed_form():
    table = make_table()
    config = LogisticRegressionConfig(l2=3.0, components=2, iterations=2000)
    found = fit(config, table, ALL, RATING).predict(table, ALL)
    matrix = fit_design(table, ALL, components=2, minimum_count=5).matrix(table, ALL).toarray()
    centred = matrix - matrix.mean(0)
    labels = table.labels["rating"]
    weights = np.linalg.solve(centred.T @ centred + 3.0 * np.eye(matrix.shape[1]), centred.T @ (labels - labels.mean()))
    np.testing.assert_allclose(found, labels.mean() + centred @ weights, atol=5e-3)


def naive_design(table, train, minimum_count):
    """Rows as dictionaries {(feature, what): number}."""
    rows = []
    for row in range(len(table)):
        cells = {("user id", table.users[row]): 1.0, ("item id", table.items[row]): 1.0}
        one = np.array([row])
        for name in ("device", "city"):
            cells[name, int(table.column(name, one)[0])] = 1.0
        for code in table.column("genres", one)[0]:
            if code:
                cells["genres", int(code)] = 1.0
        for name in ("age", "price"):
            values, present = table.column(name, train).astype(float), table.presence(name, train)
            if table.presence(name, one)[0]:
                known = values[present]
                cells[name, "value"] = (float(table.column(name, one)[0]) - known.mean()) / known.std()
            elif not present.all():
                cells[name, "missing"] = 1.0
        rows.append(cells)
    counts = {}
    for row in train:
        for key in rows[row]:
            counts[key] = counts.get(key, 0) + 1
    always = {("age", "value"), ("price", "value"), ("price", "missing")}
    return [sorted(v for k, v in cells.items() if k in always or counts.get(k, 0) >= minimum_count) for cells in rows]


@pytest.mark.parametrize("minimum_count", [1, 6])
def test_the_design_holds_what_a_naive_loop_finds(minimum_count, monkeypatch):
    table = make_table()
    train = np.arange(120)
    monkeypatch.setattr(design_module, "ROWS_AT_ONCE", 33)
    design = fit_design(table, train, minimum_count=minimum_count)
    matrix = design.matrix(table, ALL)
    assert matrix.shape == (200, design.width)
    for row, wanted in enumerate(naive_design(table, train, minimum_count)):
        found = np.sort(matrix[row].data)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_equal_codes_share_a_column_and_different_ones_do_not():
    table = make_table()
    design = fit_design(table, ALL)
    rows = design.matrix(table, ALL).toarray()
    block = rows[:, : design.blocks[0].width]  # the users
    np.testing.assert_array_equal(block @ block.T, table.users[:, None] == table.users)


def test_ids_can_be_left_out_and_are_never_read_from_a_feature():
    table = make_table()
    with_ids, without = fit_design(table, ALL), fit_design(table, ALL, ids=False)
    assert with_ids.width - without.width == len(set(table.users)) + len(set(table.items))
    other_ids = with_columns(table, user=np.random.default_rng(0).permutation(table.column("user", ALL)))
    for design in (with_ids, without):
        assert (design.matrix(table, ALL) != design.matrix(other_ids, ALL)).nnz == 0


def test_histories_are_not_read():
    table = make_table()
    other = with_columns(table, history=np.zeros((200, 4), np.int64))
    assert (fit_design(table, ALL).matrix(table, ALL) != fit_design(other, ALL).matrix(other, ALL)).nnz == 0


def test_vectors_tell_only_when_they_are_asked_for():
    generator = np.random.default_rng(0)
    table = make_table(900)
    text = table.columns["text"]
    has = table.presence("text", np.arange(900))
    signal = text.values[text.rows, 0] * has + 0.2 * generator.normal(size=900)
    table.labels["rating"][:] = np.where(signal > 0, 5.0, 1.0)
    train, others = np.arange(600), np.arange(600, 900)
    scores = {
        count: fit(LogisticRegressionConfig(ids=False, components=count, l2=1.0), table, train, LIKE).predict(
            table, others
        )
        for count in (0, 5)
    }
    truth = table.labels["rating"][others] > 3
    assert roc_auc_score(truth[has[others]], scores[5][has[others]]) > 0.9
    assert roc_auc_score(truth[has[others]], scores[0][has[others]]) < 0.85
