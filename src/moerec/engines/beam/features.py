"""The feature functions in a Beam pipeline: summaries of frames, combined into the state; examples made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import apache_beam as beam
import polars as pl

from moerec.dataset.schema import Part
from moerec.engines.beam.grouping import CATEGORY, EVENTS, IS_PRODUCT
from moerec.engines.beam.reading import COUNTS, EXAMPLES
from moerec.engines.beam.writing import packed, unpacked_frame
from moerec.engines.partitions import EVENT_COLUMNS
from moerec.engines.spill import TEXTS, partition_of, partitions_of
from moerec.features.reviews import (
    EVENT_SCHEMA,
    ReviewExamplesConfig,
    ReviewState,
    combine,
    make_examples,
    merge,
    summarise,
)

TEXT_FILES = "texts"
"""Tag of the output that is written into the folder of this name."""
_GATHERED = 16
"""So many summaries are held before they become one."""


class CombineSummaries(beam.CombineFn):
    """From frames of whole users to one summary of all; partial ones are combined where they are made."""

    def __init__(self, config: ReviewExamplesConfig) -> None:
        self._config = config

    def create_accumulator(self) -> list[bytes]:
        """Nothing."""
        return []

    def add_input(self, summaries: list[bytes], frame: bytes) -> list[bytes]:
        """And the summary of a frame; it knows no categories, so they are all unknown here."""
        events = unpacked_frame(frame).with_columns(category=pl.lit(0, pl.Int32))
        return self._gathered([*summaries, packed(summarise(events, self._config))])

    def merge_accumulators(self, several: Iterable[list[bytes]]) -> list[bytes]:
        """All together."""
        together: list[bytes] = []
        for summaries in several:
            together = self._gathered([*together, *summaries])
        return together

    def compact(self, summaries: list[bytes]) -> list[bytes]:
        """One, before it travels."""
        return [self.extract_output(summaries)]

    def extract_output(self, summaries: list[bytes]) -> bytes:
        """The summary of all."""
        return packed(combine(map(unpacked_frame, summaries), self._config))

    def _gathered(self, summaries: list[bytes]) -> list[bytes]:
        return summaries if len(summaries) < _GATHERED else self.compact(summaries)


class MergeState(beam.DoFn):
    """From the summary and the names of the categories to the state."""

    def __init__(self, config: ReviewExamplesConfig) -> None:
        self._config = config

    def process(self, summary: bytes, categories: tuple[str, ...]) -> Iterator[ReviewState]:
        """The only one."""
        yield merge([unpacked_frame(summary)], categories, self._config)


class MakeExamples(beam.DoFn):
    """From frames of whole users to their examples, events and texts: `(shard, Arrow bytes)` for EXAMPLES, ..."""

    def __init__(self, config: ReviewExamplesConfig, seed: int, shards: int) -> None:
        self._config, self._seed, self._shards = config, seed, shards

    def process(self, frame: bytes, state: ReviewState) -> Iterator[Any]:
        """The rows of one frame."""
        rows = unpacked_frame(frame)
        codes = category_codes(state.categories)
        rows = rows.with_columns(pl.col("category").replace_strict(codes, default=0, return_dtype=pl.Int32))
        examples = make_examples(rows.select(*EVENT_SCHEMA, "key"), state, self._config, self._seed)
        yield from self._placed(EXAMPLES, examples, examples["user_id"])
        yield from self._placed(EVENTS, rows.select(EVENT_COLUMNS), rows["user_id"])
        if set(TEXTS) <= set(rows.columns):
            yield from self._placed(TEXT_FILES, rows.select("key", title=TEXTS[0], text=TEXTS[1]), rows["user_id"])
        for part, negative, count in examples.group_by("part", "negative").len().iter_rows():
            path = ("examples", Part(part).name.lower(), "negatives" if negative else "reviews")
            yield beam.pvalue.TaggedOutput(COUNTS, (path, count))
        known = rows.filter(IS_PRODUCT)
        unknown = {
            "without product": rows.height - known.height,
            "without category": int((known["category"] == 0).sum()),
            "without price": known["price"].null_count(),
        }
        for what, count in unknown.items():
            yield beam.pvalue.TaggedOutput(COUNTS, (("unknown", what), count))
        yield beam.pvalue.TaggedOutput(COUNTS, (("reviews",), rows.height))

    def _placed(self, tag: str, frame: pl.DataFrame, users: pl.Series) -> Iterator[Any]:
        """The rows of a table by the shard of their user."""
        place = pl.Series("__shard__", partitions_of(users, self._shards))
        for (shard,), rows in frame.with_columns(place).partition_by(place.name, as_dict=True).items():
            yield beam.pvalue.TaggedOutput(tag, (int(shard), packed(rows.drop(place.name))))


class CodeItem(beam.DoFn):
    """From rows of ITEM_SCHEMA to rows of PRODUCT_SCHEMA, with the code of the category, by shard."""

    def __init__(self, shards: int) -> None:
        self._shards = shards

    def process(self, row: tuple[Any, ...], categories: tuple[str, ...]) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Code one row."""
        item, *others = row
        yield partition_of(item, self._shards), (item, category_codes(categories).get(row[CATEGORY], 0), *others)


@lru_cache(maxsize=8)
def category_codes(categories: tuple[str, ...]) -> dict[str | None, int]:
    """The code of each category."""
    return {name: code for code, name in enumerate(categories, start=1)}
