"""The charts of weights and cosines: there when something moves, quiet when nothing does."""

import math
import re

import pytest

from moerec.report.page import blocks
from moerec.report.task_balance import balance_figures
from tests.report.sample_ranking import ranking_files


def records(updates: int, weights, cosines=None, start: int = 0) -> list[tuple[float, dict]]:
    return [
        (float(start + update), {"weights": weights(update)} | ({"cosines": cosines(update)} if cosines else {}))
        for update in range(20, updates + 1, 20)
    ]


def moving(update: int) -> dict[str, float]:
    return {"like": 1 + update / 1000, "rating": 1 - update / 2000}


def charts(*stretches, boundaries=()) -> list:
    return balance_figures(list(stretches), boundaries)


def test_weights_that_stand_still_are_not_shown():
    assert charts(records(400, lambda _: {"like": 1.0, "rating": 0.3})) == []
    assert charts([]) == []
    assert charts([(20.0, {"loss": 1.0})]) == []


def test_weights_that_move_are_a_line_for_each_task():
    (figure,) = charts(records(400, moving))
    assert figure.chart.count("<polyline") == 2
    assert "at the end like 1.4 and rating 0.8." in figure.caption


def test_cosines_say_how_often_tasks_conflict():
    _, figure = charts(records(400, moving, lambda update: {"like/rating": math.cos(update)}))
    below = sum(math.cos(update) < 0 for update in range(20, 401, 20))
    assert f"like and rating in {below} of 20 records" in figure.caption


def test_cosines_are_shown_beside_weights_that_stand_still():
    (figure,) = charts(records(400, lambda _: {"like": 1.0}, lambda _: {"like/rating": 0.5}))
    assert "Cosine" in figure.chart


def test_lines_break_between_stages():
    one, other = records(200, moving), records(200, moving, start=200)
    (figure,) = charts(one, other, boundaries=[(0.0, "First"), (200.0, "Second")])
    assert figure.chart.count("<polyline") == 4
    assert figure.chart.count('class="boundary"') == 2


def test_of_many_tasks_those_that_move_are_shown_and_it_says_so():
    def weights(update: int) -> dict[str, float]:
        return {f"task{number}": 1 + (number >= 3) * number * update / 1000 for number in range(7)}

    (figure,) = charts(records(400, weights))
    assert re.findall(r">(?:●|■|◆|▲)</tspan> (\w+)", figure.chart) == ["task3", "task4", "task5", "task6"]
    assert "4 tasks whose weights moved most" in figure.caption


def test_a_long_training_is_thinned():
    (figure,) = charts(records(100_000, lambda update: {"like": 1 + update / 1e5, "rating": 1.0}))
    assert "mean of up to 21 records" in figure.caption
    assert all(len(points.split()) <= 240 for points in re.findall(r'points="([^"]*)"', figure.chart))


@pytest.mark.parametrize("broken", [None, 3, {}, {"like": "x"}, {"like": math.nan, "rating": None}])
def test_what_is_no_number_is_left_out(broken):
    stretch = records(200, moving)
    stretch[4] = (stretch[4][0], {"weights": broken, "cosines": broken})
    (figure,) = charts(stretch)
    assert "nan" not in figure.chart.lower()


def test_the_section_on_the_rankers_training_has_them():
    history = [
        {"stage": "main", "update": update, "loss": 1.0, **record}
        for update, record in records(200, moving, lambda _: {"like/rating": -0.2})
    ]
    block = next(b for b in blocks(ranking_files(ranker_history=history)) if b.key == "ranking-learning")
    captions = [figure.caption for figure in block.figures]
    assert len(captions) == 3
    assert captions[1].startswith("What the loss or the gradient of each task is multiplied by")
    assert "like and rating in 10 of 10 records" in captions[2]
