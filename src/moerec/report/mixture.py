"""The section on experts: how the gate uses them, for which items, and whether it is a mixture at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Row, Table
from moerec.report.finding import part
from moerec.report.labels import as_number, number, percent, plain
from moerec.report.plots import Bar, bar_chart, heat_map

_UNIFORM = 0.98
"""From this entropy, relative to its maximum, a gate counts as uniform."""
_COLLAPSED = 0.9
"""From this mean weight of one expert a mixture counts as collapsed."""
_UNROUTED = 0.95
"""From this load of one expert a gate counts as mixing without routing."""


@dataclass(frozen=True)
class Mixture:
    """How a gate uses its experts."""

    names: Sequence[str]
    weights: Sequence[float | None]
    """Mean weight of each expert; empty if not recorded."""
    load: Sequence[float | None]
    """Share of the items for which the expert weighs most; empty if not recorded."""
    entropy: float | None
    """Mean entropy of an item's weights in nats."""
    dead: int
    """Experts whose mean weight is under a tenth of an equal share."""
    unit: str = "item"
    """What the gate weighs the experts for."""

    @property
    def evenness(self) -> float | None:
        """Entropy over its maximum."""
        size = len(self.names)
        return None if self.entropy is None or size < 2 else self.entropy / math.log(size)

    @property
    def problem(self) -> str:
        """Why this is no mixture, or not a whole one, in one plain statement; empty if nothing speaks against it.

        Uniform comes first: where all weights are nearly equal, load and its maximum say nothing.
        """
        size = len(self.names)
        if size < 2:
            return ""
        if self.evenness is not None and self.evenness >= _UNIFORM:
            return (
                f"The mixture is uniform: every {self.unit} gets nearly the same weights (entropy "
                f"{percent(self.evenness)} of its maximum), so the gate averages the experts and routes nothing."
            )
        shares = [value if value is not None else 0.0 for value in self.weights]
        top = max(shares, default=0.0)
        if top >= _COLLAPSED or self.dead >= size - 1:
            who = plain(self.names[shares.index(top)]) if shares else "one expert"
            return (
                f"The mixture is collapsed: {who} carries {percent(top, 0)} of the weight, so this is in effect a "
                "single expert."
            )
        if self.dead:
            verb = "is" if self.dead == 1 else "are"
            return f"{self.dead} of {size} experts {verb} dead: mean weight under a tenth of an equal share."
        return ""

    @property
    def statement(self) -> str:
        """How a sound mixture is used; empty for a single expert."""
        size = len(self.names)
        if size < 2:
            return ""
        busiest = max((value for value in self.load if value is not None), default=None)
        text = f"All {size} experts are in use"
        if busiest is not None and busiest >= _UNROUTED:
            who = plain(self.names[self.load.index(busiest)])
            return (
                f"{text}, but {who} weighs most for {percent(busiest, 0)} of the {self.unit}s: the gate mixes and "
                "hardly routes."
            )
        text += "." if busiest is None else f"; the busiest weighs most for {percent(busiest, 0)} of the {self.unit}s."
        if self.evenness is None:
            return text
        choice = "leans only slightly" if self.evenness >= 0.9 else "does choose"
        return f"{text} Entropy is {percent(self.evenness, 0)} of its maximum: the gate {choice}."


def mixture(recorded: Mapping[str, Any], unit: str = "item") -> Mixture:
    """Read how a gate uses its experts; `unit` is what it weighs them for."""
    weights, load = _vector(recorded.get("mean_weight")), _vector(recorded.get("load"))
    return Mixture(
        names=_names(recorded.get("names"), max(len(weights), len(load)), "Expert"),
        weights=weights,
        load=load,
        entropy=as_number(recorded.get("entropy")),
        dead=int(as_number(recorded.get("dead")) or 0),
        unit=unit,
    )


def experts(metrics: Mapping[str, Any]) -> Block | None:
    """Use of the experts and weights of the inputs; None for a model without both."""
    recorded = part(metrics, "experts")
    found, inputs = mixture(recorded), part(recorded, "inputs")
    input_groups = part(inputs, "by_group") or inputs
    size = len(_vector(inputs.get("mean_weight"))) or len(_rows(input_groups))
    input_names = _names(inputs.get("names"), size, "Input")
    notices, figures = [found.problem] if found.problem else [], [_use_figure(found)] if found.names else []
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
    reading = (
        "How to read it: the gate gives every item a weight for each expert, and an item's weights sum to one. Mean "
        "weight is their average over the items, load the share of items for which the expert weighs most; an equal "
        "share would end at the dashed line."
    )
    texts = [found.statement] if found.statement and not found.problem else []
    return Block(
        "experts",
        "Experts",
        texts=[*texts, reading] if found.names else [],
        notices=notices,
        tables=[_table(recorded, found)] if found.names else [],
        figures=figures,
    )


def _vector(value: Any) -> list[float | None]:
    return [as_number(item) for item in value] if isinstance(value, list) else []


def _rows(groups: Mapping[str, Any]) -> list[Any]:
    rows = groups.get("rows")
    return rows if isinstance(rows, list) else []


def _names(value: Any, size: int, kind: str) -> list[str]:
    """The recorded names, continued by numbers where there are too few."""
    recorded = [str(item) for item in value][:size] if isinstance(value, list) else []
    return recorded + [f"{kind} {index + 1}" for index in range(len(recorded), size)]


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
    values = [_vector(row) for row in _rows(groups)]
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
    return [Figure(chart, f"Mean weight of each {what} by group of items; a stronger colour is more. {reading}.")]


def _table(recorded: Mapping[str, Any], found: Mixture) -> Table:
    size, entropy = len(found.names), found.entropy
    most = f"of at most {number(math.log(size), 2)}" if size > 1 else ""
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
