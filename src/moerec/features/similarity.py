"""Similarity: how near a candidate's vector lies to those of the events just before the moment.

Vectors of unit length are rounded to whole numbers, small enough that every product and every sum of a dot product
is a whole number which float32 (one dot product) or float64 (sums of them) holds exactly. So a matrix product gives
the same bits for any block of rows, on any processor, and event by event; rounding moves a cosine by about 0.0003.

Shape letters: I the item index, V width of a vector, N events, E examples, e some of them, b those that are computed
at once, H events that they look at, K places of a window, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from moerec.errors import ConfigError
from moerec.features.feature import Catalogue, Event, FeatureConfig, FeatureState
from moerec.features.fixed_point import Bools, Floats, Ints, label_values
from moerec.features.prefixes import parts, prefix_sums, stable_order
from moerec.features.spec import FeatureSpec, checked_name

_WHERE = "features.similarity"
# The length of a rounded vector is below 2**12 for any width up to 2**24, so its dot products are below 2**24.
_LENGTH = 2**11
# Sums over a block are below 2**24 too: _LENGTH times the events that a block looks at.
_LONGEST = 4096
_BLOCK_ROWS = 128
_BLOCK_EVENTS = 256


class SimilarityConfig(FeatureConfig):
    """Cosines of the candidate's vector and those of the user's last events strictly before the moment."""

    modality: str
    """The modality whose vectors are compared."""
    last: tuple[int, ...] = (5, 50)
    """Lengths of the windows: so many last events, those without a vector included."""
    label: str | None = None
    """Label column that says which events the user liked; with it there is one more column for each window."""
    at_least: float | None = None
    """An event was liked if the label is at least this; by default if it is above 0."""

    @field_validator("last")
    @classmethod
    def _windows(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or min(value) < 1 or max(value) > _LONGEST:
            raise ValueError(f"give each length once, from 1 to {_LONGEST}")
        return value

    @model_validator(mode="after")
    def _check(self) -> SimilarityConfig:
        checked_name(self.modality)
        if self.at_least is not None and self.label is None:
            raise ValueError("at_least needs a label")
        return self

    @property
    def specs(self) -> tuple[FeatureSpec, ...]:
        """All null if the candidate has no vector, or no event of the window has one.

        - `item_<modality>_mean_<k>`: cosine with the mean of the last k events' unit vectors.
        - `item_<modality>_nearest_<k>`: the greatest cosine with one of them.
        - `item_<modality>_previous`: cosine with the very last event.
        - `item_<modality>_liked_<k>`: cosine with the mean of the last k events that the user liked.
        """
        parts = ("mean", "nearest") if self.label is None else ("mean", "nearest", "liked")
        names = [*(f"{part}_{length}" for part in parts for length in self.last), "previous"]
        return tuple(
            FeatureSpec(name=f"item_{self.modality}_{name}", kind="dense", side="event", transform="standardise")
            for name in names
        )

    def fit(self, train: pl.DataFrame, catalogue: Catalogue) -> FeatureState:
        """Round the vectors; nothing is learned of the events.

        Raises:
            ConfigError: there is no such modality, or a label column is missing or holds no numbers.
        """
        if self.modality not in catalogue.vectors:
            known = ", ".join(catalogue.vectors) or "none"
            raise ConfigError(f"{_WHERE}.modality: there is no modality '{self.modality}'; there are: {known}")
        if self.label is not None:
            label_values(train, self.label, _WHERE)
        vectors, present = catalogue.vectors[self.modality]
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)  # [I]
        present = present & np.isfinite(lengths) & (lengths > 0)
        units = np.where(present[:, None], vectors, 0) / np.where(present, lengths, 1)[:, None]  # [I, V]
        whole = np.rint(_LENGTH * units).astype(np.int16)
        squares = np.square(whole.astype(np.float64)).sum(axis=1)
        return FeatureState(arrays={"whole": whole, "squares": squares})

    def apply(self, events: pl.DataFrame, examples: pl.DataFrame, state: FeatureState) -> pl.DataFrame:
        """The cosines of every example.

        Raises:
            ConfigError: the label column is missing or holds no numbers.
            DatasetError: events have no time.
        """
        candidates = examples["item"].to_numpy()
        columns = {spec.name: np.empty(examples.height) for spec in self.specs}  # each [E]
        for part in parts(events, examples):
            items, liked = part.events["item"].to_numpy(), np.zeros(part.events.height, np.bool_)  # [N], [N]
            if self.label is not None:
                liked = self._liked(label_values(part.events, self.label, _WHERE))
            before = prefix_sums(liked)  # [N + 1]
            for rows, asked in part.asked:
                history = _History(items, asked.start, asked.stop)
                of_liked = _History(items[liked], before[asked.start], before[asked.stop])
                for name, values in self._columns(candidates[rows], history, of_liked, state).items():
                    columns[name][rows] = values
        return pl.DataFrame([pl.Series(name, values, nan_to_null=True) for name, values in columns.items()])

    def start(self) -> dict[str, Any]:
        """No event."""
        return {"items": [], "liked": []}

    def update(self, memory: dict[str, Any], event: Event, state: FeatureState) -> dict[str, Any]:
        """Keep as many last items as the longest window has."""
        longest = max(self.last)
        liked = self.label is not None and bool(self._liked(np.array([event.labels.get(self.label, np.nan)]))[0])
        return {
            "items": [*memory["items"], event.item][-longest:],
            "liked": [*memory["liked"], event.item][-longest:] if liked else memory["liked"],
        }

    def read(
        self, memory: dict[str, Any], items: NDArray[np.int64], timestamp: int, state: FeatureState
    ) -> dict[str, NDArray[Any]]:
        """The cosines of candidates [C]."""
        history, liked = (
            _History(np.array(past, np.int64), np.zeros(len(items), np.int64), np.full(len(items), len(past)))
            for past in (memory["items"], memory["liked"])
        )
        return dict(self._columns(items, history, liked, state))

    def _liked(self, values: Floats) -> Bools:
        """Whether a label [E], NaN where missing, says that the event was liked."""
        return values > 0 if self.at_least is None else values >= self.at_least

    def _columns(
        self, candidates: NDArray[np.integer], history: _History, liked: _History, state: FeatureState
    ) -> dict[str, Floats]:
        """The columns of candidates [e], beside all earlier events and those that were liked."""
        vectors = _Vectors(state.arrays["whole"], state.arrays["squares"])
        columns = {spec.name: np.empty(len(candidates)) for spec in self.specs}  # each [e]
        prefix, windows = f"item_{self.modality}", tuple(sorted(self.last))
        for rows, block in _blocks(vectors, candidates, history, windows[-1]):
            columns[f"{prefix}_previous"][rows], *nearest = block.nearest((1, *windows))
            for length, cosines in zip(windows, nearest, strict=True):
                columns[f"{prefix}_nearest_{length}"][rows] = cosines
                columns[f"{prefix}_mean_{length}"][rows] = block.mean(length)
        if self.label is not None:
            for rows, block in _blocks(vectors, candidates, liked, windows[-1]):
                for length in windows:
                    columns[f"{prefix}_liked_{length}"][rows] = block.mean(length)
        return columns


@dataclass(frozen=True, eq=False)
class _History:
    """Events, and which of them each candidate looks back on."""

    items: NDArray[np.integer]
    """[H] items of the events."""
    start: Ints
    """[e] the first event of the candidate's user."""
    stop: Ints
    """[e] the event behind the last earlier one."""


@dataclass(frozen=True, eq=False)
class _Vectors:
    """Rounded vectors of all items; zeros where there is none."""

    whole: NDArray[np.int16]
    """[I, V]."""
    squares: Floats
    """[I] their squared lengths."""

    def take(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """The vectors of some items."""
        return self.whole[items].astype(np.float32)


def _blocks(
    vectors: _Vectors, candidates: NDArray[np.integer], history: _History, longest: int
) -> Iterator[tuple[Ints, _Block]]:
    """Candidates [e] that look at neighbouring events, block by block: their rows, and the block."""
    order = stable_order(history.stop)  # [e]
    ends = history.stop[order]  # [e] ascending
    row = 0
    while row < len(order):
        past = min(row + _BLOCK_ROWS, int(np.searchsorted(ends, ends[row] + _BLOCK_EVENTS, side="right")))
        rows = order[row:past]
        begin = np.maximum(history.start[rows], history.stop[rows] - longest)  # [b]
        low, high = int(begin.min()), int(ends[past - 1])
        events = history.items[low:high]
        yield rows, _Block.of(vectors, candidates[rows], events, begin - low, history.stop[rows] - low)
        row = past


@dataclass(frozen=True, eq=False)
class _Block:
    """Some candidates and the events that they look at."""

    candidates: NDArray[np.float32]
    """[b, V]."""
    events: NDArray[np.float32]
    """[H, V]."""
    sums: NDArray[np.float32]
    """[H + 1, V] of the first 0, 1, ... events."""
    candidate_squares: Floats
    """[b] squared lengths; 0 where there is no vector."""
    event_squares: Floats
    """[H] likewise."""
    begin: Ints
    """[b] first event that each candidate sees in the longest window."""
    stop: Ints
    """[b] event behind the last one that it sees."""

    @classmethod
    def of(
        cls,
        vectors: _Vectors,
        candidates: NDArray[np.integer],
        history: NDArray[np.integer],
        begin: Ints,
        stop: Ints,
    ) -> _Block:
        events = vectors.take(history)
        sums = np.zeros((len(events) + 1, events.shape[1]), np.float32)
        for row, event in enumerate(events):  # several times as quick as cumsum down the rows
            np.add(sums[row], event, out=sums[row + 1])
        of_candidates, of_events = vectors.squares[candidates], vectors.squares[history]
        return cls(vectors.take(candidates), events, sums, of_candidates, of_events, begin, stop)

    def mean(self, length: int) -> Floats:
        """[b] cosine with the mean of the last events; NaN where there is none."""
        begin = np.maximum(self.begin, self.stop - length)
        total = (self.sums[self.stop] - self.sums[begin]).astype(np.float64)  # [b, V]
        dots = _dots(total, self.candidates.astype(np.float64))
        return _cosines(dots, self.candidate_squares, _dots(total, total))

    def nearest(self, lengths: tuple[int, ...]) -> Iterator[Floats]:
        """[b] for each window, shortest first: the greatest cosine with one of the last events; NaN for none."""
        if len(self.events) == 0:
            yield from (np.full(len(self.stop), np.nan) for _ in lengths)
            return
        dots = self.candidates @ self.events.T  # [b, H]
        place = self.stop[:, None] - 1 - np.arange(lengths[-1])  # [b, K] the latest first
        seen = place >= self.begin[:, None]
        place = np.maximum(place, 0)
        found = np.take_along_axis(dots, place, axis=1).astype(np.float64)
        cosines = _cosines(found, self.candidate_squares[:, None], self.event_squares[place])  # [b, K]
        cosines = np.where(seen & ~np.isnan(cosines), cosines, -np.inf)
        for length in lengths:
            greatest = cosines[:, :length].max(axis=1)
            yield np.where(np.isfinite(greatest), greatest, np.nan)


def _dots(left: Floats, right: Floats) -> Floats:
    """[b] dot products of rows [b, V]; quicker than einsum."""
    return np.matmul(left[:, None, :], right[:, :, None])[:, 0, 0]


def _cosines(dots: Floats, left: Floats, right: Floats) -> Floats:
    """Dot products over the roots of squared lengths; NaN where one of them is 0."""
    squares = left * right
    # 0.0 is added because a sum of zeros may be -0.0 in one order and 0.0 in another.
    return np.divide(dots + 0.0, np.sqrt(squares), out=np.full(dots.shape, np.nan), where=squares > 0)
