"""Checkpoints that resume exactly: whole or absent, never pickled.

`checkpoints/update-<n>/` holds model, optimizer and state; `last` and `best` are links that are swapped atomically.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from moerec.errors import CheckpointError
from moerec.files import atomic_directory, write_json

MODEL, OPTIMIZER, AVERAGE, STATE = "model.safetensors", "optimizer.safetensors", "average.safetensors", "state.json"
CRITERION = "criterion.safetensors"


@dataclass
class TrainingState:
    """Where a training stands; together with the tensors it decides all that follows."""

    identity: str
    """Fingerprint of everything that decides the numbers: recipe, data, seed."""
    stage: int = 0
    """Index of the current stage."""
    epoch: int = 0
    """Epoch of the stage, from 0."""
    batch: int = 0
    """Micro-batches of the epoch that are consumed."""
    update: int = 0
    """Updates of the stage that are finished."""
    total_updates: int = 0
    """Updates of all stages that are finished."""
    best_value: float | None = None
    """Best validation metric so far in this stage."""
    best_update: int | None = None
    """Its place, counted over all stages."""
    stale: int = 0
    """Validations since the best one."""
    seconds: float = 0.0
    """Time spent in training, over all resumptions."""
    targets: float = 0
    """Predicted events so far, or the sum of their weights, over all stages."""
    loss_sum: float = 0.0
    """Summed loss since the last line of the log."""
    loss_count: float = 0
    """Targets since the last line of the log."""
    log_bytes: int = 0
    """Length of history.jsonl; a resumed run cuts it there."""
    finished: bool = False
    """Whether all stages are done."""
    stage_start: dict[str, str] = field(default_factory=dict)
    """Checksum of each parameter when the stage began, to verify afterwards what changed."""
    scaler: dict[str, Any] = field(default_factory=dict)
    """State of the fp16 loss scaler."""


def save_checkpoint(
    directory: Path,
    links: tuple[str, ...],
    state: TrainingState,
    model: nn.Module,
    optimizer: Optimizer | None,
    names: Mapping[str, nn.Parameter],
    average: Mapping[str, Tensor] | None,
    criterion: nn.Module | None = None,
) -> None:
    """Write a checkpoint and point the links (`last`, `best`) at it; checkpoints without a link are removed."""
    name = f"update-{state.total_updates:08d}-stage-{state.stage}"
    with atomic_directory(directory / name) as target:
        save_file(_contiguous(model.state_dict()), target / MODEL)
        if optimizer is not None:
            save_file(_optimizer_tensors(optimizer, names), target / OPTIMIZER)
        if average is not None:
            save_file(_contiguous(average), target / AVERAGE)
        if criterion is not None:
            save_file(_contiguous(criterion.state_dict()), target / CRITERION)
        write_json(target / STATE, asdict(state))
    for link in links:
        _point(directory / link, name)
    used = {str(path.readlink()) for path in directory.iterdir() if path.is_symlink()}
    for path in directory.glob("update-*"):
        if path.name not in used:
            shutil.rmtree(path)


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed process had begun to write."""
    for path in directory.glob(".*.tmp-*"):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def load_state(checkpoint: Path, identity: str | None = None) -> TrainingState:
    """Read a checkpoint's state.

    Raises:
        CheckpointError: it is missing, incomplete, or belongs to another recipe or data set.
    """
    if not (checkpoint / STATE).is_file():
        raise CheckpointError(f"{checkpoint}: no checkpoint here; start the run again without --resume")
    try:
        state = TrainingState(**json.loads((checkpoint / STATE).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{checkpoint / STATE}: damaged, or of another moerec ({error}); train again") from None
    if identity is not None and state.identity != identity:
        raise CheckpointError(
            f"{checkpoint}: this checkpoint was made by another recipe, data set or seed "
            f"({state.identity}, now {identity}); resume with the recipe.yaml of its run, or start a new run"
        )
    return state


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, or raise a `CheckpointError` of one line."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); take another checkpoint or train again") from None


def load_model(checkpoint: Path, model: nn.Module, *, averaged: bool = True) -> None:
    """Put a checkpoint's parameters into a model: the averaged ones where there are any and `averaged` is set."""
    path = checkpoint / AVERAGE
    tensors = load_tensors(checkpoint / MODEL)
    if averaged and path.is_file():
        tensors |= load_tensors(path)
    problem = model.load_state_dict(tensors, strict=False)
    if problem.missing_keys or problem.unexpected_keys:
        raise CheckpointError(
            f"{checkpoint}: does not fit this model (missing: {problem.missing_keys[:3]}, "
            f"unexpected: {problem.unexpected_keys[:3]}); use the recipe that made it"
        )


def load_criterion(checkpoint: Path, criterion: nn.Module) -> None:
    """Put back what the loss had learned and remembered."""
    problem = criterion.load_state_dict(load_tensors(checkpoint / CRITERION), strict=False)
    if problem.missing_keys or problem.unexpected_keys:
        raise CheckpointError(
            f"{checkpoint / CRITERION}: does not fit this weighting (missing: {problem.missing_keys[:3]}, "
            f"unexpected: {problem.unexpected_keys[:3]}); use the recipe that made it"
        )


def load_optimizer(checkpoint: Path, optimizer: Optimizer, names: Mapping[str, nn.Parameter]) -> None:
    """Put a checkpoint's optimizer state back, parameter by parameter."""
    for key, value in load_tensors(checkpoint / OPTIMIZER).items():
        name, slot = key.rsplit("/", 1)
        parameter = names[name]
        # A fused optimizer reads its step counter on the device, too.
        optimizer.state[parameter][slot] = value.to(parameter.device)


def _optimizer_tensors(optimizer: Optimizer, names: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {
        f"{name}/{slot}": value.detach().contiguous()
        for name, parameter in names.items()
        for slot, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _point(link: Path, name: str) -> None:
    temporary = link.with_name(f".{link.name}.tmp-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name, target_is_directory=True)
    os.replace(temporary, link)


def parameter_checksums(model: nn.Module) -> dict[str, str]:
    """A checksum of each parameter's bytes."""
    return {
        name: hashlib.sha256(
            parameter.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        ).hexdigest()[:16]
        for name, parameter in model.named_parameters()
    }
