"""The section on the gate of the item tower: how it weighs the experts or the inputs, and for which items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Row, Table
from moerec.report.finding import part
from moerec.report.heat_map import heat_map
from moerec.report.labels import as_number, number, plain
from moerec.report.mixture import Fault, Mixture, mixture, numbered, vector
from moerec.report.plots import Bar, bar_chart

REMEDIES: Mapping[Fault, str] = {
    "uniform": "Lower retriever.item_tower.gate.temperature for a sharper gate, or keep few by gate.kind: top_k.",
    "collapsed": "Balance it by retriever.item_tower.gate.balance, or raise retriever.item_tower.gate.temperature.",
    "dead": "Balance it by retriever.item_tower.gate.balance, or lower retriever.item_tower.experts.",
}
"""What to try."""


def item_experts(metrics: Mapping[str, Any]) -> Block | None:
    """Use of the experts or weights of the inputs; None for a model that weighs neither."""
    recorded = part(metrics, "experts")
    found, inputs = mixture(recorded), part(recorded, "inputs")
    input_groups = part(inputs, "by_group") or inputs
    size = len(vector(inputs.get("mean_weight"))) or len(_rows(input_groups))
    input_names = numbered(inputs.get("names"), size, "Input")
    notices = [f"{found.problem} {REMEDIES[found.fault]}"] if found.problem else []
    figures = [_use_figure(found)] if found.names else []
    for what, names, groups in (
        ("expert", found.names, part(recorded, "by_group")),
        ("input", input_names, input_groups),
    ):
        if not _rows(groups):
            continue
        if len(_rows(groups)) == len(names):
            figures += _group_figures(names, groups, what)
        else:
            notices.append(f"The weights by group hold {len(_rows(groups))} rows for {len(names)} {what}s: not shown.")
    if not figures:
        return None
    texts = [found.statement] if found.statement and not found.problem else []
    return Block(
        "experts",
        "Experts" if found.names else "Inputs of an item",
        texts=[*texts, _reading(found) if found.names else _INPUT_READING],
        notices=notices,
        tables=[_table(recorded, found)] if found.names else [],
        figures=figures,
    )


_INPUT_READING = (
    "How to read it: the item tower gives every item a weight for each of its inputs, with which the input's vector is "
    "multiplied before all are added. 1 leaves an input as it is, 0 silences it."
)


def _reading(found: Mixture) -> str:
    load = "its share of the places" if found.selects else "the share of items for which the expert weighs most"
    return (
        "How to read it: the gate gives every item a weight for each expert, and an item's weights sum to one. Mean "
        f"weight is their average over the items, load {load}; an equal share would end at the dashed line."
    )


def _rows(groups: Mapping[str, Any]) -> list[Any]:
    rows = groups.get("rows")
    return rows if isinstance(rows, list) else []


def _use_figure(found: Mixture) -> Figure:
    names = found.names
    series = [(title, values) for title, values in (("mean weight", found.weights), ("load", found.load)) if values]
    bars = [
        Bar(plain(name), [values[index] if index < len(values) else None for _, values in series])
        for index, name in enumerate(names)
    ]
    told = "; ".join(
        f"{bar.label}: "
        + ", ".join(f"{title} {number(value, 2)}" for (title, _), value in zip(series, bar.values, strict=True))
        for bar in bars
    )
    chart = bar_chart(
        bars,
        x_title="Share",
        description=f"Use of the experts. {told}.",
        names=[title for title, _ in series] if len(series) > 1 else (),
        reference=1 / len(names),
        value_format=lambda value: number(value, 2),
    )
    what = " and ".join(title for title, _ in series)
    return Figure(chart, f"Use of the experts: {what}. The line marks an equal share, {number(1 / len(names), 2)}.")


def _group_figures(names: Sequence[str], groups: Mapping[str, Any], what: str) -> list[Figure]:
    """The heat map of mean weights by group of items, if it was recorded."""
    columns = [str(column) for column in groups.get("columns") or ()]
    values = [vector(row) for row in _rows(groups)]
    if not columns or not values:
        return []
    labels = [plain(name) for name in names]
    told = "; ".join(
        f"{label}: " + ", ".join(f"{column} {number(value, 2)}" for column, value in zip(columns, row, strict=False))
        for label, row in zip(labels, values, strict=True)
    )
    chart = heat_map(
        labels,
        [plain(column) for column in columns],
        values,
        description=f"Mean weight of each {what} by group of items. {told}.",
        value_format=lambda value: number(value, 2),
    )
    reading = (
        "An expert whose row is the same in all columns does not specialise"
        if what == "expert"
        else "It shows by what the items of a group are known"
    )
    return [Figure(chart, f"Mean weight of each {what} by group of items. A stronger colour is more. {reading}.")]


def _table(recorded: Mapping[str, Any], found: Mixture) -> Table:
    size, entropy = len(found.names), found.entropy
    most = f"of at most {number(math.log(found.spoken), 2)}" if found.spoken > 1 else ""
    rows = [
        Row("Gate", [Cell(plain(str(recorded["gate"])))]) if recorded.get("gate") else None,
        Row("Experts", [Cell(str(size))]),
        Row("Mean entropy of an item's weights (nats)", [Cell(number(entropy, 2), most)])
        if entropy is not None
        else None,
        _optional("Largest load over mean load", recorded.get("max_over_mean_load"), 2),
        _optional("Dead experts", recorded.get("dead"), 0),
    ]
    return Table("The gate in numbers.", "Quantity", [Column("Value")], [row for row in rows if row is not None])


def _optional(label: str, value: Any, decimals: int) -> Row | None:
    return None if as_number(value) is None else Row(label, [Cell(number(value, decimals))])
