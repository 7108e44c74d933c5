import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.report.page import blocks
from moerec.report.two_stages import find_two_stages, formula, stages_sentence, two_stages
from tests.report.sample_ranking import ranking_files, two_stage
from tests.report.sample_run import metrics


def found(**changed):
    return find_two_stages(metrics() | {"two_stage": two_stage() | changed})


def said(**changed):
    return stages_sentence(found(**changed)).replace("\u00a0", " ")


def against(difference, low, high, p_value):
    return {"metric": "ndcg@10", "difference": difference, "interval": [low, high], "p_value": p_value}


FIRST, BETTER, WORSE = {"ndcg@10": 0.1}, {"ndcg@10": 0.112}, {"ndcg@10": 0.094}


def test_it_says_whether_the_second_stage_is_on_and_what_it_does():
    assert said(on=True, first_stage=FIRST, test=BETTER, against_first_stage=against(0.012, 0.003, 0.02, 0.01)) == (
        "The second stage is on: with it, NDCG@10 is 0.112, 0.012 above the first stage alone (0.100; p = 0.01)."
    )
    assert said(on=False, first_stage=FIRST, test=WORSE, against_first_stage=against(-0.006, -0.01, 0.002, 0.2)) == (
        "The second stage is off: with it, NDCG@10 is 0.094, 0.006 below the first stage alone (0.100), but this "
        "difference is not statistically significant (95 % interval of the difference −0.010 to 0.002; p = 0.20)."
    )
    assert "no paired test was recorded" in said(first_stage=FIRST, test=BETTER, against_first_stage=None)
    assert "level with" in said(first_stage=FIRST, test=FIRST, against_first_stage=against(0.0, -0.01, 0.01, 1.0))
    assert "nothing is known of the gain" in said(first_stage={})
    assert said(on=None).startswith("Both stages were measured: with it")


@given(st.floats(0.01, 0.9), st.floats(0.01, 0.9), st.floats(0, 1), st.booleans())
@settings(max_examples=40)
def test_the_sentence_follows_the_numbers(first, both, p_value, on):
    gap = both - first
    changed = {"on": on, "first_stage": {"ndcg@10": first}, "test": {"ndcg@10": both}, "intervals": {}}
    text = said(**changed, against_first_stage=against(gap, gap - 0.01, gap + 0.01, p_value))
    assert (" above " in text, " below " in text) == (both > first, both < first)
    assert (" is on:" in text) == on
    if gap:
        assert ("not statistically significant" in text) == (abs(gap) <= 0.01 or p_value >= 0.05)
    block = two_stages(found(**changed))
    assert any("is on although" in text for text in block.notices) == (on and both < first)


def test_the_table_holds_the_numbers_of_the_file_and_marks_what_is_in_use():
    block = two_stages(found())
    recorded, (first, both) = two_stage(), block.tables[0].rows
    heads = [(column.group, column.label) for column in block.tables[0].columns]
    for row, values in ((first, recorded["first_stage"]), (both, recorded["test"])):
        for key, label in (("ndcg@10", "NDCG@10"), ("hr@10", "HR@10"), ("hr@20", "HR@20")):
            assert row.cells[heads.index(("Test", label))].text == f"{values[key]:.3f}"
    assert (first.label, both.label) == ("First stage alone", "Both stages (in use)")
    low, high = metrics()["retrieval"]["intervals"]["ndcg@10"]
    assert first.cells[0].note == f"[{low:.3f}, {high:.3f}]"
    assert [cell.text for cell in both.cells[-2:]] == ["+0.006", "0.004"]
    assert two_stages(found(on=False)).tables[0].rows[0].label == "First stage alone (in use)"


def test_the_interval_of_other_lists_is_not_borrowed():
    other = two_stage()["first_stage"] | {"ndcg@10": 0.11}
    assert "ndcg@10" in found().first_intervals
    assert "ndcg@10" not in found(first_stage=other).first_intervals


def test_formula_recall_and_reason_are_told():
    texts = " ".join(two_stages(found()).texts).replace("\u00a0", " ")
    assert "Score of a candidate: 1 × retrieval + 0.3 × interact." in texts
    assert "hands 200 candidates to the second. Among them are 82.3 % of the held-out items (Recall@200)" in texts
    assert "Why it is on: it improves NDCG@10 on the validation split." in texts
    assert "Why it is off: " in " ".join(two_stages(found(on=False)).texts)


def test_a_formula_that_changes_no_order_is_called_so():
    idle = " ".join(two_stages(found(formula={"retrieval": 1.0, "like": 0.0})).texts)
    assert "leaves the candidates in the order of the first stage" in idle
    assert "leaves the candidates" not in " ".join(two_stages(found()).texts)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"retrieval": 1.0, "like": 0.25}, "1 × retrieval + 0.25 × like"),
        ({"retrieval": 1.0, "rating": -0.5, "like": 0.0}, "1 × retrieval − 0.5 × rating"),
        ({"a-b": -2.0}, "− 2 × a-b"),
        ({"like": 0.0}, "nothing has weight"),
    ],
)
def test_a_formula_reads_as_arithmetic(weights, text):
    assert formula(weights) == text


def test_the_formulas_tried_are_sorted_by_validation_with_the_chosen_one_marked():
    table = two_stages(found()).folded[0].tables[0]
    assert [row.cells[0].text for row in table.rows] == ["0.1174", "0.1102", "0.1099"]
    assert [row.emphasised for row in table.rows] == [True, False, False]


def test_numbers_that_disagree_are_pointed_out():
    flipped = two_stages(found(against_first_stage=against(-0.006, -0.01, 0.0, 0.01)))
    assert "The tested difference in NDCG@10 is −0.006, but the values in the table differ by 0.0" in flipped.notices[0]
    outside = two_stages(found(intervals={"ndcg@10": [0.3, 0.4]}))
    assert "lies outside its own interval" in outside.notices[0]
    assert two_stages(found()).notices == []


def test_without_metrics_of_both_there_is_no_section():
    assert find_two_stages({}) is None
    assert find_two_stages({"two_stage": {"on": True, "test": {"mean_rank": 3.0}}}) is None
    run = ranking_files(metrics=metrics() | {"two_stage": {"on": False}}, ranker_history=[])
    assert "two-stages" not in {block.key for block in blocks(run)}
