"""The one input layer: columns that FeatureSpecs describe become vectors of one width.

Shape letters: N rows, F features, M values of a multi-valued feature, V width of a given vector, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from moerec.features.spec import FeatureSpec


@dataclass(frozen=True)
class FeatureTable:
    """Columns of the rows that a model reads, with what it must know to make its parameters."""

    specs: tuple[FeatureSpec, ...]
    """The features, in the order of the model's inputs."""
    sizes: Mapping[str, int]
    """Per feature: number of values (categorical, multi), vector width (vector), 1 (dense)."""
    columns: Mapping[str, Tensor]
    """Per feature: categorical [N] int64, multi [N, M] int64, dense [N] float32, vector [N, V] float32."""
    present: Mapping[str, Tensor]
    """Per dense or vector feature: [N] bool, False where the value is missing."""

    def select(self, names: Sequence[str]) -> FeatureTable:
        """The same rows with fewer features, in the order given; an unknown name is a KeyError."""
        by_name = {spec.name: spec for spec in self.specs}
        return replace(self, specs=tuple(by_name[name] for name in names))


def module_key(name: str) -> str:
    """The key of a feature in a module: `type` or `items` are good names of features and taken in modules."""
    return f"feature_{name}"


class FeatureInputs(nn.Module):
    """Embeds each feature into one vector; a missing value has a learned vector of its own, never zeros."""

    def __init__(self, specs: Sequence[FeatureSpec], sizes: Mapping[str, int], width: int) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.embed = nn.ModuleDict(
            {module_key(spec.name): _feature_module(spec, sizes[spec.name], width) for spec in specs}
        )

    def start_at_zero(self) -> None:
        """Let every feature give zeros until it has learned something."""
        for module in self.embed.values():
            # Of two layers only the last one: neither of two zeros has a gradient but through the other.
            for parameter in (module.out if isinstance(module, _Projected) else module).parameters():
                nn.init.zeros_(parameter)

    def forward(self, columns: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Vectors [N, F, D] of the columns' rows, features in the order of the specs."""
        return torch.stack(
            [self.embed[module_key(spec.name)](columns[spec.name], present.get(spec.name)) for spec in self.specs],
            dim=1,
        )


def _feature_module(spec: FeatureSpec, size: int, width: int) -> nn.Module:
    if spec.dim is not None and spec.dim != width:
        inner = _feature_module(spec.model_copy(update={"dim": None}), size, spec.dim)
        return _Projected(inner, spec.dim, width)
    match spec.kind:
        case "categorical" | "multi":
            return _ValueEmbedding(size, width)
        case "dense":
            return _DenseEmbedding(width)
        case "vector":
            return _VectorProjection(size, width)
    raise ValueError(f"feature '{spec.name}': kind '{spec.kind}' is not read by this input layer")


class _Projected(nn.Module):
    def __init__(self, inner: nn.Module, width_in: int, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.out = nn.Linear(width_in, width)

    def forward(self, values: Tensor, present: Tensor | None) -> Tensor:
        return self.out(self.inner(values, present))  # [N, D]


class _ValueEmbedding(nn.Module):
    """Value 0 is 'missing' and has its own row; several values are averaged."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(size, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, values: Tensor, present: Tensor | None) -> Tensor:
        if values.dim() == 1:
            return self.table(values.long())  # [N, D]
        real = (values > 0).to(self.table.weight.dtype)  # [N, M]
        # A row without any value reads its first cell, which is 0: the row of 'missing'.
        real[:, 0] = torch.where(real.sum(1) == 0, 1.0, real[:, 0])
        summed = torch.einsum("nm,nmd->nd", real, self.table(values.long()))  # [N, D]
        return summed / real.sum(1, keepdim=True)


class _DenseEmbedding(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(1, width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, values: Tensor, present: Tensor | None) -> Tensor:
        embedded: Tensor = self.out(values.unsqueeze(-1))  # [N, D]
        return embedded if present is None else torch.where(present[:, None], embedded, self.missing)


class _VectorProjection(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(size, width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, values: Tensor, present: Tensor | None) -> Tensor:
        embedded: Tensor = self.out(values)  # [N, D]
        return embedded if present is None else torch.where(present[:, None], embedded, self.missing)
