"""Which rows a ranker learns from and is judged on: events of a part, with the negatives drawn for them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.errors import ConfigError, DatasetError
from moerec.features.negatives import Negatives


def examples_of(dataset: Dataset, split: str, part: Part, labels: Sequence[str] = ()) -> pl.DataFrame:
    """The events of a part as examples: user, item, timestamp, event, labels, negative (False).

    Raises:
        ConfigError: the events have no such label.
        DatasetError: no split of that name.
    """
    for label in labels:
        if label not in dataset.info.labels:
            known = ", ".join(dataset.info.labels) or "none"
            raise ConfigError(f"the events have no label column '{label}'; they have: {known}")
    chosen = dataset.split(split) == part
    return (
        dataset.events.with_row_index("event")
        .filter(pl.Series(chosen))
        .select("user", "item", "timestamp", pl.col("event").cast(pl.Int64), *labels, negative=pl.lit(False))
    )


def with_negatives(examples: pl.DataFrame, drawn: Negatives) -> pl.DataFrame:
    """The examples, then the rows drawn for them: `negative` is True, labels are null, the part is theirs."""
    return pl.concat([examples, drawn.frame.with_columns(negative=pl.lit(True))], how="diagonal")


def require_timestamps(dataset: Dataset, what: str = "causal features and ranker.history (write 0)") -> None:
    """Raises DatasetError when the data set has no timestamps and something needs them."""
    if not dataset.info.timestamps:
        raise DatasetError(
            f"data set '{dataset.info.name}' has no timestamps, and {what} cannot do without; "
            "leave that out, or take a source that has times"
        )
