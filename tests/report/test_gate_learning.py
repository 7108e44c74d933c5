import re

from moerec.report.page import blocks
from tests.report.sample_ranking import ranker_history, ranking_files

NUMBERS = {"entropy": 1.2, "max_over_mean_load": 2.0, "dead": 0}


def training_of(history):
    return next(block for block in blocks(ranking_files(ranker_history=history)) if block.key == "ranking-learning")


def with_gates(*names):
    return [
        record | {"gates": dict.fromkeys(names, NUMBERS)} if "valid" in record else record
        for record in ranker_history()
    ]


def test_entropy_and_load_of_each_gate_follow_the_updates():
    (part,) = training_of(ranker_history()).parts
    entropy, load = part.figures
    validations = sum("valid" in record for record in ranker_history())
    for figure in (entropy, load):
        assert figure.chart.count('class="mark dot') + figure.chart.count('class="mark line') >= 3
        assert figure.chart.count('class="mark dot series-0') == validations
        assert re.findall(r"</tspan> (\w+)", figure.chart) == ["like", "rating", "interact"]
    assert "ending at 1.13, 1.13 and 1.13" in entropy.chart
    assert "ending at 1.50, 2.50 and 3.50" in load.chart
    assert load.caption.endswith("rating has 1 dead expert and interact has 2 dead experts.")


def test_lower_levels_have_figures_of_their_own():
    names = ("like", "rating", "like, level 1", "rating, level 1", "shared, level 1", "shared, level 2", "odd")
    (part,) = training_of(with_gates(*names)).parts
    assert [re.search(r"of the gates? (.*?) on", figure.caption)[1] for figure in part.figures[::2]] == [
        "like and rating",
        "like, rating and shared (level 1)",
        "shared (level 2)",
        "odd (lower levels)",
    ]


def test_many_gates_are_spread_over_several_figures():
    (part,) = training_of(with_gates(*(f"a rather long name {number}, level 1" for number in range(9)))).parts
    assert len(part.figures) > 2 * 3
    shown = [name for figure in part.figures[::2] for name in re.findall(r"</tspan> ([\w ]+)", figure.chart)]
    alone = [figure for figure in part.figures[::2] if "</tspan>" not in figure.chart]
    assert len(shown) + len(alone) == 9


def test_a_training_without_gates_has_no_such_part():
    plain = [{key: value for key, value in record.items() if key != "gates"} for record in ranker_history()]
    assert not training_of(plain).parts


def test_gates_are_never_taken_for_metrics():
    block = training_of(ranker_history())
    assert len(block.figures) == 1 + 3
    assert "entropy" not in " ".join([*block.texts, *(figure.caption for figure in block.figures)])
