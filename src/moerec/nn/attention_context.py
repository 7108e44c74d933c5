"""What all blocks of one pass share: where rows of events stand, who asks, who is seen.

Shape letters: B sequences, L the longest sequence, R rows of events, Q queries of each sequence (L, or 1 for the last
event only), H heads, A and V widths of a query and of a value in one head, W any width, S rows that ask (R, or B for
the last event only).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from moerec.nn.positions import rotate
from moerec.nn.sequence_layout import SequenceLayout


@dataclass(frozen=True)
class AttentionContext:
    """What all blocks of one pass share."""

    layout: SequenceLayout
    """Where the rows stand."""
    angles: tuple[Tensor, Tensor] | None = None
    """What `rotary_angles` gives for the rows; None for no rotation."""
    buckets: Tensor | None = None
    """What `time_buckets` gives, [B, L, L]; None if no block has a time bias."""
    last: bool = False
    """Only each sequence's last event asks; the layout is padded then."""

    @property
    def sequences(self) -> Tensor:
        """The sequence of each row that asks, [S]."""
        return self.asking(self.layout.sequences)

    def asking(self, rows: Tensor) -> Tensor:
        """The rows [S, W] that ask, of [R, W]."""
        return rows.index_select(0, self.layout.last_places) if self.last else rows

    def queries(self, rows: Tensor, heads: int) -> Tensor:
        """[S, H * A] -> [B, H, Q, A]."""
        rows = _by_head(rows, heads)  # [S, H, A]
        if self.angles is not None:
            cosine, sine = self.angles
            rows = rotate(rows, (self._asking_angle(cosine), self._asking_angle(sine)))
        return rows.unsqueeze(2) if self.last else self._block(rows)

    def keys_values(self, keys: Tensor, values: Tensor, heads: int) -> tuple[Tensor, Tensor]:
        """[R, H * A] and [R, H * V] -> [B, H, L, A] and [B, H, L, V]."""
        keys, values = _by_head(keys, heads), _by_head(values, heads)  # [R, H, A], [R, H, V]
        return self._block(keys if self.angles is None else rotate(keys, self.angles)), self._block(values)

    def rows(self, mixed: Tensor) -> Tensor:
        """[B, H, Q, V] -> [S, H * V]."""
        block = mixed.transpose(1, 2).flatten(2)  # [B, Q, H * V]
        return block.squeeze(1) if self.last else self.layout.unpad(block)

    def visible(self) -> Tensor:
        """What each query sees, [1 or B, 1, Q, L] bool: itself and what came before, so never nothing."""
        places = torch.arange(self.layout.longest, device=self.layout.lengths.device)  # [L]
        if not self.last:
            return (places <= places[:, None])[None, None]
        return (places <= (self.layout.lengths - 1).clamp(min=0)[:, None])[:, None, None]

    def _asking_angle(self, angle: Tensor) -> Tensor:
        return angle.index_select(0, self.layout.last_places) if self.last else angle

    def _block(self, rows: Tensor) -> Tensor:
        """[R, H, W] -> [B, H, L, W]."""
        block = self.layout.pad(rows.flatten(1))  # [B, L, H * W]
        return block.view(*block.shape[:2], *rows.shape[1:]).transpose(1, 2)


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """[R, H * W] -> [R, H, W]."""
    return rows.view(rows.shape[0], heads, rows.shape[1] // heads)
