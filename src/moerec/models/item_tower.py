"""The item tower: makes an item's vector wherever one is needed (history, target, candidate, export).

Shape letters: N items, F inputs, E experts, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.config import Config
from moerec.dataset.schema import UNKNOWN
from moerec.errors import ConfigError
from moerec.nn.fusion import MixtureFusion, SumFusion
from moerec.nn.inputs import FeatureInputs, FeatureTable


class ItemTowerConfig(Config):
    """How an item's id and content become one vector."""

    use_id: bool = True
    """Give each item of the train split a vector of its own; without it items are known by content alone."""
    features: tuple[str, ...] | None = None
    """Names of the item features to read; all features of the recipe by default, [] for none."""
    fusion: Literal["sum", "mixture"] = "mixture"
    """sum: add the inputs; mixture: add a gated mixture of experts over all inputs to the sum."""
    experts: int = Field(default=4, ge=2)
    """Number of experts of the mixture."""
    expert_hidden: int = Field(default=64, ge=1)
    """Hidden width of each expert."""
    temperature: float = Field(default=1.0, gt=0)
    """Temperature of the gate; lower is sharper."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the experts."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose id is hidden in a training step, so that content learns to speak for cold items."""
    normalize: bool = False
    """Item vectors have length 1, so users rank by the cosine; belongs to a loss with `normalize: true`."""

    @model_validator(mode="after")
    def _check(self) -> ItemTowerConfig:
        if not self.use_id and self.features == ():
            raise ValueError("an item needs an id or a feature; set use_id: true or name features")
        return self


class ItemTower(nn.Module):
    """Id embedding and features, fused; an item without train events uses the shared row of unknown ids."""

    trained: Tensor
    """[num_indices] bool."""

    def __init__(self, config: ItemTowerConfig, width: int, trained: Tensor, table: FeatureTable | None) -> None:
        super().__init__()
        self.config = config
        table = _chosen(table, config.features)
        self.specs = () if table is None else table.specs
        self.sizes = {} if table is None else dict(table.sizes)
        # The columns belong to the data set, not to the weights: saved once beside the model, not in each checkpoint.
        self.register_buffer("trained", trained, persistent=False)
        if table is not None:
            for spec in table.specs:
                self.register_buffer(f"column_{spec.name}", table.columns[spec.name], persistent=False)
                if spec.name in table.present:
                    self.register_buffer(f"present_{spec.name}", table.present[spec.name], persistent=False)
        if config.use_id:
            self.id_embedding = nn.Embedding(len(trained), width)
            nn.init.normal_(self.id_embedding.weight, std=0.02)
            # Until id dropout teaches it otherwise, an item without an id of its own is its content and no noise.
            nn.init.zeros_(self.id_embedding.weight[UNKNOWN])
        self.inputs = FeatureInputs(self.specs, table.sizes, width) if table is not None and self.specs else None
        count = int(config.use_id) + len(self.specs)
        if count == 0:
            raise ConfigError("item tower: there is neither an id nor a feature; set use_id: true or add features")
        self.fusion: SumFusion | MixtureFusion = SumFusion()
        if config.fusion == "mixture" and count > 1:
            self.fusion = MixtureFusion(
                count, width, config.experts, config.expert_hidden, config.dropout, config.temperature
            )

    @property
    def table(self) -> FeatureTable | None:
        """The item features that the tower reads, or None."""
        if self.inputs is None:
            return None
        present = {spec.name: f"present_{spec.name}" for spec in self.specs if hasattr(self, f"present_{spec.name}")}
        return FeatureTable(
            self.specs,
            self.sizes,
            {spec.name: getattr(self, f"column_{spec.name}").cpu() for spec in self.specs},
            {name: getattr(self, key).cpu() for name, key in present.items()},
        )

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in the order in which they are fused."""
        return (("id",) if self.config.use_id else ()) + tuple(spec.name for spec in self.specs)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Vectors [N, D] of item indices [N]; of the whole index when None."""
        vectors = self.fusion(self.embed(items))
        return F.normalize(vectors, dim=1) if self.config.normalize else vectors

    def embed(self, items: Tensor | None = None) -> Tensor:
        """The inputs [N, F, D] before fusion."""
        if items is None:
            items = torch.arange(len(self.trained), device=self.trained.device)
        parts = []
        if self.config.use_id:
            ids = torch.where(self.trained[items], items, UNKNOWN)  # [N]
            if self.training and self.config.id_dropout and self.inputs is not None:
                hidden = torch.rand(len(items), device=items.device) < self.config.id_dropout  # [N]
                ids = torch.where(hidden, UNKNOWN, ids)
            parts.append(self.id_embedding(ids).unsqueeze(1))  # [N, 1, D]
        if self.inputs is not None:
            columns = {spec.name: getattr(self, f"column_{spec.name}")[items] for spec in self.specs}
            present = {
                spec.name: getattr(self, f"present_{spec.name}")[items]
                for spec in self.specs
                if hasattr(self, f"present_{spec.name}")
            }
            parts.append(self.inputs(columns, present))  # [N, F - 1, D]
        return torch.cat(parts, dim=1)

    def gate_weights(self, items: Tensor | None = None) -> Tensor | None:
        """The experts' weights [N, E], or None when the fusion has no gate."""
        return self.fusion.gate_weights(self.embed(items)) if isinstance(self.fusion, MixtureFusion) else None


def _chosen(table: FeatureTable | None, names: tuple[str, ...] | None) -> FeatureTable | None:
    if names is None:
        return table
    known = [] if table is None else [spec.name for spec in table.specs]
    for name in names:
        if name not in known:
            raise ConfigError(
                f"item tower: no item feature '{name}' in the recipe; known: {', '.join(known) or 'none'}"
            )
    return None if table is None or not names else table.select(names)
