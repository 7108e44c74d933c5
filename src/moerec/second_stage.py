"""The second stage of a saved recommender: which of the retriever's candidates stand first.

Shape letters: B users, N candidates, I the item index.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from moerec.config import Config
from moerec.dataset.frames import ids_as_series, require_columns, to_polars
from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import MoerecError
from moerec.models.roles import Retriever
from moerec.models.two_stage import RETRIEVAL, TwoStage, formula_refusal
from moerec.ranking_model import RankingModel, read_times
from moerec.tasks import TaskConfig


class SecondStageConfig(Config):
    """How a recommender ranks candidates again."""

    candidates: int
    """Items that the retriever hands over for each user."""
    formula: dict[str, float]
    """Weight of each part of the score."""
    is_on: bool
    """Whether lists are ranked again unless the caller says otherwise; found on validation."""


@dataclass(frozen=True, eq=False)
class Request:
    """Who asks, in the numbers of the ranking model, and when; new users bring their events."""

    users: np.ndarray[Any, np.dtype[np.int64]]  # [B]
    times: np.ndarray[Any, np.dtype[np.int64]]  # [B]
    events: pl.DataFrame | None = None

    def part(self, start: int, stop: int) -> Request:
        """Some of the users."""
        return Request(self.users[start:stop], self.times[start:stop], self.events)


def request_of_known(ranking: RankingModel, user_ids: list[str]) -> Request:
    """A request of known users, just after their last known events."""
    users = ranking.user_numbers(pl.Series(user_ids, dtype=pl.String))
    return Request(users, ranking.request_times(users))


def request_of_histories(ranking: RankingModel, histories: Any, names: list[str]) -> Request | None:
    """A request of new users by a table of events with times; None where there are no times.

    Args:
        ranking: the ranking model.
        histories: what `recommend(histories=...)` was given.
        names: the users in the order of the lists.
    """
    if not (isinstance(histories, pl.LazyFrame) or hasattr(histories, "columns")):
        return None
    frame = to_polars(histories, "histories", ("user_id", "item_id"))
    if "timestamp" not in frame.columns:
        return None
    require_columns(frame, ("user_id", "item_id"), "histories")
    numbers = {name: len(ranking.users) + place for place, name in enumerate(names)}
    labels = [name for name in ranking.label_columns if name in frame.columns]
    events = pl.DataFrame(
        {
            "user": ids_as_series(frame["user_id"], "histories").replace_strict(numbers, return_dtype=pl.Int32),
            "item": pl.Series(ranking.item_numbers(frame["item_id"]), dtype=pl.Int32),
            "timestamp": read_times(frame, "histories"),
        }
    ).with_columns(
        [_read_label(frame[name]) for name in labels]
        + [pl.lit(None, pl.Float64).alias(name) for name in ranking.label_columns if name not in labels]
    )
    last = dict(events.group_by("user").agg(pl.col("timestamp").max()).iter_rows())
    users = np.array([numbers[name] for name in names], dtype=np.int64)
    return Request(users, np.array([last[user] + 1 for user in users.tolist()], dtype=np.int64), events)


def _read_label(values: pl.Series) -> pl.Series:
    """A label column of histories as numbers; files hold them as text, and an empty one is missing."""
    numbers = values.cast(pl.Float64, strict=False)
    empty = values.str.strip_chars() == "" if values.dtype == pl.String else values.is_null()
    broken = values.filter(numbers.is_null() & values.is_not_null() & ~empty)
    if len(broken):
        raise MoerecError(f"histories: column '{values.name}' holds {broken[0]!r}; a label is a number")
    return numbers


def rank_again(
    retriever: Retriever,
    ranking: RankingModel,
    config: SecondStageConfig,
    scores: Tensor,
    request: Request,
    k: int,
    formula: Mapping[str, float] | None = None,
) -> Tensor:
    """Scores of the candidates by the formula; -inf for every other item.

    Args:
        retriever: the first stage.
        ranking: the second.
        config: candidates and formula.
        scores: [B, I] of the first stage, -inf for what must not be listed.
        request: who asks, and when.
        k: length of the lists; there are never fewer candidates than that.
        formula: another formula than the config's.

    Returns:
        [B, I] float64, on the CPU.
    """
    stages = TwoStage(retriever, ranking.ranker, ranking.builder, max(config.candidates, k))
    items, retrieval = stages.retrieve(scores.cpu())  # not every accelerator has 64 bits
    users, times = torch.from_numpy(request.users), torch.from_numpy(request.times)
    judged = stages.judge(users, times, items, retrieval, request.events)
    ranked = judged.scores(formula or config.formula)  # [B, N]
    full = torch.full(scores.shape, -torch.inf, dtype=torch.float64)  # [B, I]
    rows, places = (items >= FIRST_ITEM).nonzero(as_tuple=True)
    full[rows, items[rows, places]] = ranked[rows, places]
    return full


def check_formula(formula: Mapping[str, float], tasks: Sequence[TaskConfig]) -> None:
    """Raises MoerecError when a formula names a part that there is not, or a weight is no number."""
    known = {task.name: task for task in tasks}
    for name, weight in formula.items():
        if name not in (RETRIEVAL, *known):
            raise MoerecError(f"recommend: formula: there is no part '{name}'; known: {', '.join((RETRIEVAL, *known))}")
        if name in known and (reason := formula_refusal(known[name])) is not None:
            raise MoerecError(f"recommend: formula: {reason}")
        if not isinstance(weight, Real) or not math.isfinite(weight):
            raise MoerecError(f"recommend: formula: the weight of '{name}' must be a finite number, got {weight!r}")
