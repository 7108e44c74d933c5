"""A saved retriever: configuration, weights and item features in a folder, nothing pickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from moerec.config import discover, validate
from moerec.errors import CheckpointError
from moerec.features.spec import FeatureSpec
from moerec.models.roles import Retriever
from moerec.models.saved_files import CONFIG, put_weights, read_description, read_tensors, write_model
from moerec.nn.inputs import FeatureTable

ROLE = "retriever"
ITEM_FEATURES = "item_features.safetensors"


def save_retriever(directory: Path, model: Retriever) -> None:
    """Write a retriever into an existing folder; the caller makes the whole folder appear at once."""
    table = model.item_tower.table
    features = {
        "features": [] if table is None else [spec.model_dump(mode="json") for spec in table.specs],
        "sizes": {} if table is None else dict(table.sizes),
    }
    write_model(directory, ROLE, model, model.config, features)
    tensors = {"trained": model.item_tower.trained.cpu()}
    if table is not None:
        tensors |= {f"column/{name}": value.contiguous() for name, value in table.columns.items()}
        tensors |= {f"present/{name}": value.contiguous() for name, value in table.present.items()}
    save_file(tensors, directory / ITEM_FEATURES)


def load_retriever(directory: Path) -> Retriever:
    """Read a retriever, in evaluation mode on the CPU.

    Raises:
        CheckpointError: the folder is not a saved retriever, a file is damaged, or the format is newer.
    """
    description = read_description(directory, ROLE)
    tensors = read_tensors(directory / ITEM_FEATURES)
    try:
        specs = tuple(validate(FeatureSpec, values, "features") for values in description["features"])
        table = None
        if specs:
            table = FeatureTable(
                specs,
                description["sizes"],
                {spec.name: tensors[f"column/{spec.name}"] for spec in specs},
                {spec.name: tensors[key] for spec in specs if (key := f"present/{spec.name}") in tensors},
            )
        config: Any = discover(ROLE, description["config"] | {"kind": description["kind"]}, str(directory))
        model: Retriever = config.build(tensors["trained"], table)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{directory}: {CONFIG} and {ITEM_FEATURES} do not fit ({error}); save it again"
        ) from None
    put_weights(model, directory)
    return model.eval()
