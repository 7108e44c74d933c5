"""Places and lists over a catalogue that is too big for whole rows of scores: its items pass by in chunks.

Every chunk has the same width, so equal items get equal bits wherever they stand, and ties are ties.

Shape letters: U users, B users of a block, N items, C items of a chunk, P parts of a chunk, S seen items of a block,
K targets of a block, E new entries of lists, D width, k length of the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from moerec.evaluation.ranking import better_and_tied, top_columns

PART = 256
"""Items of a part: a list looks only into parts whose best score would enter it."""


@dataclass(frozen=True, eq=False)
class ScoreStream:
    """Scores of a block of users over all items, a chunk at a time."""

    users: Tensor  # [B, D]
    items: Tensor  # [N, D]
    """Vectors of the items, in the order of ties: of equal scores the item that stands first comes first."""
    seen_rows: Tensor  # [S]
    """Users of the pairs that are no candidates."""
    seen_items: Tensor  # [S] ascending
    """Their items."""
    width: int
    """C; the last chunk begins earlier, and what was there already is no candidate in it."""
    buffer: Tensor | None = field(default=None)  # [B, C]
    """Memory that every chunk uses again."""

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """First item and scores [B, C] of each chunk; the next one overwrites them."""
        for start in range(0, len(self.items), self.width):
            yield self.chunk(start)

    def chunk(self, start: int) -> tuple[int, Tensor]:
        """The chunk of item `start`, a multiple of the width: its first item and its scores [B, C]."""
        begin = max(0, min(start, len(self.items) - self.width))
        end = min(begin + self.width, len(self.items))
        scores = torch.mm(self.users, self.items[begin:end].T, out=self.buffer)  # [B, C]
        scores[:, : start - begin] = -torch.inf
        low, high = torch.searchsorted(self.seen_items, torch.tensor([begin, end], device=scores.device)).tolist()
        scores[self.seen_rows[low:high], self.seen_items[low:high] - begin] = -torch.inf
        return begin, scores


def stream_places(stream: ScoreStream, rows: Tensor, targets: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count what stands before each target and beside it, and find the best items.

    Args:
        stream: the scores.
        rows: [K] row of each target, ascending.
        targets: [K] item of each target.
        k: length of the lists.

    Returns:
        better [K], tied [K], listed [K] as of `place_targets`, and the items [B, k] of the k highest scores as of
        `top_columns`.

    Raises:
        NaNScoreError: a score is NaN.
    """
    own = _own_scores(stream, rows, targets)  # [K]
    better, tied = torch.zeros_like(rows), torch.zeros_like(rows)
    lists = _Lists(len(stream.users), k, own)
    for begin, scores in stream.chunks():
        parts = scores.view(len(scores), -1, PART if scores.shape[1] % PART == 0 else scores.shape[1])
        highest = parts.amax(2)  # [B, P]; of a part with a NaN it is NaN
        if bool(highest.isnan().any()):
            row, column = torch.nonzero(scores.isnan())[0].tolist()
            raise NaNScoreError(row, begin + column)
        more, equal = better_and_tied(scores, rows, own)
        better += more
        tied += equal
        lists.update(begin, scores, parts, highest)
    # Every target has met itself.
    return better, tied - 1, own > -torch.inf, lists.items


class NaNScoreError(ValueError):
    """A score is NaN, of this row and item."""

    def __init__(self, row: int, item: int) -> None:
        super().__init__(f"the score of row {row} and item {item} is NaN")
        self.row, self.item = row, item


def _own_scores(stream: ScoreStream, rows: Tensor, targets: Tensor) -> Tensor:
    """The score of each target, [K], with the very bits that its chunk has."""
    own = stream.users.new_empty(len(rows))
    numbers = targets // stream.width  # [K]
    for number in torch.unique(numbers).tolist():
        begin, scores = stream.chunk(number * stream.width)
        here = torch.nonzero(numbers == number).squeeze(1)
        own[here] = scores[rows[here], targets[here] - begin]
    return own


class _Lists:
    """The best items of each row so far, best first, among equals the lower item first."""

    def __init__(self, rows: int, k: int, like: Tensor) -> None:
        self.scores = like.new_full((rows, k), -torch.inf)  # [B, k]
        self.items = torch.full((rows, k), -1, dtype=torch.int64, device=like.device)  # [B, k]
        self.is_empty = True

    def update(self, begin: int, scores: Tensor, parts: Tensor, highest: Tensor) -> None:
        """Let the items of a chunk in: scores [B, C] of items from `begin` on, also as parts [B, P, C / P] with the
        highest [B, P] of each."""
        if self.is_empty:
            self.is_empty = False
            columns = top_columns(scores, self.items.shape[1])  # [B, k]
            self.items = torch.where(columns >= 0, columns + begin, -1)
            self.scores = scores.gather(1, columns.clamp(min=0)).masked_fill_(columns < 0, -torch.inf)
            return
        # Later items have higher numbers, so of equal ones none enters: a score must be above the last of the list.
        last = self.scores[:, -1]  # [B]
        rows, numbers = torch.nonzero(highest > last[:, None], as_tuple=True)
        if len(rows) == 0:
            return
        found = parts[rows, numbers]  # [A, C / P]
        places, columns = torch.nonzero(found > last[rows, None], as_tuple=True)  # [E]
        owners = rows[places]  # [E] ascending; the items of a row ascend as well
        items = begin + numbers[places] * parts.shape[2] + columns  # [E]
        self._merge(owners, items, found[places, columns])

    def _merge(self, owners: Tensor, items: Tensor, scores: Tensor) -> None:
        """Join entries [E] with the lists: sorted by row, then score, and cut at k."""
        k = self.items.shape[1]
        changed, local = torch.unique_consecutive(owners, return_inverse=True)  # [R], [E]
        all_rows = torch.cat([torch.arange(len(changed), device=owners.device).repeat_interleave(k), local])
        all_items = torch.cat([self.items[changed].flatten(), items])  # [R * k + E]
        all_scores = torch.cat([self.scores[changed].flatten(), scores])
        order = torch.sort(all_scores, descending=True, stable=True).indices  # of equals the older, lower item first
        order = order[torch.sort(all_rows[order], stable=True).indices]
        counts = torch.bincount(local, minlength=len(changed)) + k  # [R]
        kept = order[(counts.cumsum(0) - counts)[:, None] + torch.arange(k, device=owners.device)]  # [R, k]
        self.items[changed], self.scores[changed] = all_items[kept], all_scores[kept]
