"""Experts by task where the gates of the tasks have different experts."""

import copy
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moerec.report.expert_grid import grid, spread, union
from moerec.report.mixture import mixture
from moerec.report.page import blocks
from tests.report.sample_ranking import gate, ranking, ranking_files
from tests.report.test_plots import NAMESPACE

NAMES = st.lists(
    st.builds("{} {}".format, st.sampled_from(["like", "rating", "shared", "group a"]), st.integers(1, 3)),
    min_size=1,
    max_size=6,
    unique=True,
)
PLE = {
    "like": gate([0.5, 0.2, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], 1.0, ["like 1", "like 2", "shared 1", "shared 2"]),
    "rating": gate([0.1, 0.1, 0.2, 0.6], [0.0, 0.1, 0.2, 0.7], 1.0, ["rating 1", "rating 2", "shared 1", "shared 2"]),
}
INNER = {
    "like, level 1": PLE["like"],
    "shared, level 1": gate(
        [0.3, 0.2, 0.1, 0.2, 0.1, 0.1],
        [0.3, 0.2, 0.1, 0.2, 0.1, 0.1],
        1.6,
        ["like 1", "like 2", "rating 1", "rating 2", "shared 1", "shared 2"],
    ),
    "like, level 2": PLE["like"],
}


def experts_of(tasks, inner=None, config=None):
    """The section for these gates."""
    recorded = ranking() | {"experts": {"gate": config or {}, "tasks": tasks, "inner": inner or {}}}
    found = [block for block in blocks(ranking_files(metrics={"ranking": recorded})) if block.key == "ranking-experts"]
    return found[0] if found else None


def cells(figure):
    """What the heat map says: {(gate, expert): number}, as its cells tell by their hints."""
    hints = [element.text for element in ET.fromstring(str(figure.chart)).iter(f"{NAMESPACE}title")]
    parted = [re.fullmatch(r"(.*), (.*): ([\d.]+)", hint) for hint in hints]
    return {(found[1], found[2]): float(found[3]) for found in parted}


# --- the heat map


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_columns_are_the_union_of_all_experts_and_shared_ones_come_last(named):
    gates = [mixture(gate([1 / len(names)] * len(names), [1.0] * len(names), 0.1, names)) for names in named]
    columns = union(gates)
    assert sorted(columns) == sorted({name for names in named for name in names})
    sharing = [sum(name in names for names in named) for name in columns]
    assert sharing == sorted(sharing)


@given(NAMES, NAMES, st.data())
def test_a_cell_holds_the_weight_of_that_expert_and_is_empty_where_the_gate_lacks_it(ours, theirs, data):
    def drawn(names):
        return mixture(gate([data.draw(st.integers(1, 99)) / 100 for _ in names], [0.0] * len(names), 0.1, names))

    gates = {"like": drawn(ours), "rating": drawn(theirs)}
    figure = grid("Mean weight", {name: one.weights for name, one in gates.items()}, gates, union(gates.values()), "on")
    assert cells(figure) == {
        (task, name): weight for task, one in gates.items() for name, weight in zip(one.names, one.weights, strict=True)
    }
    assert ("An empty cell" in figure.caption) == (set(ours) != set(theirs))


def test_what_a_gate_lacks_is_none_and_never_zero():
    assert spread([0.25, 0.0], ["b", "a"], ["a", "b", "c"]) == [0.0, 0.25, None]


def test_parts_of_other_populations_show_only_their_experts_in_the_same_order():
    interact = gate([0.4, 0.3, 0.3], [0.4, 0.3, 0.3], 1.0, ["shared 1", "interact 1", "shared 2"])
    real, drawn = experts_of(PLE | {"interact": interact}).parts
    orders = [list(dict.fromkeys(name for _, name in cells(part.figures[0]))) for part in (real, drawn)]
    assert orders == [
        ["like 1", "like 2", "shared 1", "shared 2", "rating 1", "rating 2"],  # cell by cell, row by row
        ["interact 1", "shared 1", "shared 2"],
    ]


def test_each_level_below_has_a_part_of_its_own():
    section = experts_of(PLE, INNER)
    assert [part.title.partition(" – ")[0] for part in section.parts] == [
        "Population: reviews",
        "Level 1, below the gates of the tasks",
        "Level 2, below the gates of the tasks",
    ]
    assert {gate for gate, _ in cells(section.parts[1].figures[0])} == {"like", "shared"}
    assert [row.label for row in section.parts[2].tables[0].rows] == ["like"]
    assert "lower levels" in section.texts[0]
    assert "lower levels" not in experts_of(PLE).texts[0]
    assert experts_of({}) is None


# --- what is said of it


def test_gates_are_compared_on_the_experts_that_both_have():
    (part,) = experts_of(PLE).parts
    # Of their shared experts like gives two thirds to the first, rating a quarter.
    assert "like and rating differ in 42\u00a0% of their mean weight on the 2 experts that both have" in part.texts[-1]
    swapped = copy.deepcopy(PLE)
    swapped["rating"]["mean_weight"] = [0.05, 0.65, 0.2, 0.1]  # other own experts, the same use of the shared ones
    (part,) = experts_of(swapped).parts
    assert (
        "differ in 0\u00a0% of their mean weight on the 2 experts that both have: the two gates are alike"
        in (part.texts[-1])
    )
    apart = {name: one | {"names": [f"{name} {place}" for place in range(1, 5)]} for name, one in PLE.items()}
    assert not any("differ" in text for text in experts_of(apart).parts[0].texts)


def test_the_weight_is_parted_into_own_and_shared():
    (part,) = experts_of(PLE).parts
    (told,) = [text for text in part.texts if text.startswith("Of its weight")]
    assert "like gives 70\u00a0% to its own experts (2 of 4) and 30\u00a0% to shared ones (2 of 4)" in told
    assert "rating gives 20\u00a0% to its own experts" in told


def test_an_expert_that_is_dead_for_one_task_and_not_for_another_is_no_waste():
    tasks = {
        "like": gate([0.5, 0.49, 0.01], [0.5, 0.5, 0.0], 0.7),
        "rating": gate([0.01, 0.5, 0.49], [0.0, 0.5, 0.5], 0.7),
    }
    (part,) = experts_of(tasks).parts
    assert not part.notices
    assert "like leaves expert 3 to rating: the tasks have parted there." in part.texts[0]
    tasks["rating"] = gate([0.5, 0.49, 0.01], [0.5, 0.5, 0.0], 0.7)
    (part,) = experts_of(tasks).parts
    assert part.notices[0].startswith("expert 3 is dead: its mean weight is under a tenth of an equal share in every")


@pytest.mark.parametrize(
    ("config", "remedies"),
    [
        ({}, ["set ranker.gate.expert_dropout: 0.1", "set ranker.gate.balance: {kind: auxiliary}"]),
        (
            {"expert_dropout": 0.2, "balance": {"kind": "auxiliary"}},
            ["raise ranker.gate.expert_dropout", "raise ranker.gate.balance.weight"],
        ),
        ({"balance": {"kind": "loss_free"}}, ["raise ranker.gate.balance.rate"]),
    ],
)
def test_a_fault_comes_with_what_may_help(config, remedies):
    collapsed = {"like": gate([0.95, 0.03, 0.02], [1.0, 0.0, 0.0], 0.2)}
    (notice,) = experts_of(collapsed, config=config).parts[0].notices
    assert all(remedy in notice for remedy in [*remedies, "raise ranker.gate.temperature"])
    uniform = {name: gate([0.33, 0.33, 0.34], [0.0, 0.0, 1.0], 1.098) for name in ("like", "rating")}
    (notice,) = experts_of(uniform, config=config).parts[0].notices
    assert "The gates like and rating are uniform" in notice
    assert "Lower ranker.gate.temperature" in notice


def test_a_gate_that_selects_is_judged_by_its_choice():
    even = {
        "like": gate([0.25] * 4, [0.25] * 4, 0.69, selected=2)
    }  # two equal weights in each row, of changing experts
    (part,) = experts_of(even).parts
    assert not part.notices
    assert (
        "like: All 4 experts are in use, 2 for each row; the busiest is among them for 50\u00a0% of the rows."
        in (part.texts[0])
    )
    assert [cell.note for cell in part.tables[0].rows[0].cells][:2] == ["2 a row", "of at most 0.69"]
    same = {"like": gate([0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], 0.69, selected=2)}
    (notice,) = experts_of(same).parts[0].notices
    assert "selects 2 of 4 experts and nearly always the same ones" in notice
    assert "{kind: loss_free}" in notice


def test_many_gates_are_summed_up():
    recorded = ranking()
    names = [f"task {number}" for number in range(5)]
    recorded["test"] = {f"{name}/auc": 0.7 for name in names}
    recorded["tasks"] = {}
    tasks = {name: gate([0.5 + 0.08 * place, 0.5 - 0.08 * place], [0.5, 0.5], 0.6) for place, name in enumerate(names)}
    recorded["experts"] = {"tasks": tasks}
    (section,) = [b for b in blocks(ranking_files(metrics={"ranking": recorded})) if b.key == "ranking-experts"]
    told = section.parts[0].texts[-1]
    assert told.startswith("Of 10 pairs of gates 0 are alike")
    assert "furthest apart task 0 and task 4 (32\u00a0%)" in told
