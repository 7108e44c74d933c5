"""What a run found: the systems that were measured, the comparison that matters, and one plain sentence about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moerec.errors import MoerecError
from moerec.report.labels import (
    MISSING,
    as_number,
    metric,
    metric_label,
    number,
    p_statement,
    percent,
    plain,
    system_name,
)


class ReportError(MoerecError):
    """A run folder holds no metrics, or metrics of another form than the report reads."""


Bounds = tuple[float, float]


@dataclass(frozen=True)
class Comparison:
    """The paired test of the model against a baseline; the difference is model minus baseline."""

    metric: str
    difference: float | None
    interval: Bounds | None
    p_value: float | None

    @property
    def significant(self) -> bool | None:
        """Whether it is more than chance at 5 %; interval and p-value must agree. None if both are absent."""
        signs = []
        if self.interval is not None:
            signs.append(self.interval[0] > 0 or self.interval[1] < 0)
        if self.p_value is not None:
            signs.append(self.p_value < 0.05)
        return all(signs) if signs else None


@dataclass(frozen=True)
class System:
    """The model or a baseline, with all that was recorded of it."""

    name: str
    is_model: bool
    test: Mapping[str, float]
    valid: Mapping[str, float]
    intervals: Mapping[str, Bounds]
    slices: Mapping[str, Mapping[str, float]]
    beyond: Mapping[str, float]
    trials: float | None
    config: Mapping[str, Any]
    against_model: Comparison | None


def part(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The mapping under a path of keys; empty if it was not recorded.

    Raises:
        ReportError: something that is no mapping lies there.
    """
    current: Any = values
    for depth, key in enumerate(keys):
        current = current.get(key)
        if current is None:
            return {}
        if not isinstance(current, Mapping):
            path = ".".join(keys[: depth + 1])
            raise ReportError(
                f"metrics.json: {path} is a {type(current).__name__}, not a mapping; write the metrics again"
            )
    return dict(current)


def bounds(value: Any) -> Bounds | None:
    """A recorded interval as two numbers in order, or None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    low, high = as_number(value[0]), as_number(value[1])
    return None if low is None or high is None else (min(low, high), max(low, high))


def intervals(recorded: Mapping[str, Any]) -> dict[str, Bounds]:
    """The entries that are intervals."""
    return {key: found for key, value in recorded.items() if (found := bounds(value)) is not None}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The entries that are numbers."""
    return {key: found for key, value in values.items() if (found := as_number(value)) is not None}


def comparison(recorded: Mapping[str, Any], metric: str = "") -> Comparison | None:
    """A recorded paired test, of the metric that it names; None if there is none."""
    if not recorded:
        return None
    return Comparison(
        str(recorded.get("metric", metric)),
        as_number(recorded.get("difference")),
        bounds(recorded.get("interval")),
        as_number(recorded.get("p_value")),
    )


def _system(name: str, test: Mapping[str, Any], details: Mapping[str, Any], is_model: bool) -> System:
    slices = part(details, "slices")
    return System(
        name=name,
        is_model=is_model,
        test=numbers(test),
        valid=numbers(part(details, "valid")),
        intervals=intervals(part(details, "intervals")),
        slices={key: numbers(part(slices, key)) for key in slices},
        beyond=numbers(part(details, "beyond")),
        trials=as_number(details.get("trials")),
        config=part(details, "config"),
        against_model=comparison(part(details, "against_model")),
    )


@dataclass(frozen=True)
class Finding:
    """The measured systems and the metric on which they are compared."""

    model: System
    baselines: tuple[System, ...]
    """Best first on the main metric."""
    main: str
    """The main metric: that of the paired tests; without tests the first recorded of HR@10, NDCG@10."""
    held_out: str
    """What is to be found: `the held-out item`, or `a held-out item` where a user can have several."""

    @property
    def systems(self) -> tuple[System, ...]:
        """The model, then the baselines, best first."""
        return (self.model, *self.baselines)

    @property
    def best_baseline(self) -> System | None:
        """The baseline with the highest test value of the main metric."""
        return self.baselines[0] if self.baselines and self.main in self.baselines[0].test else None

    @property
    def decimals(self) -> int:
        """As many decimals as the uncertainty allows: four where the interval is narrow, otherwise three."""
        found = self.model.intervals.get(self.main)
        return 4 if found is not None and found[1] - found[0] < 0.006 else 3


def find(metrics: Mapping[str, Any]) -> Finding | None:
    """Read the retrieval results of `metrics.json`; None if no test metric was recorded."""
    retrieval, model = part(metrics, "retrieval"), part(metrics, "model")
    details = {**retrieval, "trials": model.get("trials"), "against_model": None, "config": None}
    described = _system(system_name(str(model.get("kind", "model"))), part(metrics, "retrieval", "test"), details, True)
    if not any(_more_is_better(name) for name in described.test):
        return None
    all_details = part(metrics, "retrieval", "baseline_details")
    results = part(metrics, "retrieval", "baselines")
    baselines = [_system(system_name(key), part(results, key), part(all_details, key), False) for key in results]
    main = _main_metric(described, baselines)
    baselines.sort(key=lambda system: -system.test.get(main, -1.0))
    split = str(part(metrics, "protocol").get("split", "")).lower()
    return Finding(described, tuple(baselines), main, f"{'the' if 'leave' in split else 'a'} held-out item")


def _main_metric(model: System, baselines: list[System]) -> str:
    tested = Counter(system.against_model.metric for system in baselines if system.against_model is not None)
    candidates = [name for name, _ in tested.most_common()] + ["hr@10", "ndcg@10"] + list(model.test)
    return next(name for name in candidates if name in model.test and _more_is_better(name))


def _more_is_better(name: str) -> bool:
    return metric(name).measure != "mean_rank"


def sentence(finding: Finding) -> str:
    """The finding in one plain sentence; a second one if another headline metric points the other way."""
    main = finding.main
    words = metric(main)
    value = number(finding.model.test[main], finding.decimals)
    hit_rate = main if words.is_hit_rate else f"hr@{words.cutoff}"
    if hit_rate in finding.model.test and not words.protocol:
        share, top = percent(finding.model.test[hit_rate]), metric(hit_rate).cutoff
        text = f"{finding.model.name} finds {finding.held_out} in its top {top} for {share} of users"
        link = "," if hit_rate == main else f"; its {metric_label(main)} of {value} is"
    else:
        text, link = f"{finding.model.name} reaches {metric_label(main)} = {value}", ","
    best = finding.best_baseline
    if best is None:
        return f"{text}; no baseline was measured beside it, so the number stands alone."
    return f"{text}{link} {_against(finding, best)}{_other_way(finding, best)}"


def _against(finding: Finding, best: System) -> str:
    """The comparison with the best baseline, from `1.4 points above` to the full stop."""
    main, decimals = finding.main, finding.decimals
    in_points = metric(main).is_hit_rate
    gap = finding.model.test[main] - best.test[main]
    size = f"{number(abs(gap) * 100, 1)}\u00a0points" if in_points else number(abs(gap), decimals)
    reached = percent(best.test[main]) if in_points else number(best.test[main], decimals)
    test = best.against_model if best.against_model is not None and best.against_model.metric == main else None
    significant = test.significant if test is not None else None
    proof = evidence(test, in_points, decimals, with_interval=not significant)
    direction = "level with" if gap == 0 else f"{size} {'above' if gap > 0 else 'below'}"
    wins = gap > 0
    inside = f"{best.name}, {reached}"
    if significant:
        tail = "" if wins else ": the model does not win"
        return f"{direction} the best plain baseline ({inside}; {proof}){tail}."
    text = f"{direction} the best plain baseline ({inside})"
    if significant is None:
        tail = "" if wins else "the model does not win, and "
        return f"{text}; {tail}no paired test was recorded, so the difference may be chance."
    if gap == 0:
        return f"{text}: the model does not win ({proof})."
    if wins:
        return f"{text}, but this difference is not statistically significant ({proof})."
    return f"{text}: the model does not win, though the difference is not statistically significant ({proof})."


def evidence(test: Comparison | None, in_points: bool, decimals: int, with_interval: bool) -> str:
    """What a paired test says, as it stands in brackets; empty without a test."""
    if test is None:
        return ""
    parts = []
    if with_interval and test.interval is not None:
        factor, places, unit = (100, 1, "\u00a0points") if in_points else (1, decimals, "")
        low, high = (number(bound * factor, places) for bound in test.interval)
        parts.append(f"95 % interval of the difference {low} to {high}{unit}")
    if test.p_value is not None:
        parts.append(p_statement(test.p_value))
    return "; ".join(parts) or "95 % interval excludes zero"


def _other_way(finding: Finding, best: System) -> str:
    """Say so if the model leads on the main metric but trails a baseline on the other headline metric."""
    other = "ndcg@10" if metric(finding.main).is_hit_rate else "hr@10"
    if other not in finding.model.test or finding.model.test[finding.main] <= best.test[finding.main]:
        return ""
    rivals = [system for system in finding.baselines if other in system.test]
    ahead = max(rivals, key=lambda system: system.test[other], default=None)
    if ahead is None or ahead.test[other] <= finding.model.test[other]:
        return ""
    values = (
        f"{number(ahead.test[other], finding.decimals)} against {number(finding.model.test[other], finding.decimals)}"
    )
    return f" On {metric_label(other)}, however, {ahead.name} is ahead ({values})."


def disagreements(finding: Finding) -> list[str]:
    """Recorded numbers that contradict each other, each in one sentence; none is the normal case."""
    found, tolerance = [], 1e-3
    for system in finding.systems:
        for key, (low, high) in system.intervals.items():
            value = system.test.get(key)
            if value is not None and not low - tolerance <= value <= high + tolerance:
                found.append(f"{system.name}: {metric_label(key)} {number(value)} lies outside its own interval.")
        test = system.against_model
        if test is None or test.difference is None or test.metric not in system.test:
            continue
        expected = finding.model.test.get(test.metric)
        if expected is not None and abs(expected - system.test[test.metric] - test.difference) > tolerance:
            gap = number(expected - system.test[test.metric])
            found.append(
                f"{system.name}: the tested difference in {metric_label(test.metric)} is {number(test.difference)}, "
                f"but the values in the table differ by {gap}."
            )
    return found


def setting(values: Mapping[str, Any]) -> str:
    """A configuration in one line: `l2 = 300, recency = 0.5`."""
    shown = {
        key: MISSING if isinstance(value, float) and as_number(value) is None else value
        for key, value in values.items()
    }
    return ", ".join(f"{plain(key).lower()} = {value}" for key, value in shown.items())
