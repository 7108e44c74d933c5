"""Cross-entropy of a positive among drawn negatives, corrected for how they were drawn.

Shape letters: T events with something to predict, N negatives, C events of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from moerec.losses.retrieval.base import SampledLossConfig, SoftmaxFamilyConfig
from moerec.losses.retrieval.focal import focal
from moerec.losses.retrieval.negatives import Negatives, NegativesConfig


class SampledSoftmaxConfig(SoftmaxFamilyConfig, SampledLossConfig):
    """Cross-entropy against drawn negatives: nearly the full softmax, at a cost that does not grow with the items."""

    log_q: bool = True
    """Divide each negative by how often it was expected (logQ); without it what is drawn often is pushed down more."""

    def rule(self, negatives: Negatives) -> SoftmaxRule:
        """See `SampledLossConfig`."""
        counts = None if negatives.counts is None else negatives.counts.log()  # [N]
        if not self.log_q:
            return SoftmaxRule(counts, self.focal_gamma)
        offsets = -negatives.log_expected if counts is None else counts - negatives.log_expected
        return SoftmaxRule(offsets, self.focal_gamma)


class MixedNegativesConfig(NegativesConfig):
    """What a positive is told apart from."""

    kind: Literal["uniform", "popularity", "in_batch", "mixed"] = "mixed"
    """uniform; popularity: by train counts; in_batch: the batch's other positives; mixed: these and drawn ones."""


class InfoNCEConfig(SampledSoftmaxConfig):
    """Cross-entropy against the batch's other positives and drawn negatives, with two temperatures."""

    negatives: MixedNegativesConfig = MixedNegativesConfig()
    """What a positive is told apart from; the positive itself is never its own negative."""
    negative_temperature: float | None = Field(default=None, gt=0)
    """Scores of negatives are divided by this instead of `temperature`; null for the same."""

    def rule(self, negatives: Negatives) -> SoftmaxRule:
        """See `SampledLossConfig`."""
        plain = super().rule(negatives)
        # The scores come divided by `temperature` already.
        scale = self.temperature / (self.negative_temperature or self.temperature)
        return SoftmaxRule(plain.offsets, plain.gamma, scale)


@dataclass(frozen=True)
class SoftmaxRule:
    """See `contrast.Rule`."""

    offsets: Tensor | None  # [N] or [T, N]
    """What is added to the scores of negatives; None for nothing."""
    gamma: float
    """Exponent of the focal factor."""
    scale: float = 1.0
    """Factor of the scores of negatives."""

    def __call__(self, positive: Tensor, negative: Tensor, part: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `contrast.Rule`."""
        if self.scale != 1:
            negative.mul_(self.scale)
        if self.offsets is not None:
            negative.add_(self.offsets if self.offsets.dim() == 1 else self.offsets[part])
        highest = torch.maximum(positive, negative.amax(1))  # [C]
        raised = (positive - highest).exp()  # [C]
        weights = negative.sub_(highest[:, None]).exp_()  # [C, N]
        wrong = weights.sum(1)  # [C]
        sums = wrong + raised  # [C]
        losses = sums.log() + highest - positive  # [C]
        slope: Tensor | float = 1.0
        if self.gamma:
            losses, slope = focal(losses, self.gamma)
        return losses, -wrong / sums * slope, weights, self.scale * slope / sums
