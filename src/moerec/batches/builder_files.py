"""The files of an ExampleBuilder: what was fitted as JSON, arrays as safetensors, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from moerec import __version__
from moerec.batches.example_builder import ExampleBuilder, FittedFeature
from moerec.batches.fitted_split import FittedSplit
from moerec.batches.lookup_tables import LookupTable
from moerec.config import discover, kind_of, validate
from moerec.errors import CheckpointError
from moerec.features.columns import ColumnState
from moerec.features.feature import FeatureState
from moerec.features.spec import FeatureSide, FeatureSpec
from moerec.features.transforms import DenseTransform
from moerec.files import atomic_file, write_json

FORMAT_VERSION = 1
DESCRIPTION, ARRAYS = "features.json", "features.safetensors"

Arrays = Mapping[str, NDArray[Any]]


def save_builder(directory: Path, builder: ExampleBuilder) -> None:
    """See `ExampleBuilder.save`."""
    tables = {"user": builder.users, "item": builder.items}
    description = {
        "format": FORMAT_VERSION,
        "moerec": __version__,
        "split": builder.split.model_dump(mode="json"),
        "history_length": builder.history_length,
        "features": [_feature_description(name, feature) for name, feature in builder.features.items()],
        "tables": {side: _table_description(table) for side, table in tables.items()},
    }
    arrays = {"trained/user": builder.trained_users, "trained/item": builder.trained_items}
    for side, table in tables.items():
        arrays |= {f"column/{side}/{name}": values for name, values in table.columns.items()}
        arrays |= {f"present/{side}/{name}": values for name, values in table.present.items()}
    for number, feature in enumerate(builder.features.values()):
        arrays |= {f"state/{number}/{name}": values for name, values in feature.state.arrays.items()}
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / ARRAYS) as temporary:
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, temporary)
    write_json(directory / DESCRIPTION, description)


def load_builder(directory: Path, events: pl.DataFrame | None) -> ExampleBuilder:
    """See `ExampleBuilder.load`."""
    description = _read_description(directory / DESCRIPTION)
    try:
        arrays = load_file(directory / ARRAYS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{directory / ARRAYS}: cannot be read ({error}); copy or save it again") from None
    try:
        return ExampleBuilder(
            split=validate(FittedSplit, description["split"], "split"),
            features={
                values["name"]: _feature(values, _below(arrays, f"state/{number}/"))
                for number, values in enumerate(description["features"])
            },
            users=_table("user", description["tables"]["user"], arrays),
            items=_table("item", description["tables"]["item"], arrays),
            trained_users=arrays["trained/user"],
            trained_items=arrays["trained/item"],
            history_length=description["history_length"],
            events=events,
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{directory}: {DESCRIPTION} and {ARRAYS} do not fit ({error}); save it again") from None


def _read_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent}: no saved features here (no {path.name}); give the folder of a saved ranker"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); copy or save it again") from None
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: features of format {version}, this moerec reads {FORMAT_VERSION}; save it again"
        )
    return dict(found)


def _feature_description(name: str, feature: FittedFeature) -> dict[str, Any]:
    return {
        "name": name,
        "config": {"kind": kind_of("feature", feature.config), **feature.config.model_dump(mode="json")},
        "values": feature.state.values,
        "transforms": {column: transform.model_dump(mode="json") for column, transform in feature.transforms.items()},
    }


def _feature(values: Mapping[str, Any], arrays: Arrays) -> FittedFeature:
    where = f"causal_features.{values['name']}"
    config: Any = discover("feature", values["config"], where)
    transforms = {name: validate(DenseTransform, plain, where) for name, plain in values["transforms"].items()}
    return FittedFeature(config, FeatureState(values["values"], dict(arrays)), transforms)


def _table_description(table: LookupTable) -> dict[str, Any]:
    return {
        "specs": [spec.model_dump(mode="json") for spec in table.specs],
        "sizes": dict(table.sizes),
        "state": table.state.model_dump(mode="json"),
    }


def _table(side: FeatureSide, values: Mapping[str, Any], arrays: Arrays) -> LookupTable:
    columns, present = _below(arrays, f"column/{side}/"), _below(arrays, f"present/{side}/")
    return LookupTable(
        side=side,
        specs=tuple(validate(FeatureSpec, plain, "features") for plain in values["specs"]),
        sizes=values["sizes"],
        columns=columns,
        present=present,
        state=validate(ColumnState, values["state"], "features"),
    )


def _below(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names start with a prefix, by the rest of the name."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
