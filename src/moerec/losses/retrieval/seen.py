"""What an event's user has met by then.

Shape letters: T events with something to predict, N items, B sequences, S meetings of all sequences, M items that are
asked for, R sequences of a chunk, C events of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IMPOSSIBLE = 1e30
"""What is taken from the logit of an item that is left out: the exponential of such a number is exactly 0."""
NEVER = 2**15 - 1
"""Place of an item that the user has not met."""


@dataclass(frozen=True)
class SeenItems:
    """Which items each event's user has met by then, in the memory of the histories alone."""

    items: Tensor  # [S] int64
    """Items that were met, one sequence after another; repeats are allowed."""
    met_at: Tensor  # [S] int16
    """Place in the sequence of each meeting; -1 for one before the sequence."""
    offsets: Tensor  # [B + 1] int64
    """Sequence b has the meetings offsets[b] to offsets[b + 1] - 1."""
    num_items: int
    """N."""
    rows: Tensor  # [T] int64
    """Sequence of each event."""
    places: Tensor  # [T] int16
    """Place of each event in its sequence; -1 for one that has met nothing of the sequence."""

    @classmethod
    def of(
        cls, met: tuple[Tensor, Tensor, Tensor], sequences: int, num_items: int, rows: Tensor, places: Tensor
    ) -> SeenItems:
        """From meetings in any order.

        Args:
            met: sequence, item and place [S] of each meeting.
            sequences: B.
            num_items: N.
            rows: see the field.
            places: see the field.

        Raises:
            ValueError: a place does not fit into 16 bits.
        """
        if met[2].numel() and int(met[2].max()) >= NEVER:
            raise ValueError(f"sequences must be shorter than {NEVER} events; cut them with last()")
        order = torch.argsort(met[0], stable=True)
        counts = torch.bincount(met[0], minlength=sequences)  # [B]
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])  # [B + 1]
        return cls(met[1][order], met[2][order].to(torch.int16), offsets, num_items, rows, places)

    def leave_out(self, logits: Tensor, start: int, wanted: Tensor | None = None) -> None:
        """Make impossible, in the logits [C, N] of events from `start` on, what they have met, but for the wanted one.

        Args:
            logits: changed in place, in 32 bits or more.
            start: the first event.
            wanted: [C, 1] item that counts all the same; None for none.
        """
        part = slice(start, start + len(logits))
        sequences, inverse = torch.unique(self.rows[part], return_inverse=True)  # [R], [C]
        SeenTable(self._first_met(sequences), inverse, self.places[part]).leave_out(logits, 0, wanted)

    def table(self, items: Tensor | None = None) -> SeenTable:
        """The same as a table of all sequences and some items [M], or all; for few of both."""
        first = self._first_met(torch.arange(len(self.offsets) - 1, device=self.offsets.device))  # [B, N]
        return SeenTable(first if items is None else first[:, items], self.rows, self.places)

    def _first_met(self, sequences: Tensor) -> Tensor:
        """Place at which sequences [R] first met each item, [R, N] int16."""
        starts, counts = self.offsets[sequences], self.offsets[sequences + 1] - self.offsets[sequences]  # [R]
        owners = torch.arange(len(sequences), device=counts.device).repeat_interleave(counts)
        index = torch.arange(len(owners), device=counts.device)
        index += (starts - counts.cumsum(0) + counts).repeat_interleave(counts)
        first = torch.full((len(sequences), self.num_items), NEVER, dtype=torch.int16, device=counts.device)
        first.view(-1).scatter_reduce_(0, owners * self.num_items + self.items[index], self.met_at[index], "amin")
        return first


@dataclass(frozen=True)
class SeenTable:
    """Which items each event's user has met by then, as a table of sequences and items."""

    first_met: Tensor  # [B, N] int16
    """Place in the sequence at which the user first met the item; -1 before it, NEVER for never."""
    rows: Tensor  # [T] int64
    """Sequence of each event."""
    places: Tensor  # [T] int16
    """Place of each event in its sequence; -1 for one that has met nothing of the sequence."""

    def leave_out(self, logits: Tensor, start: int, wanted: Tensor | None = None) -> None:
        """See `SeenItems.leave_out`.

        In numbers throughout: on the CPU making and reading booleans takes ten times as long.
        """
        end = start + len(logits)
        first = self.first_met.index_select(0, self.rows[start:end]).to(logits.dtype)  # [C, N]
        met = first.le_(self.places[start:end, None].to(logits.dtype))  # [C, N] 1 or 0
        if wanted is not None:
            met.scatter_(1, wanted, 0)
        logits.sub_(met, alpha=IMPOSSIBLE)

    def mask_own(self, start: int, end: int, items: Tensor) -> Tensor:
        """[end - start, M] bool: which of their own items [end - start, M] events start to end - 1 have met."""
        return self.first_met[self.rows[start:end, None], items] <= self.places[start:end, None]
