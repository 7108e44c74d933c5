"""The use of a run's experts as tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from moerec.report.expert_grid import inner_gates, task_gates
from moerec.report.expert_plot import expert_blocks
from moerec.report.finding import part
from moerec.report.labels import number
from moerec.report.mixture import Mixture, mixture

_BAR = 24
"""Width of the longest bar, in characters."""
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Bar:
    """A share as a bar, of plain signs where the terminal has no others."""

    share: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The bar as text."""
        eighths = round(min(max(self.share, 0.0), 1.0) * min(_BAR, options.max_width) * 8)
        if options.ascii_only:
            yield Text("#" * round(eighths / 8))
        else:
            yield Text(("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip())

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """All bars of a column have one scale; in a narrow terminal they are short."""
        return Measurement(1, _BAR)


def expert_tables(metrics: Mapping[str, Any]) -> Iterator[Text | Table]:
    """A table for the gate of the item tower, for that of each task, and one for all gates of lower levels.

    Args:
        metrics: what `metrics.json` holds of a run with experts.
    """
    recorded = part(metrics, "experts")
    if (tower := mixture(recorded)).names:
        yield from _gate_table("item tower, over all items and by group", tower, part(recorded, "by_group"))
    inputs = part(recorded, "inputs")
    if inputs.get("by_group"):
        yield from _input_table(inputs)
    for task, gate in task_gates(metrics).items():
        yield from _gate_table(f"task {task}", gate, {})
    below = inner_gates(metrics)
    if below:
        yield Text("gates below those of the tasks; the heat maps show their experts", style="italic")
        yield _inner_table(below)


def expert_findings(metrics: Mapping[str, Any]) -> str:
    """What the report says of the experts, a line each; `!` marks what may be wrong."""
    lines: list[str] = []
    for block in expert_blocks(metrics):
        # The last text of a section tells how to read the charts.
        said = [] if block.parts else [(block.title, block.notices, block.texts[:-1])]
        said += [(one.title.partition(" – ")[0], one.notices, one.texts) for one in block.parts]
        for title, notices, texts in said:
            found = [*(f"! {notice}" for notice in notices), *(f"- {text}" for text in texts)]
            lines += [title, *found] if found else []
    return "\n".join(lines).replace("\u00a0", " ")  # a terminal breaks lines where it must


def _gate_table(what: str, gate: Mixture, groups: Mapping[str, Any]) -> Iterator[Text | Table]:
    """One row for each expert: mean weight, as a number and a bar, load, and mean weight by group of items."""
    size = len(gate.names)
    kept = f", {gate.spoken} for a row" if gate.selects else ""
    yield Text(f"{what}: {size} experts{kept}, equal share {1 / size:.3f}, {_numbers(gate)}", style="italic")
    table = Table(box=SIMPLE)
    for name in ("expert", "weight", "", "load"):
        _add_column(table, name, is_number=name in ("weight", "load"))
    parted = [place for place, name in enumerate(groups.get("columns", ())) if name != "all"]
    for name in (groups["columns"][place] for place in parted):
        _add_column(table, name, is_number=True)
    _add_column(table, "", is_number=False)
    largest = max((weight for weight in gate.weights if weight is not None), default=0.0) or 1.0
    of_groups = groups.get("rows", [()] * size)
    for name, weight, load, shares in zip_longest(gate.names, gate.weights, gate.load, of_groups):
        numbers = [number(shares[place]) for place in parted]
        state = Text("dead" if name in gate.dead_names else "", style="bold red")
        table.add_row(Text(name), number(weight), Bar((weight or 0.0) / largest), number(load), *numbers, state)
    yield table


def _input_table(inputs: Mapping[str, Any]) -> Iterator[Text | Table]:
    """One row for each input of the item tower: its mean weight, over all items and by group."""
    yield Text("item tower, weight of each input over all items and by group: 1 as it is, 0 silent", style="italic")
    groups = part(inputs, "by_group")
    table = Table(box=SIMPLE)
    for name in ("input", *groups["columns"]):
        _add_column(table, name, is_number=name != "input")
    for name, shares in zip(inputs["names"], groups["rows"], strict=True):
        table.add_row(Text(name), *map(number, shares))
    yield table


def _inner_table(levels: Mapping[str, Mapping[str, Mixture]]) -> Table:
    table = Table(box=SIMPLE)
    for name in ("level", "gate", "experts", "entropy", "max/mean load", "dead", "most weight on"):
        _add_column(table, name, is_number=name not in ("level", "gate", "most weight on"))
    for level, gates in levels.items():
        for name, gate in gates.items():
            known = [(weight, expert) for weight, expert in zip(gate.weights, gate.names, strict=False) if weight]
            loudest = max(known, default=None)
            table.add_row(
                Text(level),
                Text(name),
                str(len(gate.names)),
                number(gate.entropy),
                number(gate.largest, 2),
                str(gate.dead),
                Text(f"{loudest[1]} ({number(loudest[0])})" if loudest else ""),
            )
    return table


def _add_column(table: Table, name: str, *, is_number: bool) -> None:
    # Bars give way first. Where a terminal is too narrow even so, there is no sign of a cut, for not all know one.
    table.add_column(Text(name), justify="right" if is_number else "left", no_wrap=bool(name), overflow="crop")


def _numbers(gate: Mixture) -> str:
    return f"entropy {number(gate.entropy)}, max/mean load {number(gate.largest, 2)}, dead {gate.dead}"
