"""The steps of the local engine, each of which can be taken again after a crash at no cost for what is finished."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from moerec import __version__
from moerec.dataset.rejects import REJECTS_FILE
from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.amazon_files import CategoryFiles
from moerec.dataset.sources.amazon_rows import REPEATED_ITEM, Year
from moerec.dataset.sources.json_lines import line_blocks
from moerec.engines.jobs import Job, Result, Workers
from moerec.engines.manifest import MANIFEST, add_counts, count_parts, manifest_of
from moerec.engines.partitions import (
    REJECTS,
    RESULT,
    CleanPartition,
    ExamplePartition,
    part_name,
    read_summaries,
)
from moerec.engines.products import ProductChunk, Products, merge_products, rejects_beside, write_items
from moerec.engines.spill import SpillChunk
from moerec.engines.state_files import save_state
from moerec.errors import DatasetError
from moerec.features.reviews import ReviewExamplesConfig, combine, merge
from moerec.files import atomic_file, fingerprint, write_json


@dataclass(frozen=True)
class LocalPlan:
    """All that decides the files of a run."""

    files: tuple[CategoryFiles, ...]
    year: Year
    config: ReviewExamplesConfig
    seed: int
    texts: bool
    partitions: int
    chunk_bytes: int

    def fingerprint(self) -> str:
        """Another for other inputs or settings."""
        return fingerprint({**self.inputs(), "chunk_bytes": self.chunk_bytes, "version": __version__})

    def inputs(self) -> dict[str, Any]:
        """The inputs and the rule, as JSON data."""
        return {
            "year": self.year,
            "files": [
                {
                    "category": files.category,
                    "reviews": files.reviews.identity(),
                    "products": None if files.products is None else files.products.identity(),
                }
                for files in self.files
            ],
            "config": self.config.model_dump(mode="json"),
            "seed": self.seed,
            "texts": self.texts,
            "partitions": self.partitions,
        }


@dataclass
class LocalRun:
    """A run in its work folder."""

    plan: LocalPlan
    work: Path
    workers: Workers
    _reviews: list[Result] = field(default_factory=list)
    _chunks: list[Path] = field(default_factory=list)
    _product_results: list[Result] = field(default_factory=list)
    _product_chunks: list[Path] = field(default_factory=list)
    _products: Products | None = None
    _cleaned: list[Result] = field(default_factory=list)
    _made: list[Result] = field(default_factory=list)

    def spill(self) -> None:
        """Parse the reviews, and lay them down by partition.

        Raises:
            DatasetError: there is not one good review.
        """
        for number, files in enumerate(self.plan.files):
            folder = self._folder(f"reviews-{number:03d}")

            def jobs(number: int = number, files: CategoryFiles = files, folder: Path = folder) -> Iterator[Job]:
                plan = self.plan
                for chunk, block in enumerate(line_blocks(files.reviews, plan.chunk_bytes)):
                    target = folder / f"chunk-{chunk:05d}.arrow"
                    yield SpillChunk(block, files.reviews.name, number, plan.year, plan.texts, plan.partitions, target)

            results = self._once(folder / "done.json", jobs)
            if not sum(result["reviews"] for result in results):
                reasons = add_counts(result["rejects"] for result in results)
                told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "the file is empty"
                raise DatasetError(f"{files.reviews.path}: not one good review ({told}); get the file again")
            self._reviews += results
            self._chunks += [folder / f"chunk-{chunk:05d}.arrow" for chunk in range(len(results))]

    def read_products(self) -> None:
        """Parse the products, and give their categories codes."""
        for number, files in enumerate(self.plan.files):
            if files.products is None:
                continue
            folder = self._folder(f"products-{number:03d}")
            file = files.products

            def jobs(folder: Path = folder, file: Any = file) -> Iterator[Job]:
                for chunk, block in enumerate(line_blocks(file, self.plan.chunk_bytes)):
                    target = folder / f"chunk-{chunk:05d}.parquet"
                    yield ProductChunk(block, file.name, self.plan.year, target)

            results = self._once(folder / "done.json", jobs)
            self._product_results += results
            self._product_chunks += [folder / f"chunk-{chunk:05d}.parquet" for chunk in range(len(results))]
        sources = [result["source"] for result in self._product_results]
        self._products = merge_products(self._product_chunks, sources, self.work, self.plan.config)

    def clean(self) -> None:
        """Make the events of each partition."""
        assert self._products is not None
        sources = tuple(files.reviews.name for files in self.plan.files)
        for kind in ("events", "texts") if self.plan.texts else ("events",):
            self._folder(f"{RESULT}/{kind}")
        self._cleaned = self.workers.run(
            CleanPartition(number, self.work, tuple(self._chunks), sources, self._products.codes, self.plan.config)
            for number in range(self.plan.partitions)
        )

    def sum_up(self) -> None:
        """Sum up the train part."""
        assert self._products is not None
        if (self.work / RESULT / "state").exists():
            return
        config = self.plan.config
        summary = combine([], config)
        for number in range(self.plan.partitions):
            summary = combine([summary, *read_summaries(self.work, [number])], config)
        save_state(self.work / RESULT / "state", merge([summary], self._products.categories, config))

    def make(self) -> None:
        """Make the examples of each partition."""
        state = self.work / RESULT / "state"
        self._made = self.workers.run(
            ExamplePartition(number, self.work, state, self.plan.config, self.plan.seed)
            for number in range(self.plan.partitions)
        )

    def finish(self) -> None:
        """Write items, rejects and manifest."""
        assert self._products is not None
        result = self.work / RESULT
        bare = {item for each in self._cleaned for item in each["items_without_product"]}
        write_items(result / "items.parquet", self._product_chunks, self._products, bare)
        self._write_rejects(result / REJECTS_FILE)
        refused = [each["rejects"] for each in (*self._reviews, *self._product_results, *self._cleaned)]
        if self._products.repeated:
            refused.append({REPEATED_ITEM: self._products.repeated})
        write_json(
            result / MANIFEST,
            manifest_of(
                engine="local",
                version=__version__,
                fingerprint=self.plan.fingerprint(),
                **self.plan.inputs(),
                categories=list(self._products.categories),
                reviews=sum(each["reviews"] for each in self._cleaned),
                examples=count_parts(tuple(count) for each in self._made for count in each["counts"]),
                rejects=add_counts(refused),
                unknown={
                    what.replace("_", " "): sum(each[what] for each in self._cleaned)
                    for what in ("without_product", "without_category", "without_price")
                }
                | {"items without product": len(bare)},
                left_empty=add_counts(each["left_empty"] for each in self._product_results),
            ),
        )

    def _folder(self, name: str) -> Path:
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _once(self, marker: Path, jobs: Any) -> list[Result]:
        """The results of all chunks of a file; if all were done before, the file is not even read."""
        if marker.exists():
            found: list[Result] = json.loads(marker.read_text())
            return found
        results = self.workers.run(jobs())
        write_json(marker, results)
        return results

    def _write_rejects(self, target: Path) -> None:
        """All rejects: of chunks of reviews, of products, and duplicates."""
        paths = [chunk.with_suffix(".parquet") for chunk in self._chunks]
        paths += [rejects_beside(chunk) for chunk in self._product_chunks]
        paths += [self.work / "repeated.parquet"]
        paths += [self.work / REJECTS / part_name(number) for number in range(self.plan.partitions)]
        frames = [pl.scan_parquet(path, glob=False) for path in paths if path.exists()]
        with atomic_file(target) as path:
            pl.concat([pl.LazyFrame(schema=REJECT_COLUMNS), *frames]).sink_parquet(path)
