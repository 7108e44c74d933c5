"""The input layer of rankers: the columns of an ExampleBatch become one flat vector per example.

Shape letters: B examples, M values of a multi-valued feature, L places of a history, V width of a given vector,
N dense features, D width of embeddings, F fields of that width, P pairs of fields, I width of the flat vector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.config import Config
from moerec.features.columns import UNKNOWN
from moerec.features.spec import FeatureKind
from moerec.nn.dropout import Dropout
from moerec.nn.inputs import module_key
from moerec.nn.joint_embedding import JointEmbedding, mean_of_values
from moerec.nn.target_attention import MeanPooling, TargetAttention

USER, ITEM = "user", "item"
"""Categorical features that name one user or one item; code 1 is the unknown one. Histories hold codes of `item`."""


class ExampleInputsConfig(Config):
    """How the columns of an example become the input of a ranker."""

    width: int = Field(default=32, ge=1)
    """Width of the embeddings of values, vectors and histories, where a feature's `dim` says nothing else."""
    history_pooling: Literal["attention", "mean"] = "attention"
    """attention: events of a history weigh by how they bear on the candidate; mean: all alike, as without `item`."""
    history_hidden: int = Field(default=16, ge=1)
    """Hidden width of the network that weighs the events."""
    interactions: bool = True
    """Append the dot products of all pairs of embeddings (user x item, ...), which layers learn only slowly."""
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the embeddings."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of users, and of items, made unknown in a training step, so that features learn to speak for them."""


class ExampleInputs(nn.Module):
    """Embedded codes, projected vectors, pooled histories, pairwise products and numbers, joined.

    What is missing has a vector of its own (codes, vectors, histories) or raises a flag (numbers). The products are
    those of a factorisation machine (Rendle 2010), kept pair by pair as in DLRM (Naumov et al. 2019); embeddings with
    a `dim` of their own take no part in them. A dense feature is a number and a flag, whatever its `dim`.
    """

    def __init__(self, schema: ExampleSchema, config: ExampleInputsConfig) -> None:
        super().__init__()
        self.config = config
        for spec in schema.specs:
            if spec.kind == "tokens":
                raise ValueError(f"feature '{spec.name}': kind 'tokens' is not read by this input layer")
        self.categorical, self.multi = _named(schema, "categorical"), _named(schema, "multi")
        self.vectors, self.histories = _named(schema, "vector"), _named(schema, "sequence")
        self.dense = _named(schema, "dense")
        squashed = [spec.squash for spec in schema.specs if spec.kind == "dense"]
        self.squashed: Tensor
        self.register_buffer("squashed", torch.tensor(squashed, dtype=torch.bool), persistent=False)  # [N]
        self.widths = _widths(schema, config.width)
        self.embed = nn.ModuleDict(
            {f"width_{width}": embedding for width, embedding in _embeddings(schema, self.widths).items()}
        )
        self.project = nn.ModuleDict(
            {module_key(name): VectorProjection(schema.sizes[name], self.widths[name]) for name in self.vectors}
        )
        attends = config.history_pooling == "attention" and ITEM in self.categorical
        self.pool = nn.ModuleDict(
            {
                module_key(name): TargetAttention(self.widths[name], config.history_hidden)
                if attends
                else MeanPooling(self.widths[name])
                for name in self.histories
            }
        )
        self.dropout = Dropout(config.embedding_dropout)
        fields = [self.widths[name] for name in (*self.categorical, *self.multi, *self.vectors, *self.histories)]
        meeting = fields.count(config.width) if config.interactions else 0
        pairs = torch.ones(meeting, meeting).triu(1).flatten().nonzero().squeeze(1)  # [P] places in [F * F]
        self.pairs: Tensor
        self.register_buffer("pairs", pairs, persistent=False)
        self.output_width = sum(fields) + len(pairs) + 2 * len(self.dense)
        """I."""

    def forward(self, batch: ExampleBatch) -> Tensor:
        """The flat inputs [B, I]."""
        parts = []
        for width, fields in self._fields(batch).items():
            joined = self.dropout(fields[0] if len(fields) == 1 else torch.cat(fields, dim=1))  # [B, F, D]
            parts.append(joined.flatten(1))
            if width == self.config.width and len(self.pairs):
                products = torch.bmm(joined, joined.transpose(1, 2))  # [B, F, F]
                parts.append(products.flatten(1).index_select(1, self.pairs))  # [B, P]
        if self.dense:
            parts.append(self._numbers(batch))
        return torch.cat(parts, dim=1)

    def _fields(self, batch: ExampleBatch) -> dict[int, list[Tensor]]:
        """Per width the embeddings of its features, [B, 1, D] for each or several as one tensor."""
        columns = {**batch.columns, **self._unknown_ids(batch.columns)}
        found: dict[str, Tensor] = {}
        for embedding in self.embed.values():
            assert isinstance(embedding, JointEmbedding)
            if not self.histories and set(embedding.names) <= set(self.categorical):
                # Nobody asks for one of them, so they need not be taken apart and joined again.
                found[embedding.names[0]] = embedding.joined(columns)[0]
            else:
                found |= embedding(columns)
        for name in self.multi:
            found[name] = mean_of_values(found[name], columns[name]).unsqueeze(1)
        for name in self.vectors:
            found[name] = self.project[module_key(name)](columns[name], batch.present.get(name)).unsqueeze(1)
        for name in self.histories:
            query = found[ITEM].squeeze(1) if ITEM in self.categorical else None
            found[name] = self.pool[module_key(name)](found[name], query, columns[name] > 0).unsqueeze(1)
        fields: dict[int, list[Tensor]] = {}
        for name, vector in found.items():
            fields.setdefault(self.widths[name], []).append(vector)
        return fields

    def _unknown_ids(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """In training, the columns of users and items with some of them made unknown."""
        if not self.training or not self.config.id_dropout:
            return {}
        ids = {name: columns[name] for name in (USER, ITEM) if name in self.categorical}
        return {
            name: torch.where(torch.rand(len(codes), device=codes.device) < self.config.id_dropout, UNKNOWN, codes)
            for name, codes in ids.items()
        }

    def _numbers(self, batch: ExampleBatch) -> Tensor:
        """The dense features and flags of what is missing, [B, 2 * N]."""
        values = torch.stack([batch.columns[name] for name in self.dense], dim=1)  # [B, N]
        everywhere = torch.ones_like(values[:, 0], dtype=torch.bool)  # [B]
        present = torch.stack([batch.present.get(name, everywhere) for name in self.dense], dim=1)  # [B, N]
        # Logarithmic far out: a value unlike any in training cannot drown the others.
        values = torch.where(self.squashed, torch.log1p(values.abs()).copysign(values), values)
        values = torch.where(present, values, 0.0)
        return torch.cat([values, (~present).to(values.dtype)], dim=1)


class VectorProjection(nn.Module):
    """A given vector, mapped to another width; where there is none, a learned one.

    It is scaled to a mean square of 1 first, so that vectors of any encoder start alike.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.out = nn.Linear(width_in, width)
        self.missing = nn.Parameter(torch.randn(width) * 0.02)  # [D]

    def forward(self, values: Tensor, present: Tensor | None) -> Tensor:
        """[B, V] -> [B, D]; what stands in a row that is not `present` [B] does not matter, as long as it is finite."""
        norm = torch.linalg.vector_norm(values, dim=1, keepdim=True)  # [B, 1]
        # Scaling after the product gives the same and touches D numbers instead of V.
        scale = math.sqrt(values.shape[1]) / norm.clamp(min=1e-12)  # [B, 1]
        out = F.linear(values, self.out.weight) * scale + self.out.bias  # [B, D]
        return out if present is None else torch.where(present.unsqueeze(1), out, self.missing)


def _named(schema: ExampleSchema, kind: FeatureKind) -> tuple[str, ...]:
    return tuple(spec.name for spec in schema.specs if spec.kind == kind)


def _widths(schema: ExampleSchema, width: int) -> dict[str, int]:
    """The width of each feature's embedding; histories have that of the item, whose embeddings they use."""
    widths = {spec.name: spec.dim or width for spec in schema.specs}
    item = any(spec.name == ITEM and spec.kind == "categorical" for spec in schema.specs)
    return widths | {name: widths[ITEM] for name in _named(schema, "sequence") if item}


def _embeddings(schema: ExampleSchema, widths: Mapping[str, int]) -> dict[int, JointEmbedding]:
    """One joint table for each width."""
    categorical, histories = _named(schema, "categorical"), _named(schema, "sequence")
    shared = dict.fromkeys(histories, ITEM) if ITEM in categorical else {}
    for name, owner in shared.items():
        if schema.sizes[name] != schema.sizes[owner]:
            raise ValueError(f"feature '{name}': {schema.sizes[name]} codes, but '{owner}' has {schema.sizes[owner]}")
    coded = (*categorical, *_named(schema, "multi"), *histories)
    tables = {}
    for width in dict.fromkeys(widths[name] for name in coded):
        sizes = {name: schema.sizes[name] for name in coded if widths[name] == width}
        table = JointEmbedding(sizes, width, {name: owner for name, owner in shared.items() if name in sizes})
        # Until id dropout teaches it otherwise, an unknown user or item is its features and no noise.
        for name in {USER, ITEM} & set(categorical) & sizes.keys():
            nn.init.zeros_(table.weight[table.first_rows[name] + UNKNOWN])
        tables[width] = table
    return tables
