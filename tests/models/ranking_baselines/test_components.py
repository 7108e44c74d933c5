"""Principal components: scikit-learn's, however the vectors lie."""

import numpy as np
from sklearn.decomposition import PCA

from moerec.models.ranking_baselines.components import fit_components

from .tables import WIDTH, make_table, with_columns

ALL = np.arange(200)
TRAIN = np.arange(150)


def test_equals_the_components_of_scikit_learn():
    table = make_table()
    fitted = fit_components(table, "text", TRAIN, 3)
    found = fitted.apply(table, ALL)
    present = table.presence("text", ALL)
    vectors = table.column("text", ALL).astype(float)
    reference = PCA(3).fit(vectors[TRAIN][present[TRAIN]])
    wanted = reference.transform(vectors[present])
    np.testing.assert_allclose(
        np.abs(found[present]), np.abs(wanted) / wanted[TRAIN[: present[TRAIN].sum()], 0].std(), rtol=1e-6
    )
    assert np.isnan(found[~present]).all()


def test_a_looked_up_column_gives_what_a_plain_one_gives():
    table = make_table()
    plain = with_columns(table, text=table.column("text", ALL))
    first, second = (fit_components(one, "text", TRAIN, 4).apply(one, ALL) for one in (table, plain))
    np.testing.assert_allclose(first, second, atol=1e-9)


def test_no_more_components_than_there_is_to_tell():
    table = make_table()
    flat = np.zeros((200, WIDTH), np.float32)
    flat[:, 1] = np.arange(200)
    assert fit_components(with_columns(table, text=flat), "text", TRAIN, 4).directions.shape == (WIDTH, 1)
    nothing = fit_components(with_columns(table, text=np.ones((200, WIDTH), np.float32)), "text", TRAIN, 4)
    assert nothing.apply(table, ALL).shape == (200, 0)


def test_vectors_that_no_train_row_has_give_no_component():
    table = make_table()
    table.present["text"].values[:] = False
    assert fit_components(table, "text", TRAIN, 4).apply(table, ALL).shape == (200, 0)
