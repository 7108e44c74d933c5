"""Items that a saved recommender does not know yet, read and encoded by what its own items were encoded by.

Shape letters: M new items, V width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from moerec.config import Config
from moerec.dataset.frames import clean_columns, id_strings, require_columns, to_polars
from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import ConfigError, MoerecError
from moerec.features.columns import ColumnState, apply_columns
from moerec.features.spec import FeatureSpec
from moerec.modalities.recipe import ModalityConfig, VectorModalityConfig


class ItemModality(Config):
    """How the vectors of a modality were made, so that those of a new item are made alike."""

    settings: ModalityConfig
    """The modality as it stands in the recipe."""
    encoder: str | None = None
    """Fingerprint of the encoder's files and settings; null where vectors were given."""


@dataclass(frozen=True)
class ItemInputs:
    """What an item tower reads of new items."""

    columns: dict[str, Tensor]
    """Per feature the values of the M items, as in `FeatureTable`."""
    present: dict[str, Tensor]
    """Per dense or vector feature, [M] bool."""


def read_new_items(items: Any, catalogue: pl.DataFrame) -> pl.DataFrame:
    """The rows of new items with ids as strings and the catalogue's types; columns that are not given are not made up.

    Args:
        items: a pandas, Polars or Arrow table with item_id and further columns.
        catalogue: the items that are known.

    Raises:
        MoerecError: an id is missing, stands twice or is known, or a column is of another type.
    """
    frame = to_polars(items, "items", ("item_id",))
    require_columns(frame, ("item_id",), "items")
    ids = id_strings(frame["item_id"], "items.item_id")
    if ids.null_count():
        raise MoerecError(f"items: {ids.null_count()} rows have no item_id; give each item one")
    for wrong, why in (
        (ids.filter(ids.is_duplicated()), "stands twice; keep one row of it"),
        (ids.filter(ids.is_in(catalogue["item_id"].implode())), "is in the catalogue already; leave it out"),
    ):
        if len(wrong):
            raise MoerecError(f"items: item {wrong[0]!r} {why}")
    if "item" in frame.columns:
        raise MoerecError("items: a column cannot be called 'item', the data set has one; rename it")
    rows = clean_columns(frame.with_columns(ids.alias("item_id")), "items")
    for name, dtype in rows.schema.items():
        wanted = catalogue.schema.get(name, dtype)
        try:
            rows = rows.with_columns(pl.col(name).cast(wanted))
        except pl.exceptions.PolarsError:
            raise MoerecError(
                f"items: column '{name}' is {dtype}, that of the catalogue {wanted}; convert it before"
            ) from None
    return rows


def encode_new_items(
    rows: pl.DataFrame,
    specs: tuple[FeatureSpec, ...],
    sizes: Mapping[str, int],
    feature_state: Mapping[str, Any],
    modalities: Mapping[str, ItemModality],
    vectors: Mapping[str, Any],
    cache: Path | None,
) -> ItemInputs:
    """What an item tower reads of new items, by the vocabularies and encoders that it was trained with.

    Args:
        rows: from `read_new_items`.
        specs: the features of the tower.
        sizes: per feature, as in `FeatureTable`.
        feature_state: the fitted columns.
        modalities: how the vectors were made, by name.
        vectors: vectors at hand, per modality [M, V]; a row of NaN is absent.
        cache: folder of vectors by content and of fetched pictures; None keeps nothing.

    Raises:
        MoerecError: a column, an encoder or vectors are missing, or do not fit.
    """
    names = [spec.name for spec in specs if spec.kind == "vector"]
    unknown = sorted(vectors.keys() - set(names))
    if unknown:
        raise MoerecError(f"vectors: the model reads no modality '{unknown[0]}'; it reads {', '.join(names) or 'none'}")
    inputs = _columns(rows, [spec for spec in specs if spec.kind != "vector"], feature_state)
    for name in names:
        if name in vectors:
            values, there = _given(name, vectors[name], rows.height, sizes[name], modalities.get(name))
        else:
            values, there = _encoded(name, rows, sizes[name], modalities.get(name), cache)
        inputs.columns[name], inputs.present[name] = torch.from_numpy(values), torch.from_numpy(there)
    return inputs


def _columns(rows: pl.DataFrame, specs: list[FeatureSpec], feature_state: Mapping[str, Any]) -> ItemInputs:
    inputs = ItemInputs({}, {})
    if not specs:
        return inputs
    if not feature_state:
        raise MoerecError(
            f"items: the recommender does not know how '{specs[0].name}' was encoded; make it with feature_state=..., "
            "or take one that a run has saved"
        )
    arrays = apply_columns(specs, rows, ColumnState.model_validate(feature_state))
    for name, codes in (arrays.categorical | arrays.multi).items():
        inputs.columns[name] = torch.from_numpy(codes[FIRST_ITEM:]).long()
    for name, numbers in arrays.dense.items():
        inputs.columns[name] = torch.from_numpy(numbers[FIRST_ITEM:])
        inputs.present[name] = torch.from_numpy(arrays.present[name][FIRST_ITEM:])
    return inputs


def _given(
    name: str, given: Any, count: int, width: int, modality: ItemModality | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    values = np.array(given, dtype=np.float32)
    if values.shape != (count, width):
        raise MoerecError(
            f"vectors: '{name}' must be [{count}, {width}], a row for each item, got {list(values.shape)}"
        )
    missing: NDArray[np.bool_] = np.asarray(np.isnan(values).all(axis=1))
    settings = None if modality is None else modality.settings
    if isinstance(settings, VectorModalityConfig) and settings.zero_rows == "absent":
        missing |= ~values.any(axis=1)
    values[missing] = 0
    if not np.isfinite(values).all():
        raise MoerecError(f"vectors: '{name}' holds NaN or infinity; a row of NaN alone means that there is no vector")
    return values, ~missing


def _encoded(
    name: str, rows: pl.DataFrame, width: int, modality: ItemModality | None, cache: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    ways = f"give vectors={{'{name}': matrix}}"
    if modality is None:
        raise MoerecError(f"items: the model does not say how the vectors of '{name}' were made; {ways}")
    if isinstance(modality.settings, VectorModalityConfig):
        raise MoerecError(f"items: the vectors of '{name}' come from a file, no encoder makes new ones; {ways}")
    settings = modality.settings
    if modality.encoder is not None and settings.encoder.fingerprint() != modality.encoder:
        raise ConfigError(
            f"modality '{name}': the encoder '{settings.encoder.name}' here is not the one that the model was trained "
            f"with; bring its files back, or {ways}"
        )
    with TemporaryDirectory() as nowhere:
        encoded, reasons = settings.encode(rows, Path(nowhere) if cache is None else cache)
    there = np.array([reason is None for reason in reasons], np.bool_)
    values = np.zeros((rows.height, width), np.float32)
    if there.any():
        if encoded.shape[1] != width:
            raise ConfigError(
                f"modality '{name}': vectors of width {encoded.shape[1]}, the model reads {width}; {ways}"
            )
        values[there] = encoded[there]
    if not np.isfinite(values).all():
        raise MoerecError(f"modality '{name}': some vectors hold NaN or infinity; use another encoder, or {ways}")
    return values, there
