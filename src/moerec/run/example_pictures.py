"""The pictures of the items that occur in examples: fetched once, and how many of them are missing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from moerec.dataset.schema import Part
from moerec.engines.example_folder import ExampleFolder
from moerec.examples_recipe import PicturesConfig
from moerec.files import fingerprint
from moerec.modalities.missing import missing_as_json, missing_rates
from moerec.modalities.picture_store import PictureStore, fetch_pictures

MANY_MISSING = 0.05


def prepare_pictures(
    folder: ExampleFolder, config: PicturesConfig, cache: Path, console: Console
) -> tuple[dict[str, Any], str]:
    """Fetch what is not there yet.

    Returns:
        the counts of the fetch and the missing rates, by part and category; a fingerprint of what there is.
    """
    met = folder.examples.select("item_id").unique()
    items = folder.items.join(met, on="item_id", how="semi").select("item_id", "main_category", "image").collect()
    urls = items["image"].drop_nulls().unique().sort()
    summary = fetch_pictures(urls, cache, config.fetch, config, total=urls.len())
    with PictureStore(cache, config) as store:
        outcomes = store.outcomes(items)
    names = {part.value: part.name.lower() for part in Part}
    rows = (
        folder.examples.select("item_id", "part")
        .join(items.lazy().select("item_id", category="main_category"), on="item_id", how="left")
        .with_columns(pl.col("part").replace_strict(names, return_dtype=pl.String))
        .collect()
    )
    found = missing_as_json(missing_rates(outcomes, rows, by=("part", "category")))
    missing = found[0]["rate"] if found else 0.0
    told = f"pictures: {urls.len():,} addresses; {missing:.1%} of the examples have none"
    if missing > MANY_MISSING:
        reasons = found[0]["reasons"]
        told += f", most often: {next(iter(reasons), 'not known')} (the report has all reasons)"
    console.print(told, highlight=False)
    there = outcomes.select("item_id", "sha256", there=pl.col("reason").is_null()).sort("item_id")
    digest = fingerprint({"pictures": there.to_dicts()})
    return {"addresses": urls.len(), "fetch": asdict(summary), "missing": found}, digest
