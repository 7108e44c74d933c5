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
        if not self.drops:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.share)
        return x * _drawn(x.shape).to(x.dtype).lt_(self.kept).mul_(self.scale)

    @property
    def drops(self) -> bool:
        """Whether anything is set to 0 now."""
        return self.training and self.share > 0

    @property
    def scale(self) -> float:
        """What kept values are multiplied by on the CPU."""
        return 256 / self.kept

    def draw(self, shape: torch.Size) -> Tensor:
        """Bytes of a shape on the CPU, 1 where a value is kept and 0 where not; `forward` draws the same."""
        return _drawn(shape).lt_(self.kept)


def _drawn(shape: torch.Size) -> Tensor:
    """Bytes 0 to 255, all as likely; they are compared in place, as making booleans takes ten times as long."""
    count = shape.numel()
    eights = torch.randint(_INT64.min, _INT64.max, ((count + 7) // 8,))
    return eights.view(torch.uint8)[:count].view(shape)
