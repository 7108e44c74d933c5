"""A saved retriever: configuration, weights and item features in a folder, nothing pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from moerec import __version__
from moerec.config import discover, kind_of, validate
from moerec.errors import CheckpointError
from moerec.features.spec import FeatureSpec
from moerec.files import write_json
from moerec.models.roles import Retriever
from moerec.nn.inputs import FeatureTable

FORMAT_VERSION = 1
CONFIG, WEIGHTS, ITEM_FEATURES = "config.json", "model.safetensors", "item_features.safetensors"


def save_retriever(directory: Path, model: Retriever) -> None:
    """Write a retriever into an existing folder; the caller makes the whole folder appear at once."""
    table = model.item_tower.table
    write_json(
        directory / CONFIG,
        {
            "format": FORMAT_VERSION,
            "moerec": __version__,
            "role": "retriever",
            "kind": kind_of("retriever", model.config),
            "config": model.config.model_dump(mode="json"),
            "features": [] if table is None else [spec.model_dump(mode="json") for spec in table.specs],
            "sizes": {} if table is None else dict(table.sizes),
        },
    )
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, directory / WEIGHTS)
    tensors = {"trained": model.item_tower.trained.cpu()}
    if table is not None:
        tensors |= {f"column/{name}": value.contiguous() for name, value in table.columns.items()}
        tensors |= {f"present/{name}": value.contiguous() for name, value in table.present.items()}
    save_file(tensors, directory / ITEM_FEATURES)


def load_retriever(directory: Path) -> Retriever:
    """Read a retriever, in evaluation mode on the CPU.

    Raises:
        CheckpointError: the folder is not a saved model, a file is damaged, or the format is newer.
    """
    if not (directory / CONFIG).is_file():
        raise CheckpointError(f"{directory}: no saved model here (no {CONFIG}); give the model/ folder of a run")
    description = _description(directory / CONFIG)
    if description.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory}: model format {description.get('format')}, this moerec reads {FORMAT_VERSION}; "
            f"it was saved by moerec {description.get('moerec')}"
        )
    tensors = _load(directory / ITEM_FEATURES)
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
        config: Any = discover("retriever", description["config"] | {"kind": description["kind"]}, str(directory))
        model: Retriever = config.build(tensors["trained"], table)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{directory}: {CONFIG} and {ITEM_FEATURES} do not fit ({error}); save it again"
        ) from None
    _put_weights(model, _load(directory / WEIGHTS), directory)
    return model.eval()


def _description(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); copy or make the model again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: describes no model; copy or make the model again")
    return found


def _put_weights(model: Retriever, weights: dict[str, Tensor], directory: Path) -> None:
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected if name in weights and expected[name].shape != weights[name].shape]
    if wrong:
        raise CheckpointError(
            f"{directory}: the weights do not fit the model that {CONFIG} describes ({', '.join(wrong[:3])}); "
            "they are of another model or of another version of moerec, train it again"
        )
    model.load_state_dict(weights)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy or make the model again") from None
