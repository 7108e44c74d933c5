"""LiGR: SASRec with gated residual branches and a SwiGLU feed-forward (Borisyuk et al. 2025, as in eSASRec)."""

from __future__ import annotations

from functools import partial

from pydantic import Field
from torch import Tensor

from moerec.models.sequence_retriever import SequenceRetriever, SequenceRetrieverConfig
from moerec.nn.encoders import MakeBlock
from moerec.nn.inputs import FeatureTable
from moerec.nn.ligr import LiGRBlock


class LiGRConfig(SequenceRetrieverConfig):
    """Sequential retriever whose residual branches are gated by what they are added to."""

    feed_forward: int = Field(default=256, ge=1)
    """Hidden width of the SwiGLU feed-forward network, which has three matrices of it."""

    def make_block(self) -> MakeBlock:
        """LiGR blocks."""
        return partial(LiGRBlock, hidden=self.feed_forward)

    def build(self, trained: Tensor, table: FeatureTable | None = None) -> LiGR:
        """Make the model; see `SequenceRetrieverConfig.build`."""
        return LiGR(self, trained, table)


class LiGR(SequenceRetriever):
    """See the module's docstring."""
