"""From scores to places and lists, exactly and deterministically, without sorting whole rows.

Shape letters: B cases of a batch, N candidates of each, K targets of the batch, k length of the lists.
"""

from __future__ import annotations

import torch
from torch import Tensor


def place_targets(scores: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count what stands before each target and beside it.

    Args:
        scores: [B, N]; -inf is no candidate; no NaN.
        rows: [K] row of each target, ascending.
        columns: [K] column of each target.

    Returns:
        better [K] (candidates with a higher score), tied [K] (other candidates with the same score), both
        int64, and listed [K] bool (False where the target is no candidate; better and tied mean nothing there).
    """
    own = scores[rows, columns]  # [K]
    better, equal = better_and_tied(scores, rows, own)
    return better, equal - 1, own > -torch.inf


def better_and_tied(scores: Tensor, rows: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """How many scores of its row are higher than each target's own, and how many are equal to it, both [K] int64.

    Args:
        scores: [B, N].
        rows: [K] row of each target, ascending.
        own: [K] score of each target.
    """
    better, equal = torch.zeros_like(rows), torch.zeros_like(rows)
    # Numbers are compared and added several times faster than bools; float32 counts exactly up to 2^24.
    compared = torch.empty_like(scores, dtype=torch.float32 if scores.shape[1] < 2**24 else torch.float64)  # [B, N]
    counts = torch.bincount(rows, minlength=len(scores))  # [B]
    starts = counts.cumsum(0) - counts  # [B]
    # One target of each row at a time: a pass needs no more memory than the scores themselves.
    for slot in range(int(counts.max()) if counts.numel() else 0):
        chosen = torch.nonzero(counts > slot).squeeze(1)  # [B']
        target = starts[chosen] + slot  # [B']
        block = scores if len(chosen) == len(scores) else scores[chosen]  # [B', N]
        value = own[target].unsqueeze(1)
        part = compared[: len(chosen)]
        better[target] = torch.gt(block, value, out=part).sum(1).long()
        equal[target] = torch.eq(block, value, out=part).sum(1).long()
    return better, equal


def top_columns(scores: Tensor, k: int) -> Tensor:
    """The columns of the k highest scores of each row, best first; among equal scores the lower column first.

    Args:
        scores: [B, N]; -inf is no candidate.
        k: length of the lists.

    Returns:
        [B, k] int64; -1 where a row has fewer than k candidates.
    """
    width = scores.shape[1]
    values, columns = torch.topk(scores, min(k + 1, width))  # [B, min(k + 1, N)]
    # topk leaves open which of several equal scores it takes, and in which order.
    ambiguous = torch.nonzero((values[:, 1:] == values[:, :-1]).any(1)).squeeze(1)
    length = min(k, width)
    values, columns = values[:, :length], columns[:, :length].clone()
    if len(ambiguous):
        columns[ambiguous] = _lowest_columns(scores[ambiguous], values[ambiguous], length)
        values = scores.gather(1, columns)
    columns[values == -torch.inf] = -1
    return torch.nn.functional.pad(columns, (0, k - length), value=-1)


def _lowest_columns(scores: Tensor, values: Tensor, k: int) -> Tensor:
    """As `top_columns`, for rows with ties; values [B, k] are their highest scores."""
    threshold = values[:, -1:]  # [B, 1]
    above = scores > threshold
    level = scores == threshold
    wanted = k - above.sum(1, keepdim=True)  # [B, 1] how many of the level ones are needed: those on the left
    kept = above | (level & (level.cumsum(1, dtype=torch.int32) <= wanted))
    columns = torch.nonzero(kept)[:, 1].view(len(scores), k)
    order = torch.sort(scores.gather(1, columns), dim=1, descending=True, stable=True).indices
    return columns.gather(1, order)
