"""Experts: networks of equal output width that a gate mixes.

Shape letters: N rows, E experts, I input width, H hidden width, D output width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.config import Config
from moerec.errors import ConfigError
from moerec.nn.dropout import Dropout
from moerec.nn.expert_layers import is_plain, linear_layer, relu_layer
from moerec.nn.trial import TRIED_ROWS, made_by, shape_of, tried

Activation = Literal["gelu", "relu", "silu"]
ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
_HAS_MKL: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]


class Experts(nn.Module, ABC):
    """E networks that read the same rows, or each its own."""

    output_width: int
    """D, of every expert."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Outputs of all experts: rows [N, I] that all of them read, or [E, N, I], give [N, E, D]."""

    @abstractmethod
    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """The parameters nearest to the output, of all experts; what GradNorm compares the tasks on."""


class ExpertConfig(Config):
    """Base of all kinds of experts; a subclass overrides `build_one`, or `build` if it makes all of them at once."""

    @model_validator(mode="after")
    def _check_build(self) -> ExpertConfig:
        if type(self).build_one is ExpertConfig.build_one and type(self).build is ExpertConfig.build:
            raise ValueError(f"{type(self).__name__} lacks build_one(width_in, dropout) -> (module, width); write it")
        return self

    def build_one(self, width_in: int, dropout: float) -> tuple[nn.Module, int]:
        """One expert, a module [N, I] -> [N, D], and its D."""
        raise TypeError(f"{type(self).__name__} makes all experts at once, by build")

    def build(self, experts: int, width_in: int, dropout: float) -> Experts:
        """Make the experts.

        Args:
            experts: E.
            width_in: I.
            dropout: share of hidden values set to 0 in training.

        Raises:
            ConfigError: an own `build_one` fails, or makes no module that turns [N, I] into [N, D].
        """
        made = [made_by(self, "build_one", lambda: self.build_one(width_in, dropout)) for _ in range(experts)]
        if not all(isinstance(one, tuple) and len(one) == 2 for one in made):
            raise ConfigError(f"{type(self).__name__}.build_one gives no pair; return the module and its output width")
        width = made[0][1]
        for expert, _ in made:
            name, wanted = f"expert {type(self).__name__}", f"[{TRIED_ROWS}, {width}]"
            output = tried(name, expert, width_in, f"[rows, {width}]")
            if not isinstance(output, Tensor) or output.shape != (TRIED_ROWS, width):
                raise ConfigError(
                    f"{name}: it gives {shape_of(output)} for {TRIED_ROWS} rows, not {wanted}; experts that are mixed "
                    "need one output width, and build_one must name it"
                )
        return ExpertList([expert for expert, _ in made], width)


class ExpertList(Experts):
    """Any modules as experts, called one after another."""

    def __init__(self, experts: Sequence[nn.Module], output_width: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.output_width = output_width

    def forward(self, x: Tensor) -> Tensor:
        """See `Experts`."""
        inputs = x if x.dim() == 3 else [x] * len(self.experts)
        outputs = [expert(rows) for expert, rows in zip(self.experts, inputs, strict=True)]  # each [N, D]
        return torch.stack(outputs, dim=1)

    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """The last matrix of each expert that has one."""
        matrices = [[parameter for parameter in expert.parameters() if parameter.dim() > 1] for expert in self.experts]
        return tuple(of_expert[-1] for of_expert in matrices if of_expert)


class MLPExpertConfig(ExpertConfig):
    """Perceptrons of equal shape, run as one batched matrix product for each layer."""

    hidden: tuple[PositiveInt, ...] = (64,)
    """Hidden widths of each expert; [] for linear experts."""
    width: int = Field(default=32, ge=1)
    """Output width of each expert."""
    activation: Activation = "gelu"
    """Activation after each hidden layer, shared ones among them."""
    activate_output: bool = False
    """Treat the output as one more hidden layer, with activation and dropout."""
    normalize: bool = False
    """Normalise the values before each activation (LayerNorm by expert), so that no expert outgrows or dies."""
    shared_hidden: tuple[PositiveInt, ...] = ()
    """Hidden widths of layers below that all experts share."""

    def build(self, experts: int, width_in: int, dropout: float) -> Experts:
        """See `ExpertConfig`."""
        if not self.shared_hidden:
            return self._own(experts, width_in, dropout)
        *below, last = self.shared_hidden
        shared = MLPExperts(1, width_in, below, last, dropout, self.activation, self.normalize, activate_output=True)
        return SharedLayersExperts(shared, self._own(experts, last, dropout))

    def _own(self, experts: int, width_in: int, dropout: float) -> MLPExperts:
        return MLPExperts(
            experts, width_in, self.hidden, self.width, dropout, self.activation, self.normalize, self.activate_output
        )


class MLPExperts(Experts):
    """E perceptrons of equal shape; one batched product a layer for all of them instead of a loop."""

    def __init__(
        self,
        experts: int,
        width_in: int,
        hidden: Sequence[int],
        width_out: int,
        dropout: float = 0.0,
        activation: Activation = "gelu",
        normalize: bool = False,
        activate_output: bool = False,
    ) -> None:
        super().__init__()
        self.output_width = width_out
        self.activation, self.activate_output = ACTIVATIONS[activation], activate_output
        widths = (width_in, *hidden, width_out)
        self.weights = nn.ParameterList(  # each [E, I, H]
            torch.empty(experts, below, above) for below, above in pairwise(widths)
        )
        self.biases = nn.ParameterList(torch.zeros(experts, 1, width) for width in widths[1:])  # each [E, 1, H]
        normalised = (*hidden, *((width_out,) if activate_output else ())) if normalize else ()
        self.scales = nn.ParameterList(torch.ones(experts, 1, width) for width in normalised)  # each [E, 1, H]
        self.shifts = nn.ParameterList(torch.zeros(experts, 1, width) for width in normalised)  # each [E, 1, H]
        self.dropout = Dropout(dropout)
        for weight in self.weights:
            nn.init.normal_(weight, std=1.0 / math.sqrt(weight.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """See `Experts`."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer == last and not self.activate_output:
                x = linear_layer(x, weight, bias)  # [E, N, D]
            elif self.activation is F.relu and not len(self.scales):
                x = relu_layer(x, weight, bias, self.dropout)  # [E, N, H]
            else:
                x = linear_layer(x, weight, bias)  # [E, N, H]
                if len(self.scales):
                    x = F.layer_norm(x, x.shape[-1:]) * self.scales[layer] + self.shifts[layer]
                x = self.dropout(self.activation(x))
        return x.transpose(0, 1)  # [N, E, D]

    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Experts`."""
        return (self.weights[len(self.weights) - 1],)


class SharedLayersExperts(Experts):
    """Experts on top of layers that all of them share."""

    def __init__(self, shared: MLPExperts, own: MLPExperts) -> None:
        """Put experts on shared layers.

        Args:
            shared: the layers below, as the only expert of its kind.
            own: E experts as wide as those are.
        """
        super().__init__()
        self.shared, self.own = shared, own
        self.output_width = own.output_width

    def forward(self, x: Tensor) -> Tensor:
        """See `Experts`."""
        below = self.shared(x.flatten(0, -2)).squeeze(1)  # [N, H], or [E N, H]
        return self.own(below.unflatten(0, x.shape[:-1]))

    def last_layer(self) -> tuple[nn.Parameter, ...]:
        """See `Experts`."""
        return self.own.last_layer()


class ConvolutionExpertConfig(ExpertConfig):
    """Convolutions along the flat input, with the mean and the largest value of each channel at the end."""

    channels: int = Field(default=16, ge=1)
    """Channels of each convolution."""
    kernel: int = Field(default=3, ge=1)
    """Neighbouring values that a convolution sees; an odd number keeps the length."""
    layers: int = Field(default=1, ge=1)
    """Convolutions, one after another."""
    width: int = Field(default=32, ge=1)
    """Output width of each expert."""

    def build_one(self, width_in: int, dropout: float) -> tuple[nn.Module, int]:
        """See `ExpertConfig`."""
        return ConvolutionExpert(self.channels, self.kernel, self.layers, self.width, dropout), self.width


class ConvolutionExpert(nn.Module):
    """See `ConvolutionExpertConfig`."""

    def __init__(self, channels: int, kernel: int, layers: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv1d(channels if layer else 1, channels, kernel, padding=kernel // 2) for layer in range(layers)
        )
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(2 * channels, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I] -> [N, D]."""
        x = x.unsqueeze(1)  # [N, 1, I]
        for convolution in self.convolutions:
            x = F.gelu(convolution(x))  # [N, H, I]
        return self.out(self.dropout(torch.cat([x.mean(2), x.amax(2)], dim=1)))


def mix(weights: Tensor, outputs: Tensor) -> Tensor:
    """Experts' outputs [N, E, D] weighed by [N, E]: [N, D]."""
    # Many small matrix products, one for each row, take longer than a product and a sum.
    return (weights.unsqueeze(2) * outputs).sum(1)


def mix_all(weights: Sequence[Tensor], outputs: Tensor) -> tuple[Tensor, ...]:
    """Experts' outputs [N, E, D] weighed by each of T weights [N, E]: T times [N, D]."""
    one_type = all(of_task.dtype == outputs.dtype for of_task in weights)
    if len(weights) == 1 or not one_type or is_plain(outputs) or not _HAS_MKL:
        return tuple(mix(of_task, outputs) for of_task in weights)
    # For several tasks a small product for each row reads the outputs once, and their gradients need no sum. Without
    # MKL such products are made one by one.
    return torch.bmm(torch.stack(list(weights), dim=1), outputs).unbind(1)
