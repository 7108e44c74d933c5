"""Where the rows of a block of events stand, so that only attention computes with padding.

Shape letters: B sequences, L the longest sequence, T events of all sequences together, R rows (T if packed, B * L if
padded), W width of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceLayout:
    """Rows of events, one sequence after another: the events alone (packed), or each sequence padded on the right."""

    lengths: Tensor  # [B] int64
    """Events of each sequence; it may be empty."""
    longest: int
    """L, at least 1."""
    sequences: Tensor  # [R] int64
    """The sequence of each row."""
    columns: Tensor  # [R] int64
    """The place of each row in its sequence, 0 is the oldest event."""
    places: Tensor | None  # [R] int64
    """Where each row stands in a block of B * L rows; None if the rows are that block."""

    @classmethod
    def packed(cls, lengths: Tensor) -> SequenceLayout:
        """Rows are the events alone."""
        longest = max(1, int(lengths.max())) if lengths.numel() else 1
        sequences = torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)  # [T]
        starts = lengths.cumsum(0) - lengths  # [B]
        columns = torch.arange(sequences.numel(), device=lengths.device) - starts[sequences]  # [T]
        is_whole = sequences.numel() == lengths.numel() * longest  # all are equally long, so nothing is to be moved
        return cls(lengths, longest, sequences, columns, None if is_whole else sequences * longest + columns)

    @classmethod
    def padded(cls, lengths: Tensor, longest: int) -> SequenceLayout:
        """Rows are the whole block; what stands in padded rows is never looked at by an event."""
        batch = lengths.shape[0]
        places = torch.arange(batch * longest, device=lengths.device)  # [B * L]
        return cls(lengths, longest, places // longest, places % longest, None)

    @property
    def from_end(self) -> Tensor:
        """Events of the same sequence that follow each row, [R]; 0 in padded rows."""
        return (self.lengths[self.sequences] - 1 - self.columns).clamp(min=0)

    @property
    def last_places(self) -> Tensor:
        """Where each sequence's last event stands in the padded block, [B]; the first place of an empty sequence."""
        starts = torch.arange(self.lengths.shape[0], device=self.lengths.device) * self.longest  # [B]
        return starts + (self.lengths - 1).clamp(min=0)

    def pad(self, rows: Tensor) -> Tensor:
        """[R, W] -> [B, L, W], zeros where there is no row."""
        if self.places is not None:
            blank = rows.new_zeros(self.lengths.shape[0] * self.longest, rows.shape[-1])
            rows = blank.index_copy(0, self.places, rows)  # [B * L, W]
        return rows.view(self.lengths.shape[0], self.longest, rows.shape[-1])

    def unpad(self, block: Tensor) -> Tensor:
        """[B, L, W] -> [R, W]."""
        rows = block.flatten(0, 1)  # [B * L, W]
        return rows if self.places is None else rows.index_select(0, self.places)
