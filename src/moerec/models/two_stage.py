"""Two stages: a retriever proposes candidates, a ranker looks at each of them, a formula joins what both say.

Shape letters: B users, N candidates, I the item index, D width, K candidates of all users together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.sequences import SequenceBatch
from moerec.dataset.schema import FIRST_ITEM
from moerec.models.predict import predict_rows
from moerec.models.roles import Ranker, Retriever, Scorer
from moerec.tasks import TaskConfig, predicted_value

RETRIEVAL = "retrieval"
"""Name of the first stage's own part of a score."""
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True, eq=False)
class Candidates:
    """What the first stage hands over, and what each part says of it."""

    items: Tensor  # [B, N] int64
    """Candidates, best first by the first stage; PADDING where a user has fewer."""
    parts: Mapping[str, Tensor]
    """`retrieval` and each task but multiclass ones: [B, N] float64; see `task_part`."""

    def scores(self, formula: Mapping[str, float]) -> Tensor:
        """The weighted sum of the parts, [B, N]; -inf at places without a candidate."""
        total = torch.zeros_like(self.parts[RETRIEVAL])
        for name, weight in formula.items():
            if weight:
                total = total + weight * self.parts[name]
        return total.masked_fill(self.items < FIRST_ITEM, -torch.inf)


@dataclass(frozen=True, eq=False)
class TwoStage:
    """A retriever and a ranker that were fitted on the same split."""

    retriever: Retriever
    ranker: Ranker
    builder: ExampleBuilder
    """Makes the ranker's inputs."""
    candidates: int
    """Items that the retriever hands over, N."""

    @cached_property
    def item_vectors(self) -> Tensor:
        """The retriever's item vectors, [I, D]."""
        with torch.no_grad():
            return self.retriever.encode_items()

    def retrieve(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The first stage's candidates from scores over the whole index, with -inf for what is not to be listed.

        Args:
            scores: [B, I].

        Returns:
            items [B, N], PADDING where there are fewer, and their log-probability [B, N] float64 among all items
            that may be listed.
        """
        scores = scores.to(torch.float64, copy=True)
        scores[:, :FIRST_ITEM] = -torch.inf
        best, items = scores.topk(min(self.candidates, scores.shape[1]), dim=-1)  # [B, N]
        items = torch.where(best > -torch.inf, items, 0)
        log_probabilities = best - scores.logsumexp(-1, keepdim=True)
        return items, torch.where(items >= FIRST_ITEM, log_probabilities, 0.0)

    def judge(
        self, users: Tensor, times: Tensor, items: Tensor, retrieval: Tensor, events: pl.DataFrame | None = None
    ) -> Candidates:
        """What the ranker says of candidates.

        Args:
            users: [B] user index of each row.
            times: [B] when the list is asked for, in milliseconds.
            items: [B, N] candidates.
            retrieval: [B, N] the first stage's part.
            events: the users' events, where others than those of the builder's data set are to be seen.
        """
        real = items >= FIRST_ITEM  # [B, N]
        rows = torch.arange(len(items), device=items.device)[:, None].expand_as(items)[real]  # [K]
        examples = pl.DataFrame(
            {
                "user": users[rows].cpu().numpy(),
                "item": items[real].cpu().numpy(),
                "timestamp": times[rows].cpu().numpy(),
            }
        )
        predictions = predict_rows(self.ranker, self.builder.build(examples, events))
        parts = {RETRIEVAL: retrieval}
        for task in self.ranker.tasks:
            if formula_refusal(task) is not None:
                continue
            part = torch.zeros_like(retrieval)
            part[real] = torch.from_numpy(task_part(task, predictions[task.name])).to(part.device)
            parts[task.name] = part
        return Candidates(items, parts)


def task_part(task: TaskConfig, predictions: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a task adds to a score for one unit of weight.

    The log of a probability, the number of a regression, the expected value of an ordinal task.
    """
    values = predicted_value(task, predictions)
    return np.log(np.clip(values, LEAST_PROBABILITY, None)) if task.type == "binary" else values


def formula_refusal(task: TaskConfig) -> str | None:
    """Why a task cannot be part of a score; None if it can."""
    if task.type != "multiclass":
        return None
    return (
        f"task '{task.name}' is multiclass: its values have no order, so none of them is more than another; use a "
        "binary task on the wanted value, or type: ordinal if the values do have an order"
    )


class TwoStageScorer(Scorer):
    """Scores of the whole index, in which the candidates stand first in the order of the formula.

    What is no candidate keeps its place behind them, in the order of the first stage. The candidates of a batch are
    judged once; formulas are then tried at little cost.
    """

    def __init__(self, stages: TwoStage, formula: Mapping[str, float], filter_seen: bool) -> None:
        self.stages, self.formula, self.filter_seen = stages, formula, filter_seen
        self._judged: dict[bytes, tuple[Tensor, Candidates]] = {}

    @property
    def num_indices(self) -> int:
        """Size of the item index."""
        return self.stages.retriever.num_indices

    def with_formula(self, formula: Mapping[str, float]) -> TwoStageScorer:
        """The same with another formula; what was judged is kept."""
        other = TwoStageScorer(self.stages, formula, self.filter_seen)
        other._judged = self._judged
        return other

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """See `Scorer.score`; the batch must know its users and when they ask, and scores are on the CPU."""
        users, judged = self._judge(batch.to("cpu"))
        retrieved = self._scores(users)  # [B, I]
        ranked = judged.scores(self.formula)  # [B, N]
        # Ranks alone matter: the rest lies below every candidate, in the first stage's order.
        floor = torch.where(ranked > -torch.inf, ranked, torch.inf).amin(-1, keepdim=True)  # [B, 1]
        floor = torch.where(floor == torch.inf, 0.0, floor)
        ceiling = retrieved[:, FIRST_ITEM:].amax(-1, keepdim=True)  # [B, 1]
        full = retrieved - ceiling + floor - 1.0  # [B, I]
        rows, places = (judged.items >= FIRST_ITEM).nonzero(as_tuple=True)
        full[rows, judged.items[rows, places]] = ranked[rows, places]
        return full if candidates is None else full.gather(1, candidates.cpu())

    def candidates(self, batch: SequenceBatch) -> Tensor:
        """What the first stage hands over, [B, N]; PADDING where there are fewer."""
        return self._judge(batch.to("cpu"))[1].items

    def _judge(self, batch: SequenceBatch) -> tuple[Tensor, Candidates]:
        """The users' vectors [B, D], and what the ranker says of their candidates; kept for the next formula."""
        if batch.users is None or batch.request_times is None:
            raise ValueError("the second stage needs to know who asks and when; make batches with users and times")
        asked = (batch.users, batch.request_times, batch.offsets, batch.items)
        key = b"".join(part.numpy().tobytes() for part in asked)
        if key not in self._judged:
            with torch.no_grad():
                vectors = self.stages.item_vectors  # [I, D]
                users = self.stages.retriever.encode_users(batch.to(vectors.device), vectors)
                allowed = self._scores(users)  # [B, I]
            if self.filter_seen:
                rows, _ = batch.padded_index()
                allowed[rows, batch.items] = -torch.inf
            items, retrieval = self.stages.retrieve(allowed)
            self._judged[key] = users, self.stages.judge(batch.users, batch.request_times, items, retrieval)
        return self._judged[key]

    def _scores(self, users: Tensor) -> Tensor:
        """The first stage's scores [B, I], on the CPU: not every accelerator has 64 bits."""
        return (users @ self.stages.item_vectors.T).cpu().double()
