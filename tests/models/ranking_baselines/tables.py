"""Small tables of examples with every kind of input."""

from dataclasses import replace

import numpy as np

from moerec.batches.examples import ExampleSchema, ExampleTable, Gathered
from moerec.features.spec import FeatureSpec
from moerec.tasks import Target, TaskConfig, TaskStatistics, make_target

USERS, ITEMS, WIDTH = 12, 20, 5
LIKE = TaskConfig(name="like", label="rating", at_least=4)
RATING = TaskConfig(name="rating", type="regression", label="rating")
STARS = TaskConfig(name="stars", type="ordinal", label="rating", values=(1, 2, 3, 4, 5))
KIND = TaskConfig(name="kind", type="multiclass", label="rating", values=(5, 3, 1, 2, 4, 9))
SPECS = (
    FeatureSpec(name="user", kind="categorical", side="user"),
    FeatureSpec(name="device", kind="categorical", side="context"),
    FeatureSpec(name="city", kind="categorical", side="user"),
    FeatureSpec(name="genres", kind="multi"),
    FeatureSpec(name="age", kind="dense", side="user"),
    FeatureSpec(name="price", kind="dense"),
    FeatureSpec(name="text", kind="vector"),
    FeatureSpec(name="history", kind="sequence", side="user"),
)
SIZES = {"user": USERS + 2, "device": 5, "city": 400, "genres": 7, "age": 1, "price": 1, "text": WIDTH, "history": 22}


def make_table(count: int = 200, seed: int = 0, specs: tuple[FeatureSpec, ...] = SPECS) -> ExampleTable:
    """Random rows whose rating depends on user, item, age and the first number of the text."""
    generator = np.random.default_rng(seed)
    users, items = generator.integers(0, USERS, count), generator.integers(2, ITEMS + 2, count)
    genres = np.zeros((ITEMS + 2, 3), np.int64)
    for item in range(2, ITEMS + 2):
        number = generator.integers(0, 4)
        genres[item, :number] = generator.permutation(np.arange(1, 7))[:number]
    text = generator.normal(size=(ITEMS + 2, WIDTH)).astype(np.float32)
    has_text, has_price = generator.random(ITEMS + 2) < 0.8, generator.random(count) < 0.7
    age = generator.normal(size=count).astype(np.float32)
    price = np.where(has_price, generator.normal(3, 2, size=count), 0).astype(np.float32)
    mood, quality = generator.normal(size=USERS), generator.normal(size=ITEMS + 2)
    rating = 3 + mood[users] + quality[items] + age + text[items, 0] * has_text[items] + generator.normal(size=count)
    columns = {
        "user": users + 2,
        "device": generator.integers(0, 5, count),
        "city": Gathered(generator.integers(0, 400, USERS), users),
        "genres": Gathered(genres, items),
        "age": age,
        "price": price,
        "text": Gathered(np.where(has_text[:, None], text, 0), items),
        "history": generator.integers(0, 22, (count, 4)),
    }
    present = {"age": np.ones(count, bool), "price": has_price, "text": Gathered(has_text, items)}
    return ExampleTable(
        schema=ExampleSchema(specs, {spec.name: SIZES[spec.name] for spec in specs}),
        users=users,
        items=items,
        timestamps=np.arange(count),
        negative=np.zeros(count, bool),
        labels={"rating": np.clip(np.round(rating), 1, 5)},
        columns={spec.name: columns[spec.name] for spec in specs},
        present={name: values for name, values in present.items() if name in [spec.name for spec in specs]},
    )


def plain_table(
    users: np.ndarray,
    items: np.ndarray,
    ratings: np.ndarray,
    dense: dict[str, np.ndarray] | None = None,
) -> ExampleTable:
    """A table with given ids, ratings and dense features that are never missing."""
    dense = dense or {}
    specs = tuple(FeatureSpec(name=name, kind="dense", side="context") for name in dense)
    return ExampleTable(
        schema=ExampleSchema(specs, dict.fromkeys(dense, 1)),
        users=users,
        items=items,
        timestamps=np.arange(len(users)),
        negative=np.zeros(len(users), bool),
        labels={"rating": np.asarray(ratings, dtype=np.float64)},
        columns={name: values.astype(np.float32) for name, values in dense.items()},
        present={name: np.ones(len(values), bool) for name, values in dense.items()},
    )


def target_of(table: ExampleTable, task: TaskConfig) -> Target:
    return make_target(task, table.labels, table.negative)


def fit(config, table: ExampleTable, rows: np.ndarray, task: TaskConfig, target: Target | None = None, seed: int = 0):
    """Fit a baseline on some rows, with the statistics that belong to them."""
    target = target_of(table, task) if target is None else target
    statistics = TaskStatistics.of(target.take(rows))
    return config.fit(table, rows, task, target, statistics, seed)


def with_columns(table: ExampleTable, **columns) -> ExampleTable:
    """The same table with other inputs."""
    return replace(table, columns={**table.columns, **columns})
