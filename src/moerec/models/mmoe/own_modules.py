"""Experts and gates that a user brings as modules: tried once, so that what does not fit is told at the start.

Shape letters: N rows, I input width, E experts, D width of an expert's output.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from moerec.errors import ConfigError
from moerec.nn.experts import ExpertList
from moerec.nn.gates import Gating

Modules = Sequence[nn.Module] | nn.ModuleList
TRIED_ROWS = 3


def own_experts(modules: Modules, input_dim: int, num_experts: int) -> ExpertList:
    """Modules [N, I] -> [N, D] as experts.

    Raises:
        ConfigError: their number, their input or their output does not fit.
    """
    _check_number("experts", modules, "num_experts", num_experts)
    width = 0
    for number, module in enumerate(modules):
        name = f"experts[{number}]"
        output = _tried(name, module, input_dim, "[rows, width]")
        if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[0] != TRIED_ROWS:
            raise ConfigError(f"{name}: it gives {_shape(output)} for {TRIED_ROWS} rows, not [{TRIED_ROWS}, width]")
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
        weights = gating_of(_tried(name, module, input_dim, f"weights [rows, {num_experts}]")).weights
        if not isinstance(weights, Tensor) or weights.shape != (TRIED_ROWS, num_experts):
            raise ConfigError(
                f"{name}: it gives {_shape(weights)} for {TRIED_ROWS} rows, not one weight for each expert, "
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


@torch.no_grad()
def _tried(name: str, module: nn.Module, input_dim: int, wanted: str) -> Any:
    """What a module gives for a few rows; a warning if the rows see each other."""
    like = next((parameter for parameter in module.parameters()), torch.zeros(0))
    # Numbers of a formula, so that the global random state stays as it is.
    count = TRIED_ROWS * input_dim
    rows = torch.linspace(-1, 1, count, device=like.device).sin().view(input_dim, TRIED_ROWS).T.contiguous()  # [N, I]
    training = module.training
    module.eval()
    try:
        together, alone = module(rows), module(rows[:1])
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"{name}: it cannot read rows [{TRIED_ROWS}, {input_dim}] ({problem}); it must give {wanted}, and "
            "nn.Unflatten(1, (1, -1)) makes a signal of one channel of a row"
        ) from None
    finally:
        module.train(training)
    first, single = (said.weights if isinstance(said, Gating) else said for said in (together, alone))
    comparable = isinstance(first, Tensor) and isinstance(single, Tensor) and first[:1].shape == single.shape
    if comparable and not torch.allclose(first[:1], single, atol=1e-4, rtol=1e-3):
        warnings.warn(
            f"{name} lets the rows of a batch see each other, so a prediction hangs on which other rows are asked "
            "for at the same time; attend within a row, as moerec.nn.gates.AttentionGateConfig does",
            stacklevel=5,
        )
    return together


def _shape(output: Any) -> str:
    return str(list(output.shape)) if isinstance(output, Tensor) else type(output).__name__
