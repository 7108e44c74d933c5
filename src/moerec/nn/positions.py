"""Where and when an event was, as attention reads it: angles of queries and keys, buckets of elapsed time.

Shape letters: B sequences, L the longest sequence, R rows, H heads, A width of a query in one head, K buckets.
"""

from __future__ import annotations

import torch
from torch import Tensor

TIME_BUCKETS = 32
"""Bucket k holds differences from 2^k - 1 up to, not including, 2^(k + 1) - 1 seconds; the last one has no end."""
_ROTATION_BASE = 10_000.0


def rotary_angles(columns: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of each row's angles, both [R, 1, A / 2] (Su et al. 2021).

    Args:
        columns: [R] place of each row in its sequence.
        width: A, an even number.
    """
    exponents = torch.arange(0, width, 2, device=columns.device) / width  # [A / 2]
    angles = columns[:, None] * _ROTATION_BASE**-exponents  # [R, A / 2]
    return angles.cos().unsqueeze(1), angles.sin().unsqueeze(1)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn [R, H, A]; the product of two turned vectors depends on the difference of their places alone."""
    cosine, sine = angles  # [R, 1, A / 2]
    left, right = x.chunk(2, dim=-1)  # [R, H, A / 2]
    return torch.cat([left * cosine - right * sine, left * sine + right * cosine], dim=-1).to(x.dtype)


def time_buckets(timestamps: Tensor) -> Tensor:
    """The bucket of the time between each event and each earlier one, [B, L, L] int64.

    Args:
        timestamps: [B, L] int64 milliseconds.

    Returns:
        at [b, i, j] the bucket of timestamps[b, i] - timestamps[b, j]; bucket 0 where j is not earlier.
    """
    # Whole numbers alone: logarithms of floats would shift the edges.
    edges = (2 ** torch.arange(1, TIME_BUCKETS, device=timestamps.device) - 1) * 1000  # [K - 1] int64
    elapsed = timestamps[:, :, None] - timestamps[:, None, :]  # [B, L, L]
    return torch.bucketize(elapsed, edges, right=True)
