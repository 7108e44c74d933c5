"""Audit: what a data set and a split are like, and what that means for the figures measured on them.

Shape letters: N events, U users, C items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.dataset.dataset import Dataset
from moerec.dataset.frames import day_text, seconds_remedy
from moerec.dataset.rejects import summarise_rejects
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.dataset.validation import modality_files, modality_presence

Level = Literal["ok", "note", "warning"]

_MILLISECONDS_1980 = 315_532_800_000
_VALUES_LISTED = 20


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    level: Level
    """ok; note: worth knowing when reading figures; warning: figures may mislead unless something is done."""
    sentence: str
    """What was found and what it means."""
    values: dict[str, Any] = field(default_factory=dict)
    """The numbers, as plain data."""


@dataclass(frozen=True)
class AuditReport:
    """All findings about one data set and one split."""

    dataset: str
    split: str
    rule: str
    findings: tuple[Finding, ...]

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that ask for something to be done."""
        return tuple(finding for finding in self.findings if finding.level == "warning")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_text(self) -> str:
        """A page for a person: one line for each finding."""
        head = [f"Audit of data set '{self.dataset}', split '{self.split}'", f"  {self.rule}", ""]
        width = max(len(finding.name) for finding in self.findings)
        lines = [f"  {finding.level:<7}  {finding.name:<{width}}  {finding.sentence}" for finding in self.findings]
        return "\n".join([*head, *lines])


def audit(dataset: Dataset, split: str) -> AuditReport:
    """Look at a data set and one of its splits.

    Raises:
        DatasetError: no split of that name.
    """
    parts = dataset.split(split)
    # One event a user and no times: a table whose rows have no past and nothing in common but columns.
    is_log = dataset.timestamps is not None or dataset.num_users < dataset.info.counts.events
    findings = [_counts(dataset), _rejects(dataset), _catalogue(dataset)]
    if is_log:
        findings += [_time_span(dataset), _ties(dataset), _repeats(dataset), _activity(dataset), _popularity(dataset)]
    else:
        findings.append(_rows(dataset))
    findings += [
        *_labels(dataset, parts),
        *_missing_columns("user", dataset.users),
        *_missing_columns("item", dataset.items),
        *_missing_modalities(dataset),
        _parts(dataset, parts),
    ]
    if is_log:
        findings += [_future_of_user(dataset, parts), _future_of_others(dataset, parts)]
        findings += [_cold_items(dataset, parts), _cold_users(dataset, parts)]
    return AuditReport(dataset.info.name, split, dataset.info.splits[split].rule, tuple(findings))


def gini(counts: NDArray[np.int64]) -> float:
    """Concentration of counts: 0 if all are equal, towards 1 if one has everything."""
    ordered = np.sort(counts)
    total = ordered.sum()
    if total == 0:
        return 0.0
    ranks = np.arange(1, ordered.size + 1)
    return float((2 * ranks - ordered.size - 1) @ ordered / (ordered.size * total))


def _level(share: float, note: float, warning: float) -> Level:
    """The level of a share that is better small: above which it is a note, above which a warning."""
    return "warning" if share > warning else "note" if share > note else "ok"


def _share(mask: NDArray[np.bool_]) -> float:
    return float(mask.mean()) if mask.size else 0.0


def _counts(dataset: Dataset) -> Finding:
    counts = dataset.info.counts
    values = {"users": counts.users, "items": counts.items, "events": counts.events}
    density = counts.events / (counts.users * counts.items)
    return Finding(
        "counts",
        "ok",
        f"{counts.users:,} users, {counts.items:,} items, {counts.events:,} events; "
        f"the matrix of users and items is {density:.2%} full.",
        {**values, "density": density},
    )


def _rejects(dataset: Dataset) -> Finding:
    rejected = dataset.info.counts.rejected
    total = sum(rejected.values())
    share = total / (total + dataset.info.counts.events)
    meaning = "" if total == 0 else f" ({share:.2%} of what was read; no figure counts them)"
    told = summarise_rejects(rejected)
    return Finding("rejects", _level(share, 0, 0.05), f"{told[0].upper()}{told[1:]}{meaning}.", dict(rejected))


def _catalogue(dataset: Dataset) -> Finding:
    counts = dataset.info.counts
    values = {
        "items_without_events": counts.items_without_events,
        "items_without_row": counts.items_without_row,
        "users_without_row": counts.users_without_row,
        "users_without_events": counts.users_without_events,
    }
    # A table that was not given at all is a choice, not a gap.
    lacking = max(
        counts.items_without_row / counts.items if counts.items_without_row < counts.items else 0.0,
        counts.users_without_row / counts.users if counts.users_without_row < counts.users else 0.0,
    )
    return Finding(
        "tables",
        _level(lacking, 0, 0.05),
        f"{counts.items_without_row:,} items and {counts.users_without_row:,} users of "
        f"the events have no row of their own, so nothing but their id is known; "
        f"{counts.items_without_events:,} items have no event and can only be scored by content.",
        values,
    )


def _time_span(dataset: Dataset) -> Finding:
    times = dataset.timestamps
    if times is None:
        sentence = "There are no timestamps: the order is that of the source, and nothing that needs time can be used."
        return Finding("time", "note", sentence)
    first, last = int(times.min()), int(times.max())
    values = {"first": first, "last": last, "first_day": day_text(first), "last_day": day_text(last)}
    if last < _MILLISECONDS_1980:
        remedy = seconds_remedy(dataset.info.source)
        sentence = f"The last event is of {day_text(last)}: the times are probably seconds, {remedy}."
        return Finding("time", "warning", sentence, values)
    return Finding("time", "ok", f"The events lie between {day_text(first)} and {day_text(last)} (UTC).", values)


def _follows(dataset: Dataset) -> NDArray[np.bool_]:
    """Whether each event but the first has a predecessor of the same user, [N - 1]."""
    return np.diff(dataset.event_users) == 0


def _rows(dataset: Dataset) -> Finding:
    sentence = (
        "Every user has one event and there are no times: this is a table of rows and no log. Only columns can tell of "
        "a row, nothing can be told of a past, and no row is of a user that was trained on."
    )
    return Finding("rows", "ok", sentence, {"rows": dataset.info.counts.events})


def _ties(dataset: Dataset) -> Finding:
    times = dataset.timestamps
    if times is None:
        return Finding("ties", "ok", "Without timestamps there are no ties; the order of the source counts.")
    tied = (np.diff(times) == 0) & _follows(dataset)
    share = float(tied.sum() / times.size)
    return Finding(
        "ties",
        _level(share, 0, 0.2),
        f"{share:.1%} of the events have the timestamp of their predecessor: their order is that of the source, and a "
        "history may hold events of the same moment.",
        {"share": share, "events": int(tied.sum())},
    )


def _repeats(dataset: Dataset) -> Finding:
    keys = dataset.event_users.astype(np.int64) * dataset.num_indices + dataset.event_items
    repeats = keys.size - pl.Series(keys).n_unique()
    duplicates = dataset.info.counts.rejected.get("duplicate event", 0)
    share = repeats / keys.size
    meaning = ", so leaving seen items out of a list makes some test items unreachable" if repeats else ""
    return Finding(
        "repeats",
        _level(share, 0, 0.2),
        f"{share:.1%} of the events repeat an item of the same user at another time{meaning}; "
        f"{duplicates:,} exact duplicates were refused.",
        {"share": share, "events": repeats, "duplicates_refused": duplicates},
    )


def _activity(dataset: Dataset) -> Finding:
    counts = np.diff(dataset.user_offsets)  # [U]
    few = _share(counts < 3)
    return Finding(
        "user activity",
        _level(few, 0.05, 0.5),
        f"A user has {int(np.median(counts))} events in the median (from {counts.min():,} to {counts.max():,}); "
        f"{few:.1%} have fewer than three and can hardly be modelled or tested.",
        {"median": float(np.median(counts)), "min": int(counts.min()), "max": int(counts.max()), "below_three": few},
    )


def _popularity(dataset: Dataset) -> Finding:
    counts = np.bincount(dataset.event_items, minlength=dataset.num_indices)[FIRST_ITEM:]  # [C]
    ordered = np.sort(counts)[::-1]
    top = {share: float(ordered[: max(1, int(share * ordered.size))].sum() / ordered.sum()) for share in (0.01, 0.1)}
    return Finding(
        "popularity",
        _level(top[0.1], 0.5, 0.8),
        f"The 1% most popular items hold {top[0.01]:.1%} of the events, the top 10% hold {top[0.1]:.1%} (Gini "
        f"{gini(counts):.2f}): the more, the better plain popularity does, so compare with it and read the tail slice.",
        {"gini": gini(counts), "top_1_percent": top[0.01], "top_10_percent": top[0.1]},
    )


def _labels(dataset: Dataset, parts: NDArray[np.int8]) -> Iterator[Finding]:
    for name in dataset.info.labels:
        column = dataset.events[name]
        missing = column.null_count() / len(column)
        table = column.drop_nulls().value_counts().sort(name)
        values: dict[str, Any] = {"missing": missing, "distinct": table.height}
        if table.height <= _VALUES_LISTED:
            values["counts"] = {str(value): int(count) for value, count in table.iter_rows()}
        if table.height <= 1:
            yield Finding(
                f"label {name}", "warning", "It has the same value everywhere, so it teaches nothing.", values
            )
            continue
        means = ""
        if column.dtype.is_numeric() or column.dtype == pl.Boolean:
            values["mean"] = {part: _mean(column, parts, part) for part in ("train", "valid", "test")}
            told = [f"{mean:.3g} in {part}" for part, mean in values["mean"].items() if mean is not None]
            means = f" (mean {', '.join(told)}: far apart means that the split changes the task)"
        shares = "; ".join(f"{value}: {count / len(column):.1%}" for value, count in values.get("counts", {}).items())
        spread = shares or f"{table.height:,} different values"
        sentence = f"{spread}{means}; {missing:.1%} are missing and take no part in training on it."
        yield Finding(f"label {name}", _level(missing, 0, 0.5), sentence, values)


def _mean(column: pl.Series, parts: NDArray[np.int8], part: str) -> float | None:
    values = column.filter(pl.Series(parts == Part[part.upper()])).cast(pl.Float64).drop_nulls().to_numpy()
    return float(values.mean()) if values.size else None


def _missing_columns(what: str, table: pl.DataFrame) -> Iterator[Finding]:
    columns = [name for name in table.columns if name not in (what, f"{what}_id", "first_event")]
    rates = {name: table[name].null_count() / table.height for name in columns}
    if rates:
        worst = max(rates, key=lambda name: rates[name])
        listed = ", ".join(f"{name} {rate:.1%}" for name, rate in rates.items() if rate > 0) or "nothing"
        sentence = (
            f"Missing in the {what}s: {listed}; models see a missing value as such, and the fewer of it the better."
        )
        yield Finding(f"{what} columns", _level(rates[worst], 0, 0.5), sentence, rates)


def _missing_modalities(dataset: Dataset) -> Iterator[Finding]:
    for name, path in modality_files(dataset):
        missing = 1.0 - _share(modality_presence(path)[FIRST_ITEM:])
        sentence = f"{missing:.1%} of the items have no vector; the model sees a learned vector and a mask instead."
        yield Finding(f"modality {name}", _level(missing, 0, 0.2), sentence, {"missing": missing})


def _of(part: Part, parts: NDArray[np.int8]) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = parts == part
    return mask


def _parts(dataset: Dataset, parts: NDArray[np.int8]) -> Finding:
    values: dict[str, Any] = {}
    words = []
    for part in Part:
        mask = _of(part, parts)
        if not mask.any():
            continue
        bounds: dict[str, Any] = {
            "events": int(mask.sum()),
            "users": int(np.count_nonzero(np.bincount(dataset.event_users[mask]))),
        }
        span = ""
        if dataset.timestamps is not None:
            times = dataset.timestamps[mask]
            bounds |= {"first": int(times.min()), "last": int(times.max())}
            span = f" ({day_text(bounds['first'])} to {day_text(bounds['last'])})"
        values[part.name.lower()] = bounds
        words.append(f"{part.name.lower()} {bounds['events']:,} events of {bounds['users']:,} users{span}")
    return Finding("parts", "ok", "; ".join(words) + ".", values)


def _future_of_user(dataset: Dataset, parts: NDArray[np.int8]) -> Finding:
    """Train events that stand after a test event of the same user."""
    before = np.cumsum(_of(Part.TEST, parts))  # test events up to each event, [N]
    start = dataset.user_offsets[:-1]
    at_start = np.where(start > 0, before[start - 1], 0)  # [U]
    after_test = (before - np.repeat(at_start, np.diff(dataset.user_offsets))) > 0
    share = _share(after_test[_of(Part.TRAIN, parts)])
    meaning = "so no user's own future is learnt" if share == 0 else "so the model learns from a user's own future"
    sentence = f"{share:.1%} of the train events come after a test event of the same user, {meaning}."
    return Finding("future of the user", _level(share, 0, 0), sentence, {"share": share})


def _future_of_others(dataset: Dataset, parts: NDArray[np.int8]) -> Finding:
    """Train events that lie after test events of anybody."""
    name = "future of others"
    times, train, test = dataset.timestamps, _of(Part.TRAIN, parts), _of(Part.TEST, parts)
    if times is None or not test.any():
        return Finding(name, "note", "Without times it cannot be told whether train events lie after test events.")
    later = _share(times[train] > times[test].min())
    tested = _share(times[test] < times[train].max())
    meaning = (
        "the figures are those of a forecast"
        if later == 0
        else "the model knows what others did later, as in every leave-one-out figure; a split by date is stricter"
    )
    return Finding(
        name,
        _level(later, 0, 1),
        f"{later:.1%} of the train events lie after the first test event, and {tested:.1%} of the test events before "
        f"the last train event: {meaning}.",
        {"train_after_first_test": later, "test_before_last_train": tested},
    )


def _cold(name: str, what: str, codes: NDArray[np.int32], size: int, parts: NDArray[np.int8], meaning: str) -> Finding:
    known = np.zeros(size, dtype=bool)
    known[codes[_of(Part.TRAIN, parts)]] = True
    test, valid = (_share(~known[codes[_of(part, parts)]]) for part in (Part.TEST, Part.VALID))
    cold = int(np.count_nonzero(np.bincount(codes[_of(Part.TEST, parts) & ~known[codes]])))
    sentence = (
        f"{test:.1%} of the test events and {valid:.1%} of the valid ones are of {what} without a train event "
        f"({cold:,} in test): {meaning}."
    )
    return Finding(name, _level(test, 0, 0.1), sentence, {"test": test, "valid": valid, what: cold})


def _cold_items(dataset: Dataset, parts: NDArray[np.int8]) -> Finding:
    meaning = "only content can find them, and a model of ids alone scores them at random"
    return _cold("cold items", "items", dataset.event_items, dataset.num_indices, parts, meaning)


def _cold_users(dataset: Dataset, parts: NDArray[np.int8]) -> Finding:
    meaning = "a model of user ids knows nothing of them"
    return _cold("cold users", "users", dataset.event_users, dataset.num_users, parts, meaning)
