"""What an event's user has met by then.

Shape letters: T events with something to predict, N items, B sequences, M items that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

IMPOSSIBLE = 1e30
"""What is taken from the logit of an item that is left out: the exponential of such a number is exactly 0."""


@dataclass(frozen=True)
class SeenItems:
    """Which items each event's user has met by then, without a T x N matrix."""

    first_seen: Tensor  # [B, N] int16
    """Place in the sequence at which the user first met the item; -1 before it, a huge number for never."""
    rows: Tensor  # [T] int64
    """Sequence of each event."""
    places: Tensor  # [T] int16
    """Place of each event in its sequence; -1 for one that has met nothing of the sequence."""

    def leave_out(self, logits: Tensor, start: int, wanted: Tensor | None = None) -> None:
        """Make impossible, in the logits [C, N] of events from `start` on, what they have met, but for the wanted one.

        In numbers throughout: on the CPU making and reading booleans takes ten times as long.

        Args:
            logits: changed in place, in 32 bits or more.
            start: the first event.
            wanted: [C, 1] item that counts all the same; None for none.
        """
        end = start + len(logits)
        first = self.first_seen.index_select(0, self.rows[start:end]).to(logits.dtype)  # [C, N]
        met = first.le_(self.places[start:end, None].to(logits.dtype))  # [C, N] 1 or 0
        if wanted is not None:
            met.scatter_(1, wanted, 0)
        logits.sub_(met, alpha=IMPOSSIBLE)

    def of(self, items: Tensor) -> SeenItems:
        """The same for some items [M] only."""
        return SeenItems(self.first_seen[:, items], self.rows, self.places)

    def mask_own(self, start: int, end: int, items: Tensor) -> Tensor:
        """[end - start, M] bool: which of their own items [end - start, M] events start to end - 1 have met."""
        return self.first_seen[self.rows[start:end, None], items] <= self.places[start:end, None]
