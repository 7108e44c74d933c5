"""SASRec: a causal transformer over item vectors (Kang & McAuley 2018), pre-norm, with an item tower.

Shape letters: B sequences, T events of all sequences together, N items, D width.
"""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.sequences import SequenceBatch
from moerec.config import Config
from moerec.models.item_tower import ItemTower, ItemTowerConfig
from moerec.models.roles import Retriever
from moerec.nn.encoders import TransformerEncoder
from moerec.nn.inputs import FeatureTable


class SASRecConfig(Config):
    """Self-attentive sequential retriever."""

    width: int = Field(default=64, ge=1)
    """Width of item and user vectors."""
    blocks: int = Field(default=2, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of each block; must divide the width."""
    feed_forward: int = Field(default=256, ge=1)
    """Hidden width of the feed-forward network."""
    max_length: int = Field(default=50, ge=1)
    """Most recent events that the model sees."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of event vectors and of the output of attention and feed-forward."""
    item_tower: ItemTowerConfig = ItemTowerConfig()
    """How an item's vector is made."""

    @model_validator(mode="after")
    def _check(self) -> SASRecConfig:
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self

    def build(self, trained: Tensor, table: FeatureTable | None = None) -> SASRec:
        """Make the model.

        Args:
            trained: [num_indices] bool, which items have train events.
            table: columns of the items' features, one row for each index; None for ids alone.
        """
        return SASRec(self, trained, table)


class SASRec(Retriever):
    """See the module's docstring."""

    def __init__(self, config: SASRecConfig, trained: Tensor, table: FeatureTable | None) -> None:
        super().__init__()
        self.config: SASRecConfig = config
        self.item_tower = ItemTower(config.item_tower, config.width, trained, table)
        self.encoder = TransformerEncoder(
            config.width, config.blocks, config.heads, config.feed_forward, config.dropout, config.max_length
        )
        self.empty_history = nn.Parameter(torch.zeros(config.width))

    @property
    def max_length(self) -> int:
        """Most recent events that the model sees."""
        return self.config.max_length

    def encode_events(self, batch: SequenceBatch, item_vectors: Tensor | None = None) -> Tensor:
        """The user's vector after each event, [T, D]; see `Retriever.encode_events`."""
        longest = int(batch.lengths.max())
        if longest > self.max_length:
            raise ValueError(f"a sequence of {longest} events exceeds max_length {self.max_length}; cut it with last()")
        rows, columns = batch.padded_index()
        events = self._event_vectors(batch.items, item_vectors)  # [T, D]
        x = events.new_zeros(len(batch), longest, events.shape[-1])  # [B, L, D]
        x[rows, columns] = events
        return self.encoder(x, batch.lengths)[rows, columns]

    def encode_padded(self, items: Tensor, lengths: Tensor, item_vectors: Tensor | None = None) -> Tensor:
        """The user's vector after the last event, [B, D]; see `Retriever.encode_padded`."""
        encoded = self.encoder.last(self._event_vectors(items, item_vectors), lengths)  # [B, D]
        return torch.where(lengths[:, None] > 0, encoded, self.empty_history)

    def _event_vectors(self, items: Tensor, item_vectors: Tensor | None) -> Tensor:
        return F.embedding(items, self.encode_items() if item_vectors is None else item_vectors)
