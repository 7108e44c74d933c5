"""How the use of a ranker's experts changed while it learned: entropy and load of each gate over the updates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moerec.report.content import Figure
from moerec.report.finding import part
from moerec.report.labels import as_number, listed, number, plural
from moerec.report.plots import Line, line_chart
from moerec.report.svg import STYLES, WIDTH, text_width

Validations = Sequence[Sequence[tuple[float, Mapping[str, Any]]]]
"""By stage, the records of validations with their updates."""


def gate_figures(
    validations: Validations, boundaries: Sequence[tuple[float, str]], tasks: Sequence[str]
) -> list[Figure]:
    """Two figures for the gates of the tasks and two for those of each lower level; none if nothing was recorded."""
    names = dict.fromkeys(name for stage in validations for _, record in stage for name in part(record, "gates"))
    levels: dict[str, dict[str, str]] = {"": {name: name for name in tasks if name in names}}
    for name in names:
        if name not in tasks:
            short, _, level = name.rpartition(", ")
            levels.setdefault(level if short else "lower levels", {})[name] = short or name
    return [
        figure
        for level, gates in levels.items()
        for some in _readable(gates)
        for figure in _figures(validations, boundaries, level, some)
    ]


def _readable(gates: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The gates in groups that one chart can tell apart and name in one line."""
    some: dict[str, str] = {}
    for name, short in gates.items():
        if some and (len(some) == STYLES or sum(text_width(one) + 24 for one in (*some.values(), short)) > 0.7 * WIDTH):
            yield some
            some = {}
        some[name] = short
    if some:
        yield some


def _figures(
    validations: Validations, boundaries: Sequence[tuple[float, str]], level: str, gates: Mapping[str, str]
) -> Iterator[Figure]:
    where = f" ({level})" if level else ""
    rows = "all validation rows" if level else "each task's own validation rows"
    who = (
        f"the gates {listed(list(gates.values()))}{where}"
        if len(gates) > 1
        else f"the gate {''.join(gates.values())}{where}"
    )
    dead = [
        f"{short} has {plural(count, 'dead expert')}"
        for name, short in gates.items()
        if (count := _last(validations, name, "dead"))
    ]
    state = f" At the last validation {listed(dead)}." if dead else ""
    for key, title, reading in (
        ("entropy", "Entropy (nats)", "Where it falls, a gate learns to choose; at 0 one expert speaks alone."),
        ("max_over_mean_load", "Largest over mean load", f"1 is perfect balance.{state}"),
    ):
        lines = [
            Line(short, _points(validations, name, key), place) for place, (name, short) in enumerate(gates.items())
        ]
        ends = [values[-1] for line in lines if (values := [value for _, value in line.points if value is not None])]
        if not ends:
            continue
        chart = line_chart(
            lines,
            x_title="Updates",
            y_title=title,
            description=f"{title} of {who} on {rows}, ending at {listed([number(end, 2) for end in ends])}.",
            names=[line.name for line in lines],
            boundaries=boundaries,
            include_x=[0.0],
            include_y=[0.0] if key == "entropy" else [1.0],
        )
        yield Figure(chart, f"{title} of {who} on {rows} against optimizer updates. {reading}")


def _points(validations: Validations, name: str, key: str) -> list[tuple[float, float | None]]:
    """A gate's values by update; a gap between stages."""
    points: list[tuple[float, float | None]] = []
    for stage in validations:
        points += [(points[-1][0], None)] if points else []
        points += [(update, as_number(part(record, "gates", name).get(key))) for update, record in stage]
    return points


def _last(validations: Validations, name: str, key: str) -> float:
    values = [value for _, value in _points(validations, name, key) if value is not None]
    return values[-1] if values else 0.0
