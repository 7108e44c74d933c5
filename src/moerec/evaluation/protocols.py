"""How a model is judged: the protocol, and the cases (a user's history and the items that followed it).

Shape letters: E events, C cases, B chosen cases, T events of all histories together, K targets of all cases together,
H hidden events of all cases together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator

from moerec.batches.packing import jagged_rows
from moerec.batches.sequences import SequenceBatch
from moerec.config import Config
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.errors import ConfigError, DatasetError

Ints = NDArray[np.int64]


class ProtocolConfig(Config):
    """What is ranked against what, and how it is counted."""

    part: Literal["valid", "test"] = "test"
    """The part of the split whose events are the targets; selection sees `valid` alone."""
    cutoffs: tuple[int, ...] = (5, 10, 20)
    """The k of each metric, ascending."""
    ranking: Literal["full", "sampled"] = "full"
    """full: against the whole catalogue; sampled: against a fixed list of candidates for each user."""
    candidates: str | None = None
    """For `sampled`: name of the data set's candidate lists; it becomes part of the metrics' names."""
    filter_seen: bool = True
    """Items of the history are not candidates; targets that are in the history are dropped and counted."""
    history: Literal["all", "strict"] = "all"
    """all: every event before the first target; strict: without those that share its timestamp."""
    users_per_batch: int = 256
    """Users that are encoded at once."""
    scores_in_memory: int = 2**24
    """Scores (users times items) that are held at once; big catalogues get smaller batches."""

    @model_validator(mode="after")
    def _check(self) -> ProtocolConfig:
        if not self.cutoffs or list(self.cutoffs) != sorted(set(self.cutoffs)) or self.cutoffs[0] < 1:
            raise ValueError("cutoffs must be ascending positive numbers, for instance [5, 10, 20]")
        if self.ranking == "sampled" and self.candidates is None:
            raise ValueError("ranking: sampled needs candidates: the name of the data set's candidate lists")
        if self.ranking == "full" and self.candidates is not None:
            raise ValueError("ranking: full takes no candidates; write ranking: sampled")
        if self.users_per_batch < 1 or self.scores_in_memory < 1:
            raise ValueError("users_per_batch and scores_in_memory must be at least 1")
        return self

    @property
    def suffix(self) -> str:
        """What follows a metric's name: nothing for full ranking, else `/` and the name of the candidates."""
        return "" if self.candidates is None else f"/{self.candidates}"

    def describe(self) -> dict[str, str]:
        """The protocol in words, for reports: `ranking`, `history` and `ties`."""
        unseen = "unseen " if self.filter_seen else ""
        if self.ranking == "full":
            ranking = f"full ranking over all {unseen}items of the catalogue"
        else:
            ranking = f"sampled ranking: each target against the fixed candidate list '{self.candidates}' of its user"
            ranking += ", without items seen before" if self.filter_seen else ""
        known = "train" if self.part == "valid" else "train and validation"
        history = f"the {known} events of a user before the first {self.part} event"
        if self.history == "strict":
            history += ", without those that share its timestamp"
        return {
            "ranking": ranking,
            "history": history,
            "ties": "each metric is its expectation over a random order of equal scores",
        }


@dataclass(frozen=True, eq=False)
class EvaluationCases:
    """One case for each user who has targets: what the model is shown, and what it should find."""

    protocol: ProtocolConfig
    """What the cases were made for: its part, history and filter_seen decide them."""
    users: Ints  # [C]
    """User index of each case, ascending."""
    history_items: Ints  # [T]
    """Items of the histories, oldest first, one case after another."""
    history_timestamps: Ints | None  # [T]
    """Milliseconds since 1970; None if the source has no times."""
    history_offsets: Ints  # [C + 1]
    """History of case c: events history_offsets[c] to history_offsets[c + 1] - 1; it may be empty."""
    target_items: Ints  # [K]
    """Targets, each once in a case."""
    target_offsets: Ints  # [C + 1]
    """Targets of case c; at least one."""
    hidden_items: Ints  # [H]
    """With `filter_seen`: items that users met in events that the split leaves out, one case after another. No model is
    shown them, and they are neither candidates nor targets."""
    hidden_offsets: Ints  # [C + 1]
    """Hidden items of case c: hidden_offsets[c] to hidden_offsets[c + 1] - 1."""
    request_times: Ints | None = None  # [C]
    """When each list is asked for: the time of the case's first target; None if the source has no times."""
    seen_targets: int = 0
    """Targets left out because the user had met the item already."""
    cases_without_targets: int = 0
    """Users left out because nothing but seen targets remained."""

    def __len__(self) -> int:
        return len(self.users)

    @property
    def part(self) -> str:
        """`valid` or `test`."""
        return self.protocol.part

    @property
    def history_lengths(self) -> Ints:
        """Number of events of each history, [C]."""
        return np.diff(self.history_offsets)

    @property
    def target_cases(self) -> Ints:
        """The case of each target, [K]."""
        return np.repeat(np.arange(len(self)), np.diff(self.target_offsets))

    def hidden(self, cases: Ints) -> tuple[Ints, Ints]:
        """The hidden items of some cases [B]: at which of these cases each stands, and the item."""
        index, offsets = jagged_rows(self.hidden_offsets, cases)
        return np.repeat(np.arange(len(cases)), np.diff(offsets)), self.hidden_items[index]

    def batch(self, cases: Ints) -> SequenceBatch:
        """The histories of some cases, in the order asked for.

        Args:
            cases: [B] positions of cases.
        """
        index, offsets = jagged_rows(self.history_offsets, cases)
        times = self.history_timestamps
        return SequenceBatch(
            items=torch.from_numpy(self.history_items[index]),
            offsets=torch.from_numpy(offsets),
            timestamps=None if times is None else torch.from_numpy(times[index]),
            users=torch.from_numpy(self.users[cases]),
            request_times=None if self.request_times is None else torch.from_numpy(self.request_times[cases]),
        )


def cases_of(dataset: Dataset, split: str, protocol: ProtocolConfig) -> EvaluationCases:
    """The cases of one of the data set's splits; see `make_cases`."""
    codes = dataset.split(split)
    chronological = dataset.info.splits[split].config.kind != "ratio"
    return make_cases(dataset.event_users, dataset.event_items, dataset.timestamps, codes, protocol, chronological)


def make_cases(
    event_users: NDArray[np.integer],
    event_items: NDArray[np.integer],
    timestamps: NDArray[np.integer] | None,
    codes: NDArray[np.integer],
    protocol: ProtocolConfig,
    chronological: bool = True,
) -> EvaluationCases:
    """One case for each user with events in the protocol's part.

    For `valid` the history is made of train events, for `test` of train and validation events; unused
    events are never in it.

    Args:
        event_users: [E] user of each event; events are sorted by user, then by position.
        event_items: [E] item of each event.
        timestamps: [E] milliseconds, or None.
        codes: [E] part of each event (`Part`).
        protocol: which part, which history, whether seen items are filtered.
        chronological: the history ends at the first target; False for a random split, where it holds
            all events of its parts.

    Raises:
        DatasetError: no case is left.
        ConfigError: `history: strict` without timestamps or with a random split.
    """
    strict = protocol.history == "strict"
    if strict and timestamps is None:
        raise ConfigError("protocol.history: strict needs timestamps and this data set has none; write history: all")
    if strict and not chronological:
        raise ConfigError("protocol.history: strict needs a chronological split; write history: all")
    part = Part[protocol.part.upper()]
    known = (Part.TRAIN,) if part == Part.VALID else (Part.TRAIN, Part.VALID)
    targets = np.flatnonzero(codes == part)
    if targets.size == 0:
        raise DatasetError(f"the split has no {protocol.part} event; choose another split or a bigger data set")
    users, first = np.unique(event_users[targets], return_index=True)  # [C], [C]
    first = targets[first]  # [C] event of the first target
    case_of_user = np.full(int(event_users.max()) + 1, -1, dtype=np.int64)
    case_of_user[users] = np.arange(len(users))
    event_cases = case_of_user[event_users]  # [E], -1 without a case

    earlier = event_cases >= 0  # [E]
    if chronological:
        earlier &= np.arange(len(codes)) < first[event_cases]
    if strict and timestamps is not None:
        earlier &= timestamps < timestamps[first[event_cases]]

    history = np.flatnonzero(earlier & np.isin(codes, known))
    hidden = np.flatnonzero(earlier & (codes == Part.UNUSED)) if protocol.filter_seen else history[:0]
    width = int(event_items.max()) + 1
    target_keys = event_cases[targets] * width + event_items[targets].astype(np.int64)
    targets = targets[np.sort(np.unique(target_keys, return_index=True)[1])]  # each item once in a case
    seen_targets = 0
    if protocol.filter_seen:
        target_keys = event_cases[targets] * width + event_items[targets].astype(np.int64)
        met = np.concatenate([history, hidden])
        seen = occurs_in(target_keys, event_cases[met] * width + event_items[met].astype(np.int64))
        targets, seen_targets = targets[~seen], int(seen.sum())

    counts = np.bincount(event_cases[targets], minlength=len(users))  # [C]
    kept = counts > 0
    if not kept.any():
        raise DatasetError(f"every {protocol.part} target is in its user's history; write filter_seen: false")
    history, hidden = (events[kept[event_cases[events]]] for events in (history, hidden))
    return EvaluationCases(
        protocol=protocol,
        users=users[kept].astype(np.int64),
        history_items=event_items[history].astype(np.int64),
        history_timestamps=None if timestamps is None else timestamps[history].astype(np.int64),
        history_offsets=_offsets(event_cases[history], kept),
        target_items=event_items[targets].astype(np.int64),
        target_offsets=_offsets(event_cases[targets], kept),
        request_times=None if timestamps is None else timestamps[first[kept]].astype(np.int64),
        hidden_items=event_items[hidden].astype(np.int64),
        hidden_offsets=_offsets(event_cases[hidden], kept),
        seen_targets=seen_targets,
        cases_without_targets=int((~kept).sum()),
    )


def occurs_in(keys: Ints, others: Ints) -> NDArray[np.bool_]:
    """Whether each key is among the others; fast for few keys and many others, where np.isin is slow."""
    ordered, inverse = np.unique(keys, return_inverse=True)
    found = np.zeros(len(ordered) + 1, dtype=bool)
    place = np.searchsorted(ordered, others)
    present = np.append(ordered, -1)[place] == others  # an other above every key has the place behind the last
    found[place[present]] = True
    return found[inverse]


def _offsets(cases: Ints, kept: NDArray[np.bool_]) -> Ints:
    """Offsets of the kept cases, from the case of each value."""
    counts = np.bincount(cases, minlength=len(kept))[kept]
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
