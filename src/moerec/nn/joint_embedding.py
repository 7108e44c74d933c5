"""Embeddings of several features in one table, looked up together.

Shape letters: B rows, K codes of a row over all features, M codes of one feature, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class JointEmbedding(nn.Module):
    """One table in which each feature has rows of its own, or those of a feature that it shares with."""

    def __init__(self, sizes: Mapping[str, int], width: int, shared: Mapping[str, str], std: float = 0.1) -> None:
        """Make the table.

        Args:
            sizes: number of codes by feature.
            width: D.
            shared: features that use the rows of another one, {name: that other's name}.
            std: standard deviation of the first values.
        """
        super().__init__()
        first, rows = {}, 0
        for name, size in sizes.items():
            if name not in shared:
                first[name], rows = rows, rows + size
        self.names = tuple(sizes)
        self.first_rows = {name: first[shared.get(name, name)] for name in sizes}
        self.weight = nn.Parameter(torch.empty(rows, width))
        nn.init.normal_(self.weight, std=std)
        self.starts: Tensor
        self.sizes: Tensor
        self.register_buffer("starts", torch.tensor([self.first_rows[name] for name in sizes]), persistent=False)
        self.register_buffer("sizes", torch.tensor([sizes[name] for name in sizes]), persistent=False)

    def forward(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Embeddings [B, M, D] by feature; see `joined`."""
        looked_up, counts = self.joined(columns)
        return dict(zip(self.names, torch.split(looked_up, counts, dim=1), strict=True))

    def joined(self, columns: Mapping[str, Tensor]) -> tuple[Tensor, list[int]]:
        """Embeddings [B, K, D] of all features, one after another, and how many codes each has.

        Args:
            columns: codes by feature, [B] or [B, M]; features of others may be among them.

        Raises:
            IndexError: a code is not in its feature's part of the table.
        """
        columns_of_codes = [columns[name] for name in self.names]
        parts = [codes if codes.dim() == 2 else codes.unsqueeze(1) for codes in columns_of_codes]
        counts = [part.shape[1] for part in parts]
        codes = torch.cat(parts, dim=1)  # [B, K]
        feature = torch.repeat_interleave(torch.tensor(counts, device=codes.device))  # [K]
        if not torch.compiler.is_compiling():
            # Without this a wrong code would quietly read another feature's row.
            self._check(codes, feature)
        rows = (codes + self.starts[feature]).flatten()  # [B * K]
        # The gradient of index_select is twice as quick on the CPU; on other devices it adds in no fixed order.
        looked_up = self.weight.index_select(0, rows) if rows.device.type == "cpu" else F.embedding(rows, self.weight)
        return looked_up.view(*codes.shape, -1), counts

    def _check(self, codes: Tensor, feature: Tensor) -> None:
        wrong = (codes < 0) | (codes >= self.sizes[feature])  # [B, K]
        if wrong.any():
            row, place = wrong.nonzero()[0].tolist()
            name, size = self.names[int(feature[place])], int(self.sizes[feature[place]])
            raise IndexError(f"feature '{name}': code {int(codes[row, place])} is not among its {size}")


def mean_of_values(vectors: Tensor, codes: Tensor) -> Tensor:
    """The mean [B, D] of the vectors [B, M, D] whose codes [B, M] are not 0; without any, that of the first place."""
    real = codes > 0  # [B, M]
    first = torch.arange(codes.shape[1], device=codes.device) == 0  # [M]
    kept = torch.where(real.any(1, keepdim=True), real, first).to(vectors.dtype)  # [B, M]
    weights = kept / kept.sum(1, keepdim=True)  # [B, M]
    return (vectors * weights.unsqueeze(2)).sum(1)
