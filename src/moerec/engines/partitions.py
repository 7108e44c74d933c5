"""Partitions of whole users: first their clean events, then, once the train part is summed up, their examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from moerec.dataset.rejects import count_rejects
from moerec.dataset.schema import Part
from moerec.dataset.sources.amazon_rows import REPEATED_REVIEW
from moerec.dataset.sources.columns import LINE
from moerec.engines.jobs import Result
from moerec.engines.products import CODES_SCHEMA, repeated_rows
from moerec.engines.spill import FILE, TEXTS, read_partition
from moerec.engines.state_files import load_state
from moerec.features.reviews import (
    EVENT_ORDER,
    EVENT_SCHEMA,
    ReviewExamplesConfig,
    ReviewState,
    make_examples,
    summarise,
    with_keys,
)
from moerec.files import atomic_file

EVENT_COLUMNS = ("key", *EVENT_SCHEMA, "verified", "helpful")
"""The columns of events/part-*.parquet. `helpful` came after the review, so it is an input of nothing."""
RESULT, MARKERS = "result", "markers"
"""Folders of a work folder: what becomes the output, and the markers of jobs."""
EXAMPLES, EVENTS, TEXT_FILES = f"{RESULT}/examples", f"{RESULT}/events", f"{RESULT}/texts"
SUMMARIES, REJECTS = "summaries", "rejects"


def part_name(number: int) -> str:
    """Name of the file of a partition."""
    return f"part-{number:05d}.parquet"


@dataclass(frozen=True)
class CleanPartition:
    """A job: the events of a partition, without duplicates, with what the products tell, and their texts apart."""

    number: int
    folder: Path
    """The work folder."""
    chunks: tuple[Path, ...]
    sources: tuple[str, ...]
    """Names of the files of reviews, by their numbers."""
    codes: Path
    """Parquet of CODES_SCHEMA."""
    config: ReviewExamplesConfig

    @property
    def marker(self) -> Path:
        """See `Job`."""
        return self.folder / MARKERS / f"events-{self.number:05d}.json"

    def run(self) -> Result:
        """Sort, refuse duplicates, join, write."""
        rows = read_partition(self.chunks, self.number).sort(*EVENT_ORDER, FILE, LINE)
        is_first = ~pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in EVENT_ORDER).fill_null(False)
        rows = rows.with_columns(is_first.alias("__first__"))
        rejects = self._repeated(rows.filter(~pl.col("__first__")).drop("__first__"))
        rows = rows.filter("__first__").drop("__first__", FILE, LINE)
        codes = _codes(self.codes)
        rows = rows.join(codes, on="item_id", how="left", maintain_order="left")
        bare = rows.filter(pl.col("category").is_null())["item_id"].unique().sort().to_list()
        without = rows["category"].null_count()
        rows = with_keys(rows.with_columns(pl.col("category").fill_null(0)))
        self._write(EVENTS, rows.select(EVENT_COLUMNS))
        if set(TEXTS) <= set(rows.columns):
            self._write(TEXT_FILES, rows.select("key", title=TEXTS[0], text=TEXTS[1]))
        self._write(SUMMARIES, summarise(rows, self.config))
        self._write(REJECTS, rejects)
        return {
            "reviews": rows.height,
            "without_product": without,
            "without_category": int((rows["category"] == 0).sum()) - without,
            "without_price": rows["price"].null_count() - without,
            "items_without_product": bare,
            "rejects": count_rejects(rejects),
        }

    def _repeated(self, rows: pl.DataFrame) -> pl.DataFrame:
        sources = [self.sources[file] for file in rows[FILE].to_list()]
        return repeated_rows(rows.drop(FILE), sources, REPEATED_REVIEW)

    def _write(self, kind: str, frame: pl.DataFrame) -> None:
        with atomic_file(self.folder / kind / part_name(self.number)) as path:
            frame.write_parquet(path, compression="zstd", compression_level=1, statistics=False)


@dataclass(frozen=True)
class ExamplePartition:
    """A job: the examples of a partition."""

    number: int
    folder: Path
    """The work folder."""
    state: Path
    """Folder of the state."""
    config: ReviewExamplesConfig
    seed: int

    @property
    def marker(self) -> Path:
        """See `Job`."""
        return self.folder / MARKERS / f"examples-{self.number:05d}.json"

    def run(self) -> Result:
        """Read, make, write."""
        events = pl.read_parquet(
            self.folder / EVENTS / part_name(self.number), columns=["key", *EVENT_SCHEMA], glob=False
        )
        examples = make_examples(events, _state(self.state), self.config, self.seed)
        with atomic_file(self.folder / EXAMPLES / part_name(self.number)) as path:
            examples.write_parquet(path, compression="zstd", compression_level=1, statistics=False)
        counts = examples.group_by("part", "negative").len().iter_rows()
        return {"counts": sorted([Part(part).name.lower(), int(negative), rows] for part, negative, rows in counts)}


@lru_cache(maxsize=1)
def _codes(path: Path) -> pl.DataFrame:
    """Read once in each process."""
    return pl.read_parquet(path, glob=False).select(pl.col(name).cast(dtype) for name, dtype in CODES_SCHEMA.items())


@lru_cache(maxsize=1)
def _state(folder: Path) -> ReviewState:
    """Read once in each process."""
    return load_state(folder)


def read_summaries(folder: Path, partitions: Sequence[int]) -> list[pl.DataFrame]:
    """What each partition tells of the train part."""
    return [pl.read_parquet(folder / SUMMARIES / part_name(number), glob=False) for number in partitions]
