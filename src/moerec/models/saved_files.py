"""The files of a saved model: its description as JSON and its tensors as safetensors, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moerec import __version__
from moerec.config import Config, kind_of
from moerec.errors import CheckpointError
from moerec.files import write_json

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_model(directory: Path, role: str, model: nn.Module, config: Config, more: Mapping[str, Any]) -> None:
    """Write description and weights into an existing folder.

    Args:
        directory: the folder.
        role: what it is, for instance `retriever` or `ranker`.
        model: whose weights are written.
        config: what the model was built from.
        more: whatever else is needed to build the model; JSON data.
    """
    write_json(
        directory / CONFIG,
        {
            "format": FORMAT_VERSION,
            "moerec": __version__,
            "role": role,
            "kind": kind_of(role, config),
            "config": config.model_dump(mode="json"),
            **more,
        },
    )
    save_file(_apart(model.state_dict()), directory / WEIGHTS)


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of which no two share memory: the format has no word for a layer that several experts share."""
    made: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        plain = value.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        made[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return made


def read_description(directory: Path, role: str) -> dict[str, Any]:
    """The description that `write_model` wrote.

    Raises:
        CheckpointError: the folder holds no model, one of another role or format, or the file is damaged.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{directory}: no saved model here (no {CONFIG}); give the model/ folder of a run")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); copy or make the model again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: describes no model; copy or make the model again")
    if found.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{directory}: model format {found.get('format')}, this moerec reads {FORMAT_VERSION}; "
            f"it was saved by moerec {found.get('moerec')}"
        )
    if found.get("role", role) != role:
        raise CheckpointError(f"{directory}: holds a {found.get('role')}, not a {role}; give the folder of a {role}")
    return found


def put_weights(model: nn.Module, directory: Path) -> None:
    """Read the weights of a folder into a model of the same shape.

    Raises:
        CheckpointError: they are damaged, or of another model.
    """
    weights, expected = read_tensors(directory / WEIGHTS), model.state_dict()
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += [name for name in expected if name in weights and expected[name].shape != weights[name].shape]
    if wrong:
        raise CheckpointError(
            f"{directory}: the weights do not fit the model that {CONFIG} describes ({', '.join(wrong[:3])}); "
            "they are of another model or of another version of moerec, train it again"
        )
    model.load_state_dict(weights)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors by name.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); copy or make the model again") from None


def read_table(path: Path) -> pl.DataFrame:
    """A table of a saved model.

    Raises:
        CheckpointError: the file cannot be read.
    """
    try:
        return pl.read_parquet(path, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: cannot be read ({problem}); copy or make the model again") from None


def read_json(path: Path) -> dict[str, Any] | None:
    """Plain data of a saved model; None where there is no such file.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not valid JSON ({error}); copy or make the model again") from None
    return found
