"""Results as tables for the terminal."""

from __future__ import annotations

from typing import Any

import polars as pl
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from moerec.evaluation.predictions import is_higher_better

SHOWN = {
    "binary": ("auc", "gauc", "log_loss", "ece"),
    "regression": ("rmse", "mae", "r2"),
    "multiclass": ("auc", "accuracy", "log_loss"),
    "ordinal": ("rmse", "kappa", "log_loss"),
}
"""The metrics of a task that fit a terminal, by its type; the report has all."""


def results_tables(metrics: dict[str, Any]) -> list[Table]:
    """What a finished run found: a table for retrieval, for each task of the ranker, and for both stages together."""
    tables = [results_table(metrics)] if "retrieval" in metrics else []
    tables += [task_table(metrics, task) for task in metrics.get("ranking", {}).get("tasks", {})]
    return tables + ([stages_table(metrics)] if "two_stage" in metrics else [])


def task_table(metrics: dict[str, Any], task: str) -> Table:
    """The ranker, other rankers and the baselines on one task of the test part."""
    ranking = metrics["ranking"]
    described = ranking["tasks"][task]
    main = described["metric"]
    suffix = main.split("/", 2)[2:]  # the population, where it is not that of real rows
    names = [name for part in SHOWN[described["type"]] if (name := "/".join([task, part, *suffix])) in ranking["test"]]
    title = f"{metrics['dataset']['name']}, test part, {task}: {described['describe']}"
    table = Table(title=Text(title, style="italic"), box=SIMPLE)
    table.add_column("model", no_wrap=True)
    for name in names:
        table.add_column(name.split("/")[1], justify="right")
    table.add_column(f"{main.split('/')[1]}, 95 %", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    rows = [(metrics["name"], ranking["test"], ranking["intervals"].get(main), "")]
    for group in ("sibling", "baseline"):
        for kind, values in ranking.get(f"{group}s", {}).items():
            details = ranking[f"{group}_details"][kind]
            p_value = details["against_model"].get(main, {}).get("p_value")
            rows.append((kind, values, details["intervals"].get(main), "" if p_value is None else f"{p_value:.4f}"))
    best = {
        name: (max if is_higher_better(name) else min)(values[name] for _, values, _, _ in rows if name in values)
        for name in names
    }
    for number, (label, values, interval, p_value) in enumerate(rows):
        cells = [_bold(f"{values[name]:.4f}", values[name] == best[name]) if name in values else "" for name in names]
        bounds = "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
        table.add_row(_bold(label, number == 0), *cells, bounds, p_value)
    return table


def stages_table(metrics: dict[str, Any]) -> Table:
    """Both stages beside the first stage alone, by full ranking of the test part."""
    stages = metrics["two_stage"]
    names = shown_metrics(stages["test"])
    state = "on" if stages["on"] else "off"
    title = f"both stages, {stages['candidates']} candidates; the second stage is {state}: {stages['why']}"
    table = Table(title=Text(title, style="italic"), box=SIMPLE)
    table.add_column("lists", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for label, values in (("retriever alone", stages["first_stage"]), ("retriever, then ranker", stages["test"])):
        best = {name: max(stages["test"][name], stages["first_stage"][name]) for name in names}
        table.add_row(label, *(_bold(f"{values[name]:.4f}", values[name] == best[name]) for name in names))
    return table


def results_table(metrics: dict[str, Any]) -> Table:
    """The retriever and its baselines on the test part, with the interval of NDCG and the paired test's p-value."""
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
