"""What the sequential retrievers share: item tower, empty history, encoder; they differ in their blocks.

Shape letters: B sequences, L padded length, T events of all sequences together, R rows of events, N items, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.batches.sequences import SequenceBatch
from moerec.config import Config
from moerec.models.item_tower import ItemTower, ItemTowerConfig
from moerec.models.roles import Retriever, missing_times
from moerec.nn.encoder_options import EncoderOptions
from moerec.nn.encoders import MakeBlock, SequenceEncoder
from moerec.nn.inputs import FeatureTable
from moerec.nn.sequence_layout import SequenceLayout


class SequenceRetrieverConfig(Config):
    """The keys of every sequential retriever."""

    width: int = Field(default=64, ge=1)
    """Width of item and user vectors."""
    blocks: int = Field(default=2, ge=1)
    """Number of blocks."""
    heads: int = Field(default=2, ge=1)
    """Attention heads of each block."""
    max_length: int = Field(default=50, ge=1)
    """Most recent events that the model sees."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Dropout of event vectors and of the output of attention and feed-forward."""
    norm: Literal["layer", "rms"] = "layer"
    """layer: LayerNorm; rms: RMSNorm."""
    positions: Literal["learned", "rope", "none"] = "learned"
    """learned: a vector for each place, counted back from the newest event; rope: queries and keys are turned by their
    place, so that only distances count; none: order is known by the causal mask and the biases alone."""
    relative_bias: bool = False
    """Add a learned number to attention logits for each distance in places, in each head."""
    time_bias: bool = False
    """Add a learned number for each bucket of the time between two events, in each head; needs timestamps. Bucket k of
    32 holds from 2^k - 1 seconds up to 2^(k+1) - 1 seconds."""
    stochastic_depth: float = Field(default=0.0, ge=0, lt=1)
    """Share of sequences that do without a residual branch of the last block in training; in proportion to the depth
    for earlier blocks."""
    checkpoint_activations: bool = False
    """Compute blocks again in the backward pass instead of keeping their activations: less memory, more time."""
    packed: bool = True
    """Compute all but attention on the events alone, without padding, and with a quicker dropout. False pads."""
    item_tower: ItemTowerConfig = ItemTowerConfig()
    """How an item's vector is made."""

    @property
    def query_width(self) -> int:
        """Width of a query in one head.

        Raises:
            ValueError: the heads do not divide the width.
        """
        if self.width % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide width ({self.width})")
        return self.width // self.heads

    @model_validator(mode="after")
    def _check(self) -> SequenceRetrieverConfig:
        if self.query_width % 2 and self.positions == "rope":
            raise ValueError(
                f"positions: rope turns pairs of values, but a head is {self.query_width} wide; make it even"
            )
        return self

    def options(self) -> EncoderOptions:
        """What the encoder is told."""
        return EncoderOptions(
            width=self.width,
            blocks=self.blocks,
            heads=self.heads,
            query_width=self.query_width,
            max_length=self.max_length,
            dropout=self.dropout,
            norm=self.norm,
            positions=self.positions,
            relative_bias=self.relative_bias,
            time_bias=self.time_bias,
            stochastic_depth=self.stochastic_depth,
            checkpoint_activations=self.checkpoint_activations,
            packed=self.packed,
        )

    @abstractmethod
    def make_block(self) -> MakeBlock:
        """Makes the blocks of the encoder."""

    def build(self, trained: Tensor, table: FeatureTable | None = None) -> SequenceRetriever:
        """Make the model.

        Args:
            trained: [num_indices] bool, which items have train events.
            table: columns of the items' features, one row for each index; None for ids alone.
        """
        return SequenceRetriever(self, trained, table)


class SequenceRetriever(Retriever):
    """A causal encoder over item vectors; its output at an event is the user's vector after it."""

    def __init__(self, config: SequenceRetrieverConfig, trained: Tensor, table: FeatureTable | None) -> None:
        super().__init__()
        self.config: SequenceRetrieverConfig = config
        self.item_tower = ItemTower(config.item_tower, config.width, trained, table)
        self.encoder = SequenceEncoder(config.options(), config.make_block())
        self.empty_history = nn.Parameter(torch.zeros(config.width))

    @property
    def max_length(self) -> int:
        """Most recent events that the model sees."""
        return self.config.max_length

    @property
    def reads_times(self) -> bool:
        """Whether the model has a time bias."""
        return self.config.time_bias

    def compile_for_training(self) -> None:
        """Compile the encoder over all events, once for all lengths; lists are made by `encode_padded`, which stays."""
        self.encoder.compile(dynamic=True)

    def encode_events(self, batch: SequenceBatch, item_vectors: Tensor | None = None) -> Tensor:
        """The user's vector after each event, [T, D]; see `Retriever.encode_events`."""
        lengths = batch.lengths  # [B]
        packed = SequenceLayout.packed(lengths)
        if packed.longest > self.max_length:
            raise ValueError(
                f"a sequence of {packed.longest} events exceeds max_length {self.max_length}; cut it with last()"
            )
        times = self.padded_times(batch)  # [B, L]
        events = self._event_vectors(batch.items, item_vectors)  # [T, D]
        if self.config.packed:
            encoded: Tensor = self.encoder(events, packed, times)
            return encoded
        layout = SequenceLayout.padded(lengths, packed.longest)
        block = self.encoder(packed.pad(events).flatten(0, 1), layout, times)  # [B * L, D]
        return packed.unpad(layout.pad(block))

    def encode_padded(
        self, items: Tensor, lengths: Tensor, item_vectors: Tensor | None = None, timestamps: Tensor | None = None
    ) -> Tensor:
        """The user's vector after the last event, [B, D]; see `Retriever.encode_padded`."""
        if self.reads_times and timestamps is None:
            raise missing_times()
        encoded = self.encoder.last(self._event_vectors(items, item_vectors), lengths, timestamps)  # [B, D]
        return torch.where(lengths[:, None] > 0, encoded, self.empty_history)

    def _event_vectors(self, items: Tensor, item_vectors: Tensor | None) -> Tensor:
        return F.embedding(items, self.encode_items() if item_vectors is None else item_vectors)
