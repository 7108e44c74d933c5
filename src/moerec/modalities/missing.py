"""How many examples have no picture, by split and category, and why; plain tables, no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

NOT_KNOWN = "not known"
"""Reason of an item that the outcomes do not name."""


def missing_rates(
    outcomes: pl.DataFrame, examples: pl.DataFrame, by: Sequence[str] = ("part", "category")
) -> pl.DataFrame:
    """The missing rate in each group of examples.

    Args:
        outcomes: a row for each item: `item_id`, and `reason`, which is null where the item has a picture.
        examples: a row for each example: `item_id` and the columns of `by`.
        by: what the examples are grouped by; beside each group there are rows for each prefix of these columns, with
            null in the others, up to the row of all examples.

    Returns:
        the columns of `by`, `level` (how many of them are fixed), `examples`, `missing`, `rate`, and `reasons` (a list
        of reason and count, the most frequent first); by `level`, then by the columns.
    """
    joined = _joined(outcomes, examples, by)
    parts = []
    for fixed in range(len(by) + 1):
        names = list(by[:fixed])
        groups = joined.group_by(names) if names else joined.group_by(pl.lit(0).alias("_all"))
        counted = groups.agg(pl.len().alias("examples"), pl.col("reason").count().alias("missing"))
        reasons = (
            joined.drop_nulls("reason")
            .group_by([*names, "reason"])
            .agg(pl.len().alias("count"))
            .sort(["count", "reason"], descending=[True, False])
        )
        packed = (
            reasons.group_by(names, maintain_order=True) if names else reasons.group_by(pl.lit(0).alias("_all"))
        ).agg(pl.struct("reason", "count").alias("reasons"))
        keys = names or ["_all"]
        parts.append(
            counted.join(packed, on=keys, how="left", nulls_equal=True).select(
                *(pl.col(name) if name in names else pl.lit(None, joined.schema[name]).alias(name) for name in by),
                pl.lit(fixed, pl.Int64).alias("level"),
                pl.col("examples").cast(pl.Int64),
                pl.col("missing").cast(pl.Int64),
                (pl.col("missing") / pl.col("examples")).alias("rate"),
                pl.col("reasons").fill_null([]),
            )
        )
    return pl.concat(parts).sort(["level", *by], nulls_last=True)


def missing_as_json(rates: pl.DataFrame) -> list[dict[str, Any]]:
    """The table as plain data, with the reasons of each row as an object."""
    return [
        row | {"reasons": {entry["reason"]: entry["count"] for entry in row["reasons"]}} for row in rates.to_dicts()
    ]


def _joined(outcomes: pl.DataFrame, examples: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """`by` and the reason of each example."""
    known = outcomes.select(pl.col("item_id"), "reason", pl.lit(True).alias("_known")).unique("item_id", keep="first")
    found = examples.select("item_id", *by).join(known, on="item_id", how="left")
    return found.with_columns(
        pl.when(pl.col("_known").is_null()).then(pl.lit(NOT_KNOWN)).otherwise(pl.col("reason")).alias("reason")
    )
