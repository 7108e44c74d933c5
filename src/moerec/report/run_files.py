"""The files of a run folder that the report reads. Only `metrics.json` must be there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moerec.report.finding import ReportError


@dataclass(frozen=True)
class RunFiles:
    """What a run wrote down; empty where a file is absent."""

    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    unreadable_history_lines: int
    examples: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    recipe: str
    ranking_curves: Mapping[str, Any] = field(default_factory=dict)
    ranking_examples: Sequence[Mapping[str, Any]] = ()
    ranker_history: Sequence[Mapping[str, Any]] = ()
    unreadable_ranker_lines: int = 0


def read_run(run_directory: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        ReportError: `metrics.json` is absent, or a file is not what it claims to be.
    """
    metrics_file = run_directory / "metrics.json"
    if not metrics_file.is_file():
        raise ReportError(f"{metrics_file}: no such file; a report needs a finished run (moerec run RECIPE)")
    history, unreadable = _history(run_directory / "history.jsonl")
    ranker_history, unreadable_of_ranker = _history(run_directory / "ranker" / "history.jsonl")
    recipe_file = run_directory / "recipe.yaml"
    return RunFiles(
        metrics=_mapping(metrics_file),
        history=history,
        unreadable_history_lines=unreadable,
        examples=_list(run_directory / "examples.json", "users"),
        environment=_mapping(run_directory / "environment.json"),
        recipe=_text(recipe_file) if recipe_file.is_file() else "",
        ranking_curves=_mapping(run_directory / "ranking_curves.json"),
        ranking_examples=_list(run_directory / "ranking_examples.json", "predictions"),
        ranker_history=ranker_history,
        unreadable_ranker_lines=unreadable_of_ranker,
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: not UTF-8 at byte {error.start}; write the run again") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}:{error.lineno}: not valid JSON ({error.msg}); write the run again") from None


def _mapping(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found = _json(path)
    if not isinstance(found, dict):
        raise ReportError(f"{path}: holds a {type(found).__name__}, not a mapping; write the run again")
    return found


def _list(path: Path, what: str) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    found = _json(path)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ReportError(f"{path}: must be a list of {what}; write the run again")
    return found


def _history(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records, and the number of lines that are none: a killed run can leave half a line behind."""
    if not path.is_file():
        return [], 0
    records, unreadable = [], 0
    for line in _text(path).splitlines():
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            unreadable += 1
    return records, unreadable
