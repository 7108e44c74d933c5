"""The feature functions in a Beam pipeline: summaries of frames, combined into the state; examples made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import polars as pl

from moerec.dataset.schema import Part
from moerec.engines.beam.writing import packed, sharded, unpacked_frame
from moerec.features.reviews import (
    ReviewExamplesConfig,
    ReviewState,
    category_names,
    combine,
    make_examples,
    merge,
    summarise,
)

COUNTS = "counts"
"""Tag of the output that holds pairs of a path in the manifest and a number."""
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
    """From the summary and the number of products of each category to the state."""

    def __init__(self, config: ReviewExamplesConfig) -> None:
        self._config = config

    def process(self, summary: bytes, products: dict[str, int]) -> Iterator[ReviewState]:
        """The only one."""
        yield merge([unpacked_frame(summary)], category_names(products, self._config), self._config)


class MakeExamples(beam.DoFn):
    """From frames of whole users to their examples, `(shard, Arrow bytes)`."""

    def __init__(self, config: ReviewExamplesConfig, seed: int, shards: int) -> None:
        self._config, self._seed, self._shards = config, seed, shards

    def process(self, frame: bytes, state: ReviewState) -> Iterator[Any]:
        """The examples of one frame."""
        codes = {name: code for code, name in enumerate(state.categories, start=1)}
        events = unpacked_frame(frame).with_columns(
            pl.col("category").replace_strict(codes, default=0, return_dtype=pl.Int32)
        )
        examples = make_examples(events, state, self._config, self._seed)
        for part, negative, count in examples.group_by("part", "negative").len().iter_rows():
            kind = "negatives" if negative else "positives"
            yield beam.pvalue.TaggedOutput(COUNTS, (("examples", Part(part).name.lower(), kind), count))
        for shard, rows in sharded(examples, "user_id", self._shards):
            yield shard, packed(rows)
