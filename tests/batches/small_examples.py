"""A small data set with ties, cold items and user columns, and a computed feature in a few plain lines."""

from typing import Any

import numpy as np
import polars as pl

from moerec.dataset.dataset import Dataset
from moerec.dataset.sources.synthetic import SyntheticConfig
from moerec.dataset.splits import SplitConfig
from moerec.features.feature import Catalogue, FeatureConfig, FeatureState
from moerec.features.spec import FeatureSpec

SPLIT = "main"
SPECS = (
    FeatureSpec(name="genres", kind="categorical"),
    FeatureSpec(name="words", kind="multi", column="title", separator=" "),
    FeatureSpec(name="year", kind="dense"),
    FeatureSpec(name="city", kind="categorical", side="user"),
    FeatureSpec(name="hobbies", kind="multi", side="user"),
    FeatureSpec(name="age", kind="dense", side="user"),
    FeatureSpec(name="text", kind="vector"),
)
FOUR_HOURS = 4 * 3_600_000


def small_dataset(seed: int = 0, users: int = 30, *, timestamps: bool = True) -> Dataset:
    """Generated events, whose times are cut to four hours so that some stand together; a split by each user's time."""
    raw = SyntheticConfig(users=users, items=60, events_per_user=12, cold_items=0.1, seed=seed).read()
    random = np.random.default_rng(seed)
    events = raw.events.with_columns(pl.col("timestamp") // FOUR_HOURS * FOUR_HOURS)
    if not timestamps:
        events = events.drop("timestamp")
    missing = random.random(events.height) < 0.1
    events = events.with_columns(rating=pl.when(pl.Series(~missing)).then("rating"))
    people = pl.DataFrame(
        {
            "user_id": [str(user) for user in range(users)],
            "city": [("Ulm", "Bern", None)[user % 3] for user in range(users)],
            "hobbies": [("chess|sail", "sail", None, "chess|moss|owl")[user % 4] for user in range(users)],
            "age": [None if user % 5 == 4 else 20.0 + user for user in range(users)],
        }
    )
    dataset = Dataset.from_frames(events, people, raw.items, name="small", labels=("rating",))
    dataset.add_split(SPLIT, SplitConfig(kind="user_time", valid=0.2, test=0.2))
    return dataset


def small_vectors(dataset: Dataset, width: int = 3) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(7)
    present = random.random(dataset.num_indices) < 0.8
    present[:2] = False
    vectors = random.normal(size=(dataset.num_indices, width)).astype(np.float32)
    return {"text": (np.where(present[:, None], vectors, 0).astype(np.float32), present)}


class EarlierConfig(FeatureConfig):
    """What the user did before: how often, how the ratings were on average, and whether there was anything."""

    label: str = "rating"
    """Label to average."""

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        return (
            FeatureSpec(name="earlier_count", kind="dense", side="user", transform="log"),
            FeatureSpec(name="earlier_mean", kind="dense", side="user"),
            FeatureSpec(name="earlier_any", kind="categorical", side="user"),
        )

    @property
    def cardinalities(self) -> dict[str, int]:
        return {"earlier_any": 3}

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """The mean of all train labels stands in where the user has none; the counts are there to be saved."""
        mean = float(train[self.label].mean())
        return FeatureState({"prior": mean, "rows": train.height}, {"counts": np.bincount(train["item"].to_numpy())})

    def seen(self, time: int, until: int) -> bool:
        """Whether an event of that time is visible to an example."""
        return time < until

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        logs: dict[int, list[tuple[int, float | None]]] = {}
        for user, time, label in events.select("user", "timestamp", self.label).iter_rows():
            logs.setdefault(user, []).append((time, label))
        rows = []
        for user, until in examples.select("user", "timestamp").iter_rows():
            before = [label for time, label in logs.get(user, []) if self.seen(time, until)]
            known = [label for label in before if label is not None]
            mean = sum(known) / len(known) if known else None
            rows.append((float(len(before)) if before else None, mean, 2 if before else 1))
        schema = {"earlier_count": pl.Float64, "earlier_mean": pl.Float64, "earlier_any": pl.Int32}
        return pl.DataFrame(rows, schema=schema, orient="row")

    def start(self) -> dict[str, Any]:
        raise NotImplementedError("these tests build tables only")

    def update(self, memory, event, state):
        raise NotImplementedError("these tests build tables only")

    def read(self, memory, items, timestamp, state):
        raise NotImplementedError("these tests build tables only")
