"""The use of experts in a terminal, of any width and any set of signs."""

import io

import pytest
from rich.console import Console

from moerec.run.expert_tables import Bar, expert_findings, expert_tables
from tests.report.sample_ranking import gate, ranking, ranking_files
from tests.report.test_ranking_experts import INNER, PLE

METRICS = ranking_files().metrics | {"ranking": ranking() | {"experts": {"tasks": PLE, "inner": INNER}}}


def shown(renderables, encoding: str = "utf-8", width: int = 200) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, width=width, markup=False, emoji=False)
    for one in renderables:
        console.print(one)
    stream.seek(0)
    return stream.read()


def row_of(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return line.split()


def test_each_task_has_a_table_with_every_expert():
    text = shown(expert_tables(METRICS))
    assert "task like: 4 experts, equal share 0.250, entropy 1.000, max/mean load 2.80, dead 0" in text
    assert row_of(text, "rating 2")[2:] == ["0.100", "████", "0.100"]  # a sixth of 24 signs
    for task, told in PLE.items():
        part = text[text.index(f"task {task}") :]
        for name, weight, load in zip(told["names"], told["mean_weight"], told["load"], strict=True):
            line = next(line for line in part.splitlines() if line.strip().startswith(name))
            assert [f"{weight:.3f}", f"{load:.3f}"] == [line.split()[2], line.split()[-1]]
    assert row_of(text, "level 1   shared")[3:] == ["6", "1.600", "1.80", "0", "like", "1", "(0.300)"]


def test_the_item_tower_has_a_column_for_each_group_of_items():
    text = shown(expert_tables(METRICS))
    assert text.startswith("item tower, over all items and by group: 4 experts, equal share 0.250, entropy 1.020")
    assert next(line for line in text.splitlines() if "weight" in line and "load" in line).split() == [
        "expert", "weight", "load", "head", "tail", "new",
    ]  # fmt: skip
    assert row_of(text, "expert 4")[-3:] == ["0.120", "0.210", "0.490"]


def test_a_dead_expert_is_marked():
    tasks = {"like": gate([0.6, 0.2, 0.19, 0.01], [0.8, 0.1, 0.1, 0.0], 0.9, PLE["like"]["names"])}
    metrics = {"ranking": ranking() | {"experts": {"tasks": tasks}}}
    text = shown(expert_tables(metrics))
    assert [line.split()[:2] for line in text.splitlines() if line.rstrip().endswith("dead")] == [["shared", "2"]]
    assert "! shared 2 is dead" in expert_findings(metrics)


@pytest.mark.parametrize("width", [20, 60, 200])
def test_a_terminal_that_knows_ascii_alone_gets_ascii(width):
    text = shown([*expert_tables(METRICS), expert_findings(METRICS)], "ascii", width)
    assert "#" in text or width == 20
    assert "\u00a0" not in expert_findings(METRICS)


@pytest.mark.parametrize(("share", "text"), [(0.0, ""), (1.0, "█" * 24), (7.0, "█" * 24), (-1.0, ""), (0.5, "█" * 12)])
def test_a_bar_is_as_long_as_its_share(share, text):
    assert shown([Bar(share)]).strip() == text


def test_weights_that_were_not_recorded_are_no_error():
    bare = {"ranking": ranking() | {"experts": {"tasks": {"like": {"load": [0.5, 0.5]}}}}}
    assert "expert 2" in shown(expert_tables(bare))
    expert_findings(bare)
