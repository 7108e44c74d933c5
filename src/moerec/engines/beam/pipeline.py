"""The pipeline: raw files, a shuffle by product, one by user, features in the workers, sharded Parquet out."""

from __future__ import annotations

from typing import Any

import apache_beam as beam

from moerec.dataset.sources.amazon_rows import ITEM_SCHEMA, Year
from moerec.engines.beam.grouping import EVENTS, ITEMS, PRODUCTS, REVIEWS, FrameUsers, JoinProduct
from moerec.engines.beam.reading import REJECTS, TEXTS, ParseProducts, ParseReviews, RawFile, ReadLines


def parsed(pipeline: Any, files: tuple[RawFile, ...], parse: beam.DoFn, what: str, *tags: str) -> Any:
    """Rows of some files, parsed by all workers."""
    return (
        pipeline
        | f"List {what}" >> beam.Create(list(range(len(files))), reshuffle=True)
        | f"Read {what}" >> beam.ParDo(ReadLines(files))
        | f"Spread {what}" >> beam.Reshuffle()
        | f"Parse {what}" >> beam.ParDo(parse).with_outputs(REJECTS, *tags, main="rows")
    )
