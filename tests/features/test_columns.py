"""Feature columns: fitted on train rows alone, the same for any order of rows, and honest about what is missing."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError
from moerec.features.columns import (
    FIRST_VALUE,
    MISSING,
    UNKNOWN,
    ColumnState,
    apply_columns,
    fit_columns,
)
from moerec.features.spec import FeatureSpec

SPECS = (
    FeatureSpec(name="brand", kind="categorical"),
    FeatureSpec(name="rare", kind="categorical", column="brand", minimum_count=2),
    FeatureSpec(name="genres", kind="multi"),
    FeatureSpec(name="price", kind="dense"),
    FeatureSpec(name="raw", kind="dense", column="price", transform="none"),
    FeatureSpec(name="size", kind="dense", transform="log"),
    FeatureSpec(name="ranked", kind="dense", column="price", transform="quantile"),
)
ROW = st.tuples(
    st.none() | st.sampled_from(["a", "b", "c", "", " a "]),
    st.none() | st.lists(st.sampled_from(["x", "y", "z", ""]), max_size=4).map("|".join),
    st.none() | st.floats(-1e6, 1e6),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
)
TABLES = st.lists(ROW, min_size=1, max_size=10)
quickly = settings(max_examples=30)


def table_of(rows) -> tuple[pl.DataFrame, np.ndarray]:
    schema = {"brand": pl.String, "genres": pl.String, "price": pl.Float64, "size": pl.Float64}
    table = pl.DataFrame([row[:4] for row in rows], schema=schema, orient="row")
    return table, np.array([row[4] for row in rows], np.bool_)


def equal(left, right) -> bool:
    return all(
        getattr(left, kind).keys() == getattr(right, kind).keys()
        and all(np.array_equal(getattr(left, kind)[name], getattr(right, kind)[name]) for name in getattr(left, kind))
        for kind in ("categorical", "multi", "dense", "present")
    )


@quickly
@given(TABLES)
def test_equal_to_a_naive_reference(rows):
    table, trained = table_of(rows)
    state = fit_columns(SPECS, table, trained)
    arrays = apply_columns(SPECS, table, state)
    clean = [(row[0] or "").strip() for row in rows]
    counts = {value: sum(v == value and t for v, t in zip(clean, trained, strict=True)) for value in set(clean) - {""}}
    for name, least in (("brand", 1), ("rare", 2)):
        values = sorted((value for value, n in counts.items() if n >= least), key=lambda value: (-counts[value], value))
        assert list(state.column(name).values) == values
        codes = [MISSING if v == "" else values.index(v) + FIRST_VALUE if v in values else UNKNOWN for v in clean]
        assert arrays.categorical[name].tolist() == [0, 0, *codes]
        assert arrays.categorical[name].max() < state.column(name).cardinality
    known = state.column("genres").values
    for row, codes in zip(rows, arrays.multi["genres"][2:], strict=True):
        parts = dict.fromkeys(part for part in (row[1] or "").split("|") if part)
        right = list(dict.fromkeys(known.index(p) + FIRST_VALUE if p in known else UNKNOWN for p in parts))
        assert codes.tolist() == right + [0] * (len(codes) - len(right))
    prices = np.array([math.nan if row[2] is None else row[2] for row in rows])
    assert np.array_equal(arrays.present["price"], [False, False, *np.isfinite(prices)])
    assert np.array_equal(arrays.dense["raw"][2:], np.nan_to_num(prices).astype(np.float32))
    fitted = prices[trained & np.isfinite(prices)]
    if len(fitted) and fitted.std() > 1e-6 * np.abs(fitted).max():
        right = np.nan_to_num((prices - fitted.mean()) / fitted.std()).clip(-1e4, 1e4)
        np.testing.assert_allclose(arrays.dense["price"][2:], right, rtol=1e-4, atol=1e-4)


@quickly
@given(TABLES, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(rows, random):
    table, trained = table_of(rows)
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled, moved = table[order], trained[order]
    state = fit_columns(SPECS, table, trained)
    assert fit_columns(SPECS, shuffled, moved) == state
    arrays, other = apply_columns(SPECS, table, state), apply_columns(SPECS, shuffled, state)
    for kind in ("categorical", "multi", "dense", "present"):
        for name, array in getattr(arrays, kind).items():
            assert np.array_equal(array[2:][order], getattr(other, kind)[name][2:])


@quickly
@given(TABLES, TABLES)
def test_rows_outside_train_change_nothing_in_the_state(rows, others):
    table, trained = table_of(rows)
    more, _ = table_of(others)
    longer = np.concatenate([trained, np.zeros(len(others), np.bool_)])
    assert fit_columns(SPECS, pl.concat([table, more]), longer) == fit_columns(SPECS, table, trained)


@quickly
@given(TABLES)
def test_values_of_other_rows_alone_are_unknown(rows):
    table, trained = table_of(rows)
    state = fit_columns(SPECS, table, trained)
    news = table.with_columns(brand=pl.lit("never seen"), genres=pl.lit("new|newer"))
    arrays = apply_columns(SPECS, news, state)
    assert (arrays.categorical["brand"][2:] == UNKNOWN).all()
    assert arrays.multi["genres"][2:].tolist() == [[UNKNOWN]] * len(rows)


@quickly
@given(TABLES)
def test_the_state_survives_json(rows):
    table, trained = table_of(rows)
    state = fit_columns(SPECS, table, trained, split="leave-last-out")
    read = ColumnState.model_validate_json(state.model_dump_json())
    assert read == state
    assert read.split == "leave-last-out"
    assert equal(apply_columns(SPECS, table, read), apply_columns(SPECS, table, state))


@quickly
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), min_size=1, max_size=6))
def test_any_number_gives_finite_arrays(numbers):
    table = pl.DataFrame({"price": pl.Series(numbers, dtype=pl.Float64)})
    present = [number is not None and math.isfinite(number) for number in numbers]
    for transform in ("none", "standardise"):
        spec = FeatureSpec(name="price", kind="dense", transform=transform)
        arrays = apply_columns([spec], table, fit_columns([spec], table, np.ones(len(numbers), np.bool_)))
        assert np.isfinite(arrays.dense["price"]).all()
        assert not arrays.dense["price"][~arrays.present["price"]].any()
        assert arrays.present["price"][2:].tolist() == present


def test_a_constant_column_is_zero():
    table = pl.DataFrame({"price": [0.1] * 7})
    spec = FeatureSpec(name="price", kind="dense")
    arrays = apply_columns([spec], table, fit_columns([spec], table, np.ones(7, np.bool_)))
    np.testing.assert_allclose(arrays.dense["price"], 0, atol=1e-6)
    assert arrays.present["price"].sum() == 7


def test_users_have_no_reserved_rows():
    specs = [FeatureSpec(name="age", kind="categorical", side="user")]
    table = pl.DataFrame({"age": [30, None, 30, 7]})
    state = fit_columns(specs, table, np.array([True, True, True, False]))
    assert apply_columns(specs, table, state).categorical["age"].tolist() == [2, 0, 2, 1]
    assert state.column("age").values == ("30",)


def test_lists_are_several_values():
    specs = [FeatureSpec(name="tags", kind="multi")]
    table = pl.DataFrame({"tags": [["a|b", "c"], [], None, ["c", "c"]]})
    state = fit_columns(specs, table, np.ones(4, np.bool_))
    assert state.column("tags").values == ("c", "a|b")
    assert apply_columns(specs, table, state).multi["tags"].tolist() == [[0, 0], [0, 0], [3, 2], [0, 0], [0, 0], [2, 0]]


def test_an_empty_table_gives_only_the_reserved_rows():
    table, _ = table_of([])
    arrays = apply_columns(SPECS, table, fit_columns(SPECS, table, np.zeros(0, np.bool_)))
    assert arrays.categorical["brand"].tolist() == [0, 0]
    assert arrays.multi["genres"].shape == (2, 1)
    assert arrays.dense["price"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "prise", "kind": "dense"}, r"features\.prise: there is no column 'prise'; did you mean 'price'\?"),
        ({"name": "brand", "kind": "dense"}, "'a' in column 'brand' is no number"),
        ({"name": "price", "kind": "dense", "transform": "log"}, "-1 has no logarithm"),
        ({"name": "tags", "kind": "dense"}, "kind dense needs numbers"),
        ({"name": "tags", "kind": "categorical"}, "has no plain text"),
        ({"name": "brand", "kind": "vector"}, "is no column of users or items"),
        ({"name": "brand", "kind": "categorical", "side": "event"}, "is no column of users or items"),
    ],
)
def test_mistakes_are_one_line(spec, message):
    table = pl.DataFrame({"brand": ["a"], "price": [-1.0], "tags": [["x"]]})
    with pytest.raises(ConfigError, match=message) as error:
        fit_columns([FeatureSpec(**spec)], table, np.ones(1, np.bool_))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("side", "column"), [("item", "item"), ("user", "user"), ("user", "first_event")])
def test_numbers_of_rows_are_no_features(side, column):
    table = pl.DataFrame({column: [2, 3], f"{side}_id": ["a", "b"], "brand": ["x", "y"]})
    for name in (column, "nothing"):
        spec = FeatureSpec(name=name, kind="categorical", side=side)
        with pytest.raises(ConfigError, match=f"there is no column '{name}'") as error:
            fit_columns([spec], table, np.ones(2, np.bool_))
        assert f" {column}," not in str(error.value)
    assert str(error.value).endswith(f"the columns are: {side}_id, brand")
    spec = FeatureSpec(name="number", column=column, kind="dense", side=side)
    with pytest.raises(ConfigError, match=rf"features\.number: there is no column '{column}'"):
        fit_columns([spec], table, np.ones(2, np.bool_))


def test_a_state_of_other_features_is_refused():
    table = pl.DataFrame({"brand": ["a"], "price": [1.0]})
    state = fit_columns([FeatureSpec(name="brand", kind="categorical")], table, np.ones(1, np.bool_))
    with pytest.raises(ConfigError, match="has only: brand"):
        apply_columns([FeatureSpec(name="price", kind="dense")], table, state)
    with pytest.raises(ConfigError, match="other settings"):
        apply_columns([FeatureSpec(name="brand", kind="categorical", minimum_count=2)], table, state)
    with pytest.raises(ConfigError, match="other side"):
        apply_columns([FeatureSpec(name="brand", kind="categorical", side="user")], table, state)
    with pytest.raises(ConfigError, match="two features have this name"):
        fit_columns([FeatureSpec(name="brand", kind="categorical")] * 2, table, np.ones(1, np.bool_))
