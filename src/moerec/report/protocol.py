"""The section on how the numbers came about, and what they do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block
from moerec.report.finding import Finding, part
from moerec.report.labels import as_number, count, metric, percent, plain

_PROTOCOL_TITLES = {
    "split": "Split",
    "cases": "Cases",
    "history": "History",
    "ranking": "What is ranked",
    "seen": "Seen items",
    "ties": "Ties",
    "sampled": "Sampled ranking",
    "selection": "Selection",
    "interval": "Intervals",
    "test": "Tests",
}


def protocol(metrics: Mapping[str, Any], finding: Finding | None) -> Block | None:
    """How the numbers came about, in words, and what they do not show."""
    recorded = part(metrics, "protocol")
    order = [key for key in _PROTOCOL_TITLES if key in recorded] + [
        key for key in recorded if key not in _PROTOCOL_TITLES
    ]
    terms = [(_PROTOCOL_TITLES.get(key, plain(key)), str(recorded[key])) for key in order if recorded[key]]
    limits = _limits(metrics, finding)
    if not terms and not limits:
        return None
    return Block("protocol", "Protocol", terms=terms, points=limits, points_title="What these numbers do not show")


def _limits(metrics: Mapping[str, Any], finding: Finding | None) -> list[str]:
    """The limits that hold for this run, derived from what it recorded."""
    if finding is None:
        return []
    limits = [
        "They measure how well logged interactions are recovered, not how well people like a list, and nothing about "
        "an online effect.",
        "This is one training with one seed. "
        + (
            "The intervals cover the choice of users, not the luck of initialisation: a"
            if finding.model.intervals
            else "A"
        )
        + " comparison of methods needs several seeds.",
    ]
    tests = sum(system.against_model is not None for system in finding.baselines)
    if tests > 1:
        limits.append(
            f"The p-values stand for one comparison each; this page does not adjust them for there being {tests}."
        )
    best, own = finding.best_baseline, finding.model.trials
    if best is not None and own is not None and best.trials is not None and own > best.trials:
        limits.append(
            f"The model was tuned with {count(own)} trials, {best.name} with {count(best.trials)}: part of a lead may "
            "come from tuning."
        )
    if any(metric(key).protocol for system in finding.systems for key in system.test):
        limits.append(
            "Sampled metrics are easier than full ranking and can order systems differently; compare them only with "
            "figures of exactly the same sampling."
        )
    ties = as_number(part(metrics, "dataset").get("tie_share"))
    if ties is not None and ties >= 0.01:
        limits.append(
            f"{percent(ties, 0)} of the events carry the same timestamp as the one before, so part of the order that "
            "sequence models see is the order of storage, not of time."
        )
    return limits
