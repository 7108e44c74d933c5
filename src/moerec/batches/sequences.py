"""SequenceBatch: histories of several users as one jagged block of values and offsets.

Shape letters: B sequences, T events of all sequences together, L the longest sequence, N size of the item index,
P events before the sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class SequenceBatch:
    """Histories, oldest event first, one user after another."""

    items: Tensor  # [T] int64
    """Item index of each event."""
    offsets: Tensor  # [B + 1] int64
    """Sequence b holds the events offsets[b] to offsets[b + 1] - 1; it may be empty."""
    timestamps: Tensor | None = None  # [T] int64
    """Milliseconds since 1970; None if the source has no times."""
    users: Tensor | None = None  # [B] int64
    """User index of each sequence; None for users outside the data set."""
    request_times: Tensor | None = None  # [B] int64
    """When a list is asked for, in milliseconds since 1970; None where nothing depends on it."""
    positives: Tensor | None = None  # [T] int64
    """In training: the item that follows each event; PADDING where none is to be predicted."""
    first: Tensor | None = None  # [B] int64
    """In training: the user's first item of all, to be predicted from nothing; PADDING if the sequence starts later."""
    earlier: Tensor | None = None  # [P] int64
    """In training: items of the users' events before these sequences, one user after another."""
    earlier_offsets: Tensor | None = None  # [B + 1] int64
    """In training: where each user's earlier items start."""
    weights: Tensor | None = None  # [T] float32
    """In training: how much each positive counts; None for 1."""
    first_weights: Tensor | None = None  # [B] float32
    """In training: how much each of `first` counts; None for 1."""

    def __len__(self) -> int:
        return self.offsets.numel() - 1

    @property
    def lengths(self) -> Tensor:
        """Number of events of each sequence, [B] int64."""
        return self.offsets.diff()

    def to(self, device: torch.device | str) -> SequenceBatch:
        """The same batch on another device."""
        moved = {
            field.name: value.to(device, non_blocking=True)
            for field in fields(self)
            if (value := getattr(self, field.name)) is not None
        }
        return replace(self, **moved)

    def last(self, length: int) -> SequenceBatch:
        """The same batch with at most the `length` most recent events of each sequence."""
        if self.lengths.numel() == 0 or int(self.lengths.max()) <= length:
            return self
        kept = self.lengths.clamp(max=length)  # [B]
        offsets = torch.cat([kept.new_zeros(1), kept.cumsum(0)])  # [B + 1]
        starts = self.offsets[1:] - kept  # [B]
        within = torch.arange(int(offsets[-1]), device=kept.device) - offsets[:-1].repeat_interleave(kept)
        index = starts.repeat_interleave(kept) + within  # [T']
        return replace(
            self,
            items=self.items[index],
            offsets=offsets,
            timestamps=None if self.timestamps is None else self.timestamps[index],
            positives=None if self.positives is None else self.positives[index],
            weights=None if self.weights is None else self.weights[index],
        )

    def select(self, rows: Tensor) -> SequenceBatch:
        """Some of the sequences, in the order asked for.

        Args:
            rows: [B'] positions of sequences.
        """
        index, offsets = _slices(self.offsets, rows)  # [T'], [B' + 1]
        earlier, earlier_offsets = self.earlier, self.earlier_offsets
        if earlier is not None and earlier_offsets is not None:
            places, earlier_offsets = _slices(earlier_offsets, rows)
            earlier = earlier[places]
        return SequenceBatch(
            items=self.items[index],
            offsets=offsets,
            timestamps=None if self.timestamps is None else self.timestamps[index],
            users=None if self.users is None else self.users[rows],
            request_times=None if self.request_times is None else self.request_times[rows],
            positives=None if self.positives is None else self.positives[index],
            first=None if self.first is None else self.first[rows],
            earlier=earlier,
            earlier_offsets=earlier_offsets,
            weights=None if self.weights is None else self.weights[index],
            first_weights=None if self.first_weights is None else self.first_weights[rows],
        )

    def meetings(self) -> tuple[Tensor, Tensor, Tensor]:
        """Which item each sequence's user met, and where in the sequence: rows, items, places, all [T + P] int64.

        The place is -1 for what was met before the sequence.
        """
        rows, places = self.padded_index()  # [T]
        if self.earlier is None or self.earlier_offsets is None:
            return rows, self.items, places
        owners = torch.arange(len(self), device=rows.device).repeat_interleave(self.earlier_offsets.diff())  # [P]
        before = torch.full_like(self.earlier, -1)  # [P]
        return torch.cat([rows, owners]), torch.cat([self.items, self.earlier]), torch.cat([places, before])

    def padded_items(self) -> Tensor:
        """The items as a block padded on the right with 0, [B, L] int64; L is at least 1."""
        return self.padded(self.items)

    def padded(self, values: Tensor) -> Tensor:
        """One value of each event [T] as a block padded on the right with 0, [B, L]; L is at least 1."""
        rows, columns = self.padded_index()
        longest = max(1, int(self.lengths.max())) if len(self) else 1
        block = values.new_zeros(len(self), longest)  # [B, L]
        block[rows, columns] = values
        return block

    def padded_index(self) -> tuple[Tensor, Tensor]:
        """Where each event stands in a block padded on the right.

        Returns:
            rows and columns, both [T] int64: event t is at [rows[t], columns[t]] of a [B, L] block.
        """
        lengths = self.lengths  # [B]
        rows = torch.arange(len(self), device=lengths.device).repeat_interleave(lengths)  # [T]
        columns = torch.arange(self.items.numel(), device=lengths.device) - self.offsets[:-1][rows]  # [T]
        return rows, columns


def _slices(offsets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Where the values of some rows of a jagged block stand, and the offsets of these rows."""
    starts, lengths = offsets[rows], offsets[rows + 1] - offsets[rows]  # [B']
    chosen = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])  # [B' + 1]
    index = torch.arange(int(chosen[-1]), device=rows.device) + (starts - chosen[:-1]).repeat_interleave(lengths)
    return index, chosen


def sequence_batch(
    histories: list[list[int]], device: torch.device | str = "cpu", times: list[list[int]] | None = None
) -> SequenceBatch:
    """A batch from plain lists of item indices and, where they are known, of milliseconds since 1970, oldest first."""
    lengths = torch.tensor([0, *map(len, histories)], dtype=torch.int64)
    items = torch.tensor([item for history in histories for item in history], dtype=torch.int64)
    timestamps = None
    if times is not None:
        timestamps = torch.tensor([time for history in times for time in history], dtype=torch.int64)
    return SequenceBatch(items=items, offsets=lengths.cumsum(0), timestamps=timestamps).to(device)
