"""The item tower: makes an item's vector wherever one is needed (history, target, candidate, export).

Shape letters: N items, F inputs, E experts, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from moerec.config import Config, Discovered
from moerec.dataset.schema import UNKNOWN
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSpec
from moerec.losses.unit_length import unit_length
from moerec.nn.fusion import ConcatFusion, Fusion, GatedFusion, InputGate, MixtureFusion, SENetFusion
from moerec.nn.gates import DenseGateConfig, GateConfig
from moerec.nn.gating import Gating
from moerec.nn.inputs import FeatureInputs, FeatureTable


class ItemTowerConfig(Config):
    """How an item's id and content become one vector."""

    use_id: bool = True
    """Give each item of the train split a vector of its own; without it items are known by content alone."""
    features: tuple[str, ...] | None = None
    """Names of the item features to read; all features of the recipe by default, [] for none."""
    fusion: Literal["sum", "concat", "senet", "gated", "mixture"] = "mixture"
    """sum: add the inputs; concat: a linear layer over all of them; senet: weigh each by squeeze and excitation, then
    add; gated: weigh each by a gate that reads all, then add; mixture: add a gated mixture of experts over all inputs
    to the sum."""
    senet_hidden: int = Field(default=8, ge=1)
    """Hidden width of the excitation of `senet`."""
    input_gate: InputGate = "sigmoid"
    """Of `gated`: sigmoid lets each input count by itself, softmax makes them compete."""
    experts: int = Field(default=4, ge=2)
    """Number of experts of the mixture."""
    expert_hidden: int = Field(default=64, ge=1)
    """Hidden width of each expert."""
    gate: Annotated[SerializeAsAny[GateConfig], Discovered("gate", "retriever.item_tower.gate")] = DenseGateConfig()
    """How the mixture weighs its experts, and how their use is kept even over the catalogue."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the experts."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of items whose id is hidden in a training step, so that content learns to speak for cold items."""
    normalize: bool = False
    """Item vectors have length 1, so users rank by the cosine; belongs to a loss with `normalize: true`."""
    content_start: Literal["random", "zero"] = "random"
    """random: content speaks from the first update; zero: an item begins as its id alone and content comes in as it
    proves useful. Needs ids."""
    vector_scale: float = Field(default=1.0, gt=0)
    """Factor of text, image and other vectors before their linear layer. Adam moves all weights alike, so what is made
    of a vector of width V and length 1 moves sqrt(V) times as fast as an id; a smaller factor slows it down."""
    id_dropout_anneal: bool = False
    """Let `id_dropout` fall linearly to 0 over the updates of each stage; no other dropout changes."""

    @model_validator(mode="before")
    @classmethod
    def _from_first_form(cls, values: Any) -> Any:
        """The first form had one kind of gate, whose temperature stood here."""
        if not isinstance(values, Mapping) or "temperature" not in values:
            return values
        if "gate" in values:
            raise ValueError("temperature: the gate has its own; write gate: {kind: ..., temperature: ...}")
        rest = {name: value for name, value in values.items() if name != "temperature"}
        return {**rest, "gate": {"kind": "dense", "temperature": values["temperature"]}}

    @model_validator(mode="after")
    def _check(self) -> ItemTowerConfig:
        if not self.use_id and self.features == ():
            raise ValueError("an item needs an id or a feature; set use_id: true or name features")
        if self.content_start == "zero" and not self.use_id:
            raise ValueError("content_start: zero leaves nothing of an item without an id; write random")
        if self.fusion == "mixture" and self.gate.kept is not None and self.gate.kept > self.experts:
            raise ValueError(f"gate.k: {self.gate.kept}, but there are only {self.experts} experts; lower k")
        if self.id_dropout_anneal and not (self.use_id and self.id_dropout):
            raise ValueError("id_dropout_anneal: there is no id dropout to anneal; set id_dropout, or leave this out")
        return self


class ItemTower(nn.Module):
    """Id embedding and features, fused; an item without train events uses the shared row of unknown ids."""

    trained: Tensor
    """[num_indices] bool."""
    id_dropout: Tensor
    """The share of ids that is hidden now; `id_dropout` of the configuration, or less while it is annealed."""

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
        if self.inputs is not None and config.content_start == "zero":
            self.inputs.start_at_zero()
        count = int(config.use_id) + len(self.specs)
        if count == 0:
            raise ConfigError("item tower: there is neither an id nor a feature; set use_id: true or add features")
        self.fusion = _fusion(config, count, width)
        # A tensor, so that an annealed share is no new constant of a compiled model.
        self.register_buffer("id_dropout", torch.tensor(config.id_dropout), persistent=False)

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
        return self.forward_with_gate(items)[0]

    def forward_with_gate(self, items: Tensor | None = None) -> tuple[Tensor, Gating | None]:
        """What `forward` gives, and what the gate of experts said meanwhile; None without experts."""
        vectors, gating = self.fusion.forward_with_gate(self.embed(items))
        return (unit_length(vectors) if self.config.normalize else vectors), gating

    def embed(self, items: Tensor | None = None) -> Tensor:
        """The inputs [N, F, D] before fusion."""
        if items is None:
            items = torch.arange(len(self.trained), device=self.trained.device)
        parts = []
        if self.config.use_id:
            ids = torch.where(self.trained[items], items, UNKNOWN)  # [N]
            if self.training and self.config.id_dropout and self.inputs is not None:
                hidden = torch.rand(len(items), device=items.device) < self.id_dropout  # [N]
                ids = torch.where(hidden, UNKNOWN, ids)
            parts.append(self.id_embedding(ids).unsqueeze(1))  # [N, 1, D]
        if self.inputs is not None:
            columns = {spec.name: self._column(spec, items) for spec in self.specs}
            present = {
                spec.name: getattr(self, f"present_{spec.name}")[items]
                for spec in self.specs
                if hasattr(self, f"present_{spec.name}")
            }
            parts.append(self.inputs(columns, present))  # [N, F - 1, D]
        return torch.cat(parts, dim=1)

    def _column(self, spec: FeatureSpec, items: Tensor) -> Tensor:
        values: Tensor = getattr(self, f"column_{spec.name}")[items]  # [N], [N, M] or [N, V]
        return values * self.config.vector_scale if spec.kind == "vector" else values

    def gate_weights(self, items: Tensor | None = None) -> Tensor | None:
        """The experts' weights [N, E], or None when the fusion has no experts."""
        return self.fusion.expert_weights(self.embed(items))

    def input_weights(self, items: Tensor | None = None) -> Tensor | None:
        """How much each input counts, [N, F], or None when the fusion weighs them all alike."""
        return self.fusion.input_weights(self.embed(items))


def _fusion(config: ItemTowerConfig, inputs: int, width: int) -> Fusion:
    """The fusion of so many inputs; a single one is left as it is."""
    if inputs == 1:
        return Fusion()
    match config.fusion:
        case "sum":
            return Fusion()
        case "concat":
            return ConcatFusion(inputs, width)
        case "senet":
            return SENetFusion(inputs, config.senet_hidden)
        case "gated":
            return GatedFusion(inputs, width, config.input_gate)
        case "mixture":
            return MixtureFusion(inputs, width, config.experts, config.expert_hidden, config.dropout, config.gate)


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
