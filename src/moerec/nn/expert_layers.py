"""Layers of experts for training on the CPU, with fewer passes over memory than autograd's own formulation has.

Values and gradients are those of the plain formulation, up to rounding, and so are the draws of dropout.

Shape letters: N rows, E experts, I input width, H output width of a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from moerec.nn.dropout import Dropout


def is_plain(x: Tensor) -> bool:
    """Whether to leave it to autograd: on other devices, without gradients, in compiled graphs, in mixed precision."""
    return (
        x.device.type != "cpu"
        or not torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.is_autocast_enabled("cpu")
    )


def linear_layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Each expert's matrix product: [E, N, H].

    Args:
        x: rows [N, I] that all experts read, or [E, N, I].
        weight: [E, I, H].
        bias: [E, 1, H].
    """
    if x.dim() == 3 or is_plain(x):
        return torch.baddbmm(bias, _by_expert(x, len(weight)), weight)
    output: Tensor = _SharedLinear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return output


def relu_layer(x: Tensor, weight: Tensor, bias: Tensor, dropout: Dropout) -> Tensor:
    """`linear_layer` with ReLU and dropout behind it: [E, N, H]."""
    if is_plain(x):
        return dropout(F.relu(linear_layer(x, weight, bias)))
    kept = dropout.draw(torch.Size((len(weight), x.shape[-2], weight.shape[2]))) if dropout.drops else None
    scale = dropout.scale if dropout.drops else 1.0
    output: Tensor = _ReluLayer.apply(x, weight, bias, kept, scale)  # type: ignore[no-untyped-call]
    return output


def _by_expert(x: Tensor, experts: int) -> Tensor:
    """Rows [E, N, I]."""
    return x if x.dim() == 3 else x.expand(experts, *x.shape)


def _gradients(x: Tensor, weight: Tensor, gradient: Tensor, *, needs_x: bool) -> tuple[Tensor | None, Tensor, Tensor]:
    """Those of rows, weight and bias, of the gradient [E, N, H] of `linear_layer`."""
    to_x = None
    if needs_x and x.dim() == 3:
        to_x = torch.bmm(gradient, weight.transpose(1, 2))  # [E, N, I]
    elif needs_x:
        # One product over the outputs of all experts; autograd makes one for each expert and adds them up.
        to_x = gradient.transpose(0, 1).flatten(1) @ weight.transpose(0, 1).flatten(1).t()  # [N, I]
    to_weight = torch.bmm(_by_expert(x, len(weight)).transpose(1, 2), gradient)  # [E, I, H]
    return to_x, to_weight, gradient.sum(1, keepdim=True)


class _SharedLinear(Function):
    """See `linear_layer`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias, _by_expert(x, len(weight)), weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _gradients(x, weight, gradient, needs_x=ctx.needs_input_grad[0])


class _ReluLayer(Function):
    """See `relu_layer`. Its output alone says where a gradient flows: it is above 0 where x was, and was kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor | None, scale: float) -> Tensor:
        # Scaling before ReLU is the same as after it, and the product does it on the way.
        output = torch.baddbmm(bias, _by_expert(x, len(weight)), weight, beta=scale, alpha=scale)  # [E, N, H]
        output.clamp_min_(0)
        if kept is not None:
            output.mul_(kept)
        ctx.save_for_backward(x, weight, output)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, output = ctx.saved_tensors
        if torch.is_grad_enabled() or x.dim() == 3:
            through = torch.ops.aten.threshold_backward(gradient, output, 0)  # [E, N, H]
        else:
            experts, rows, width = output.shape
            # Row by row in memory, as the product over all experts reads it.
            through = output.new_empty(rows, experts, width).transpose(0, 1)  # [E, N, H]
            torch.ops.aten.threshold_backward.grad_input(gradient, output, 0, grad_input=through)
        to_x, to_weight, to_bias = _gradients(x, weight * ctx.scale, through, needs_x=ctx.needs_input_grad[0])
        return to_x, to_weight * ctx.scale, to_bias * ctx.scale, None, None
