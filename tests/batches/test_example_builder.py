"""The example builder: every input equal to a plain look-up, fitted on train alone, saved and loaded exactly."""

import json
from importlib.metadata import EntryPoint

import numpy as np
import polars as pl
import pytest

from moerec import config as config_module
from moerec.batches.builder_files import ARRAYS, DESCRIPTION
from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.example_rows import examples_of, with_negatives
from moerec.batches.fitted_split import FittedSplit
from moerec.batches.lookup_tables import UNKNOWN_USER, item_codes, user_codes
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import UNKNOWN, Part
from moerec.dataset.splits import SplitConfig
from moerec.errors import CheckpointError, ConfigError, DatasetError
from moerec.features.columns import apply_columns, fit_columns
from moerec.features.feature import Catalogue
from moerec.features.negatives import NegativesConfig, draw_negatives
from moerec.features.spec import FeatureSpec
from moerec.features.transforms import apply_transform, fit_transform
from tests.batches.small_examples import SPECS, SPLIT, EarlierConfig, small_dataset, small_vectors

LENGTH = 4


def fit(dataset: Dataset, **changed) -> ExampleBuilder:
    settings = {
        "causal_features": {"earlier": EarlierConfig()},
        "specs": SPECS,
        "vectors": small_vectors(dataset),
        "history_length": LENGTH,
    }
    return ExampleBuilder.fit(dataset, SPLIT, **(settings | changed))


def all_examples(dataset: Dataset) -> pl.DataFrame:
    """Real rows and negatives of all parts, in no order."""
    frames = []
    for part in (Part.TRAIN, Part.VALID, Part.TEST):
        rows = examples_of(dataset, SPLIT, part, ["rating"])
        events = rows["event"].to_numpy()
        drawn = draw_negatives(
            dataset.events, dataset.split(SPLIT), events, dataset.num_indices, NegativesConfig(count=2), 0
        )
        frames.append(with_negatives(rows, drawn))
    return pl.concat(frames).sample(fraction=1.0, shuffle=True, seed=0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return small_dataset()


@pytest.fixture(scope="module")
def builder(dataset) -> ExampleBuilder:
    return fit(dataset)


@pytest.fixture(scope="module")
def examples(dataset) -> pl.DataFrame:
    return all_examples(dataset)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("earlier", "tests.batches.small_examples:EarlierConfig", "moerec.feature")
    monkeypatch.setattr(config_module, "entry_points", lambda group: [point] if group == "moerec.feature" else [])


def contents(table) -> dict[str, np.ndarray]:
    """All inputs of all examples, with presence."""
    rows = np.arange(len(table))
    found = {spec.name: table.column(spec.name, rows) for spec in table.schema.specs}
    there = {f"{name}?": table.presence(name, rows) for name in found if table.presence(name, rows) is not None}
    return found | there


def same(left, right) -> bool:
    left, right = contents(left), contents(right)
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and np.array_equal(left[name], right[name]) for name in left
    )


def test_columns_are_those_of_the_user_and_the_item(dataset, builder, examples):
    found = contents(builder.build(examples))
    users, items = examples["user"].to_numpy(), examples["item"].to_numpy()
    trained = dataset.split(SPLIT) == Part.TRAIN
    for side, table, reserved in (("user", dataset.users, 0), ("item", dataset.items, 2)):
        specs = [spec for spec in SPECS if spec.side == side and spec.kind != "vector"]
        index = dataset.event_users if side == "user" else dataset.event_items
        seen = np.bincount(index[trained], minlength=len(table) + reserved)[reserved:] > 0
        arrays = apply_columns(specs, table, fit_columns(specs, table, seen))
        rows = users if side == "user" else items
        for values in (arrays.categorical, arrays.multi, arrays.dense):
            for name, column in values.items():
                assert np.array_equal(found[name], column[rows]), name
        for name, column in arrays.present.items():
            assert np.array_equal(found[f"{name}?"], column[rows]), name
    vectors, present = small_vectors(dataset)["text"]
    assert np.array_equal(found["text"], vectors[items])
    assert np.array_equal(found["text?"], present[items])


def test_ids_have_their_own_code_if_they_have_a_train_event(dataset, builder, examples):
    found = contents(builder.build(examples))
    trained = dataset.trained_items(SPLIT)
    items = examples["item"].to_numpy()
    assert not trained[items].all(), "the sample must hold cold items"
    assert np.array_equal(found["item"], np.where(trained[items], items, 1))
    assert np.array_equal(found["user"], examples["user"].to_numpy() + 2)
    sizes = builder.schema.sizes
    assert (sizes["user"], sizes["item"], sizes["history"]) == (dataset.num_users + 2, *[dataset.num_indices] * 2)


def test_users_and_items_without_train_event_share_a_code():
    trained = np.array([True, False, True])
    assert user_codes(trained).tolist() == [1, 2, 1, 4], "the first row is a user outside the data set"
    assert item_codes(np.array([False, False, *trained])).tolist() == [0, 1, 2, 1, 4]


def test_histories_are_the_last_items_of_strictly_earlier_times(dataset, builder, examples):
    found = contents(builder.build(examples))["history"]
    trained = dataset.trained_items(SPLIT)
    ties = 0
    for row, (user, time) in enumerate(examples.select("user", "timestamp").iter_rows()):
        log = dataset.events.filter(user=user)
        items = log.filter(pl.col("timestamp") < time)["item"].to_numpy()[-LENGTH:]
        ties += log.filter(timestamp=time).height > 1
        codes = np.where(trained[items], items, 1)
        assert found[row].tolist() == [0] * (LENGTH - len(codes)) + codes.tolist()
    assert ties, "the sample must hold ties"


def test_computed_features_are_transformed_as_fitted_on_the_train_rows(dataset, builder, examples):
    found = contents(builder.build(examples))
    config, log = EarlierConfig(), dataset.events
    train = log.filter(pl.Series(dataset.split(SPLIT) == Part.TRAIN))
    state = config.fit(train, Catalogue(dataset.items, dataset.num_indices))
    assert builder.features["earlier"].state.values == state.values
    fitted, applied = config.apply(train, train, state), config.apply(log, examples, state)
    for spec in config.specs:
        if spec.kind == "categorical":
            assert np.array_equal(found[spec.name], applied[spec.name].to_numpy())
            assert builder.schema.sizes[spec.name] == 3
            continue
        transform = fit_transform(spec, fitted[spec.name].fill_null(np.nan).to_numpy())
        values, present = apply_transform(transform, applied[spec.name].fill_null(np.nan).to_numpy())
        assert np.array_equal(found[spec.name], values)
        assert np.array_equal(found[f"{spec.name}?"], present)


def test_the_table_keeps_keys_labels_and_what_is_drawn(builder, examples):
    table = builder.build(examples)
    for name, values in (("user", table.users), ("item", table.items), ("timestamp", table.timestamps)):
        assert np.array_equal(values, examples[name].to_numpy())
    assert np.array_equal(table.negative, examples["negative"].to_numpy())
    assert list(table.labels) == ["rating"]
    assert np.array_equal(table.labels["rating"], examples["rating"].fill_null(np.nan).to_numpy(), equal_nan=True)
    kinds = [spec.kind for spec in table.schema.specs]
    assert kinds == sorted(kinds, key=["categorical", "multi", "dense", "vector", "sequence"].index)
    batch = table.batch(np.array([3, 1]))
    assert batch.columns.keys() == {spec.name for spec in table.schema.specs}
    # A number drawn for a negative by mistake of the caller is not a label either.
    wrong = builder.build(examples.with_columns(rating=pl.lit(5.0)))
    assert np.isnan(wrong.labels["rating"][table.negative]).all()


def test_columns_of_users_and_items_are_looked_up_not_copied(builder, examples):
    table = builder.build(examples)
    for name in ("user", "item", "genres", "words", "year", "city", "hobbies", "age", "text"):
        values = table.columns[name].values
        assert len(values) < len(examples)
        assert any(values is column for part in (builder.users, builder.items) for column in part.columns.values())


def test_valid_and_test_events_change_nothing_that_is_fitted(dataset):
    parts = dataset.split(SPLIT)
    changed = small_dataset()
    late = pl.Series(parts != Part.TRAIN)
    items = changed.events["item"]
    changed.events = changed.events.with_columns(
        item=pl.when(late).then(items.reverse()).otherwise(items),
        rating=pl.when(late).then(pl.lit(-100.0)).otherwise("rating"),
        timestamp=pl.col("timestamp") + pl.when(late).then(10**12).otherwise(0),
    )
    one, other = fit(dataset), fit(changed)
    assert one.split != other.split
    for name, feature in one.features.items():
        theirs = other.features[name]
        assert feature.state.values == theirs.state.values
        assert np.array_equal(feature.state.arrays["counts"], theirs.state.arrays["counts"])
        assert feature.transforms == theirs.transforms
    assert one.users.state == other.users.state
    assert one.items.state == other.items.state
    assert np.array_equal(one.trained_items, other.trained_items)
    assert one.schema == other.schema


@pytest.mark.usefixtures("_registered")
def test_a_loaded_builder_is_the_same(dataset, builder, examples, tmp_path):
    builder.save(tmp_path / "saved")
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {DESCRIPTION, ARRAYS}
    loaded = ExampleBuilder.load(tmp_path / "saved", builder.events)
    assert loaded.schema == builder.schema
    assert loaded.split == builder.split
    assert loaded.features["earlier"].state.values == builder.features["earlier"].state.values
    assert same(loaded.build(examples), builder.build(examples))
    without = ExampleBuilder.load(tmp_path / "saved")
    with pytest.raises(DatasetError, match="give events"):
        without.build(examples)
    assert same(without.build(examples, dataset.events), builder.build(examples))


@pytest.mark.usefixtures("_registered")
def test_damaged_files_are_refused_in_one_line(builder, tmp_path):
    with pytest.raises(CheckpointError, match="no saved features here"):
        ExampleBuilder.load(tmp_path)
    builder.save(tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    for text, message in (
        ("{", "not valid JSON"),
        (json.dumps(description | {"format": 99}), "format 99"),
        (json.dumps({key: value for key, value in description.items() if key != "tables"}), "do not fit"),
    ):
        (tmp_path / DESCRIPTION).write_text(text)
        with pytest.raises(CheckpointError, match=message):
            ExampleBuilder.load(tmp_path)
    (tmp_path / DESCRIPTION).write_text(json.dumps(description))
    (tmp_path / ARRAYS).write_bytes((tmp_path / ARRAYS).read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="cannot be read"):
        ExampleBuilder.load(tmp_path)


def test_unknown_users_and_items_are_missing_not_wrong(dataset, builder):
    cold = int(np.flatnonzero(~dataset.trained_items(SPLIT)[2:])[0]) + 2
    time = int(dataset.timestamps.max()) + 1
    asked = pl.DataFrame({"user": [-1, 10**6, 0], "item": [5, UNKNOWN, cold], "timestamp": [time] * 3})
    found = contents(builder.build(asked))
    assert found["user"].tolist() == [1, 1, 2]
    assert found["item"].tolist() == [5, 1, 1]
    assert found["city"][:2].tolist() == [0, 0]
    assert not found["hobbies"][:2].any()
    assert not found["age?"][:2].any()
    assert found["year?"].tolist() == [True, False, True]
    assert found["text?"][1] == np.False_
    assert not found["history"][:2].any()
    assert not found["earlier_mean?"][:2].any()
    for item in (-1, dataset.num_indices):
        with pytest.raises(ConfigError, match=f"item {item} is outside the item index"):
            builder.build(asked.with_columns(item=pl.lit(item)))


def test_other_events_take_the_place_of_the_own_ones(dataset, builder, examples):
    # A new user who does what user 3 did is seen the same, save for what hangs on who it is.
    new = 5000
    copied = dataset.events.filter(user=3).with_columns(user=pl.lit(new, pl.Int32))
    asked = examples.filter(user=3)
    as_new = contents(builder.build(asked.with_columns(user=pl.lit(new)), copied.sample(fraction=1.0, shuffle=True)))
    own = contents(builder.build(asked))
    # Events of one time may stand in another order in the copy.
    for name in ("earlier_count", "earlier_mean", "earlier_any", "item", "year", "text"):
        assert np.array_equal(as_new[name], own[name]), name
    assert np.array_equal(as_new["history"] > 0, own["history"] > 0)
    assert (as_new["user"] == 1).all()
    assert not contents(builder.build(asked, dataset.events.clear()))["history"].any()


def test_what_was_fitted_on_another_split_is_refused(dataset, builder):
    builder.check_split(FittedSplit.of(small_dataset(), SPLIT))
    other = small_dataset()
    other.add_split("other", SplitConfig(kind="leave_last_out"))
    with pytest.raises(ConfigError, match=r"the features were fitted on split 'main' \(by time.*the model on split"):
        builder.check_split(FittedSplit.of(other, "other"))
    # Equal rule and equal counts, other events.
    with pytest.raises(ConfigError, match="fit both on the same split"):
        builder.check_split(builder.split.model_copy(update={"digest": "0" * 16}))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"specs": [*SPECS, FeatureSpec(name="earlier_mean", kind="dense", column="year")]}, "two inputs are called"),
        ({"specs": [FeatureSpec(name="user", kind="categorical", column="city", side="user")]}, "called 'user'"),
        ({"specs": [FeatureSpec(name="photo", kind="vector")]}, "no modality 'photo'; modalities: text"),
        ({"specs": [FeatureSpec(name="text", kind="vector", side="user")]}, "modalities belong to items"),
        ({"specs": [FeatureSpec(name="yeer", kind="dense")]}, "did you mean 'year'"),
        ({"specs": [FeatureSpec(name="hour", kind="dense", side="context")]}, "belongs to side user or item"),
        (
            {
                "specs": (),
                "causal_features": {},
                "history_length": 0,
                "use_user_id": False,
                "use_item_id": False,
            },
            "there is no input at all",
        ),
    ],
)
def test_contradictions_are_refused_in_one_line(dataset, changed, message):
    with pytest.raises(ConfigError, match=message):
        fit(dataset, **changed)


def test_ids_and_history_can_be_switched_off(dataset):
    names = [spec.name for spec in fit(dataset, use_user_id=False, use_item_id=False, history_length=0).schema.specs]
    assert not {"user", "item", "history"} & set(names)


def test_what_looks_back_needs_timestamps():
    untimed = small_dataset(timestamps=False)
    for changed in ({"history_length": 0}, {"causal_features": {}}):
        with pytest.raises(DatasetError, match=r"has no timestamps, and causal features and .* cannot do without"):
            fit(untimed, **changed)


STATIC = {"causal_features": {}, "history_length": 0}


def test_columns_need_no_timestamps_and_are_the_same_with_them():
    timed, untimed = small_dataset(), small_dataset(timestamps=False)
    examples = examples_of(timed, SPLIT, Part.TEST, ["rating"])
    builders = [fit(dataset, **STATIC) for dataset in (timed, untimed)]
    # Without times the split follows the order of the source, so the rows of train differ; the columns are compared
    # through one and the same builder.
    with_times, without = builders[0].build(examples), builders[0].build(examples.drop("timestamp"))
    assert without.timestamps is None
    np.testing.assert_array_equal(with_times.timestamps, examples["timestamp"].to_numpy())
    rows = np.arange(len(examples))
    for spec in builders[0].schema.specs:
        np.testing.assert_array_equal(with_times.column(spec.name, rows), without.column(spec.name, rows))
    table = builders[1].build(examples_of(untimed, SPLIT, Part.TEST, ["rating"]))
    assert (len(table), table.timestamps) == (len(examples), None)


def test_some_times_and_some_none_are_refused(dataset):
    examples = examples_of(dataset, SPLIT, Part.TEST)
    holes = examples.with_columns(timestamp=pl.when(pl.int_range(pl.len()) > 0).then("timestamp"))
    with pytest.raises(DatasetError, match="1 rows have no timestamp"):
        fit(dataset, **STATIC).build(holes)


def test_a_new_user_with_the_columns_of_a_known_one_has_the_same_inputs(dataset):
    builder = fit(dataset, **STATIC)
    examples = examples_of(dataset, SPLIT, Part.TEST)
    wide = dataset.users.with_columns(hobbies=pl.concat_str("hobbies", pl.lit("|a|b|c|d|e")))
    number = dataset.num_users
    for users in (dataset.users, wide):
        more = builder.with_users(users.drop("user", "first_event"))
        known, new = (more.build(examples.with_columns(pl.col("user") + offset)) for offset in (0, number))
        rows = np.arange(len(examples))
        for spec in builder.schema.specs:
            before = builder.build(examples).column(spec.name, rows)
            width = before.shape[1] if spec.kind == "multi" else None
            now = known.column(spec.name, rows)
            np.testing.assert_array_equal(now if width is None else now[:, :width], before)
            if spec.name == "user":
                assert (new.column("user", rows) == UNKNOWN_USER).all()
            elif users is not wide or spec.name != "hobbies":
                np.testing.assert_array_equal(new.column(spec.name, rows), known.column(spec.name, rows))
            presence = known.presence(spec.name, rows)
            if presence is not None:
                np.testing.assert_array_equal(new.presence(spec.name, rows), presence)
    with pytest.raises(ConfigError, match=r"features\.city: there is no column 'city'"):
        builder.with_users(pl.DataFrame({"user_id": ["new"]}))


def test_examples_need_their_columns_and_numbers(dataset, builder, examples):
    with pytest.raises(ConfigError, match="no label column 'stars'; they have: rating"):
        examples_of(dataset, SPLIT, Part.TRAIN, ["stars"])
    with pytest.raises(ConfigError, match="examples: there is no column 'timestamp'"):
        builder.build(examples.drop("timestamp"))
    with pytest.raises(DatasetError, match="1 rows have no timestamp"):
        builder.build(examples.head(1).with_columns(timestamp=pl.lit(None, pl.Int64)))
    with pytest.raises(ConfigError, match="label 'mood' has type String"):
        builder.build(examples.with_columns(mood=pl.lit("good")))


def test_what_a_split_leaves_out_never_happened():
    raw, rule = small_dataset(), {"kind": "user_time", "valid": 0.2, "test": 0.2}
    raw.add_split("withheld", SplitConfig(**rule, withheld_items=0.3))
    parts = raw.split("withheld")
    left_out = parts == Part.UNUSED
    assert left_out.any()
    builder = ExampleBuilder.fit(raw, "withheld", {"earlier": EarlierConfig()}, history_length=LENGTH)
    examples = raw.events.filter(pl.Series(~left_out))
    without = examples.drop("position")
    assert same(builder.build(examples), builder.build(examples, without))
    assert not same(builder.build(examples), builder.build(examples, raw.events.drop("position")))
