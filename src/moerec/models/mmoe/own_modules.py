"""Experts and gates that a user brings as modules: tried once, so that what does not fit is told at the start.

Shape letters: N rows, I input width, E experts, D width of an expert's output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from moerec.errors import ConfigError
from moerec.nn.experts import ExpertList
from moerec.nn.gates import Gating
from moerec.nn.trial import TRIED_ROWS, shape_of, tried

Modules = Sequence[nn.Module] | nn.ModuleList


def own_experts(modules: Modules, input_dim: int, num_experts: int) -> ExpertList:
    """Modules [N, I] -> [N, D] as experts.

    Raises:
        ConfigError: their number, their input or their output does not fit.
    """
    _check_number("experts", modules, "num_experts", num_experts)
    width = 0
    for number, module in enumerate(modules):
        name = f"experts[{number}]"
        output = tried(name, module, input_dim, "[rows, width]")
        if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != TRIED_ROWS:
            raise ConfigError(f"{name}: it gives {shape_of(output)} for {TRIED_ROWS} rows, not [{TRIED_ROWS}, width]")
        width = width or output.shape[1]
        if output.shape[1] != width:
            raise ConfigError(
                f"{name}: its output is {output.shape[1]} wide, that of experts[0] {width}; experts that are mixed "
                "need one width, a last nn.Linear gives it"
            )
    return ExpertList(list(modules), width)


def own_gates(modules: Modules, input_dim: int, num_tasks: int, num_experts: int) -> nn.ModuleList:
    """Modules [N, I] -> weights [N, E], or a `Gating`, as gates.

    Raises:
        ConfigError: their number does not fit, or what they give is no distribution over the experts.
    """
    _check_number("gates", modules, "num_tasks", num_tasks)
    for number, module in enumerate(modules):
        name = f"gates[{number}]"
        weights = gating_of(tried(name, module, input_dim, f"weights [rows, {num_experts}]")).weights
        if not isinstance(weights, Tensor) or weights.shape != (TRIED_ROWS, num_experts):
            raise ConfigError(
                f"{name}: it gives {shape_of(weights)} for {TRIED_ROWS} rows, not one weight for each expert, "
                f"[{TRIED_ROWS}, {num_experts}]"
            )
        if not torch.allclose(weights.sum(1), weights.new_ones(TRIED_ROWS), atol=1e-3) or bool((weights < 0).any()):
            raise ConfigError(f"{name}: its weights are no shares that sum to 1; end it with softmax(dim=-1)")
    return nn.ModuleList(modules)


def gating_of(said: Any) -> Gating:
    """What a gate says; an own one may give the weights alone."""
    return said if isinstance(said, Gating) else Gating(said)


def _check_number(what: str, modules: Modules, argument: str, number: int) -> None:
    if len(modules) != number:
        raise ConfigError(
            f"{what}: they are {len(modules)}, and {argument} is {number}; give {argument}={len(modules)}"
        )
