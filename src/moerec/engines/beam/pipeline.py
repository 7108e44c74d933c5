"""The pipeline: raw files, a shuffle by product, one by user, features in the workers, sharded Parquet out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.amazon_rows import Year
from moerec.engines.beam.features import COUNTS, CombineSummaries, MakeExamples, MergeState
from moerec.engines.beam.grouping import (
    CATALOGUE_SCHEMA,
    CATEGORY,
    EVENTS,
    ITEMS,
    PRODUCTS,
    REVIEWS,
    FrameUsers,
    JoinProduct,
)
from moerec.engines.beam.reading import REJECTS, TEXTS, ParseProducts, ParseReviews, RawFile, ReadLines
from moerec.engines.beam.writing import FrameRows, WriteManifest, WriteParquet, WriteState, shard_of
from moerec.features.reviews import ReviewExamplesConfig

BY_PRODUCT, BY_USER = "Group by product", "Group by user"
"""Names of the two shuffles."""


@dataclass(frozen=True)
class Job:
    """What a pipeline does."""

    reviews: tuple[RawFile, ...]
    """Files of reviews; of equal reviews the first in this order counts."""
    products: tuple[RawFile, ...]
    """Files of products; of equal products the first in this order counts."""
    year: Year
    """The release."""
    config: ReviewExamplesConfig
    """How examples are made."""
    seed: int
    """Of what is drawn."""
    out: str
    """Folder that is written."""
    shards: int
    """Number of files of each table."""
    rows_in_frame: int
    """Reviews of a frame, and those of its last user."""
    manifest: dict[str, Any]
    """What stands in the manifest beside counts and files."""


def build(pipeline: Any, job: Job) -> Any:
    """Add everything to a pipeline; gives the manifest, which is written last."""
    reviews = _parsed(pipeline, job.reviews, ParseReviews(job.reviews, job.year), "reviews", TEXTS)
    products = _parsed(pipeline, job.products, ParseProducts(job.products, job.year), "products")
    joined = (
        {REVIEWS: reviews["rows"], PRODUCTS: products["rows"]}
        | BY_PRODUCT >> beam.CoGroupByKey()
        | "Join product" >> beam.ParDo(JoinProduct(job.reviews, job.products)).with_outputs(REJECTS, ITEMS, main="rows")
    )
    framed = (
        {EVENTS: joined["rows"], TEXTS: reviews[TEXTS]}
        | BY_USER >> beam.CoGroupByKey()
        | "Frame users"
        >> beam.ParDo(FrameUsers(job.reviews, job.rows_in_frame, job.shards)).with_outputs(
            REJECTS, TEXTS, COUNTS, main="frames"
        )
    )
    state = _fitted(framed["frames"], joined[ITEMS], job.config)
    made = framed["frames"] | "Make examples" >> beam.ParDo(
        MakeExamples(job.config, job.seed, job.shards), beam.pvalue.AsSingleton(state)
    ).with_outputs(COUNTS, main="examples")
    rejects = [output[REJECTS] for output in (reviews, products, joined, framed)] | "All rejects" >> beam.Flatten()
    files = [
        made["examples"] | "Write examples" >> WriteParquet(job.out, "examples", job.shards),
        framed[TEXTS] | "Write texts" >> WriteParquet(job.out, "texts", job.shards),
        _written(joined[ITEMS], "items", CATALOGUE_SCHEMA, 1, job),
        _written(rejects, "rejects", REJECT_COLUMNS, 2, job),
        state | "Write state" >> beam.ParDo(WriteState(job.out)),
    ] | "All files" >> beam.Flatten()
    reasons = rejects | "Reason" >> beam.Map(_reason)
    counts = (
        [made[COUNTS], framed[COUNTS], reasons] | "All counts" >> beam.Flatten() | "Count" >> beam.CombinePerKey(sum)
    )
    return (
        pipeline
        | "Once" >> beam.Create([None])
        | "Write manifest"
        >> beam.ParDo(WriteManifest(job.out, job.manifest), beam.pvalue.AsList(files), beam.pvalue.AsList(counts))
    )


def _parsed(pipeline: Any, files: Sequence[RawFile], parse: beam.DoFn, what: str, *tags: str) -> Any:
    """Rows of some files, parsed by all workers."""
    return (
        pipeline
        | f"List {what}" >> beam.Create(list(range(len(files))), reshuffle=True)
        | f"Read {what}" >> beam.ParDo(ReadLines(tuple(files)))
        | f"Spread {what}" >> beam.Reshuffle()
        | f"Parse {what}" >> beam.ParDo(parse).with_outputs(REJECTS, *tags, main="rows")
    )


def _fitted(frames: Any, items: Any, config: ReviewExamplesConfig) -> Any:
    """The state, as a collection of one."""
    categories = (
        items
        | "Category" >> beam.Map(_category)
        | "Known categories" >> beam.Filter(bool)
        | "Count categories" >> beam.combiners.Count.PerElement()
        | "All categories" >> beam.combiners.ToDict()
    )
    return (
        frames
        | "Summarise" >> beam.CombineGlobally(CombineSummaries(config))
        | "Merge" >> beam.ParDo(MergeState(config), beam.pvalue.AsSingleton(categories))
    )


def _written(rows: Any, folder: str, schema: dict[str, Any], key: int, job: Job) -> Any:
    """A table of single rows, each in the shard of its first values."""
    return (
        rows
        | f"Place {folder}" >> beam.Map(_placed, key, job.shards)
        | f"Frame {folder}" >> beam.ParDo(FrameRows(schema))
        | f"Write {folder}" >> WriteParquet(job.out, folder, job.shards)
    )


def _placed(row: tuple[Any, ...], key: int, shards: int) -> tuple[int, tuple[Any, ...]]:
    return shard_of("\0".join(map(str, row[:key])), shards), row


def _category(row: tuple[Any, ...]) -> str | None:
    return row[CATEGORY]


def _reason(row: tuple[Any, ...]) -> tuple[tuple[str, ...], int]:
    return ("rejects", row[2]), 1
