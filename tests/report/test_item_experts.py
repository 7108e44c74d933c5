"""The section on the item tower's gate: experts of a mixture, or weights of inputs, or nothing."""

from moerec.report.expert_plot import expert_blocks
from moerec.report.item_experts import item_experts
from moerec.run.expert_tables import expert_findings, expert_tables
from tests.report.sample_run import metrics
from tests.run.test_expert_tables import row_of, shown

INPUTS = {
    "fusion": "senet",
    "names": ["id", "genres", "text"],
    "mean_weight": [1.1, 0.9, 0.4],
    "by_group": {"columns": ["all", "new"], "rows": [[1.1, 0.2], [0.9, 1.3], [0.4, 1.7]]},
}


def test_weights_of_inputs_are_shown_where_there_are_no_experts():
    block = item_experts({"experts": {"inputs": INPUTS}})
    assert block is not None
    assert block.title == "Inputs of an item"
    assert (block.tables, block.notices) == ([], [])
    (figure,) = block.figures
    assert "Id: all 1.10, new 0.20; Genres: all 0.90, new 1.30; Text: all 0.40, new 1.70" in str(figure.chart)
    assert "1 leaves an input as it is" in block.texts[-1]
    assert "expert" not in " ".join(block.texts)


def test_the_terminal_shows_them_too():
    text = shown(expert_tables({"experts": {"inputs": INPUTS}}))
    assert text.startswith("item tower, weight of each input over all items and by group")
    assert row_of(text, "genres") == ["genres", "0.900", "1.300"]
    assert expert_findings({"experts": {"inputs": INPUTS}}) == ""


def test_a_tower_that_weighs_nothing_has_no_section():
    assert item_experts({}) is None
    assert expert_blocks({}) == []


def test_remedies_name_keys_that_there_are():
    uniform = {"names": ["a", "b"], "mean_weight": [0.5, 0.5], "load": [0.5, 0.5], "entropy": 0.6931, "dead": 0}
    collapsed = uniform | {"mean_weight": [0.97, 0.03], "load": [1.0, 0.0], "entropy": 0.1}
    from moerec.reference import look_up

    for experts, key in (
        (uniform, "retriever.item_tower.gate.temperature"),
        (collapsed, "retriever.item_tower.gate.balance"),
    ):
        block = item_experts({"experts": experts})
        assert block is not None
        (notice,) = block.notices
        assert key in notice
        assert look_up(key)


def test_the_load_of_a_gate_that_selects_is_read_as_such():
    experts = metrics()["experts"]
    assert "for which the expert weighs most" in item_experts({"experts": experts}).texts[-1]
    assert "its share of the places" in item_experts({"experts": experts | {"selected": 2}}).texts[-1]
