"""The leak check on real data: make the inputs again without the future, and compare them bit for bit.

Shape letters: E events, S sampled examples.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.example_rows import require_timestamps
from moerec.batches.examples import ExampleTable
from moerec.batches.fitted_split import FittedSplit
from moerec.batches.lookup_tables import Vectors
from moerec.dataset.audit import Finding
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.features.feature import Catalogue

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class InputLeak:
    """What the check found of one input."""

    name: str
    """Name of the input."""
    differing: int
    """Sampled rows whose value changes when the events at and after their own time are deleted; must be 0."""
    refitted_differing: int
    """Rows whose value changes when the fitted state, too, is made of earlier train events alone."""


@dataclass(frozen=True)
class LeakReport:
    """The check of all inputs."""

    rows: int
    """Sampled events."""
    refitted: int
    """Sampled train events for which the features were fitted again."""
    inputs: tuple[InputLeak, ...]
    """Every input that the builder makes, in the order of the schema."""
    tied: float
    """Share of events with another one of the same user at the same time; those do not see each other."""
    empty: dict[str, float]
    """Per part: share of events without any strictly earlier event of the user."""

    @property
    def leaks(self) -> tuple[InputLeak, ...]:
        """The inputs that see what they must not see."""
        return tuple(found for found in self.inputs if found.differing)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def findings(self) -> tuple[Finding, ...]:
        """The report as lines of an audit."""
        return (_leak_finding(self), _fitted_finding(self), _history_finding(self))


def audit_leaks(
    builder: ExampleBuilder,
    dataset: Dataset,
    split: str,
    vectors: Vectors | None = None,
    sample: int = 1000,
    refits: int = 5,
    seed: int = 0,
) -> LeakReport:
    """Make the inputs of sampled events again after deleting everything at and after their time, themselves included.

    Other users' events are deleted as well, since an input hangs on its own user's past and on fitted state alone.

    Args:
        builder: fitted on the split.
        dataset: the data set.
        split: name of its split.
        vectors: what the builder was fitted with.
        sample: number of events.
        refits: train events for which the features are fitted again on earlier train events.
        seed: seed of the sample.

    Raises:
        ConfigError: the builder was fitted on another split.
        DatasetError: no timestamps.
    """
    require_timestamps(dataset)
    builder.check_split(FittedSplit.of(dataset, split), "what is audited")
    parts = dataset.split(split)
    used = parts != Part.UNUSED
    log, parts = dataset.events.drop("position", *dataset.info.texts).filter(pl.Series(used)), parts[used]
    builder = replace(builder, events=log)
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(parts), min(sample, len(parts)), replace=False))  # [S]
    differing = _check_deleted(builder, log, rows)
    train = log.filter(pl.Series(parts == Part.TRAIN))
    again = _refit_rows(log["timestamp"].to_numpy(), parts, rows, refits, random)
    refitted = _check_refitted(builder, log, train, again, Catalogue(dataset.items, dataset.num_indices, vectors or {}))
    inputs = tuple(InputLeak(spec.name, differing[spec.name], refitted[spec.name]) for spec in builder.schema.specs)
    return LeakReport(len(rows), len(again), inputs, *_shares(log, parts))


def _check_deleted(builder: ExampleBuilder, log: pl.DataFrame, rows: Ints) -> Counter[str]:
    """Per input, how many of the rows [S] change when their users' events from their own time on are deleted."""
    found: Counter[str] = Counter()
    whole = builder.build(log[rows])
    number = _number_within_user(log["user"].to_numpy()[rows])  # [S]
    # A user has one past at a time, so several rows of one user are checked one after another.
    for turn in range(int(number.max()) + 1):
        places = np.flatnonzero(number == turn)
        examples = log[rows[places]]
        found.update(_differing(whole, places, builder.build(examples, _earlier(log, examples))))
    return found


def _check_refitted(
    builder: ExampleBuilder, log: pl.DataFrame, train: pl.DataFrame, rows: Ints, catalogue: Catalogue
) -> Counter[str]:
    """Per input, how many rows change when the features are fitted again on the train events before each row."""
    found: Counter[str] = Counter()
    for row in rows.tolist():
        example = log[[row]]
        before = train.filter(pl.col("timestamp") < example["timestamp"][0])
        features = {
            name: replace(feature, state=feature.config.fit(before, catalogue))
            for name, feature in builder.features.items()
        }
        cut = replace(builder, features=features).build(example, _earlier(log, example))
        found.update(_differing(builder.build(example), np.zeros(1, np.int64), cut))
    return found


def _earlier(log: pl.DataFrame, examples: pl.DataFrame) -> pl.DataFrame:
    """The events of the examples' users before the one example of each."""
    until = examples.select("user", until="timestamp")
    joined = log.join(until, on="user", how="inner", maintain_order="left")
    return joined.filter(pl.col("timestamp") < pl.col("until")).drop("until")


def _differing(whole: ExampleTable, places: Ints, cut: ExampleTable) -> dict[str, int]:
    """Per input, in how many examples the bits of value or presence differ from those at places of another table."""
    every = np.arange(len(cut))
    found = {}
    for spec in cut.schema.specs:
        differs = _rows_differ(whole.column(spec.name, places), cut.column(spec.name, every))
        there, here = whole.presence(spec.name, places), cut.presence(spec.name, every)
        if there is not None and here is not None:
            differs |= there != here
        found[spec.name] = int(differs.sum())
    return found


def _rows_differ(left: NDArray[np.generic], right: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which rows differ in a bit; a NaN equals itself."""
    bits = [np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1) for values in (left, right)]
    differs: NDArray[np.bool_] = (bits[0] != bits[1]).any(axis=1)
    return differs


def _number_within_user(users: NDArray[np.integer]) -> Ints:
    """The how-manieth row of its user each row is, from 0 on; users ascend."""
    return np.arange(len(users)) - np.searchsorted(users, users)


def _refit_rows(
    times: NDArray[np.int64], parts: NDArray[np.int8], rows: Ints, count: int, random: np.random.Generator
) -> Ints:
    """Some of the sampled train rows before which there is a train event of anybody."""
    train = parts == Part.TRAIN  # [E]
    possible = rows[train[rows] & (times[rows] > times[train].min())]
    return np.sort(random.choice(possible, min(count, len(possible)), replace=False))


def _shares(log: pl.DataFrame, parts: NDArray[np.int8]) -> tuple[float, dict[str, float]]:
    """Share of tied events, and per part the share of events without an earlier one."""
    tied = log.select(pl.len().over("user", "timestamp") > 1).to_series().to_numpy()  # [E]
    first = log.select(pl.col("timestamp") == pl.col("timestamp").min().over("user")).to_series().to_numpy()  # [E]
    named = {part.name.lower(): parts == part for part in Part if part != Part.UNUSED}
    return float(tied.mean()), {name: float(first[of].mean()) for name, of in named.items() if of.any()}


def _leak_finding(report: LeakReport) -> Finding:
    values = {"rows": report.rows, "differing": {found.name: found.differing for found in report.inputs}}
    leaking = [f"{found.name} ({found.differing:,} rows)" for found in report.leaks]
    if leaking:
        sentence = (
            f"{', '.join(leaking)} of {report.rows:,} sampled events change when the events at and after their own "
            "time are deleted: these inputs see what is to be predicted; leave them out or mend them."
        )
        return Finding("leaks", "warning", sentence, values)
    sentence = (
        f"None of {len(report.inputs)} inputs of {report.rows:,} sampled events changes by a bit when the events at "
        "and after their own time are deleted."
    )
    return Finding("leaks", "ok", sentence, values)


def _fitted_finding(report: LeakReport) -> Finding:
    changed = {found.name: found.refitted_differing for found in report.inputs if found.refitted_differing}
    values = {"rows": report.refitted, "differing": changed}
    if changed:
        sentence = (
            f"{', '.join(changed)} change for some of {report.refitted} train events when only earlier train events "
            "are used to fit them: their fitted state tells of later ones, which is as it should be for a vocabulary "
            "or a prior, and a leak for a statistic of the event's own user or item."
        )
        return Finding("fitted state", "note", sentence, values)
    sentence = (
        f"None of the inputs of {report.refitted} train events changes when only earlier train events are used to "
        "fit the features."
    )
    return Finding("fitted state", "ok", sentence, values)


def _history_finding(report: LeakReport) -> Finding:
    parts = ", ".join(f"{share:.1%} of {name}" for name, share in report.empty.items())
    sentence = (
        f"{report.tied:.1%} of the events share user and time with another one and do not see each other; "
        f"no earlier event of the user: {parts}."
    )
    return Finding(
        "histories", "note" if report.tied > 0.2 else "ok", sentence, {"tied": report.tied, "empty": report.empty}
    )
