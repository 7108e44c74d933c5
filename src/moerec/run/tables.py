"""Results as tables for the terminal."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text


def results_table(metrics: dict[str, Any]) -> Table:
    """The model and its baselines on the test part, with the interval of NDCG and the p-value of the paired test."""
    retrieval = metrics["retrieval"]
    names = shown_metrics(retrieval["test"])
    main = next((name for name in names if name.startswith("ndcg@10")), names[0])
    title = f"{metrics['dataset']['name']}, test part, {metrics['protocol']['ranking']}"
    table = Table(title=Text(title, style="italic"), box=SIMPLE)
    table.add_column("model", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column(f"{main}, 95 %", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    low, high = retrieval["intervals"][main]
    rows = [(metrics["name"], retrieval["test"], (low, high), "")]
    for kind, values in retrieval.get("baselines", {}).items():
        details = retrieval["baseline_details"][kind]
        rows.append((kind, values, tuple(details["intervals"][main]), f"{details['against_model']['p_value']:.4f}"))
    best = {name: max(values[name] for _, values, _, _ in rows) for name in names}
    for number, (label, values, interval, p_value) in enumerate(rows):
        cells = [_bold(f"{values[name]:.4f}", values[name] == best[name]) for name in names]
        table.add_row(_bold(label, number == 0), *cells, f"{interval[0]:.3f} to {interval[1]:.3f}", p_value)
    return table


def shown_metrics(values: dict[str, float]) -> list[str]:
    """The metrics that fit a terminal: HR, NDCG and MRR at 10 by full ranking; the report has all."""
    wanted: list[str] = [name for name in ("hr@10", "ndcg@10", "mrr@10") if name in values]
    return wanted or [name for name in values if "/" not in name][:3]


def frame_table(frame: pl.DataFrame, title: str = "") -> Table:
    """A frame as a table; brackets in titles, as in `[Rec] (2007)`, are no markup."""
    table = Table(title=Text(title, style="italic") if title else None, box=SIMPLE)
    for name, dtype in frame.schema.items():
        table.add_column(Text(name), justify="right" if dtype.is_numeric() else "left")
    for row in frame.iter_rows():
        shown = ("" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in row)
        table.add_row(*map(Text, shown))
    return table


def _bold(text: str, wanted: bool) -> Text:
    return Text(text, style="bold" if wanted else "")
