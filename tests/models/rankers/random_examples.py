"""Random examples with every kind of input, for the tests of rankers.

Shape letters: N examples.
"""

from __future__ import annotations

import numpy as np

from moerec.batches.examples import ExampleBatch, ExampleSchema, ExampleTable, Gathered
from moerec.features.spec import FeatureSpec
from moerec.tasks import Target, TaskConfig, TaskStatistics, make_target

USERS, ITEMS, DECADES, GENRES, TEXT, MOOD = 12, 15, 6, 7, 8, 5

SCHEMA = ExampleSchema(
    specs=(
        FeatureSpec(name="user", kind="categorical", side="user"),
        FeatureSpec(name="item", kind="categorical"),
        FeatureSpec(name="decade", kind="categorical", dim=3),
        FeatureSpec(name="genres", kind="multi"),
        FeatureSpec(name="type", kind="multi", dim=3),
        FeatureSpec(name="price", kind="dense"),
        FeatureSpec(name="count", kind="dense", side="user"),
        FeatureSpec(name="text", kind="vector"),
        FeatureSpec(name="mood", kind="vector", dim=2),
        FeatureSpec(name="history", kind="sequence", side="user"),
    ),
    sizes={
        "user": USERS,
        "item": ITEMS,
        "decade": DECADES,
        "genres": GENRES,
        "type": 4,
        "price": 1,
        "count": 1,
        "text": TEXT,
        "mood": MOOD,
        "history": ITEMS,
    },
)
TASKS = (
    TaskConfig(name="like", label="rating", at_least=4),
    TaskConfig(name="adore", label="rating", at_least=5),
    TaskConfig(name="type", label="rating", type="regression"),
    TaskConfig(name="hours", label="hours", type="regression", mask="known", loss="huber", weight=0.5),
)

OF_EVERY_TYPE = (
    TASKS[0],
    TASKS[1],
    TaskConfig(name="mood", label="mood", type="multiclass", values=(3, 1, 7), mask="known"),
    TaskConfig(name="stars", label="rating", type="ordinal", values=(1, 2, 3, 4, 5), weight=0.5),
)


def example_table(rows: int, seed: int = 0) -> ExampleTable:
    """N random examples; a third of what may be missing is missing, some histories are empty."""
    generator = np.random.default_rng(seed)
    items = generator.integers(0, ITEMS, rows)
    history = generator.integers(1, ITEMS, (rows, 6)).astype(np.int32)
    history[np.arange(6) < generator.integers(0, 7, (rows, 1))] = 0
    genres = generator.integers(0, GENRES, (ITEMS, 3)).astype(np.int32)
    rating = generator.integers(1, 6, rows).astype(np.float64)
    rating[generator.random(rows) < 0.2] = np.nan
    return ExampleTable(
        schema=SCHEMA,
        users=generator.integers(0, USERS, rows),
        items=items,
        timestamps=np.arange(rows),
        negative=np.zeros(rows, np.bool_),
        labels={
            "rating": rating,
            "hours": generator.gamma(2.0, 3.0, rows),
            "known": generator.integers(0, 2, rows).astype(np.float64),
            "mood": np.array([1.0, 3.0, 7.0])[items % 3],
        },
        columns={
            "user": generator.integers(0, USERS, rows).astype(np.int32),
            "item": items.astype(np.int32),
            "decade": generator.integers(0, DECADES, rows).astype(np.int32),
            "genres": Gathered(genres, items),
            "type": generator.integers(0, 4, (rows, 2)).astype(np.int32),
            "price": generator.normal(size=rows).astype(np.float32),
            "count": generator.normal(size=rows).astype(np.float32),
            "text": Gathered(generator.normal(size=(ITEMS, TEXT)).astype(np.float32), items),
            "mood": generator.normal(size=(rows, MOOD)).astype(np.float32),
            "history": history,
        },
        present={
            "price": generator.random(rows) < 0.7,
            "text": Gathered(generator.random(ITEMS) < 0.7, items),
            "mood": generator.random(rows) < 0.7,
        },
    )


def labels_of(table: ExampleTable, tasks: tuple[TaskConfig, ...] = TASKS) -> dict[str, Target]:
    """The labels of the tasks over all rows."""
    return {task.name: make_target(task, table.labels, table.negative) for task in tasks}


def statistics_of(table: ExampleTable, tasks: tuple[TaskConfig, ...] = TASKS) -> dict[str, TaskStatistics]:
    """The tasks' statistics over all rows."""
    return {name: TaskStatistics.of(target) for name, target in labels_of(table, tasks).items()}


def batch_of(
    table: ExampleTable, rows: np.ndarray | None = None, tasks: tuple[TaskConfig, ...] = TASKS
) -> ExampleBatch:
    """Some rows, or all, with labels and masks."""
    labels = labels_of(table, tasks)
    return table.batch(
        np.arange(len(table)) if rows is None else rows,
        {name: target.values for name, target in labels.items()},
        {name: target.mask for name, target in labels.items()},
    )
