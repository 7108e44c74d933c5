"""MMoE on a user, an item and numbers: two tables of embeddings below the mixture.

Shape letters: B examples, F dense features, W width of an embedding, I = 2 W + F.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from moerec.config import validate
from moerec.models.mmoe.model import MixtureSettings, MMoEModel, Predictions, WithWeights, configured
from moerec.models.mmoe.own_modules import Modules
from moerec.nn.experts import ExpertConfig
from moerec.nn.gates import GateConfig, Gating


class MMoERecommendationConfig(MixtureSettings):
    """What an `MMoERecommendationModel` was built from."""

    user_cardinality: PositiveInt
    """Users; their ids are 0 to this, without it."""
    item_cardinality: PositiveInt
    """Items."""
    embedding_dim: PositiveInt = 64
    """W."""
    num_dense_features: NonNegativeInt = 0
    """F."""
    id_dropout: float = Field(default=0.02, ge=0, lt=1)
    """Share of users, and of items, made unknown in training."""


class MMoERecommendationModel(MMoEModel):
    """An `MMoEModel` whose input is the embedding of a user, that of an item, and dense features.

    An id below 0, or not below the cardinality, is unknown. All unknown users share one row of the table, all unknown
    items another. They are learned from the unknown ids of the training data and from `id_dropout`.

    Args:
        user_cardinality: number of users.
        item_cardinality: number of items.
        embedding_dim: W.
        num_dense_features: F.
        num_experts: see `MMoEModel`, as for all that follow.
        num_tasks: T.
        expert_hidden_dims: hidden widths of each expert.
        gate_hidden_dims: hidden widths of each gate.
        tower_hidden_dims: hidden widths of each tower.
        task_output_dims: outputs of each task.
        dropout_rate: dropout of the hidden layers.
        experts: own modules that read [B, 2 W + F], or a configuration.
        gates: own modules that read [B, 2 W + F], or a configuration.
        id_dropout: share of users, and of items, that a training step makes unknown.

    Raises:
        ConfigError: numbers or widths contradict each other, or an own module does not fit.
    """

    ROLE: ClassVar[str] = "mmoe_recommendation_model"
    CONFIG: ClassVar[type[MixtureSettings]] = MMoERecommendationConfig
    config: MMoERecommendationConfig

    def __init__(
        self,
        user_cardinality: int,
        item_cardinality: int,
        embedding_dim: int = 64,
        num_dense_features: int = 0,
        num_experts: int = 3,
        num_tasks: int = 2,
        expert_hidden_dims: Sequence[int] = (128, 64),
        gate_hidden_dims: Sequence[int] | None = None,
        tower_hidden_dims: Sequence[int] = (64, 32),
        task_output_dims: Sequence[int] | None = None,
        dropout_rate: float = 0.1,
        *,
        experts: Modules | ExpertConfig | None = None,
        gates: Modules | GateConfig | None = None,
        id_dropout: float = 0.02,
    ) -> None:
        mixture = {
            "num_experts": num_experts,
            "num_tasks": num_tasks,
            "expert_hidden_dims": expert_hidden_dims,
            "gate_hidden_dims": gate_hidden_dims,
            "tower_hidden_dims": tower_hidden_dims,
            "task_output_dims": task_output_dims,
            "dropout_rate": dropout_rate,
        }
        own = {
            "user_cardinality": user_cardinality,
            "item_cardinality": item_cardinality,
            "embedding_dim": embedding_dim,
            "num_dense_features": num_dense_features,
            "id_dropout": id_dropout,
        }
        kinds = configured({"experts": experts, "gates": gates})
        config = validate(MMoERecommendationConfig, mixture | own | kinds, type(self).__name__)
        super().__init__(
            2 * embedding_dim + num_dense_features,
            num_experts,
            num_tasks,
            expert_hidden_dims,
            gate_hidden_dims,
            tower_hidden_dims,
            task_output_dims,
            dropout_rate,
            experts=experts,
            gates=gates,
        )
        self.config = config
        # The last row of each is that of unknown ids.
        self.user_embedding = nn.Embedding(user_cardinality + 1, embedding_dim)
        self.item_embedding = nn.Embedding(item_cardinality + 1, embedding_dim)
        for table in (self.user_embedding, self.item_embedding):
            nn.init.normal_(table.weight, std=embedding_dim**-0.5)

    def forward(  # type: ignore[override]
        self,
        user_ids: Tensor,
        item_ids: Tensor,
        dense_features: Tensor | None = None,
        return_expert_weights: bool = False,
    ) -> Predictions | WithWeights:
        """Predictions of pairs.

        Args:
            user_ids: [B] or [B, 1], whole numbers.
            item_ids: [B] or [B, 1].
            dense_features: [B, F]; None where the model has none.
            return_expert_weights: also give each gate's weights.

        Returns:
            As `MMoEModel.forward`.

        Raises:
            ValueError: a shape is another one.
        """
        return self._answer(self.inputs(user_ids, item_ids, dense_features), return_expert_weights)

    def forward_with_gates(  # type: ignore[override]
        self, user_ids: Tensor, item_ids: Tensor, dense_features: Tensor | None = None
    ) -> tuple[Predictions, list[Gating]]:
        """Predictions of each task, and what each gate said."""
        return self._mixed(self.inputs(user_ids, item_ids, dense_features))

    def inputs(self, user_ids: Tensor, item_ids: Tensor, dense_features: Tensor | None = None) -> Tensor:
        """What experts and gates read, [B, I]."""
        users = self._rows("user_ids", user_ids, self.config.user_cardinality)  # [B]
        items = self._rows("item_ids", item_ids, self.config.item_cardinality)  # [B]
        parts = [self.user_embedding(users), self.item_embedding(items)]
        width = self.config.num_dense_features
        if dense_features is None:
            if width:
                raise ValueError(f"dense_features: this model needs [rows, {width}]")
        else:
            if dense_features.dim() != 2 or dense_features.shape[1] != width:
                raise ValueError(
                    f"dense_features: got {list(dense_features.shape)}, and num_dense_features is {width}; "
                    + (f"give [rows, {width}]" if width else "leave them out, or build the model with their number")
                )
            parts.append(dense_features.to(parts[0].dtype))
        return torch.cat(parts, dim=1)

    def _rows(self, name: str, ids: Tensor, cardinality: int) -> Tensor:
        """The row of each id in its table, [B]."""
        if ids.is_floating_point():
            raise ValueError(f"{name}: ids must be whole numbers, got {ids.dtype}; they are rows of a table")
        if ids.dim() == 2 and ids.shape[1] == 1:
            ids = ids.squeeze(1)
        if ids.dim() != 1:
            raise ValueError(f"{name}: got {list(ids.shape)}, give [rows] or [rows, 1]")
        ids = ids.long()
        known = (ids >= 0) & (ids < cardinality)  # [B]
        if self.training and self.config.id_dropout:
            known &= torch.rand(ids.shape, device=ids.device) >= self.config.id_dropout
        return torch.where(known, ids, cardinality)
