import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.evaluation.predictions import HIGHER_IS_BETTER
from moerec.report.finding import ReportError
from moerec.report.labels import kind_and_number, listed
from moerec.report.ranking_finding import UNNAMED, direction, find_ranking
from moerec.report.ranking_sentences import ahead, ahead_elsewhere, contradictions, siblings_ahead, task_sentences

TASKS = {"like": {"type": "binary", "population": "reviews"}, "rating": {"type": "regression", "population": "reviews"}}


def run(test, baselines, tests=None, tasks=TASKS, **more):
    """Metrics of a ranking: the model's test values, the baselines', and the paired tests against each."""
    details = {name: {"against_model": values} for name, values in (tests or {}).items()}
    ranking = {"tasks": tasks, "test": test, "baselines": baselines, "baseline_details": details} | more
    return {"ranking": {"model": {"kind": "mmoe"}} | ranking}


def against(difference, low, high, p_value):
    return {"difference": difference, "interval": [low, high], "p_value": p_value}


def said(metrics):
    return " ".join(task_sentences(find_ranking(metrics))).replace("\u00a0", " ")


def who_is_ahead(metrics):
    finding = find_ranking(metrics)
    return [text.replace("\u00a0", " ") for task in finding.tasks for text in ahead(finding, task)]


def test_a_significant_win_names_task_population_and_baseline():
    found = run(
        {"like/auc": 0.81},
        {"means": {"like/auc": 0.74}, "gradient_boosting": {"like/auc": 0.79}},
        {"gradient_boosting": {"like/auc": against(0.02, 0.01, 0.03, 0.002)}},
    )
    assert said(found) == (
        "MMoE predicts like (population: reviews) with AUC 0.810, 0.020 better than the best plain baseline (Gradient "
        "boosting, 0.790; p = 0.002)."
    )
    assert who_is_ahead(found) == []


def test_where_gradient_boosting_wins_it_is_said_by_how_much():
    found = run(
        {"like/auc": 0.801, "rating/rmse": 0.92},
        {
            "means": {"like/auc": 0.803, "rating/rmse": 0.95},
            "gradient_boosting": {"like/auc": 0.81, "rating/rmse": 0.9},
        },
        {"gradient_boosting": {"like/auc": against(-0.009, -0.02, -0.001, 0.03)}},
    )
    assert who_is_ahead(found) == [
        "Gradient boosting wins on like (population: reviews) by 0.009 in AUC: 0.810 against 0.801 of MMoE (model "
        "minus baseline: 95 % interval of the difference −0.020 to −0.001; p = 0.03). Also ahead: User and item means "
        "by 0.002.",
        "Gradient boosting wins on rating (population: reviews) by 0.020 in RMSE: 0.900 against 0.920 of MMoE.",
    ]
    assert "0.009 worse than the best plain baseline (Gradient boosting, 0.810; p = 0.03): the model does not win." in (
        said(found)
    )


def test_a_baseline_within_chance_is_ahead_but_does_not_win():
    found = run(
        {"like/auc": 0.8},
        {"gradient_boosting": {"like/auc": 0.803}},
        {"gradient_boosting": {"like/auc": against(-0.003, -0.02, 0.012, 0.6)}},
    )
    (text,) = who_is_ahead(found)
    assert text.startswith("Gradient boosting is ahead on like (population: reviews) by 0.003 in AUC")
    assert text.endswith("this difference is not statistically significant.")


def test_of_an_error_less_is_better():
    found = run({"rating/rmse": 0.9}, {"means": {"rating/rmse": 0.95}, "gradient_boosting": {"rating/rmse": 0.93}})
    assert "RMSE 0.900, 0.030 better than the best plain baseline (Gradient boosting, 0.930)" in said(found)
    assert who_is_ahead(found) == []


def test_a_lead_that_may_be_chance_is_called_so():
    test = {"means": {"like/auc": against(0.01, -0.004, 0.02, 0.2)}}
    text = said(run({"like/auc": 0.8}, {"means": {"like/auc": 0.79}}, test))
    assert "but this difference is not statistically significant (95 % interval of the difference −0.004 to" in text
    assert said(run({"like/auc": 0.8}, {"means": {"like/auc": 0.79}})).endswith(
        "no paired test was recorded, so it may be chance."
    )
    assert said(run({"like/auc": 0.8}, {})).endswith("so the number stands alone.")


def test_a_lead_on_the_main_measure_does_not_hide_another():
    found = find_ranking(
        run(
            {"like/auc": 0.8, "like/ece": 0.05, "like/f1": 0.7},
            {"means": {"like/auc": 0.7, "like/ece": 0.01, "like/f1": 0.6}},
        )
    )
    assert ahead_elsewhere(found, found.tasks[0]) == [
        "On other measures of like (population: reviews) a baseline is ahead: ECE (User and item means, 0.010 against "
        "0.050)."
    ]


def test_a_sibling_that_is_ahead_is_named():
    siblings = {"shared_bottom": {"like/auc": 0.82}, "single_task": {"like/auc": 0.79}}
    details = {"shared_bottom": {"against_model": {"like/auc": against(-0.02, -0.03, -0.01, 0.01)}}}
    found = find_ranking(run({"like/auc": 0.8}, {}, siblings=siblings, sibling_details=details))
    (text,) = siblings_ahead(found, found.tasks[0])
    assert text.replace("\u00a0", " ") == (
        "Of the siblings, with the same inputs and training, Shared bottom by 0.020 (p = 0.01) is ahead on like "
        "(population: reviews) in AUC."
    )


NUMBER = st.floats(0.01, 0.99)


@given(
    st.sampled_from(["auc", "gauc", "log_loss", "rmse", "mae"]),
    NUMBER,
    st.dictionaries(st.sampled_from(["means", "logistic_regression", "gradient_boosting"]), NUMBER, min_size=1),
    st.data(),
)
@settings(max_examples=60)
def test_the_sentence_follows_the_numbers(measure, own, rivals, data):
    key = f"like/{measure}"
    tests = {}
    for name, value in rivals.items():
        low, high = sorted([data.draw(st.floats(-1, 1)), data.draw(st.floats(-1, 1))])
        tests[name] = {key: against(own - value, low, high, data.draw(st.floats(0, 1)))}
    metrics = run({key: own}, {name: {key: value} for name, value in rivals.items()}, tests)
    text, sign = said(metrics), 1 if HIGHER_IS_BETTER[measure] else -1
    best = max(rivals.values(), key=lambda value: sign * value)
    better, worse = sign * own > sign * best, sign * own < sign * best
    assert (" better than " in text) == better
    assert (" worse than " in text) == worse
    assert ("does not win" in text) == (not better)
    assert bool(who_is_ahead(metrics)) == worse
    finding = find_ranking(metrics)
    assert finding.ranked_baselines(finding.tasks[0])[0].test[key] == best
    test = tests[next(name for name, value in rivals.items() if value == best)][key]
    if own != best and len(set(rivals.values())) == len(rivals):
        crosses = test["interval"][0] <= 0 <= test["interval"][1] or test["p_value"] >= 0.05
        assert ("not statistically significant" in text) == crosses


def test_the_name_of_a_metric_tells_its_population():
    tasks = TASKS | {"interact": {"type": "binary", "population": "reviews+negatives", "rows": {"test": 90}}}
    test = {"interact/auc/reviews+negatives": 0.93, "interact/rows/reviews+negatives": 90, "like/auc": 0.8}
    found = find_ranking(run(test, {}, tasks=tasks))
    assert [(task.name, task.population, list(task.measures)) for task in found.tasks] == [
        ("like", "reviews", ["auc"]),
        ("interact", "reviews+negatives", ["auc"]),
    ]
    assert found.populations == ["reviews", "reviews+negatives"]
    assert found.tasks[1].key("auc") == "interact/auc/reviews+negatives"


def test_a_task_measured_on_two_populations_is_never_mixed():
    tasks = {
        "like": {"type": "binary", "population": "reviews+negatives", "positive_share": 0.1, "rows": {"test": 500}}
    }
    found = find_ranking(run({"like/auc": 0.7, "like/auc/reviews+negatives": 0.95}, {}, tasks=tasks))
    real, drawn = found.tasks
    assert (real.population, real.key("auc"), real.rows, real.positive_share) == ("reviews", "like/auc", {}, None)
    assert (drawn.population, drawn.rows, drawn.positive_share) == ("reviews+negatives", {"test": 500}, 0.1)
    assert "population: reviews) with AUC 0.700" in said(run({"like/auc": 0.7}, {}))


def test_a_population_that_was_not_recorded_is_not_made_up():
    assert find_ranking(run({"like/auc": 0.7}, {}, tasks={})).tasks[0].population == UNNAMED


def test_a_count_of_rows_may_stand_for_the_test_rows():
    found = find_ranking(run({"like/auc": 0.7}, {}, tasks={"like": {"population": "reviews", "rows": 90.0}}))
    assert found.tasks[0].rows == {"test": 90.0}


def test_contradicting_numbers_are_pointed_out():
    def of(metrics):
        found = find_ranking(metrics)
        return contradictions(found, found.tasks[0])

    test = {"means": {"like/auc": against(0.01, 0.0, 0.02, 0.04)}}
    assert of(run({"like/auc": 0.8}, {"means": {"like/auc": 0.79}}, test)) == []
    flipped = run({"like/auc": 0.79}, {"means": {"like/auc": 0.8}}, test)
    assert "the tested difference in AUC of like is 0.010, but" in of(flipped)[0]
    assert "outside its own interval" in of(run({"like/auc": 0.8}, {}, intervals={"like/auc": [0.9, 0.95]}))[0]


def test_nothing_measured_is_no_finding():
    assert find_ranking({}) is None
    assert find_ranking(run({"like/auc": None, "rating/rmse": math.nan}, {})) is None
    assert find_ranking(run({"like/rows": 10}, {})) is None
    with pytest.raises(ReportError, match=r"metrics\.json: test is a list"):
        find_ranking({"ranking": {"test": [1]}})


def test_directions_are_those_of_the_evaluation():
    assert {direction(measure) for measure in HIGHER_IS_BETTER} == {1, -1}
    assert (direction("auc"), direction("rmse"), direction("of_another_package")) == (1, -1, 0)


def test_an_expert_has_a_kind_and_a_number():
    assert kind_and_number("shared 2") == ("shared", "2")
    assert kind_and_number("group long watch 10") == ("group long watch", "10")
    assert kind_and_number("like_expert_1") == ("like_expert", "1")
    assert [kind_and_number(name) for name in ("attention", "7", "", "a1")] == [
        ("", "attention"), ("", "7"), ("", ""), ("", "a1"),
    ]  # fmt: skip


def test_words_in_a_row():
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
