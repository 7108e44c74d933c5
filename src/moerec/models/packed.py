"""Vectors of many users at once, their histories packed by length; evaluation and serving share it.

Shape letters: U users, B users of a batch, N items of the index, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moerec.batches.packing import pack_by_length
from moerec.batches.sequences import SequenceBatch
from moerec.models.roles import Retriever

PLACES = 8192
"""Events that are encoded at once, padding counted: what is computed on the way stays near the processor."""


def encode_packed(model: Retriever, histories: SequenceBatch, item_vectors: Tensor) -> Tensor:
    """The user's vector after the last event, [U, D], on the device of the items' vectors.

    Args:
        model: the retriever.
        histories: U histories of any length, best left in main memory.
        item_vectors: [N, D] what `model.encode_items()` gives.
    """
    lengths = histories.lengths.clamp(max=model.max_length).cpu().numpy()  # [U]
    users: Tensor | None = None
    for chosen in pack_by_length(lengths, events=PLACES):
        rows = torch.from_numpy(np.ascontiguousarray(chosen)).to(histories.items.device)  # [B]
        batch = histories.select(rows).to(item_vectors.device)
        encoded = model.encode_users(batch, item_vectors)  # [B, D]
        if users is None:
            users = encoded.new_empty(len(histories), encoded.shape[1])
        users[rows.to(users.device)] = encoded
    return item_vectors.new_empty(0, item_vectors.shape[1]) if users is None else users
