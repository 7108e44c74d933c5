"""SASRec: a causal transformer over item vectors (Kang & McAuley 2018), pre-norm, with an item tower."""

from __future__ import annotations

from functools import partial

from pydantic import Field
from torch import Tensor

from moerec.models.sequence_retriever import SequenceRetriever, SequenceRetrieverConfig
from moerec.nn.attention import TransformerBlock
from moerec.nn.encoders import MakeBlock
from moerec.nn.inputs import FeatureTable


class SASRecConfig(SequenceRetrieverConfig):
    """Self-attentive sequential retriever."""

    feed_forward: int = Field(default=256, ge=1)
    """Hidden width of the feed-forward network."""

    def make_block(self) -> MakeBlock:
        """Transformer blocks."""
        return partial(TransformerBlock, hidden=self.feed_forward)

    def build(self, trained: Tensor, table: FeatureTable | None = None) -> SASRec:
        """Make the model; see `SequenceRetrieverConfig.build`."""
        return SASRec(self, trained, table)


class SASRec(SequenceRetriever):
    """See the module's docstring."""
