"""Balance: what keeps a gate from sending everything to a few experts.

Shape letters: N rows, E experts.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from moerec.config import Config

DEFAULT_RATE = 0.001
DEFAULT_WEIGHTS = {"auxiliary": 0.01, "z_loss": 0.001}


class BalanceConfig(Config):
    """How the use of a gate's experts is kept even."""

    kind: Literal["none", "auxiliary", "z_loss", "loss_free"] = "none"
    """none; auxiliary: a loss that is least where all experts are used alike (Fedus et al. 2022); z_loss: a loss on
    large logits (Zoph et al. 2022); loss_free: a bias on the selection, moved after each update (Wang et al. 2024)."""
    weight: float | None = Field(default=None, gt=0)
    """Factor of the loss; null for 0.01 of `auxiliary` and 0.001 of `z_loss`."""
    rate: float | None = Field(default=None, gt=0)
    """How far `loss_free` moves the bias of an expert after an update; null for 0.001."""

    @model_validator(mode="after")
    def _check(self) -> BalanceConfig:
        if self.weight is not None and self.kind not in DEFAULT_WEIGHTS:
            raise ValueError(f"weight: kind '{self.kind}' has no loss that it could weigh; remove it")
        if self.rate is not None and self.kind != "loss_free":
            raise ValueError(
                f"rate: kind '{self.kind}' has no bias that could move; remove it, or write kind: loss_free"
            )
        return self

    def loss(self, logits: Tensor, selected: Tensor | None) -> Tensor | None:
        """The loss of a batch as a mean over its rows, weighed; None if this kind has none.

        Args:
            logits: [N, E] of the gate.
            selected: [N, E] bool, the experts that speak for a row; None for all.
        """
        if self.kind not in DEFAULT_WEIGHTS:
            return None
        weight = DEFAULT_WEIGHTS[self.kind] if self.weight is None else self.weight
        return weight * (auxiliary_loss(logits, selected) if self.kind == "auxiliary" else z_loss(logits))


def auxiliary_loss(logits: Tensor, selected: Tensor | None) -> Tensor:
    """E times the sum over experts of (share of the selections) x (mean probability); 1 when all are used alike.

    The share of the selections has no gradient. Where every expert speaks for every row there is no selection, and
    the mean probability stands in its place.

    Args:
        logits: [N, E].
        selected: [N, E] bool, or None.
    """
    importance = torch.softmax(logits, dim=-1).mean(0)  # [E]
    share = importance if selected is None else selected.sum(0) / selected.sum()  # [E]
    return logits.shape[-1] * (share * importance).sum()


def z_loss(logits: Tensor) -> Tensor:
    """The mean square of the logarithm of the softmax's denominator; large logits lose precision and stop learning.

    Args:
        logits: [N, E].
    """
    return torch.logsumexp(logits, dim=-1).square().mean()
