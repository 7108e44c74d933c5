"""Small scorers and cases that several tests use."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from moerec.evaluation.protocols import EvaluationCases, ProtocolConfig, make_cases
from moerec.models.roles import Retriever, Scorer


class TableScorer(Scorer):
    """Looks the scores of a user up in a table [U, num_indices]."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    @property
    def num_indices(self) -> int:
        return self.table.shape[1]

    def score(self, batch, candidates=None):
        scores = self.table[batch.users]
        return scores if candidates is None else scores.gather(1, candidates)


class MeanRetriever(Retriever):
    """A user is the mean of the history's item vectors; counts what it is asked."""

    def __init__(self, num_indices: int, width: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.items = nn.Parameter(torch.randn(num_indices, width, generator=generator))
        self.empty_history = nn.Parameter(torch.randn(width, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.item_calls = 0
        self.lengths: list[list[int]] = []

    @property
    def num_indices(self) -> int:
        return len(self.items)

    @property
    def max_length(self) -> int:
        return 10_000

    def encode_items(self, items=None):
        self.item_calls += 1
        return self.items if items is None else self.items[items]

    def encode_events(self, batch, item_vectors=None):
        raise NotImplementedError

    def encode_padded(self, items, lengths, item_vectors=None, timestamps=None):
        vectors = self.items if item_vectors is None else item_vectors
        self.lengths.append(lengths.tolist())
        real = torch.arange(items.shape[1], device=items.device) < lengths[:, None]  # [B, L]
        sums = (self.dropout(vectors[items]) * real[..., None]).sum(1)
        return torch.where(lengths[:, None] > 0, sums / lengths.clamp(min=1)[:, None], self.empty_history)


def random_cases(
    users: int = 30, items: int = 40, seed: int = 0, targets: int = 1, protocol: ProtocolConfig | None = None
) -> EvaluationCases:
    """Random histories, the first of them empty; the last events of each user are targets."""
    generator = np.random.default_rng(seed)
    event_users, event_items, codes = [], [], []
    for user in range(users):
        drawn = generator.permutation(np.arange(2, items + 2))[: targets + (generator.integers(1, 15) if user else 0)]
        event_users += [user] * len(drawn)
        event_items += drawn.tolist()
        codes += [0] * (len(drawn) - targets) + [2] * targets
    protocol = protocol or ProtocolConfig()
    codes_of_part = [1 if code == 2 and protocol.part == "valid" else code for code in codes]
    return make_cases(np.array(event_users), np.array(event_items), None, np.array(codes_of_part), protocol)
