"""Dropout that draws a byte for each value, where drawing a float takes longer than a layer does."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_INT64 = torch.iinfo(torch.int64)


class Dropout(nn.Module):
    """Sets a share of the values to 0 in training and scales the others, so that the mean stays.

    On the CPU the share is rounded to a multiple of 1/256.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        # A share above 0 drops something and keeps something.
        self.kept = 256 if share == 0 else min(max(round(256 * (1 - share)), 1), 255)
        self.share = share

    def extra_repr(self) -> str:
        """What a printed model shows."""
        return f"share={self.share}"

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; unchanged in evaluation."""
        if not self.training or self.share == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        eights = torch.randint(_INT64.min, _INT64.max, ((x.numel() + 7) // 8,))
        drawn = eights.view(torch.uint8)[: x.numel()].view(x.shape)  # each 0 to 255, all as likely
        # Making a tensor of booleans takes ten times as long as comparing in place in floats.
        return x * drawn.to(x.dtype).lt_(self.kept).mul_(256 / self.kept)
