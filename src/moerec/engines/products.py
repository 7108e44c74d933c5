"""Products of all files: parsed in chunks, the first of each id counts, categories become codes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from moerec.dataset.rejects import count_rejects
from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.amazon_rows import ITEM_SCHEMA, REPEATED_ITEM, Year, item_row, json_or_python
from moerec.dataset.sources.columns import LINE, LONGEST_RAW_ROW
from moerec.dataset.sources.json_lines import LineBlock, table_of_lines
from moerec.engines.jobs import Result
from moerec.features.reviews import ReviewExamplesConfig, category_names
from moerec.files import atomic_file, write_json

CODES_SCHEMA = {"item_id": pl.String, "category": pl.Int32, "price": pl.Float64}
"""What events take from the products: the category's code (0: unknown) and the price (null: unknown)."""
PRODUCT_SCHEMA = {
    "item_id": pl.String,
    "category": pl.Int32,
    **{k: v for k, v in ITEM_SCHEMA.items() if k != "item_id"},
}
"""The columns of items.parquet."""


@dataclass(frozen=True)
class ProductChunk:
    """A job: parse a chunk of products."""

    block: LineBlock
    source: str
    """Name of the file."""
    year: Year
    target: Path
    """The Parquet file; the rejects and the marker stand beside it."""

    @property
    def marker(self) -> Path:
        """See `Job`."""
        return self.target.with_suffix(".json")

    def run(self) -> Result:
        """Parse and write."""
        nulled: Counter[str] = Counter()
        loads: Callable[[str], Any] = json_or_python if self.year == 2014 else json.loads
        table = table_of_lines(self.block.lines(), self.source, ITEM_SCHEMA, partial(item_row, nulled=nulled), loads)
        with atomic_file(self.target) as path:
            table.frame.write_parquet(path, compression="zstd", compression_level=1)
        with atomic_file(rejects_beside(self.target)) as path:
            table.rejects.write_parquet(path)
        return {
            "products": table.frame.height,
            "source": self.source,
            "rejects": count_rejects(table.rejects),
            "left_empty": {what: count for what, count in nulled.items() if count},
        }


def rejects_beside(target: Path) -> Path:
    """Where the rejects of a chunk stand."""
    return target.with_suffix(".rejects.parquet")


@dataclass(frozen=True)
class Products:
    """All products, as far as events need them."""

    codes: Path
    """Parquet of CODES_SCHEMA, each id once."""
    categories: tuple[str, ...]
    """The name of code c stands at c - 1."""
    repeated: int
    """Products whose id was there before."""


def merge_products(
    chunks: Sequence[Path], sources: Sequence[str], folder: Path, config: ReviewExamplesConfig
) -> Products:
    """Give categories their codes; of products with the same id the first counts, the others become rejects.

    Args:
        chunks: in the order of the files and their lines.
        sources: name of the file of each chunk.
        folder: where codes.parquet, repeated.parquet and categories.json are written.
        config: the rule.
    """
    columns = ("item_id", "main_category", "price")
    parts = [pl.read_parquet(chunk, columns=list(columns), glob=False) for chunk in chunks]
    together = pl.concat([pl.DataFrame(schema={name: ITEM_SCHEMA[name] for name in columns}), *parts])
    is_first = together["item_id"].is_first_distinct()
    first = together.filter(is_first)
    counted = first["main_category"].drop_nulls().value_counts()
    names = category_names(dict(counted.iter_rows()), config)
    codes = {name: code for code, name in enumerate(names, 1)}
    category = pl.col("main_category").replace_strict(codes, default=0, return_dtype=pl.Int32)
    with atomic_file(folder / "codes.parquet") as path:
        first.select("item_id", category.fill_null(0).alias("category"), "price").write_parquet(path)
    repeated = _repeated(chunks, sources, ~is_first)
    with atomic_file(folder / "repeated.parquet") as path:
        repeated.write_parquet(path)
    write_json(folder / "categories.json", list(names))
    return Products(folder / "codes.parquet", names, repeated.height)


def write_items(target: Path, chunks: Sequence[Path], products: Products, bare: Iterable[str]) -> int:
    """Write items.parquet: the products, then the reviewed items that are none of them.

    Returns:
        the number of the latter.
    """
    codes = pl.read_parquet(products.codes, glob=False)
    schema = pl.DataFrame(schema=PRODUCT_SCHEMA).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    place = 0
    with atomic_file(target) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in chunks:
            frame = pl.read_parquet(chunk, glob=False)
            # Codes stand in the order of the first of each id, so those of a chunk are a run of them.
            own = codes[place : place + frame.height].select("item_id", "category")
            first = frame.unique("item_id", keep="first", maintain_order=True)
            first = first.join(own, on="item_id", how="inner", maintain_order="left")
            place += first.height
            _write(writer, first)
        ids = pl.DataFrame({"item_id": sorted(bare)}, schema={"item_id": pl.String})
        empty = [pl.lit(None, dtype).alias(name) for name, dtype in PRODUCT_SCHEMA.items() if name != "item_id"]
        _write(writer, ids.with_columns(empty).with_columns(category=pl.lit(0, pl.Int32)))
    return ids.height


def _write(writer: pq.ParquetWriter, frame: pl.DataFrame) -> None:
    writer.write_table(frame.select(*PRODUCT_SCHEMA).to_arrow(compat_level=pl.CompatLevel.oldest()))


def _repeated(chunks: Sequence[Path], sources: Sequence[str], is_repeated: pl.Series) -> pl.DataFrame:
    """The rejects of products whose id was there before."""
    found = [pl.DataFrame(schema=REJECT_COLUMNS)]
    start = 0
    for chunk, source in zip(chunks, sources, strict=True):
        frame = pl.read_parquet(chunk, glob=False)
        own = is_repeated[start : start + frame.height]
        start += frame.height
        if own.any():
            found.append(repeated_rows(frame.filter(own), [source] * int(own.sum()), REPEATED_ITEM))
    return pl.concat(found)


def repeated_rows(frame: pl.DataFrame, sources: Sequence[str], reason: str) -> pl.DataFrame:
    """Rejects of rows with the column LINE that were there before, each with the name of its file."""
    rows = [json.dumps(row, ensure_ascii=False) for row in frame.drop(LINE).iter_rows(named=True)]
    return frame.select(
        pl.Series("source", sources, dtype=pl.String),
        pl.col(LINE).alias("line"),
        pl.lit(reason).alias("reason"),
        pl.Series("row", rows, dtype=pl.String).str.slice(0, LONGEST_RAW_ROW),
    )
