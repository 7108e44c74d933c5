"""The section on a ranker's experts: how the gate of each task weighs them, and what the levels below do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Part, Row, Table
from moerec.report.expert_grid import Gates, grid, inner_gates, task_gates, union
from moerec.report.finding import part
from moerec.report.labels import MISSING, as_number, kind_and_number, listed, number, percent, plain
from moerec.report.mixture import Fault, Mixture
from moerec.report.ranking_finding import RankingFinding
from moerec.report.ranking_results import population_title

_ALIKE = 0.05
"""Under this share of weight that differs two gates count as alike."""
_LITTLE = 0.05
"""Under this weight on the experts that two gates have in common there is nothing to compare."""
_MOST_PAIRS = 3
"""Up to so many pairs of gates are compared one by one."""
_STRENGTH = {"auxiliary": "weight", "loss_free": "rate"}
"""The key that makes a balance stronger."""
_FAULTS: tuple[Fault, ...] = ("uniform", "collapsed", "dead")


def ranking_experts(finding: RankingFinding, metrics: Mapping[str, Any]) -> Block | None:
    """Use of the experts by task, as heat maps, numbers and sentences; None for a model without gates."""
    by_task, config = task_gates(metrics), part(metrics, "ranking", "experts", "gate")
    columns, parts = union(by_task.values()), []
    for population in finding.populations:
        names = [task.name for task in finding.tasks_on(population)]
        gates = {name: by_task[name] for name in names if name in by_task}
        if gates:
            parts.append(_task_part(population, gates, by_task, columns, config))
    if not parts:
        return None
    below = [_inner_part(level, gates, config) for level, gates in inner_gates(metrics).items()]
    reading = (
        "Each task has a gate of its own that weighs experts anew for every row; a row's weights sum to one. Mean "
        "weight is their average over the test rows, load the share of rows for which an expert weighs most (of a gate "
        "that selects several experts for a row: its share of the places)."
    )
    if below:
        reading += (
            " The gates of lower levels make what these read; they are summed up over the test rows of all tasks, and "
            "have experts of their own, whatever their names."
        )
    return Block("ranking-experts", "Experts by task", texts=[reading], parts=[*parts, *below])


def _task_part(population: str, gates: Gates, everyone: Gates, columns: list[str], config: Mapping[str, Any]) -> Part:
    sound = [f"{name}: {gate.statement}" for name, gate in gates.items() if gate.statement and gate.fault == "none"]
    on = f"population: {population}"
    return Part(
        population_title(population),
        texts=[" ".join(told) for told in (sound, _parted(gates, everyone), _kinds(gates), _likeness(gates)) if told],
        notices=_notices(gates, everyone, config),
        tables=[_table(f"The gates in numbers, {on}.", "Task", gates)],
        figures=[*_weights(gates, columns, on), *_loads(gates, columns, on)],
    )


def _inner_part(level: str, gates: Gates, config: Mapping[str, Any]) -> Part:
    on = f"{level}, all test rows" if level else "all test rows"
    return Part(
        f"{plain(level)}, below the gates of the tasks" if level else "Below the gates of the tasks",
        notices=_notices(gates, gates, config),
        tables=[_table(f"The gates in numbers, {on}.", "Gate", gates)],
        figures=_weights(gates, union(gates.values()), on),
    )


def _weights(gates: Gates, columns: list[str], on: str) -> list[Figure]:
    values = {name: gate.weights for name, gate in gates.items()}
    return [grid("Mean weight", values, gates, columns, on)] if any(values.values()) else []


def _loads(gates: Gates, columns: list[str], on: str) -> list[Figure]:
    values = {name: gate.load for name, gate in gates.items()}
    return [grid("Load", values, gates, columns, on)] if any(values.values()) else []


def _notices(gates: Gates, everyone: Gates, config: Mapping[str, Any]) -> list[str]:
    """What is wrong, one notice for each fault, with what to try."""
    found = []
    for fault in _FAULTS:
        members = {name: gate for name, gate in gates.items() if gate.fault == fault}
        known = any(gate.dead_names for gate in members.values())
        if not members or (fault == "dead" and known and not _idle(members, everyone)):
            continue  # what another gate uses is no waste
        selects = any(gate.selects for gate in members.values())
        found.append(f"{_told(fault, members, everyone)} {_remedy(fault, selects, config)}")
    return found


def _told(fault: Fault, gates: Gates, everyone: Gates) -> str:
    idle = _idle(gates, everyone)
    if fault == "dead" and idle:
        verb, their, them = ("is", "its", "it") if len(idle) == 1 else ("are", "their", "them")
        return (
            f"{listed(idle)} {verb} dead: {their} mean weight is under a tenth of an equal share in every gate that "
            f"has {them}."
        )
    if fault == "uniform" and len(gates) > 1:
        least = min(gate.evenness or 0.0 for gate in gates.values())
        return (
            f"The gates {listed(list(gates))} are uniform: every row gets nearly the same weights (entropy at least "
            f"{percent(least)} of its maximum), so they average the experts and route nothing; load says little then."
        )
    return " ".join(f"{name}: {gate.problem}" for name, gate in gates.items())


def _remedy(fault: Fault, selects: bool, config: Mapping[str, Any]) -> str:
    """What to try, in keys of the recipe; what is in use already is raised."""
    if fault == "uniform":
        return (
            "Lower ranker.gate.temperature, or select with ranker.gate.kind: top_k; and see with "
            "ranking_baselines.siblings: [shared_bottom] whether gates help at all."
        )
    balance, dropout = str(part(config, "balance").get("kind")), as_number(config.get("expert_dropout"))
    tries = ["raise ranker.gate.expert_dropout" if dropout else "set ranker.gate.expert_dropout: 0.1"]
    tries.append(
        f"raise ranker.gate.balance.{_STRENGTH[balance]}"
        if balance in _STRENGTH
        else f"set ranker.gate.balance: {{kind: {'loss_free' if selects else 'auxiliary'}}}"
    )
    tries.append("make fewer experts" if fault == "dead" else "raise ranker.gate.temperature")
    return f"What may help: {', '.join(tries[:-1])}, or {tries[-1]}."


def _idle(gates: Gates, everyone: Gates) -> list[str]:
    """The dead experts of some gates that no other gate uses either."""
    dead = dict.fromkeys(name for gate in gates.values() for name in gate.dead_names)
    return [name for name in dead if not _users(name, everyone)]


def _users(expert: str, gates: Gates) -> list[str]:
    """The gates for which an expert is not dead."""
    return [name for name, gate in gates.items() if expert in gate.names and expert not in gate.dead_names]


def _parted(gates: Gates, everyone: Gates) -> list[str]:
    """Dead experts that others use: that is no waste, the tasks have parted."""
    found = []
    for name, gate in gates.items():
        left = [expert for expert in gate.dead_names if _users(expert, everyone)] if gate.fault == "dead" else []
        if left:
            users = list(dict.fromkeys(user for expert in left for user in _users(expert, everyone)))
            found.append(f"{name} leaves {listed(left)} to {listed(users)}: the tasks have parted there.")
    return found


def _kinds(gates: Gates) -> list[str]:
    """How the weight divides over a task's own experts, shared ones and those of others."""
    found = []
    for name, gate in gates.items():
        shares: dict[str, float] = {}
        for expert, weight in zip(gate.names, gate.weights, strict=False):
            kind = kind_and_number(expert)[0]
            shares[kind] = shares.get(kind, 0.0) + (weight or 0.0)
        counts = [kind_and_number(expert)[0] for expert in gate.names]
        if len(shares) < 2 or "" in shares or any(weight is None for weight in gate.weights):
            continue
        told = [
            f"{percent(share, 0)} to {_those(kind, name)} ({counts.count(kind)} of {len(counts)})"
            for kind, share in shares.items()
        ]
        found.append(f"{name} gives {listed(told)}")
    return [f"Of its weight, {'; '.join(found)}."] if found else []


def _those(kind: str, task: str) -> str:
    return "its own experts" if kind == task else "shared ones" if kind == "shared" else f"those of {kind}"


def _likeness(gates: Gates) -> list[str]:
    """How much weight of two tasks lies on different experts, among the experts that both have."""
    pairs = []
    for (one, mine), (other, theirs) in combinations(gates.items(), 2):
        common = [name for name in mine.names if name in theirs.names]
        apart = _apart(mine, theirs, common)
        if apart is not None:
            whole = len(common) == len(mine.names) == len(theirs.names)
            pairs.append(
                (apart, f"{one} and {other}", "" if whole else f" on the {len(common)} experts that both have")
            )
    if len(pairs) <= _MOST_PAIRS:
        return [
            f"{names} differ in {percent(apart, 0)} of their mean weight{where}: "
            + ("the two gates are alike." if apart < _ALIKE else "the tasks lean on different experts.")
            for apart, names, where in pairs
        ]
    least, most = min(pairs), max(pairs)
    alike = sum(apart < _ALIKE for apart, _, _ in pairs)
    return [
        f"Of {len(pairs)} pairs of gates {alike} are alike: less than {percent(_ALIKE, 0)} of the mean weight differs. "
        f"Nearest are {least[1]} ({percent(least[0], 0)}), furthest apart {most[1]} ({percent(most[0], 0)}). Two gates "
        "are compared on the experts that both have."
    ]


def _apart(one: Mixture, other: Mixture, common: Sequence[str]) -> float | None:
    """Half the sum of absolute differences, after each gate's weights of the common experts are made to sum to one."""
    if len(common) < 2:
        return None
    parts = []
    for gate in (one, other):
        weights = dict(zip(gate.names, gate.weights, strict=False))
        known = [value for name in common if (value := weights.get(name)) is not None]
        if len(known) < len(common) or sum(known) < _LITTLE:
            return None
        parts.append([value / sum(known) for value in known])
    return sum(abs(mine - theirs) for mine, theirs in zip(*parts, strict=True)) / 2


def _table(caption: str, corner: str, gates: Gates) -> Table:
    rows = []
    for name, gate in gates.items():
        most = f"of at most {number(math.log(gate.spoken), 2)}" if gate.spoken > 1 else ""
        cells = [
            Cell(number(len(gate.names), 0), f"{gate.spoken} a row" if gate.selects else ""),
            Cell(number(gate.entropy, 2), most if gate.entropy is not None else ""),
            Cell(number(gate.largest, 2)),
            Cell(number(gate.dead, 0) if gate.weights else MISSING),
        ]
        rows.append(Row(name, cells))
    columns = [
        Column(label)
        for label in ("Experts", "Entropy of a row's weights (nats)", "Largest over mean load", "Dead experts")
    ]
    return Table(caption, corner, columns, rows)
