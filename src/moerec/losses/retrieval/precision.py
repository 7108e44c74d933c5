"""In what arithmetic a loss with gradients of its own computes: products in that of autocast, sums never below fp32.

Autocast does not reach into the backward pass that such a loss computes while it goes forward, so this is said here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def product_dtype(users: Tensor) -> torch.dtype:
    """The type of matrix products: what autocast says, else that of the user vectors."""
    kind = users.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else users.dtype


def accurate_dtype(users: Tensor) -> torch.dtype:
    """The type of logarithms and sums."""
    return torch.promote_types(users.dtype, torch.float32)


def plain_arithmetic(users: Tensor) -> AbstractContextManager[Any]:
    """Autocast off: all types are written out."""
    return torch.autocast(users.device.type, enabled=False)
