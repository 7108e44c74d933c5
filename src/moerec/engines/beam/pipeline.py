"""The pipeline: raw files, a shuffle by product, one by user, features in the workers, sharded Parquet out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.amazon_rows import Year
from moerec.engines.beam.features import (
    TEXT_FILES,
    CodeItem,
    CombineSummaries,
    MakeExamples,
    MergeState,
)
from moerec.engines.beam.grouping import CATEGORY, EVENTS, ITEMS, PRODUCTS, REVIEWS, FrameUsers, JoinProduct
from moerec.engines.beam.reading import (
    COUNTS,
    EXAMPLES,
    REJECTS,
    WRITTEN,
    ParseProducts,
    ParseReviews,
    RawFile,
    ReadLines,
)
from moerec.engines.beam.writing import FrameRows, WriteManifest, WriteParquet, WriteState
from moerec.engines.products import PRODUCT_SCHEMA
from moerec.engines.spill import partition_of
from moerec.features.reviews import ReviewExamplesConfig, category_names

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
    texts: bool
    """Whether titles and texts are kept."""
    out: str
    """Folder that is written."""
    shards: int
    """Number of files of each table."""
    rows_in_frame: int
    """A frame ends with the user that makes it reach so many reviews."""
    inputs: dict[str, Any]
    """What stands in the manifest beside counts and files."""


def build(pipeline: Any, job: Job) -> Any:
    """Add everything to a pipeline; gives the manifest, which is written last."""
    reviews = _parsed(pipeline, job.reviews, ParseReviews(job.reviews, job.year, job.texts), "reviews", WRITTEN)
    products = _parsed(pipeline, job.products, ParseProducts(job.products, job.year), "products")
    joined = (
        {REVIEWS: reviews["rows"], PRODUCTS: products["rows"]}
        | BY_PRODUCT >> beam.CoGroupByKey()
        | "Join product" >> beam.ParDo(JoinProduct(job.products)).with_outputs(REJECTS, ITEMS, COUNTS, main="rows")
    )
    framed = (
        {EVENTS: joined["rows"], WRITTEN: reviews[WRITTEN]}
        | BY_USER >> beam.CoGroupByKey()
        | "Frame users"
        >> beam.ParDo(FrameUsers(job.reviews, job.rows_in_frame, job.texts)).with_outputs(REJECTS, main="frames")
    )
    categories = beam.pvalue.AsSingleton(_categories(joined[ITEMS], job.config))
    state = (
        framed["frames"]
        | "Summarise" >> beam.CombineGlobally(CombineSummaries(job.config))
        | "Merge" >> beam.ParDo(MergeState(job.config), categories)
    )
    tables = (EXAMPLES, EVENTS, TEXT_FILES) if job.texts else (EXAMPLES, EVENTS)
    made = framed["frames"] | "Make examples" >> beam.ParDo(
        MakeExamples(job.config, job.seed, job.shards), beam.pvalue.AsSingleton(state)
    ).with_outputs(COUNTS, *tables)
    items = joined[ITEMS] | "Code item" >> beam.ParDo(CodeItem(job.shards), categories)
    rejects = [output[REJECTS] for output in (reviews, products, joined, framed)] | "All rejects" >> beam.Flatten()
    files = [
        *(made[table] | f"Write {table}" >> WriteParquet(job.out, table) for table in tables),
        _written(items, "items", PRODUCT_SCHEMA, job),
        _written(rejects | "Place reject" >> beam.Map(_placed, job.shards), REJECTS, REJECT_COLUMNS, job),
        state | "Write state" >> beam.ParDo(WriteState(job.out)),
    ] | "All files" >> beam.Flatten()
    counts = [
        *(output[COUNTS] for output in (reviews, products, joined, made)),
        rejects | "Reason" >> beam.Map(_reason),
    ]
    counted = counts | "All counts" >> beam.Flatten() | "Count" >> beam.CombinePerKey(sum)
    write = WriteManifest(job.out, job.reviews, job.inputs)
    sides = (beam.pvalue.AsList(files), beam.pvalue.AsList(counted), categories)
    return pipeline | "Once" >> beam.Create([None]) | "Write manifest" >> beam.ParDo(write, *sides)


def _parsed(pipeline: Any, files: Sequence[RawFile], parse: beam.DoFn, what: str, *tags: str) -> Any:
    """Rows of some files, parsed by all workers."""
    return (
        pipeline
        | f"List {what}" >> beam.Create(list(range(len(files))), reshuffle=True)
        | f"Read {what}" >> beam.ParDo(ReadLines(tuple(files)))
        | f"Spread {what}" >> beam.Reshuffle()
        | f"Parse {what}" >> beam.ParDo(parse).with_outputs(REJECTS, COUNTS, *tags, main="rows")
    )


def _categories(items: Any, config: ReviewExamplesConfig) -> Any:
    """The names of the categories, as a collection of one tuple."""
    return (
        items
        | "Category" >> beam.Map(_category)
        | "Known categories" >> beam.Filter(bool)
        | "Count categories" >> beam.combiners.Count.PerElement()
        | "All categories" >> beam.combiners.ToDict()
        | "Name categories" >> beam.Map(category_names, config)
    )


def _written(rows: Any, folder: str, schema: dict[str, Any], job: Job) -> Any:
    """A table of single rows."""
    return (
        rows | f"Frame {folder}" >> beam.ParDo(FrameRows(schema)) | f"Write {folder}" >> WriteParquet(job.out, folder)
    )


def _placed(row: tuple[Any, ...], shards: int) -> tuple[int, tuple[Any, ...]]:
    """A refused row in the shard of its line."""
    source, line, *_ = row
    return partition_of(f"{source} {line}", shards), row


def _category(row: tuple[Any, ...]) -> str | None:
    return row[CATEGORY]


def _reason(row: tuple[Any, ...]) -> tuple[tuple[str, ...], int]:
    return ("rejects", row[2]), 1
