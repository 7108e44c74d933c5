"""Tables for the terminal: names are shown as they are, whatever signs they hold."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console
from rich.table import Table

from moerec.run.tables import frame_table, results_table
from tests.small_run import do

ODD = ["[Rec] (2007)", "[/red]", "[bold]loud[/bold]", ":smile:", "\\[x]", "Amélie 天", ""]


def shown(table: Table, width: int = 200) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, emoji=False, force_terminal=False).print(table)
    return stream.getvalue()


def test_titles_with_brackets_are_no_markup() -> None:
    frame = pl.DataFrame({"title": ODD, "score": [1.23456, None, 0.0, 1.0, 1.0, 1.0, 1.0], "[b]": range(7)})
    text = shown(frame_table(frame, "a [title]"))
    for title in ODD:
        assert title in text
    assert "1.235" in text
    assert "a [title]" in text
    assert "[b]" in text


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory, _ = do(tmp_path_factory.mktemp("tables"))
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return found


def test_results_fit_a_terminal_of_eighty_columns(metrics: dict[str, Any]) -> None:
    text = shown(results_table(metrics), 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    for kind in ("small", "popularity", "item_knn"):
        assert f" {kind} " in text
    assert f"{metrics['retrieval']['baselines']['item_knn']['ndcg@10']:.4f}" in text


def test_results_name_things_as_they_are(metrics: dict[str, Any]) -> None:
    odd = copy.deepcopy(metrics)
    odd["name"], odd["dataset"]["name"] = "[run]", "[/data]"
    text = shown(results_table(odd))
    assert "[run]" in text
    assert "[/data], test part" in text


def test_other_cutoffs_are_shown_too(tmp_path: Path) -> None:
    directory, _ = do(tmp_path, ["evaluation.cutoffs=[3]", "training.metric=hr@3", "baselines.kinds=[]"])
    text = shown(results_table(json.loads((directory / "metrics.json").read_text())))
    assert "hr@3" in text
