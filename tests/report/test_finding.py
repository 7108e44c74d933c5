import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from moerec.report.finding import Comparison, ReportError, disagreements, find, sentence
from moerec.report.labels import count, duration, metric_label, number, p_statement, percent, signed
from moerec.report.mixture import mixture
from moerec.report.results import wilson


def run(model, baselines, test=None, split="leave-last-out", **more):
    """Metrics of a run: the model's test values, the baselines', and the paired test against each."""
    details = {name: {"against_model": values} for name, values in (test or {}).items()}
    retrieval = {"test": model, "baselines": baselines, "baseline_details": details} | more
    return {"model": {"kind": "sasrec"}, "retrieval": retrieval, "protocol": {"split": split}}


def against(metric, difference, interval, p_value):
    return {"metric": metric, "difference": difference, "interval": interval, "p_value": p_value}


def said(metrics):
    return sentence(find(metrics)).replace("\u00a0", " ")


HR = {"hr@10": 0.209}


def test_a_significant_win():
    found = run(
        HR,
        {"ease": {"hr@10": 0.15}, "ease_recency": {"hr@10": 0.195}},
        {"ease_recency": against("hr@10", 0.014, [0.002, 0.026], 0.03), "ease": against("hr@10", 0.059, None, 1e-9)},
    )
    assert said(found) == (
        "SASRec finds the held-out item in its top 10 for 20.9 % of users, 1.4 points above the best plain baseline "
        "(EASE with recency, 19.5 %; p = 0.03)."
    )


def test_a_win_whose_interval_crosses_zero_is_called_not_significant():
    found = run(HR, {"ease": {"hr@10": 0.195}}, {"ease": against("hr@10", 0.014, [-0.004, 0.031], 0.14)})
    assert said(found) == (
        "SASRec finds the held-out item in its top 10 for 20.9 % of users, 1.4 points above the best plain baseline "
        "(EASE, 19.5 %), but this difference is not statistically significant (95 % interval of the difference −0.4 to "
        "3.1 points; p = 0.14)."
    )


def test_a_significant_loss_is_said_plainly():
    found = run(HR, {"ease": {"hr@10": 0.229}}, {"ease": against("hr@10", -0.02, [-0.03, -0.01], 0.0002)})
    assert said(found).endswith(
        "2.0 points below the best plain baseline (EASE, 22.9 %; p < 0.001): the model does not win."
    )


def test_a_loss_within_chance():
    found = run(HR, {"ease": {"hr@10": 0.212}}, {"ease": against("hr@10", -0.003, [-0.02, 0.01], 0.6)})
    assert "0.3 points below" in said(found)
    assert "does not win, though the difference is not statistically significant" in said(found)


def test_a_draw():
    found = run(HR, {"ease": dict(HR)}, {"ease": against("hr@10", 0.0, [-0.01, 0.01], 1.0)})
    assert "level with the best plain baseline (EASE, 20.9 %): the model does not win" in said(found)


def test_without_a_paired_test_nothing_is_claimed():
    assert said(run(HR, {"ease": {"hr@10": 0.195}})).endswith(
        "(EASE, 19.5 %); no paired test was recorded, so the difference may be chance."
    )
    assert "the model does not win" in said(run(HR, {"ease": {"hr@10": 0.3}}))


def test_without_baselines_the_number_stands_alone():
    assert said(run(HR, {})).endswith(
        "for 20.9 % of users; no baseline was measured beside it, so the number stands alone."
    )


def test_a_test_on_another_metric_makes_that_the_main_one():
    found = run(
        HR | {"ndcg@10": 0.1024},
        {"ease": {"hr@10": 0.19, "ndcg@10": 0.088}},
        {"ease": against("ndcg@10", 0.0144, [0.004, 0.02], 0.003)},
    )
    assert said(found) == (
        "SASRec finds the held-out item in its top 10 for 20.9 % of users; its NDCG@10 of 0.102 is 0.014 above the "
        "best plain baseline (EASE, 0.088; p = 0.003)."
    )


def test_a_lead_on_one_metric_does_not_hide_a_loss_on_the_other():
    found = run(
        HR | {"ndcg@10": 0.1},
        {"ease": {"hr@10": 0.22, "ndcg@10": 0.09}},
        {"ease": against("ndcg@10", 0.01, [0.004, 0.02], 0.003)},
    )
    assert said(found).endswith("On HR@10, however, EASE is ahead (0.220 against 0.209).")


def test_there_can_be_several_held_out_items():
    assert "finds the held-out item in" in said(run(HR, {}, split="leave-last-out: ..."))
    assert "finds a held-out item in" in said(run(HR, {}, split="everything after 1998-01-01"))


def test_a_sampled_metric_is_never_the_headline_beside_full_ranking():
    assert find(run({"hr@10/uniform100": 0.7, "hr@10": 0.2}, {})).main == "hr@10"
    assert "(sampled: uniform100)" in said(run({"ndcg@10/uniform100": 0.4}, {}))


SHARE = st.floats(0, 1)


@given(SHARE, st.dictionaries(st.sampled_from(["ease", "item_knn", "popularity"]), SHARE, min_size=1), st.data())
def test_the_sentence_follows_the_numbers(own, rivals, data):
    tests = {}
    for name, value in rivals.items():
        low, high = sorted([data.draw(st.floats(-1, 1)), data.draw(st.floats(-1, 1))])
        tests[name] = against("hr@10", own - value, [low, high], data.draw(SHARE))
    metrics = run({"hr@10": own}, {name: {"hr@10": value} for name, value in rivals.items()}, tests)
    finding, text = find(metrics), said(metrics)
    best = max(rivals.values())
    assert finding.best_baseline.test["hr@10"] == best
    assert (" above " in text) == (own > best)
    assert (" below " in text) == (own < best)
    assert ("does not win" in text) == (own <= best)
    test = finding.best_baseline.against_model
    crosses = test.interval[0] <= 0 <= test.interval[1] or test.p_value >= 0.05
    if own != best:
        assert ("not statistically significant" in text) == crosses
    assert list(finding.baselines) == sorted(finding.baselines, key=lambda system: -system.test["hr@10"])


def test_significance_needs_interval_and_p_value_to_agree():
    assert Comparison("hr@10", 0.1, (0.01, 0.2), 0.2).significant is False
    assert Comparison("hr@10", 0.1, (-0.01, 0.2), 0.01).significant is False
    assert Comparison("hr@10", -0.1, (-0.2, -0.01), 0.01).significant is True
    assert Comparison("hr@10", 0.1, (0.01, 0.2), None).significant is True
    assert Comparison("hr@10", 0.1, None, None).significant is None


def test_contradicting_numbers_are_pointed_out():
    sound = run(HR, {"ease": {"hr@10": 0.195}}, {"ease": against("hr@10", 0.014, [0, 0.03], 0.03)})
    assert disagreements(find(sound)) == []
    flipped = run(HR, {"ease": {"hr@10": 0.195}}, {"ease": against("hr@10", -0.014, [-0.03, 0], 0.03)})
    assert "the tested difference in HR@10 is −0.014" in disagreements(find(flipped))[0]
    outside = run(HR, {}, intervals={"hr@10": [0.3, 0.4]})
    assert "outside its own interval" in disagreements(find(outside))[0]


def test_metrics_of_a_wrong_form_name_their_key():
    with pytest.raises(ReportError, match=r"metrics\.json: retrieval\.test is a list") as caught:
        find({"retrieval": {"test": [1, 2]}})
    assert "\n" not in str(caught.value)
    assert find({}) is None
    assert find({"retrieval": {"test": {"hr@10": None, "ndcg@10": math.nan}}}) is None


@given(st.integers(1, 5000), st.data())
def test_wilson_is_scipys(cases, data):
    hits = data.draw(st.integers(0, cases))
    low, high = wilson(hits / cases, cases)
    expected = stats.binomtest(hits, cases).proportion_ci(method="wilson")
    assert low == pytest.approx(expected.low, abs=1e-6)
    assert high == pytest.approx(expected.high, abs=1e-6)
    assert low <= hits / cases <= high


def test_wilson_without_cases():
    assert wilson(0.2, None) is None
    assert wilson(None, 10) is None
    assert wilson(0.2, 0) is None


@pytest.mark.parametrize(
    ("recorded", "problem"),
    [
        ({"mean_weight": [0.26, 0.25, 0.25, 0.24], "load": [1.0, 0, 0, 0], "entropy": math.log(4) * 0.999}, "uniform"),
        ({"mean_weight": [0.94, 0.03, 0.03], "load": [1.0, 0, 0], "entropy": 0.2}, "collapsed"),
        (
            {"mean_weight": [0.6, 0.395, 0.005], "load": [0.7, 0.3, 0], "entropy": 0.5, "dead": 1},
            "1 of 3 experts is dead",
        ),
        ({"mean_weight": [0.4, 0.35, 0.25], "load": [0.5, 0.3, 0.2], "entropy": 0.7}, ""),
        ({"mean_weight": [1.0], "load": [1.0], "entropy": 0.0}, ""),
        ({}, ""),
    ],
)
def test_a_mixture_that_is_none_is_called_so(recorded, problem):
    found = mixture(recorded)
    assert problem in found.problem
    assert bool(found.problem) == bool(problem)


def test_a_sound_mixture_is_described():
    found = mixture({"mean_weight": [0.5, 0.5], "load": [0.6, 0.4], "entropy": 0.3})
    assert found.statement.startswith("All 2 experts are in use; the busiest weighs most for 60")
    assert "does choose" in found.statement


def test_a_gate_that_always_prefers_one_expert_does_not_route():
    found = mixture({"mean_weight": [0.25, 0.75], "load": [0.0, 1.0], "entropy": 0.45}, "row")
    assert found.problem == ""
    assert "expert 2 weighs most for 100\u00a0% of the rows: the gate mixes and hardly routes" in found.statement


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 6))
def test_numbers_read_back(value, decimals):
    text = number(value, decimals)
    assert not re.match(r"−0(\.0*)?$", text)
    assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(
        value, abs=0.5000001 * 10**-decimals, rel=1e-9
    )


def test_numbers_as_people_write_them():
    assert number(None) == number(math.nan) == number(True) == number("3") == "–"
    assert (count(1682), count(3.5)) == ("1,682", "3.5")
    assert (signed(0.0144), signed(-0.0144), signed(0.0)) == ("+0.014", "−0.014", "0.000")
    assert percent(0.0001).replace("\u00a0", " ") == "< 0.1 %"
    assert percent(0).replace("\u00a0", " ") == "0.0 %"
    assert percent(0.995, 0).replace("\u00a0", " ") == "> 99 %", "not all of them"
    assert percent(0.9996).replace("\u00a0", " ") == "> 99.9 %"
    assert percent(0.994, 0).replace("\u00a0", " ") == "99 %"
    assert percent(1, 0).replace("\u00a0", " ") == "100 %"
    assert [p_statement(p).replace("\u00a0", " ") for p in (0.0004, 0.003, 0.03, 0.0497, 0.14)] == [
        "p < 0.001",
        "p = 0.003",
        "p = 0.03",
        "p = 0.0497",
        "p = 0.14",
    ]
    assert [duration(s).replace("\u00a0", " ") for s in (0.42, 59.6, 112, 3725)] == [
        "0.4 s",
        "1 min 00 s",
        "1 min 52 s",
        "1 h 02 min",
    ]
    assert metric_label("hr@10/uniform100") == "HR@10 (sampled: uniform100)"
    assert metric_label("mean_rank") == "Mean rank"
