"""From a recipe to what models read: the data set, its split, the item features.

Shape letters: N items of the index, V width of a vector.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from torch import Tensor

from moerec.artifacts import ArtifactCache
from moerec.batches.histories import TrainHistories
from moerec.config import kind_of
from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.dataset import Dataset
from moerec.dataset.rejects import summarise_rejects
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.dataset.sources import Source
from moerec.errors import ConfigError
from moerec.features.columns import ColumnArrays, ColumnState, apply_columns, fit_columns
from moerec.features.spec import FeatureSpec
from moerec.files import fingerprint
from moerec.modalities.store import ModalityStore
from moerec.nn.inputs import FeatureTable
from moerec.recipe import Recipe

SPLIT = "main"
"""Name of the recipe's split within the data set."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set made ready for models and judges."""

    dataset: Dataset
    """The data set, on disk."""
    inputs: dict[str, Any]
    """What decided it: `dataset_inputs`."""
    identity: str
    """Fingerprint of the data: source, split, modalities, features."""
    trained: NDArray[np.bool_]
    """[N] items with a train event."""
    table: FeatureTable | None
    """The item features, one row for each index; None when the recipe has none."""
    column_state: ColumnState
    """What was fitted on the train items to make the columns."""
    stores: dict[str, ModalityStore]
    """The modalities, by name."""
    candidates: tuple[str, ...]
    """Names of the fixed candidate lists."""
    seconds: dict[str, float]
    """Wall-clock time: `prepare_s` and `encode_s`; near zero when the artifact was there."""

    @cached_property
    def train(self) -> TrainHistories:
        """The train events of every user."""
        return TrainHistories.of(self.dataset, SPLIT)


def prepare(
    recipe: Recipe, artifacts: ArtifactCache, console: Console, inputs: dict[str, Any] | None = None
) -> Prepared:
    """Read, index and split the events, make the modalities and the item features; what exists is not made again.

    Args:
        recipe: what is prepared.
        artifacts: folder of derived data.
        console: where progress goes.
        inputs: what `dataset_inputs` gave, if it is known; a data set that was prepared of them needs no source.

    Raises:
        ConfigError: the recipe has no model, so nothing would read the data set.
        MoerecError: the source, a modality or a feature column is not to be had; one line.
    """
    if not recipe.has_model:
        raise ConfigError(
            "the recipe has no model to prepare a data set for; its rows are made by moerec run or moerec audit"
        )
    started = time.perf_counter()
    inputs = dataset_inputs(recipe) if inputs is None else inputs
    dataset = _dataset(recipe, inputs, artifacts, console)
    prepared_s = time.perf_counter() - started
    started = time.perf_counter()
    stores: dict[str, ModalityStore] = {}
    read_from: dict[str, Any] = {}
    for name in recipe.modalities:
        stores[name], read_from[name] = _modality(name, recipe, dataset, inputs, artifacts, console)
    encode_s = time.perf_counter() - started
    trained = dataset.trained_items(SPLIT)
    specs = tuple(spec for spec in recipe.features if spec.side == "item")
    state = fit_columns(specs, dataset.items, trained[FIRST_ITEM:], SPLIT)
    arrays = apply_columns(specs, dataset.items, state)
    features = [spec.model_dump(mode="json") for spec in specs]
    return Prepared(
        dataset=dataset,
        inputs=inputs,
        identity=fingerprint({"dataset": inputs, "modalities": read_from, "features": features}),
        trained=trained,
        table=_table(specs, state, arrays, stores),
        column_state=state,
        stores=stores,
        candidates=tuple(entry.name for entry in recipe.dataset.candidates),
        seconds={"prepare_s": round(prepared_s, 3), "encode_s": round(encode_s, 3)},
    )


def dataset_inputs(recipe: Recipe) -> dict[str, Any]:
    """The plain data that decides the data set's content."""
    source = _source(recipe)
    return {
        "kind": kind_of("source", recipe.dataset.source),
        "config": recipe.dataset.source.model_dump(mode="json"),
        "files": source.fingerprint_inputs(),
        "split": recipe.dataset.split.model_dump(mode="json"),
        "candidates": [entry.model_dump(mode="json") for entry in recipe.dataset.candidates],
    }


def modality_inputs(recipe: Recipe, name: str, dataset_of: dict[str, Any]) -> dict[str, Any]:
    """The plain data that decides a modality's vectors; `dataset_of` is what `dataset_inputs` gives."""
    return {"dataset": dataset_of, "modality": recipe.modalities[name].inputs()}


def _source(recipe: Recipe) -> Source:
    source = recipe.dataset.source
    if not isinstance(source, Source):
        raise ConfigError(f"dataset.source: {type(source).__name__} lacks read(), describe() or fingerprint_inputs()")
    return source


def _dataset(recipe: Recipe, inputs: dict[str, Any], artifacts: ArtifactCache, console: Console) -> Dataset:
    source = _source(recipe)

    def make(folder: Path) -> None:
        raw = source.read()
        dataset = Dataset.from_raw(raw, str(raw.source.get("name", recipe.name)))
        parts = dataset.add_split(SPLIT, recipe.dataset.split)
        if bool((parts == Part.TEST).any()):
            for entry in recipe.dataset.candidates:
                settings = entry.model_dump()
                dataset.add_candidates(entry.name, CandidateConfig(split=SPLIT, **settings))
        dataset.save(folder / "dataset")

    folder, made = artifacts.get("prepare", inputs, make)
    dataset = Dataset.open(folder / "dataset")
    counts = dataset.info.counts
    console.print(
        f"data set {dataset.info.name}: {counts.events:,} events, {counts.users:,} users, {counts.items:,} items"
        f"{'' if made else ' (prepared before)'}",
        highlight=False,
    )
    if counts.rejected:
        console.print(f"  {summarise_rejects(counts.rejected)}", highlight=False)
    return dataset


def _modality(
    name: str,
    recipe: Recipe,
    dataset: Dataset,
    dataset_of: dict[str, Any],
    artifacts: ArtifactCache,
    console: Console,
) -> tuple[ModalityStore, dict[str, Any]]:
    inputs = modality_inputs(recipe, name, dataset_of)
    file = "vectors.safetensors"

    def make(folder: Path) -> None:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            recipe.modalities[name].build(dataset.items, artifacts.root / "vectors", _shown(bar, name)).save(
                folder / file
            )

    folder, made = artifacts.get("modality", inputs, make)
    store = ModalityStore.load(folder / file, dataset.num_items)
    missing = store.num_items - store.num_present
    console.print(
        f"modality {name}: {store.num_present:,} vectors of width {store.dim}, {missing:,} items without"
        f"{'' if made else ' (made before)'}",
        highlight=False,
    )
    return store, inputs["modality"]


def _shown(bar: Progress, name: str) -> Callable[[int, int], None]:
    task = bar.add_task(f"encoding {escape(name)}", total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _table(
    specs: tuple[FeatureSpec, ...], state: ColumnState, arrays: ColumnArrays, stores: dict[str, ModalityStore]
) -> FeatureTable | None:
    if not specs and not stores:
        return None
    columns: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.kind == "dense":
            columns[spec.name], sizes[spec.name] = torch.from_numpy(arrays.dense[spec.name]), 1
            present[spec.name] = torch.from_numpy(arrays.present[spec.name])
        else:
            codes = arrays.categorical if spec.kind == "categorical" else arrays.multi
            columns[spec.name] = torch.from_numpy(codes[spec.name]).long()
            sizes[spec.name] = state.column(spec.name).cardinality
    for name, store in stores.items():
        columns[name], sizes[name] = torch.from_numpy(np.array(store.vectors)), store.dim
        present[name] = torch.from_numpy(np.array(store.present))
    vectors = tuple(FeatureSpec(name=name, kind="vector") for name in stores)
    return FeatureTable(specs + vectors, sizes, columns, present)


def item_details(items: pl.DataFrame) -> dict[str, list[str]]:
    """What to show of each item beside its id: `title` and `details` (year, genres, category), in index order."""
    count = len(items)
    titles = items["title"].fill_null("").to_list() if "title" in items.columns else [""] * count
    shown = [name for name in ("year", "release_year", "category", "genres") if name in items.columns]
    rows = items.select(_as_text(items, name) for name in shown).rows() if shown else [()] * count
    details = [", ".join(part.replace("|", ", ") for part in row if part) for row in rows]
    ids = items["item_id"].to_list()
    return {"title": [title or item_id for title, item_id in zip(titles, ids, strict=True)], "details": details}


def _as_text(items: pl.DataFrame, name: str) -> pl.Expr:
    column = pl.col(name)
    if isinstance(items.schema[name], pl.List):
        column = column.cast(pl.List(pl.String)).list.join(", ")
    return column.cast(pl.String, strict=False).fill_null("")
