"""Token ids of texts as tensors, the same whether the texts were tokenised just now or lay in a store.

Shape letters: B texts, C chunks of a text, L tokens of a chunk, S sentences of a text.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from moerec.modalities.token_rows import TokenLayout, TokenRows


@dataclass(frozen=True)
class TokenBatch:
    """What a text encoder with sentence markers reads."""

    ids: Tensor
    """int64 [B, C, L]; padding where the mask is false."""
    mask: Tensor
    """bool [B, C, L]; each text has a token in its first chunk."""
    markers: Tensor
    """int64 [B, S]: place of each sentence's marker among the C * L tokens of its text; 0 where there is none."""
    marker_mask: Tensor
    """bool [B, S]"""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TokenBatch:
        """The same batch on another device."""
        parts = (self.ids, self.mask, self.markers, self.marker_mask)
        return TokenBatch(*(part.to(device, non_blocking=non_blocking) for part in parts))

    def sentences(self, hidden: Tensor) -> Tensor:
        """What an encoder made of each sentence's marker: [B, C, L, D] -> [B, S, D]; zeros where there is none."""
        flat = hidden.flatten(1, 2)  # [B, C * L, D]
        places = self.markers.unsqueeze(-1).expand(-1, -1, flat.shape[-1])  # [B, S, D]
        return flat.gather(1, places) * self.marker_mask.unsqueeze(-1)


def token_batch(rows: TokenRows, layout: TokenLayout, trim: bool = True) -> TokenBatch:
    """Tensors of some texts.

    Args:
        rows: of `tokenise`, or of a `TokenStore`.
        layout: sizes and padding.
        trim: cut the dimensions to what these texts need; False gives every batch the same shape.
    """
    grid = rows.grid(layout, trim)
    return TokenBatch(
        ids=torch.from_numpy(grid.ids).long(),
        mask=torch.from_numpy(grid.mask),
        markers=torch.from_numpy(grid.markers).long(),
        marker_mask=torch.from_numpy(grid.marker_mask),
    )
