"""HSTU: hierarchical sequential transduction units over item vectors (Zhai et al. 2024), in two forms of attention."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from moerec.models.sequence_retriever import SequenceRetriever, SequenceRetrieverConfig
from moerec.nn.encoders import MakeBlock
from moerec.nn.hstu import HSTUBlock
from moerec.nn.inputs import FeatureTable


class HSTUConfig(SequenceRetrieverConfig):
    """Sequential retriever without feed-forward networks: what attention gathers is gated by the event itself."""

    attention: Literal["silu", "softmax"] = "silu"
    """silu: the paper's pointwise form, whose weights do not sum to 1; softmax: the stable form with the same gate."""
    qk_width: int | None = Field(default=None, ge=1)
    """Width of a query and of a key in one head; width / heads by default."""
    value_width: int | None = Field(default=None, ge=1)
    """Width of a value and of the gate in one head; width / heads by default."""
    relative_bias: bool = True
    """Add a learned number to attention logits for each distance in places, in each head."""

    @property
    def query_width(self) -> int:
        """Width of a query in one head."""
        return super().query_width if self.qk_width is None else self.qk_width

    @property
    def gate_width(self) -> int:
        """Width of a value and of the gate in one head."""
        return super().query_width if self.value_width is None else self.value_width

    @model_validator(mode="after")
    def _check_gate(self) -> HSTUConfig:
        assert self.gate_width  # raises where the heads do not divide the width
        return self

    def make_block(self) -> MakeBlock:
        """HSTU blocks."""
        return partial(HSTUBlock, attention=self.attention, value_width=self.gate_width)

    def build(self, trained: Tensor, table: FeatureTable | None = None) -> HSTU:
        """Make the model; see `SequenceRetrieverConfig.build`."""
        return HSTU(self, trained, table)


class HSTU(SequenceRetriever):
    """See the module's docstring."""
