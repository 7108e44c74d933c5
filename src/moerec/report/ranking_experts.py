"""The section on a ranker's experts: how the gate of each task weighs them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Part, Row, Table
from moerec.report.finding import part
from moerec.report.labels import MISSING, as_number, number, percent, short_names
from moerec.report.mixture import Mixture, mixture
from moerec.report.plots import heat_map
from moerec.report.ranking_finding import RankingFinding
from moerec.report.ranking_results import population_title

_ALIKE = 0.05
"""Under this share of weight that differs two gates count as alike."""


def ranking_experts(finding: RankingFinding, metrics: Mapping[str, Any]) -> Block | None:
    """Mean weight and load of each expert by task, as heat maps; None for a model without gates."""
    recorded = part(metrics, "ranking", "experts")
    by_task = part(recorded, "tasks")
    parts = []
    for population in finding.populations:
        names = [task.name for task in finding.tasks_on(population) if task.name in by_task]
        gates = {name: mixture({**part(by_task, name), "names": recorded.get("names")}, "row") for name in names}
        gates = {name: gate for name, gate in gates.items() if gate.names}
        if gates:
            parts.append(_part(population, gates, by_task))
    if not parts:
        return None
    reading = (
        "Each task has a gate of its own that weighs the shared experts anew for every row; a row's weights sum to "
        "one. Mean weight is their average over the test rows, load the share of rows for which an expert weighs most."
    )
    return Block("ranking-experts", "Experts by task", texts=[reading], parts=parts)


def _part(population: str, gates: Mapping[str, Mixture], by_task: Mapping[str, Any]) -> Part:
    sound = [f"{name}: {gate.statement}" for name, gate in gates.items() if gate.statement and not gate.problem]
    return Part(
        population_title(population),
        texts=[*sound, *_likeness(gates)],
        notices=[f"{name}: {gate.problem}" for name, gate in gates.items() if gate.problem],
        tables=[_table(population, gates, by_task)],
        figures=[_heat_map(population, gates)],
    )


def _likeness(gates: Mapping[str, Mixture]) -> list[str]:
    """How much weight of two tasks lies on different experts; only where all weights are known."""
    names, found = list(gates), []
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            pairs = list(zip(gates[one].weights, gates[other].weights, strict=False))
            if not pairs or any(mine is None or theirs is None for mine, theirs in pairs):
                continue
            apart = sum(abs((mine or 0.0) - (theirs or 0.0)) for mine, theirs in pairs) / 2
            judgement = "the two gates are alike" if apart < _ALIKE else "the tasks lean on different experts"
            found.append(f"{one} and {other} differ in {percent(apart, 0)} of their mean weight: {judgement}.")
    return found


def _heat_map(population: str, gates: Mapping[str, Mixture]) -> Figure:
    """Two rows for each task: mean weight and load of the experts, as far as they were recorded."""
    names = next(iter(gates.values())).names
    rows: dict[str, Sequence[float | None]] = {}
    for task, gate in gates.items():
        rows |= {
            f"{task}, {what}": values for what, values in (("weight", gate.weights), ("load", gate.load)) if values
        }
    told = "; ".join(
        f"{row}: " + ", ".join(f"{name} {number(value, 2)}" for name, value in zip(names, values, strict=False))
        for row, values in rows.items()
    )
    chart = heat_map(
        list(rows),
        short_names(names),
        list(rows.values()),
        description=f"Mean weight and load of each expert by task, population: {population}. {told}.",
        value_format=lambda value: number(value, 2),
    )
    return Figure(
        chart,
        f"Mean weight and load of each expert (columns) by task (rows), population: {population}; a stronger colour is "
        f"more. Equal shares would be {number(1 / max(len(names), 1), 2)}.",
    )


def _table(population: str, gates: Mapping[str, Mixture], by_task: Mapping[str, Any]) -> Table:
    rows = []
    for name, gate in gates.items():
        largest, dead = (as_number(part(by_task, name).get(key)) for key in ("max_over_mean_load", "dead"))
        most = f"of at most {number(math.log(len(gate.names)), 2)}" if len(gate.names) > 1 else ""
        cells = [
            Cell(number(gate.entropy, 2), most if gate.entropy is not None else ""),
            Cell(number(largest, 2)),
            Cell(MISSING if dead is None else number(dead, 0), f"of {len(gate.names)}" if dead is not None else ""),
        ]
        rows.append(Row(name, cells))
    columns = [Column("Entropy of a row's weights (nats)"), Column("Largest over mean load"), Column("Dead experts")]
    return Table(f"The gates in numbers, population: {population}.", "Task", columns, rows)
