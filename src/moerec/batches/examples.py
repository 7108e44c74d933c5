"""Examples: one user, one item, one moment, with the inputs and labels of a ranker.

Shape letters: B examples of a batch, N examples of a table, M values of a multi-valued feature, L places of a
history, V width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moerec.features.spec import FeatureSpec

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ExampleSchema:
    """The inputs of a ranker; saved with it."""

    specs: tuple[FeatureSpec, ...]
    """In the order of the model's inputs: categorical, multi, dense, vector and sequence features."""
    sizes: Mapping[str, int]
    """Per feature: number of codes (categorical, multi, sequence: the item index), width (vector), 1 (dense)."""


@dataclass(frozen=True)
class ExampleBatch:
    """Examples as tensors."""

    columns: Mapping[str, Tensor]
    """Per feature: categorical [B] int64, multi [B, M] int64, dense [B] float32, vector [B, V] float32,
    sequence [B, L] int64 (item codes, oldest first, padded with 0 on the left)."""
    present: Mapping[str, Tensor] = field(default_factory=dict)
    """Per dense or vector feature: [B] bool, False where the value is missing."""
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    """Per task: [B] float32, the label or the place of its class; 0 where masked."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Per task: [B] bool, rows that count."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def to(self, device: torch.device | str) -> ExampleBatch:
        """The same batch on another device."""
        return ExampleBatch(*(_moved(part, device) for part in (self.columns, self.present, self.labels, self.masks)))


def _moved(tensors: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


@dataclass(frozen=True, eq=False)
class Gathered:
    """A column that lies in a smaller table and is looked up by row: [R, ...] values, [N] rows."""

    values: NDArray[np.generic]
    rows: Ints

    def take(self, chosen: Ints) -> NDArray[np.generic]:
        """The values of some examples."""
        return self.values[self.rows[chosen]]


@dataclass(frozen=True, eq=False)
class ExampleTable:
    """All examples of a set of rows; batches are cut from it."""

    schema: ExampleSchema
    users: Ints  # [N]
    """User index."""
    items: Ints  # [N]
    """Item index."""
    timestamps: Ints | None  # [N]
    """Milliseconds since 1970; None where the examples have no times."""
    negative: NDArray[np.bool_]  # [N]
    """Drawn rows."""
    labels: Mapping[str, NDArray[np.float64]]
    """Raw label columns [N], NaN where missing and for negatives."""
    columns: Mapping[str, NDArray[np.generic] | Gathered]
    """Inputs by feature: see `ExampleBatch.columns`."""
    present: Mapping[str, NDArray[np.bool_] | Gathered]
    """Presence of dense and vector features."""

    def __len__(self) -> int:
        return len(self.users)

    def column(self, name: str, rows: Ints) -> NDArray[np.generic]:
        """The values of one feature for some rows."""
        return _taken(self.columns[name], rows)

    def presence(self, name: str, rows: Ints) -> NDArray[np.generic] | None:
        """Whether a dense or vector feature is there, for some rows; None for other kinds."""
        return _taken(self.present[name], rows) if name in self.present else None

    def batch(
        self,
        rows: Ints,
        labels: Mapping[str, NDArray[np.float32]] | None = None,
        masks: Mapping[str, NDArray[np.bool_]] | None = None,
        instead: Mapping[str, Ints] | None = None,
    ) -> ExampleBatch:
        """Some rows as tensors.

        Args:
            rows: [B] rows.
            labels: labels of tasks over all N rows, if wanted.
            masks: rows that count for each task, over all N rows.
            instead: features to take from other rows than their own: {feature: [B] rows}.
        """
        places = {spec.name: rows for spec in self.schema.specs} | dict(instead or {})
        return ExampleBatch(
            columns={name: _tensor(self.column(name, taken)) for name, taken in places.items()},
            present={
                name: _tensor(_taken(self.present[name], taken))
                for name, taken in places.items()
                if name in self.present
            },
            labels={name: torch.from_numpy(values[rows]) for name, values in (labels or {}).items()},
            masks={name: torch.from_numpy(values[rows]) for name, values in (masks or {}).items()},
        )

    def names(self, kinds: Sequence[str]) -> list[str]:
        """The features of some kinds, in order."""
        return [spec.name for spec in self.schema.specs if spec.kind in kinds]


def _taken(column: NDArray[np.generic] | Gathered, rows: Ints) -> NDArray[np.generic]:
    return column.take(rows) if isinstance(column, Gathered) else column[rows]


def _tensor(values: NDArray[np.generic]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor if tensor.is_floating_point() or tensor.dtype == torch.bool else tensor.long()
