"""Losses that judge each item by itself or in pairs: binary cross-entropy, its calibrated form, and BPR.

Shape letters: N negatives, C events of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from moerec.losses.retrieval.base import SampledLossConfig
from moerec.losses.retrieval.negatives import Negatives, NegativesConfig


class OneNegativeConfig(NegativesConfig):
    """What a positive is told apart from; by default one uniform negative for each event."""

    DRAWN: ClassVar[int] = 1
    SHARED: ClassVar[bool] = False


class ManyNegativesConfig(NegativesConfig):
    """What a positive is told apart from."""

    DRAWN: ClassVar[int] = 256


class BCEConfig(SampledLossConfig):
    """Binary cross-entropy, the mean over a positive and what was drawn; with one negative the loss of SASRec."""

    negatives: OneNegativeConfig = OneNegativeConfig()
    """What a positive is told apart from; the positive itself is never its own negative."""

    def rule(self, negatives: Negatives) -> BinaryRule:
        """See `SampledLossConfig`."""
        return BinaryRule(negatives.counts, 1.0)


class GBCEConfig(SampledLossConfig):
    """Binary cross-entropy whose positive counts less the fewer items are drawn (gSASRec, Petrov & Macdonald 2023)."""

    negatives: ManyNegativesConfig = ManyNegativesConfig()
    """What a positive is told apart from: uniform draws, for which the calibration is made."""
    calibration: float = Field(default=0.75, ge=0, le=1)
    """The paper's t: 0 is plain binary cross-entropy, 1 gives calibrated probabilities."""

    @model_validator(mode="after")
    def _check(self) -> GBCEConfig:
        if self.negatives.kind != "uniform":
            raise ValueError(
                f"gbce is calibrated for uniform negatives, not {self.negatives.kind}; "
                "use kind: uniform, or the loss bce"
            )
        return self

    def rule(self, negatives: Negatives) -> BinaryRule:
        """See `SampledLossConfig`."""
        # The share of all other items that each event is compared with.
        rate = min(1.0, negatives.total / max(1, negatives.population - 1))
        return BinaryRule(negatives.counts, 1 - self.calibration * (1 - rate))


class BPRConfig(SampledLossConfig):
    """The positive should score higher than each negative (Rendle et al. 2009), the mean over what was drawn for it."""

    negatives: OneNegativeConfig = OneNegativeConfig()
    """What a positive is told apart from; the positive itself is never its own negative."""

    def rule(self, negatives: Negatives) -> PairRule:
        """See `SampledLossConfig`."""
        return PairRule(negatives.counts)


@dataclass(frozen=True)
class BinaryRule:
    """See `contrast.Rule`."""

    counts: Tensor | None  # [N]
    """How often each negative counts; None for once."""
    positive_weight: float
    """Exponent of the positive's probability."""

    def __call__(self, positive: Tensor, negative: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor, float]:
        """See `contrast.Rule`."""
        share = _share(self.counts, negative, 1)
        losses = (F.softplus(negative) * share).sum(1)  # [C]
        first = share if self.counts is None else 1 / (1 + self.counts.sum())
        losses += first * self.positive_weight * F.softplus(-positive)
        return losses, -first * self.positive_weight * torch.sigmoid(-positive), negative.sigmoid_().mul_(share), 1.0


@dataclass(frozen=True)
class PairRule:
    """See `contrast.Rule`."""

    counts: Tensor | None  # [N]
    """How often each negative counts; None for once."""

    def __call__(self, positive: Tensor, negative: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor, float]:
        """See `contrast.Rule`."""
        share = _share(self.counts, negative, 0)
        margins = negative.sub_(positive[:, None])  # [C, N]
        losses = (F.softplus(margins) * share).sum(1)  # [C]
        by_negative = margins.sigmoid_().mul_(share)  # [C, N]
        return losses, -by_negative.sum(1), by_negative, 1.0


def _share(counts: Tensor | None, negative: Tensor, others: int) -> Tensor | float:
    """The part of a mean that each negative is, beside `others`."""
    return 1 / (negative.shape[1] + others) if counts is None else counts / (counts.sum() + others)
