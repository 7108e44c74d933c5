"""Properties that every computed feature must have, for any feature and any events.

Events have the columns user, item, timestamp, the label `rating` (null in places) and the label `like` (0 or 1), by
user and time, with ties. `check_all(feature, events, catalogue)` runs everything; each check can be run alone.
Values are compared bit for bit unless a tolerance is given.
"""

import copy
import json
from itertools import groupby

import numpy as np
import polars as pl
from hypothesis import strategies as st

from moerec.dataset.schema import FIRST_ITEM
from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.user_state import UserState

LABELS = ("rating", "like")
SCHEMA = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64, "rating": pl.Float64, "like": pl.Float64}
HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_000_000_000_000
ITEMS = 6
"""Size of the catalogue that `make_catalogue` makes by default."""


def make_catalogue(items: int = ITEMS, seed: int = 0, modality: str = "text", width: int = 4) -> Catalogue:
    """Items with title, genres, year, price (some null) and vectors of one modality (some absent)."""
    generator = np.random.default_rng(seed)
    numbers = np.arange(items)
    table = pl.DataFrame(
        {
            "item": (numbers + FIRST_ITEM).astype(np.int32),
            "item_id": [str(number) for number in numbers],
            "title": [f"title {number}" for number in numbers],
            "genres": [("a|b", "b", "a|c", None, "c|b|a", "d")[number % 6] for number in numbers],
            "category": [("x", "y", None, "x")[number % 4] for number in numbers],
            "year": [None if number % 5 == 4 else 1980.0 + 3 * number for number in numbers],
            "price": [None if number % 7 == 3 else 2.5 * number + 0.1 for number in numbers],
        }
    )
    vectors = generator.normal(size=(items + FIRST_ITEM, width)).astype(np.float32)
    present = generator.random(items + FIRST_ITEM) < 0.8
    present[:FIRST_ITEM] = False
    vectors[~present] = 0
    return Catalogue(table, items + FIRST_ITEM, {modality: (vectors, present)})


def make_events(users: int = 8, items: int = ITEMS, most: int = 12, seed: int = 0) -> pl.DataFrame:
    """Drawn events: about a third share the time of their predecessor, gaps from seconds to months, null ratings."""
    generator = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        time = START + int(generator.integers(60)) * DAY
        for _ in range(int(generator.integers(1, most + 1))):
            rating = None if generator.random() < 0.2 else float(generator.integers(1, 11)) / 2
            like = None if rating is None else float(rating >= 4)
            rows.append((user, int(generator.integers(items)) + FIRST_ITEM, time, rating, like))
            time += int(generator.choice([0, 1000, HOUR, DAY, 7 * DAY, 40 * DAY], p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1]))
    return frame(rows)


def frame(rows: list[tuple[int, int, int, float | None, float | None]]) -> pl.DataFrame:
    """Rows (user, item, timestamp, rating, like) as events, by user and time; ties keep their order."""
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("user", "timestamp", maintain_order=True)


_GAPS = st.sampled_from([0, 0, 1, 999, HOUR, DAY - 1, DAY, DAY + 1, 7 * DAY, 30 * DAY, 200 * DAY])


@st.composite
def event_frames(draw: st.DrawFn, users: int = 4, most: int = 8, items: int = ITEMS) -> pl.DataFrame:
    """Hypothesis: events of a few users, with ties within users and between them, repeated items, null labels."""
    rows = []
    for user in draw(st.lists(st.integers(0, 9), min_size=1, max_size=users, unique=True)):
        time = START + draw(_GAPS)
        for gap in draw(st.lists(_GAPS, min_size=1, max_size=most)):
            time += gap
            rating = draw(st.none() | st.sampled_from([0.5, 1.0, 2.0, 3.5, 4.0, 5.0]))
            like = None if rating is None else float(rating >= 4)
            rows.append((user, draw(st.integers(FIRST_ITEM, FIRST_ITEM + items - 1)), time, rating, like))
    return frame(rows)


def train_part(events: pl.DataFrame, share: float = 0.7) -> pl.DataFrame:
    """The first events of each user, at least one."""
    place = pl.int_range(pl.len()).over("user")
    return events.filter(place < pl.max_horizontal(1, (pl.len().over("user") * share).floor()))


def requests(events: pl.DataFrame, catalogue: Catalogue, seed: int = 0) -> pl.DataFrame:
    """Examples that are no events: drawn items (the reserved ones too), users and times, in no order.

    Times are those of events, a millisecond beside them, before everything and after everything; one user has no
    event at all.
    """
    generator = np.random.default_rng(seed)
    count = 3 * events.height + 4
    users = np.append(events["user"].unique().to_numpy(), events["user"].max() + 7)
    times = np.append(events["timestamp"].to_numpy(), [START - 400 * DAY, events["timestamp"].max() + 50 * DAY])
    return pl.DataFrame(
        {
            "user": generator.choice(users, count).astype(np.int32),
            "item": generator.integers(0, catalogue.num_indices, count).astype(np.int32),
            "timestamp": generator.choice(times, count) + generator.integers(-1, 2, count),
        }
    )


def keys(events: pl.DataFrame) -> pl.DataFrame:
    """The events as examples."""
    return events.select("user", "item", "timestamp")


def check_all(feature: FeatureConfig, events: pl.DataFrame, catalogue: Catalogue, *, refit: bool = False) -> None:
    """All properties; `refit` as in `check_future`."""
    check_contract(feature, events, catalogue)
    check_fold(feature, events, catalogue)
    check_future(feature, events, catalogue, refit=refit)
    check_partition(feature, events, catalogue)


def check_contract(feature: FeatureConfig, events: pl.DataFrame, catalogue: Catalogue) -> None:
    """Names and types of the columns are those of the specs; codes are in range; nothing given is changed."""
    given, train = events.clone(), train_part(events)
    state = feature.fit(train, catalogue)
    json.dumps(state.values, allow_nan=False)
    assert all(isinstance(array, np.ndarray) for array in state.arrays.values())
    for examples in (events, requests(events, catalogue), events.clear()):
        before = examples.clone()
        columns = feature.apply(events, examples, state)
        assert columns.height == examples.height
        assert columns.columns == [spec.name for spec in feature.specs]
        for spec in feature.specs:
            column = columns[spec.name]
            assert column.dtype == (pl.Float64 if spec.kind == "dense" else pl.Int32), spec.name
            if spec.kind == "dense":
                numbers = column.drop_nulls()
                assert numbers.is_finite().all(), spec.name
                assert spec.transform != "log" or (numbers >= 0).all(), spec.name
            else:
                assert column.null_count() == 0
                assert column.is_between(0, feature.cardinalities[spec.name] - 1).all(), spec.name
        assert examples.equals(before)
    assert events.equals(given)
    assert set(feature.cardinalities) == {spec.name for spec in feature.specs if spec.kind == "categorical"}


def check_fold(
    feature: FeatureConfig,
    events: pl.DataFrame,
    catalogue: Catalogue,
    *,
    train: pl.DataFrame | None = None,
    examples: pl.DataFrame | None = None,
) -> None:
    """Folding `update` over each user's events and reading gives what `apply` gives; also through JSON.

    Each request is read twice: from the events strictly before it, and with the events of its own time pending.
    """
    state = feature.fit(train_part(events) if train is None else train, catalogue)
    quick = feature.apply(events, events, state)
    assert_same(quick, feature.apply(events, keys(events), state), "examples is events")
    if examples is None:
        examples = pl.concat([keys(events), requests(events, catalogue)])
    applied = feature.apply(events, examples, state)
    strict, tied = fold(feature, events, examples, state)
    assert_same(applied, strict, "fold of the strictly earlier events")
    assert_same(applied, tied, "fold with the events of the same time pending")


def fold(
    feature: FeatureConfig, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The columns of examples, read from user states: without and with the events at the examples' own time."""
    features = {"feature": (feature, state)}
    logs = {user[0]: list(part.iter_rows(named=True)) for user, part in events.group_by("user", maintain_order=True)}
    names = [spec.name for spec in feature.specs]
    parts: tuple[list[pl.DataFrame], ...] = ([], [])
    order = examples.with_row_index().sort("user", "timestamp", maintain_order=True)
    for user, asked in groupby(order.iter_rows(), key=lambda row: row[1]):
        user_state, log, done = UserState.empty(features), logs.get(user, []), 0
        for timestamp, rows in groupby(asked, key=lambda row: row[3]):
            batch = list(rows)
            items = np.array([row[2] for row in batch], np.int64)
            for part, limit in zip(parts, (timestamp, timestamp + 1), strict=True):
                while done < len(log) and log[done]["timestamp"] < limit:
                    user_state = checked_update(user_state, event_of(log[done]), features)
                    done += 1
                columns = user_state.read(items, timestamp, features)
                assert list(columns) == names
                assert all(column.shape == items.shape for column in columns.values())
                part.append(pl.DataFrame({"index": [row[0] for row in batch], **columns}))
    strict, tied = (pl.concat(part).sort("index").drop("index") for part in parts)
    dense = [spec.name for spec in feature.specs if spec.kind == "dense"]
    return strict.with_columns(pl.col(dense).fill_nan(None)), tied.with_columns(pl.col(dense).fill_nan(None))


def event_of(row: dict) -> Event:
    """A row of events as an event; missing labels are absent."""
    return Event(row["item"], row["timestamp"], {name: row[name] for name in LABELS if row[name] is not None})


def checked_update(user_state: UserState, event: Event, features: dict) -> UserState:
    """One update, through JSON, that must leave the state before as it was."""
    before = copy.deepcopy(user_state.to_json())
    after = user_state.update(event, features)
    assert user_state.to_json() == before, "update changed a memory in place"
    return UserState.from_json(json.loads(json.dumps(after.to_json(), allow_nan=False)))


def check_future(feature: FeatureConfig, events: pl.DataFrame, catalogue: Catalogue, *, refit: bool = False) -> None:
    """Deleting, changing or adding events at or after a time changes no example at or before that time.

    Args:
        feature: the feature.
        events: all events.
        catalogue: the items.
        refit: also fit the state on the changed train events; right for features whose state holds the past of each
            moment, wrong for those that learn a constant from the whole train split.
    """
    train = train_part(events)
    state = feature.fit(train, catalogue)
    examples = pl.concat([keys(events), requests(events, catalogue)])
    applied = feature.apply(events, examples, state)
    for cut in events["timestamp"].unique().sort().gather_every(max(1, events["timestamp"].n_unique() // 4)):
        past = examples["timestamp"] <= cut
        for name, change in CHANGES.items():
            other_state = feature.fit(change(train, cut), catalogue) if refit else state
            for asked in (examples.filter(past), examples):
                other = feature.apply(change(events, cut), asked, other_state)
                other = other if asked.height == int(past.sum()) else other.filter(past)
                assert_same(applied.filter(past), other, f"the future: {name}")


def _deleted(events: pl.DataFrame, cut: int) -> pl.DataFrame:
    return events.filter(pl.col("timestamp") < cut)


def _changed(events: pl.DataFrame, cut: int) -> pl.DataFrame:
    """From the cut on: other labels, other items, and shifted times."""
    later = pl.col("timestamp") >= cut
    return events.with_columns(
        pl.when(later).then(FIRST_ITEM + (pl.col("item") + 1) % ITEMS).otherwise("item").cast(pl.Int32).alias("item"),
        pl.when(later).then(3.0).otherwise("rating").alias("rating"),
        pl.when(later).then(1.0 - pl.col("like")).otherwise("like").alias("like"),
        pl.when(later).then(pl.col("timestamp") + 5).otherwise("timestamp").alias("timestamp"),
    )


def _doubled(events: pl.DataFrame, cut: int) -> pl.DataFrame:
    added = events.filter(pl.col("timestamp") >= cut)
    return pl.concat([events, added]).sort("user", "timestamp", maintain_order=True)


CHANGES = {"deleted": _deleted, "changed": _changed, "doubled": _doubled}


def check_partition(feature: FeatureConfig, events: pl.DataFrame, catalogue: Catalogue, seed: int = 0) -> None:
    """The users in parts, the users under other numbers, and the examples in another order give the same values."""
    generator = np.random.default_rng(seed)
    train = train_part(events)
    state = feature.fit(train, catalogue)
    examples = pl.concat([keys(events), requests(events, catalogue)])
    applied = feature.apply(events, examples, state)
    order = generator.permutation(examples.height)
    shuffled = feature.apply(events, examples[order], state)
    assert_same(applied[order], shuffled, "examples in another order")
    indexed = examples.with_row_index()
    for parts in (2, 3, examples["user"].n_unique()):
        users = examples["user"].unique().sort()
        number = dict(zip(users, generator.integers(parts, size=len(users)).tolist(), strict=True))
        pieces = []
        for part in range(parts):
            mine = [user for user in users if number[user] == part]
            own, asked = (table.filter(pl.col("user").is_in(mine)) for table in (events, indexed))
            pieces.append(feature.apply(own, asked.drop("index"), state).insert_column(0, asked["index"]))
        assert_same(applied, pl.concat(pieces).sort("index").drop("index"), f"users in {parts} parts")
    renamed = {int(user): int(other) for user, other in zip(users, generator.permutation(len(users)), strict=True)}
    turned, turned_train = (_renamed(table, renamed) for table in (events, train))
    asked = _renamed(examples, renamed, ordered=False)
    assert_same(applied, feature.apply(turned, asked, state), "users under other numbers")
    other_state = feature.fit(turned_train, catalogue)
    assert_same(applied, feature.apply(turned, asked, other_state), "fitted on users under other numbers")


def _renamed(table: pl.DataFrame, numbers: dict[int, int], ordered: bool = True) -> pl.DataFrame:
    named = table.with_columns(pl.col("user").replace_strict(numbers, return_dtype=pl.Int32))
    return named.sort("user", "timestamp", maintain_order=True) if ordered else named


def assert_same(left: pl.DataFrame, right: pl.DataFrame, what: str) -> None:
    """Equal columns bit for bit: nulls in the same rows, and the same bits elsewhere."""
    assert left.columns == right.columns, what
    for name in left.columns:
        one, two = (_bits(table[name]) for table in (left, right))
        assert len(one) == len(two), f"{what}: {name}"
        wrong = np.flatnonzero(one != two)
        assert len(wrong) == 0, (
            f"{what}: {name}, row {wrong[0]}: {left[name][int(wrong[0])]} is not {right[name][int(wrong[0])]}"
        )


def _bits(column: pl.Series) -> np.ndarray:
    if not column.dtype.is_float():
        return column.to_numpy()
    numbers = column.fill_null(float("nan")).to_numpy().astype(np.float64)
    return np.where(np.isnan(numbers), np.iinfo(np.int64).min + 1, numbers.view(np.int64))
