"""Judge a scorer on cases: users packed by length, exact ranks, lists, and every metric of every case.

Shape letters: C cases, B cases of a batch, N candidates of each, K targets of all cases together, D width,
k longest cutoff.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moerec.batches.candidates import CandidateBatch
from moerec.batches.packing import jagged_rows, pack_by_length
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import FIRST_ITEM, PADDING
from moerec.errors import ConfigError, MoerecError
from moerec.evaluation.metrics import Floats, Places, metrics_of_places
from moerec.evaluation.protocols import EvaluationCases, ProtocolConfig
from moerec.evaluation.ranking import place_targets, top_columns
from moerec.evaluation.streaming import NaNScoreError, ScoreStream, stream_places
from moerec.models.packed import encode_packed
from moerec.models.roles import Retriever, Scorer

Ints = NDArray[np.int64]
WHOLE, CHUNK = 2**14, 2**11
"""A retriever's catalogue of more items than the first passes by in chunks of the second, which stay in the cache."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What came out, as means and case by case."""

    metrics: dict[str, float]
    """Mean over the cases, by name: `hr@10`, `mean_rank`, or `hr@10/uniform100` for a sampled protocol."""
    per_case: dict[str, Floats]  # each [C]
    """The same of each case, in the order of the cases."""
    top_items: NDArray[np.int32]  # [C, k]
    """The best candidates, best first, among equals the lower index first; PADDING where there are fewer."""
    places: Places
    """Where each target stands, [K], in the order of the cases' targets."""
    cases: EvaluationCases
    """What was judged."""
    protocol: ProtocolConfig
    """How."""
    seconds: float
    """Wall-clock time of scoring, ranking and counting."""

    @property
    def ranks(self) -> Floats:
        """Expected rank of each target, [K]; 1 is the best."""
        return self.places.expected_ranks

    @property
    def users_per_second(self) -> float:
        """Cases judged in a second."""
        return len(self.cases) / max(self.seconds, 1e-9)


def evaluate(
    scorer: Scorer,
    cases: EvaluationCases,
    protocol: ProtocolConfig,
    candidates: CandidateBatch | None = None,
    name: str | None = None,
) -> EvaluationResult:
    """Rank the candidates of each case and count where its targets stand.

    A retriever's items are encoded once for all batches. A model in training mode is put into evaluation mode
    for the time, and back.

    Args:
        scorer: any scorer.
        cases: from `make_cases` with the same protocol.
        protocol: how to rank and what to count.
        candidates: for `ranking: sampled` the lists of the cases from `align_candidates`; targets are among them.
        name: of the model, for messages; by default its class.

    Raises:
        MoerecError: the scorer gives NaN or scores of the wrong shape.
        ConfigError: the protocol does not fit the cases or the candidates.
    """
    started = time.perf_counter()
    _check(cases, protocol, candidates)
    name = name or type(scorer).__name__
    depth = max(protocol.cutoffs)
    better = np.zeros(len(cases.target_items), dtype=np.int64)
    tied = np.zeros_like(better)
    listed = np.zeros(len(better), dtype=bool)
    top_items = np.zeros((len(cases), depth), dtype=np.int32)
    with _evaluation_mode(scorer):
        width = scorer.num_indices if candidates is None else candidates.items.shape[1]
        scored = _Scored(scorer, cases, protocol, name, width, listed=candidates is not None)
        for chosen in scored.blocks():  # [B]
            batch = cases.batch(chosen).to(scored.device)
            lists = None if candidates is None else candidates.select(torch.from_numpy(chosen)).to(scored.device)
            targets, offsets = jagged_rows(cases.target_offsets, chosen)
            items = torch.from_numpy(cases.target_items[targets]).to(scored.device)
            rows = torch.from_numpy(np.repeat(np.arange(len(chosen)), np.diff(offsets))).to(scored.device)
            *places, top = scored.ranked(chosen, batch, lists, rows, items, depth)
            better[targets], tied[targets], listed[targets] = (part.cpu().numpy() for part in places)
            top_items[chosen] = top.cpu().numpy()
    list_length = width - FIRST_ITEM if candidates is None else width
    all_places = Places(better, tied, listed, np.full(len(better), list_length))
    values = metrics_of_places(all_places, cases.target_offsets, protocol.cutoffs)
    per_case = {metric + protocol.suffix: value for metric, value in values.items()}
    return EvaluationResult(
        metrics={metric: float(value.mean()) for metric, value in per_case.items()},
        per_case=per_case,
        top_items=top_items,
        places=all_places,
        cases=cases,
        protocol=protocol,
        seconds=time.perf_counter() - started,
    )


class _Scored:
    """A scorer made ready for many batches: users and items encoded, seen and reserved items ruled out."""

    def __init__(
        self, scorer: Scorer, cases: EvaluationCases, protocol: ProtocolConfig, name: str, width: int, *, listed: bool
    ) -> None:
        """Encode what can be encoded once.

        Args:
            scorer: the scorer.
            cases: the cases.
            protocol: how to rank.
            name: of the scorer, for messages.
            width: N, the number of candidates of a case.
            listed: whether the candidates are lists.
        """
        self.scorer, self.cases, self.protocol, self.name, self.width = scorer, cases, protocol, name, width
        self.device = _device_of(scorer)
        self.item_vectors: Tensor | None = None  # [N, D]
        # A subclass that scores in a way of its own must be asked; the dot product would be another model.
        if isinstance(scorer, Retriever) and type(scorer).score is Retriever.score:
            self.item_vectors = scorer.encode_items()
            histories = cases.batch(np.arange(len(cases)))
            self.user_vectors = encode_packed(scorer, histories, self.item_vectors)  # [C, D]
        most = max(1, protocol.scores_in_memory // protocol.users_per_batch)
        self.chunk = min(CHUNK, most)
        self.is_streamed = self.item_vectors is not None and not listed and width - FIRST_ITEM > min(WHOLE, most)

    def blocks(self) -> list[Ints]:
        """The cases in blocks that are ranked at once."""
        per_batch, in_memory = self.protocol.users_per_batch, self.protocol.scores_in_memory
        if not self.is_streamed:
            return pack_by_length(self.cases.history_lengths, sequences=max(1, min(per_batch, in_memory // self.width)))
        # Cases whose targets stand near each other look for their own scores in the same chunks.
        order = np.argsort(self.cases.target_items[self.cases.target_offsets[:-1]], kind="stable")
        size = max(1, min(per_batch, in_memory // self.chunk))
        return [order[start : start + size] for start in range(0, len(order), size)]

    def ranked(
        self,
        chosen: Ints,
        batch: SequenceBatch,
        lists: CandidateBatch | None,
        rows: Tensor,
        items: Tensor,
        depth: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Better, tied and listed [K] of the targets of a block, and its best items [B, k].

        Args:
            chosen: [B] the cases.
            batch: their histories.
            lists: their candidates; None for the whole index.
            rows: [K] row of each target.
            items: [K] item of each target.
            depth: k.
        """
        if self.is_streamed:
            return self._streamed(chosen, batch, rows, items, depth)
        scores = self._scores(chosen, batch, lists)  # [B, N]
        columns = items if lists is None else _columns_of(lists, rows, items)
        top = top_columns(scores, depth)  # [B, k]
        found = top if lists is None else lists.items.gather(1, top.clamp(min=0))
        return *place_targets(scores, rows, columns), found.where(top >= 0, PADDING)

    def _streamed(
        self, chosen: Ints, batch: SequenceBatch, rows: Tensor, items: Tensor, depth: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same over a catalogue that passes by in chunks, without the reserved items."""
        assert self.item_vectors is not None
        owners, met = self._met(chosen, batch)  # [S]
        seen, order = torch.sort(met)
        known = seen >= FIRST_ITEM
        users = self.user_vectors[torch.from_numpy(chosen).to(self.device)]  # [B, D]
        stream = ScoreStream(
            users=users,
            items=self.item_vectors[FIRST_ITEM:],
            seen_rows=owners[order][known],
            seen_items=seen[known] - FIRST_ITEM,
            width=self.chunk,
            buffer=users.new_empty(len(users), self.chunk),
        )
        try:
            better, tied, listed, top = stream_places(stream, rows, items - FIRST_ITEM, depth)
        except NaNScoreError as error:
            raise self._nan(batch, error.row, error.item + FIRST_ITEM) from None
        return better, tied, listed, torch.where(top >= 0, top + FIRST_ITEM, PADDING)

    def _scores(self, chosen: Ints, batch: SequenceBatch, lists: CandidateBatch | None) -> Tensor:
        """Scores [B, N] of a list for each case or of the whole index; -inf for what is no candidate."""
        scores = self._raw(chosen, batch, lists)
        expected = (len(batch), self.scorer.num_indices if lists is None else lists.items.shape[1])
        if tuple(scores.shape) != expected:
            raise MoerecError(f"{self.name}: gives scores of shape {tuple(scores.shape)}, expected {expected}")
        if lists is None:
            scores[:, :FIRST_ITEM] = -torch.inf
            rows, items = self._met(chosen, batch)
            scores.view(-1)[rows * scores.shape[1] + items] = -torch.inf
        else:
            scores[~lists.mask] = -torch.inf
        if bool(scores.amax(1).isnan().any()):  # the maximum of a row with a NaN is NaN
            row, column = torch.nonzero(scores.isnan())[0].tolist()
            raise self._nan(batch, row, column if lists is None else int(lists.items[row, column]))
        return scores

    def _met(self, chosen: Ints, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Rows and items [S] that are no candidates: the histories, and what the split hides of the users."""
        rows, _ = batch.padded_index()  # [T]
        if not self.protocol.filter_seen:
            return rows[:0], batch.items[:0]
        owners, items = (torch.from_numpy(values).to(rows.device) for values in self.cases.hidden(chosen))  # [H]
        return torch.cat([rows, owners]), torch.cat([batch.items, items])

    def _nan(self, batch: SequenceBatch, row: int, item: int) -> MoerecError:
        user = "?" if batch.users is None else int(batch.users[row])
        return MoerecError(
            f"{self.name}: gives a NaN score (user {user}, item {item}); "
            "nothing can be ranked: look at its training (learning rate, precision) and inputs"
        )

    def _raw(self, chosen: Ints, batch: SequenceBatch, lists: CandidateBatch | None) -> Tensor:
        """The scorer's own scores, in memory that may be written to."""
        if self.item_vectors is None:
            asked = None if lists is None else lists.items
            return self.scorer.score(batch, asked).clone(memory_format=torch.contiguous_format)
        users = self.user_vectors[torch.from_numpy(chosen).to(self.device)]  # [B, D]
        if lists is None:
            return users @ self.item_vectors.T
        return torch.einsum("bd,bnd->bn", users, self.item_vectors[lists.items])


def _columns_of(lists: CandidateBatch, rows: Tensor, items: Tensor) -> Tensor:
    """The column of each target [K] in its row of the lists."""
    return (lists.items[rows] == items.unsqueeze(1)).int().argmax(1)


def _check(cases: EvaluationCases, protocol: ProtocolConfig, candidates: CandidateBatch | None) -> None:
    for field in ("part", "history", "filter_seen"):
        here, there = getattr(protocol, field), getattr(cases.protocol, field)
        if here != there:
            raise ConfigError(f"protocol.{field}: is {here}, but the cases were made with {there}; make them again")
    if (candidates is None) != (protocol.ranking == "full"):
        wanted = "no candidate lists" if protocol.ranking == "full" else f"the candidate lists '{protocol.candidates}'"
        raise ConfigError(f"protocol.ranking: {protocol.ranking} takes {wanted}")
    if candidates is not None:
        if len(candidates) != len(cases):
            raise ConfigError(
                f"the candidate lists are for {len(candidates)} cases, not {len(cases)}; align them again"
            )
        chosen = candidates.items.numpy()[cases.target_cases]  # [K, N]
        if not (chosen == cases.target_items[:, None]).any(1).all():
            raise ConfigError("a target is not among its candidates; make the lists with align_candidates")


def _device_of(scorer: Scorer) -> torch.device:
    if isinstance(scorer, nn.Module):
        for tensor in chain(scorer.parameters(), scorer.buffers()):
            return tensor.device
    return torch.device("cpu")


@contextmanager
def _evaluation_mode(scorer: Scorer) -> Iterator[None]:
    """No gradients and no dropout inside; afterwards every submodule is as it was."""
    training = [module for module in scorer.modules() if module.training] if isinstance(scorer, nn.Module) else []
    if isinstance(scorer, nn.Module):
        scorer.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True
