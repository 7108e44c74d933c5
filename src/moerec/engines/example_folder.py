"""The folder of rows that an engine leaves: examples, events, texts, products, rejects, and what was counted.

examples/*.parquet   columns of `moerec.features.reviews.example_schema`; a file holds whole users
events/*.parquet     every accepted review with its key, those too that are no examples
texts/*.parquet      key, title and text of every accepted review
items                the products, as one file or as a folder of parts
state/               what was fitted on the train part, the names of the categories among it
rejects              what was refused, as the products
manifest.json        written last
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from moerec.dataset.schema import REJECT_COLUMNS
from moerec.engines.products import PRODUCT_SCHEMA
from moerec.errors import DatasetError

_EMPTY: dict[str, dict[str, Any]] = {"rejects": REJECT_COLUMNS, "items": PRODUCT_SCHEMA}


@dataclass(frozen=True)
class ExampleFolder:
    """A finished folder of rows."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> ExampleFolder:
        """Open a folder.

        Raises:
            DatasetError: it holds no finished rows.
        """
        if not (path / "manifest.json").is_file():
            raise DatasetError(f"{path}: no finished examples here (no manifest.json); make them with moerec run")
        return cls(path)

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What was made, from what, and what was counted."""
        found: dict[str, Any] = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
        return found

    @property
    def example_files(self) -> list[Path]:
        """The files of examples, always in the same order."""
        return self._parts("examples")

    @property
    def examples(self) -> pl.LazyFrame:
        """All examples."""
        return pl.scan_parquet(self.example_files, glob=False)

    @property
    def events(self) -> pl.LazyFrame:
        """Every accepted review."""
        return pl.scan_parquet(self._parts("events"), glob=False)

    @property
    def items(self) -> pl.LazyFrame:
        """The products."""
        return self._table("items")

    @property
    def rejects(self) -> pl.DataFrame:
        """What was refused."""
        return self._table("rejects").collect()

    @cached_property
    def categories(self) -> tuple[str, ...]:
        """The name of category code c stands at c - 1."""
        values = json.loads((self.path / "state/state.json").read_text(encoding="utf-8"))
        return tuple(values["categories"])

    def texts_of(self, examples: Path, keys: pl.Series) -> pl.DataFrame:
        """Key, title and text of some reviews of the users of a file of examples."""
        beside = self.path / "texts" / examples.name
        # Both engines lay users into files of examples and of texts alike; then one file has all that is asked for.
        scanned = pl.scan_parquet(beside if beside.is_file() else self._parts("texts"), glob=False)
        return scanned.join(keys.unique().alias("key").to_frame().lazy(), on="key", how="semi").collect()

    def _parts(self, name: str) -> list[Path]:
        return sorted((self.path / name).glob("*.parquet"))

    def _table(self, name: str) -> pl.LazyFrame:
        single = self.path / f"{name}.parquet"
        if single.is_file():
            return pl.scan_parquet(single, glob=False)
        parts = self._parts(name)
        # An engine that writes parts writes none where there is no row.
        return pl.scan_parquet(parts, glob=False) if parts else pl.LazyFrame(schema=_EMPTY[name])
