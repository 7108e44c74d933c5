"""What examples need to know of the train part as a whole: summarised in parts, merged, handed to every worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.features.feature import FeatureState
from moerec.features.negative_supply import Supply
from moerec.features.reviews.config import ReviewExamplesConfig
from moerec.features.reviews.schema import require_events

SUMMARY_SCHEMA = {"item_id": pl.String, "timestamp": pl.Int64, "reviews": pl.Int64}
"""How many train reviews an item had at a time; by item and time. With uniform negatives the first time alone."""


@dataclass(frozen=True, eq=False)
class ReviewState:
    """Plain data, the same for all workers; can be pickled, and saved as JSON and arrays."""

    categories: tuple[str, ...]
    """The name of category code c stands at c - 1."""
    items: pl.Series
    """Ids of the items with a train review, ascending; an item's place is its number in the supply."""
    supply: Supply | None
    """What can be drawn at each moment; None without negatives."""

    def to_feature_state(self) -> FeatureState:
        """JSON data and arrays."""
        ids = [item.encode() for item in self.items.to_list()]
        arrays: dict[str, NDArray[Any]] = {
            "item_bytes": np.frombuffer(b"".join(ids), np.uint8),
            "item_lengths": np.array([len(item) for item in ids], np.int64),
        }
        values = {"categories": list(self.categories), "supply": None if self.supply is None else self.supply.values}
        if self.supply is not None:
            arrays |= {f"supply_{name}": array for name, array in self.supply.arrays.items()}
        return FeatureState(values, arrays)

    @classmethod
    def from_feature_state(cls, state: FeatureState) -> ReviewState:
        """The inverse of `to_feature_state`."""
        ends = np.cumsum(state.arrays["item_lengths"])
        content = state.arrays["item_bytes"].tobytes()
        starts = ends - state.arrays["item_lengths"]
        ids = [content[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
        supply = None
        if state.values["supply"] is not None:
            named: dict[str, Any] = {
                name.removeprefix("supply_"): array
                for name, array in state.arrays.items()
                if name.startswith("supply_")
            }
            supply = Supply(**state.values["supply"], **named)
        return cls(tuple(state.values["categories"]), pl.Series("item_id", ids, dtype=pl.String), supply)


def category_names(products: Mapping[str, int], config: ReviewExamplesConfig) -> tuple[str, ...]:
    """The categories that get a code, in alphabetical order: those of the most products, ties by name.

    Args:
        products: number of products of each main category.
        config: how many categories at most.
    """
    ranked = sorted(products, key=lambda name: (-products[name], name))
    return tuple(sorted(ranked[: config.most_categories]))


def summarise(events: pl.DataFrame, config: ReviewExamplesConfig) -> pl.DataFrame:
    """What a partition tells of the train part; columns of SUMMARY_SCHEMA.

    Args:
        events: columns of EVENT_SCHEMA, in any order; no review twice.
        config: the rule.
    """
    train = require_events(events).filter(pl.col("timestamp") < config.train_end)
    return combine([train.select("item_id", "timestamp", reviews=pl.lit(1, pl.Int64))], config)


def combine(summaries: Iterable[pl.DataFrame], config: ReviewExamplesConfig) -> pl.DataFrame:
    """One summary of several; associative and commutative, so they may be combined in any grouping and order."""
    together = pl.concat([pl.DataFrame(schema=SUMMARY_SCHEMA), *summaries])
    if config.negatives is None:
        return together.clear()
    if config.negatives.sampling == "uniform":
        first = together.group_by("item_id").agg(pl.col("timestamp").min())
        return first.with_columns(reviews=pl.lit(1, pl.Int64)).sort("item_id")
    return together.group_by("item_id", "timestamp").agg(pl.col("reviews").sum()).sort("item_id", "timestamp")


def merge(summaries: Iterable[pl.DataFrame], categories: Sequence[str], config: ReviewExamplesConfig) -> ReviewState:
    """The state of all partitions together.

    Args:
        summaries: of every partition, in any order.
        categories: names of the category codes, from 1 on.
        config: the rule.
    """
    summary = combine(summaries, config)
    items = summary["item_id"].unique().sort()
    if config.negatives is None:
        return ReviewState(tuple(categories), items, None)
    # Items stand in ascending order, so runs of equal ids are numbered as `items` is.
    numbers = summary["item_id"].rle_id().cast(pl.Int64).to_numpy()
    repeats = summary["reviews"].to_numpy()
    supply = config.negatives.fit(
        np.repeat(numbers, repeats),
        np.repeat(summary["timestamp"].to_numpy(), repeats),
        len(items) + 1,  # and one for all other items
    )
    return ReviewState(tuple(categories), items, supply)
