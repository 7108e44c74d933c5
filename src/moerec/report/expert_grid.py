"""Gates side by side: what was recorded of each, and the heat map over all experts that any of them has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from moerec.report.content import Figure
from moerec.report.finding import part
from moerec.report.heat_map import heat_map
from moerec.report.labels import kind_and_number, number
from moerec.report.mixture import Mixture, mixture

Gates = Mapping[str, Mixture]
"""Gates by name."""


def task_gates(metrics: Mapping[str, Any]) -> dict[str, Mixture]:
    """The gates of a ranker's tasks, by task."""
    return _gates(part(metrics, "ranking", "experts", "tasks"))


def inner_gates(metrics: Mapping[str, Any]) -> dict[str, dict[str, Mixture]]:
    """The gates below, by level and name: `like, level 1` is the gate `like` of `level 1`."""
    levels: dict[str, dict[str, Mixture]] = {}
    for full, gate in _gates(part(metrics, "ranking", "experts", "inner")).items():
        name, _, level = full.rpartition(", ")
        levels.setdefault(level if name else "", {})[name or full] = gate
    return levels


def _gates(recorded: Mapping[str, Any]) -> dict[str, Mixture]:
    found = {name: mixture(part(recorded, name), "row") for name in recorded}
    return {name: gate for name, gate in found.items() if gate.names}


def union(gates: Iterable[Mixture]) -> list[str]:
    """The experts that any gate has, each once: first those of one gate, last those that all share.

    Among those of equally many gates the kinds that stand first in a gate come first: a task's own experts.
    """
    named = [list(dict.fromkeys(gate.names)) for gate in gates]
    sharing = Counter(name for names in named for name in names)
    rank: dict[str, int] = {}
    for names in named:
        kinds = list(dict.fromkeys(kind_and_number(name)[0] for name in names))
        for name in names:
            place = kinds.index(kind_and_number(name)[0])
            rank[name] = min(place, rank.get(name, place))
    return sorted(rank, key=lambda name: (sharing[name], rank[name]))


def spread(values: Sequence[float | None], names: Sequence[str], columns: Sequence[str]) -> list[float | None]:
    """A gate's values in the order of the columns; None where it does not have the expert."""
    known = dict(zip(names, values, strict=False))
    return [known.get(column) for column in columns]


def grid(what: str, values: Mapping[str, Sequence[float | None]], gates: Gates, columns: list[str], on: str) -> Figure:
    """The heat map of one quantity, gates as rows.

    Args:
        what: the quantity, as a caption begins.
        values: of each gate, in the order of its own experts.
        gates: the gates.
        columns: the experts; those that no gate here has are left out.
        on: which rows were summed up, in words.
    """
    shown = [column for column in columns if any(column in gate.names for gate in gates.values())]
    rows = {name: spread(values[name], gate.names, shown) for name, gate in gates.items()}
    told = "; ".join(
        f"{name}: " + ", ".join(f"{expert} {number(value, 2)}" for expert, value in known if value is not None)
        for name, row in rows.items()
        for known in [list(zip(shown, row, strict=True))]
    )
    parted = [kind_and_number(column) for column in shown]
    chart = heat_map(
        list(rows),
        [label for _, label in parted],
        list(rows.values()),
        description=f"{what}, {on}. {told}.",
        groups=[kind for kind, _ in parted],
        value_format=lambda value: number(value, 2),
    )
    lacking = any(column not in gate.names for gate in gates.values() for column in shown)
    empty = " An empty cell: the gate does not have this expert." if lacking else ""
    return Figure(chart, f"{what} by gate (rows) and expert (columns), {on}. A stronger colour is more.{empty}")
