import copy
import math
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.report.page import blocks, render, write_report
from moerec.report.run_files import read_run
from tests.report.sample_ranking import (
    predictions,
    ranker_history,
    ranking,
    ranking_curves,
    ranking_examples,
    ranking_files,
    two_stage,
    write_ranking_run,
)
from tests.report.sample_run import metrics
from tests.report.test_page import HOSTILE, Page, paths

RANKING = [
    "ranking-results", "ranking-protocol", "ranking-curves", "ranking-importance", "ranking-experts", "ranking-slices",
    "ranking-examples", "ranking-learning",
]  # fmt: skip
RETRIEVAL = ["results", "protocol", "learning", "experts", "slices", "beyond", "examples"]
RUN = ["data", "reproduce"]
OF_TASKS = ["ranking-results", "ranking-curves", "ranking-importance", "ranking-experts", "ranking-slices"]


@pytest.fixture(scope="module")
def both():
    return ranking_files()


@pytest.fixture(scope="module")
def page(both):
    return Page(render(both))


def sections(found):
    return [attributes["id"] for attributes in found.all("section") if "id" in attributes]


def block_of(run, key):
    return next(block for block in blocks(run) if block.key == key)


def with_ranking(**changed):
    return ranking_files(metrics=metrics() | {"ranking": ranking() | changed})


def test_both_stages_come_in_reading_order(page):
    assert sections(page) == ["two-stages", *RETRIEVAL, *RANKING, *RUN]
    assert [attributes["href"] for attributes in page.all("a")] == [f"#{key}" for key in sections(page)]
    identifiers = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)


def test_the_headline_tells_of_both_stages(page):
    for text in (
        "The second stage is on: with it, NDCG@10 is",
        "SASRec finds the held-out item in its top 10 for 20.9 % of users",
        "MMoE predicts like (population: reviews) with AUC",
        "MMoE predicts interact (population: reviews+negatives) with AUC",
    ):
        assert text in page.words
    assert [attributes["class"] for attributes in page.all("p") if "finding" in attributes.get("class", "")] == [
        "finding many"
    ] * 3


def test_ranking_alone_has_a_headline_of_its_own():
    found = Page(render(ranking_files(retrieval=False)))
    assert sections(found) == [*RANKING, *RUN]
    assert "MMoE predicts like (population: reviews) with AUC" in found.words
    assert "held-out item in its top" not in found.words
    assert "recorded no" not in found.words


def test_a_run_of_retrieval_alone_names_no_stage():
    found = ranking_files(metrics=metrics(), ranker_history=[])
    assert {block.stage for block in blocks(found)} == {""}
    assert sections(Page(render(found))) == [*RETRIEVAL, *RUN]


@pytest.mark.parametrize("key", OF_TASKS)
def test_every_heading_and_caption_names_its_population_and_no_other(both, key):
    block = block_of(both, key)
    assert not block.tables
    assert not block.figures
    titles = [part.title for part in block.parts]
    assert [title.partition(" – ")[0] for title in titles] == ["Population: reviews", "Population: reviews+negatives"]
    for part, population in zip(block.parts, ("reviews", "reviews+negatives"), strict=True):
        folded = [table for fold in part.folded for table in fold.tables]
        captions = [table.caption for table in (*part.tables, *folded)] + [figure.caption for figure in part.figures]
        labels = re.findall(r'aria-label="([^"]*)"', "".join(figure.chart for figure in part.figures))
        assert captions
        for text in [*captions, *labels]:
            assert re.findall(r"reviews(?:\+negatives)?", text.replace("drawn negatives", "")) != []
            assert set(re.findall(r"reviews(?:\+negatives)?", text)) == {population}
        for text in [*part.texts, *part.notices]:
            assert set(re.findall(r"population: (\S+?)[).,;]", text)) <= {population}


def test_the_numbers_of_the_table_are_those_of_the_file(both):
    recorded = both.metrics["ranking"]
    rows_of = {
        "MMoE": recorded["test"],
        "Gradient boosting": recorded["baselines"]["gradient_boosting"],
        "User and item means": recorded["baselines"]["means"],
        "Single-task (sibling)": recorded["siblings"]["single_task"],
    }
    measures = {"AUC": "auc", "Log loss": "log_loss", "ECE": "ece", "RMSE": "rmse", "MAE": "mae"}
    seen = 0
    for part in block_of(both, "ranking-results").parts:
        for table in part.tables:
            task = table.caption.partition(" ")[0]
            suffix = "/reviews+negatives" if task == "interact" else ""
            for row in table.rows:
                for column, cell in zip(table.columns, row.cells, strict=True):
                    label = column.label.partition("\u00a0")[0]
                    if row.label in rows_of and label in measures:
                        assert cell.text == f"{rows_of[row.label][f'{task}/{measures[label]}{suffix}']:.4f}"
                        seen += 1
    assert seen == 4 * (3 + 2 + 3)
    gradient = next(row for row in block_of(both, "ranking-results").parts[0].tables[0].rows if "Gradient" in row.label)
    test = recorded["baseline_details"]["gradient_boosting"]["against_model"]["like/auc"]
    assert gradient.cells[-2].text == f"+{test['difference']:.4f}"
    assert gradient.cells[-2].note == f"[{test['interval'][0]:.4f}, {test['interval'][1]:.4f}]"


def test_bold_follows_the_direction_of_the_measure():
    recorded = ranking()
    for values in (recorded["test"], *recorded["baselines"].values(), *recorded["siblings"].values()):
        values |= {"rating/rmse": 1.0, "rating/mae": 0.5}
    recorded["baselines"]["means"] = recorded["baselines"]["means"] | {"rating/rmse": 0.9, "rating/mae": 0.7}
    table = block_of(ranking_files(metrics={"ranking": recorded}), "ranking-results").parts[0].tables[1]
    bold = {
        (row.label, column.label)
        for row in table.rows
        for column, cell in zip(table.columns, row.cells, strict=True)
        if cell.best
    }
    assert ("User and item means", "RMSE\u00a0↓") in bold
    assert not any(label == "User and item means" and column.startswith("MAE") for label, column in bold)


def test_a_winning_baseline_is_a_notice():
    run = ranking_files(metrics=metrics() | {"ranking": ranking(best_baseline=0.2)})
    real, drawn = block_of(run, "ranking-results").parts
    assert [text.partition(" (")[0] for text in real.notices] == [
        "Gradient boosting wins on like", "Gradient boosting wins on rating",
    ]  # fmt: skip
    lead = (
        run.metrics["ranking"]["baselines"]["gradient_boosting"]["like/auc"]
        - run.metrics["ranking"]["test"]["like/auc"]
    )
    assert f"by {lead:.4f} in AUC" in real.notices[0]
    assert "Gradient boosting wins on interact (population: reviews+negatives)" in drawn.notices[0]
    assert not any(
        "wins" in text for part in block_of(ranking_files(), "ranking-results").parts for text in part.notices
    )


def test_curves_end_where_the_evaluation_ends_and_say_its_areas(both):
    real, drawn = block_of(both, "ranking-curves").parts
    assert len(real.figures) == 4 + 2
    assert len(drawn.figures) == 4
    test = both.metrics["ranking"]["test"]
    assert f"AUC {test['like/auc']:.3f}" in real.figures[0].caption
    assert f"average precision {test['like/average_precision']:.3f}" in real.figures[1].caption
    share = predictions(0.3)["like"].labels.mean()
    assert f"the share of positives, {100 * share:.1f}\u00a0%" in real.figures[1].caption
    assert not [*real.notices, *drawn.notices]
    bins = both.ranking_curves["like"]["calibration"]
    assert real.figures[2].chart.count('class="mark dot') == len(bins["predicted"])
    assert real.figures[2].chart.count('class="mark whisker') == len(bins["predicted"])
    assert real.figures[3].chart.count('class="mark bar') == 2 * 20
    assert real.figures[5].chart.count('class="mark bar') == 40


def test_a_curve_that_is_not_that_of_the_table_is_pointed_out():
    recorded = copy.deepcopy(ranking_curves())
    recorded["like"]["roc"]["auc"] = 0.5
    real, _ = block_of(ranking_files(ranking_curves=recorded), "ranking-curves").parts
    assert real.notices[0].startswith("AUC of like (population: reviews) is 0.500 by its curve, but 0.")


def test_unequal_tuning_is_pointed_out_where_it_may_explain_the_lead():
    def points(best, trials):
        recorded = ranking(best_baseline=best)
        recorded["model"]["trials"] = trials
        return " ".join(block_of(ranking_files(metrics={"ranking": recorded}), "ranking-protocol").points)

    assert "tuned with 90 trials, Gradient boosting with 45" in points(0.35, 90)
    assert "part of a lead" not in points(0.35, 8)  # the model wins with fewer
    assert "tuned with 8 trials, Gradient boosting with 45" in points(0.2, 8)
    assert "part of a lead" not in points(0.2, 45)


def test_the_heat_map_holds_every_weight_and_a_collapse_is_pointed_out(both):
    real, drawn = block_of(both, "ranking-experts").parts
    for figure, what in zip(real.figures, ("mean_weight", "load"), strict=True):
        assert re.findall(r'class="in-cell"[^>]*>([\d.]+)<', figure.chart) == [
            f"{value:.2f}"
            for task in ("like", "rating")
            for value in both.metrics["ranking"]["experts"]["tasks"][task][what]
        ]
    assert not real.notices
    assert "like and rating differ in 32\u00a0% of their mean weight" in real.texts[-1]
    assert "interact: The mixture is collapsed: expert 3 carries 90\u00a0% of the weight" in drawn.notices[0]
    assert [cell.text for cell in real.tables[0].rows[0].cells] == ["4", "1.02", "2.20", "0"]


def test_importance_is_sorted_and_says_what_is_idle():
    importance = {
        "user": {"like/auc": {"drop": 0.01, "deviation": 0.001}},
        "item": {"like/auc": {"drop": 0.03, "deviation": 0.001}, "rating/rmse": {"drop": 0.2, "deviation": None}},
        "hour": {"like/auc": {"drop": 0.0004, "deviation": 0.001}},
    }
    (real,) = block_of(with_ranking(importance=importance), "ranking-importance").parts
    assert [row.label for row in real.folded[0].tables[0].rows] == ["item", "user", "hour"]
    assert "Shuffling hour changes nothing beyond chance." in real.figures[0].caption
    assert real.figures[0].chart.count("mark whisker over") == 3
    assert "Rise of RMSE of rating" in real.figures[1].chart
    assert real.figures[1].chart.count("mark whisker over") == 0


def test_slices_count_rows_of_their_own_population_only(both):
    real, drawn = block_of(both, "ranking-slices").parts
    assert [column.label for column in real.tables[0].columns][:2] == ["Rows", "AUC\u00a0↑"]
    assert real.tables[0].rows[1].cells[0].text == "40"
    assert real.tables[0].rows[1].cells[0].note == "few"
    assert drawn.tables[0].columns[0].label == "AUC\u00a0↑"  # the bare count is that of the first task
    alone = {key: value for key, value in ranking()["tasks"].items() if key != "interact"}
    test = {key: value for key, value in ranking()["test"].items() if not key.startswith("interact")}
    slices = {"cold user": {"rows": 77, "like/auc": 0.7}}
    (real,) = block_of(with_ranking(tasks=alone, test=test, slices=slices), "ranking-slices").parts
    assert real.tables[0].rows[1].cells[0].text == "77"


def test_an_example_shows_label_prediction_and_the_loudest_expert():
    example = ranking_examples(1)[0] | {"labels": {"rating": 4.0}, "experts": {"like": [0.1, 0.2, 0.6, 0.1]}}
    (case,) = block_of(ranking_files(ranking_examples=[example]), "ranking-examples").cases
    assert [(row.label, [cell.text for cell in row.cells]) for row in case.predictions.rows] == [
        ("like (reviews)", ["yes", "81\u00a0%", "79\u00a0%"]),
        ("rating (reviews)", ["4", "3.88", "3.91"]),
        ("interact (reviews+negatives)", ["yes", "27\u00a0%", "–"]),
    ]
    assert case.figure.caption == "Which expert spoke: like, expert 3 (0.60)."
    assert dict(case.features)["text_similarity"] == "missing"
    assert dict(case.features)["genres"] == "Drama, Romance"
    assert (case.earlier, len(case.history)) == (57 - 8, 8)
    drawn = example | {"negative": True, "labels": {}}
    (case,) = block_of(ranking_files(ranking_examples=[drawn]), "ranking-examples").cases
    assert "drawn negative, never met by the user" in case.outcome
    assert [row.cells[0].text for row in case.predictions.rows] == ["–", "–", "no"]


def test_the_rankers_training_has_a_figure_for_each_task():
    block = block_of(ranking_files(), "ranking-learning")
    assert len(block.figures) == 1 + 3
    assert "AUC of like (reviews)" in block.figures[1].caption
    assert "AUC of interact (reviews+negatives)" in block.figures[3].caption
    assert "The best checkpoint came at update 1,820: AUC of like (reviews) 0." in block.texts[0]
    assert "ranker/history.jsonl" in block_of(ranking_files(unreadable_ranker_lines=2), "ranking-learning").notices[0]


def test_negatives_are_never_sold_as_satisfaction():
    limits = " ".join(block_of(ranking_files(), "ranking-protocol").points)
    assert "Metrics on reviews+negatives (interact) tell" in limits
    assert "not what a user likes" in limits
    real = {key: value for key, value in ranking()["test"].items() if not key.startswith("interact")}
    assert "negatives" not in " ".join(block_of(with_ranking(test=real), "ranking-protocol").points)


@pytest.mark.parametrize(
    ("gone", "run"),
    [
        ("ranking-curves", {"ranking_curves": {}}),
        ("ranking-examples", {"ranking_examples": []}),
        ("ranking-learning", {"ranker_history": []}),
        ("ranking-importance", "importance"),
        ("ranking-experts", "experts"),
        ("ranking-slices", "slices"),
    ],
)
def test_a_section_without_data_is_left_out(gone, run):
    found = ranking_files(**run) if isinstance(run, dict) else with_ranking(**{run: {}})
    assert [key for key in [block.key for block in blocks(found)] if key in RANKING] == [
        k for k in RANKING if k != gone
    ]


def test_a_ranking_of_test_metrics_alone_is_a_page():
    bare = {"ranking": {"test": {"like/auc": 0.8}}}
    found = ranking_files(
        metrics=bare, ranking_curves={}, ranking_examples=[], ranker_history=[], history=[], examples=[]
    )
    assert [block.key for block in blocks(found)] == ["ranking-results", "ranking-protocol", "reproduce"]
    assert "Population: not recorded" in Page(render(found)).words


def test_the_files_beside_the_metrics_are_read(tmp_path):
    run = write_ranking_run(tmp_path / "run")
    with (run / "ranker" / "history.jsonl").open("a") as stream:
        stream.write('{"update": 1')
    found = read_run(run)
    assert found.ranking_curves == ranking_curves()
    assert len(found.ranking_examples) == len(ranking_examples())
    assert len(found.ranker_history) == len(ranker_history())
    assert found.unreadable_ranker_lines == 1
    assert sections(Page(write_report(run).read_text(encoding="utf-8"))) == ["two-stages", *RETRIEVAL, *RANKING, *RUN]


def test_the_page_needs_nothing_from_outside(both, page):
    text = render(both)
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & {tag for tag, _, _ in page.elements}
    assert not any("src" in attributes for _, attributes, _ in page.elements)
    assert not any(key.startswith("on") for _, attributes, _ in page.elements for key in attributes)
    assert re.findall(r"https?://[^\"' <]+", text) == ["http://www.w3.org/2000/svg"] * text.count("<svg")
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("svg")) > 30
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(len(svg["aria-label"]) > 20 for svg in page.all("svg"))


FREE_KEYS = {"gradient_boosting", "single_task", "cold user", "user_rating_mean", "split", "learning_rate"}
MEANT = {"population", "type", "label", "metric"}


def hostile(value):
    """The same data with hostile text in every string and in keys that the data choose."""
    if isinstance(value, dict):
        return {
            f"{key}{HOSTILE}" if key in FREE_KEYS and not isinstance(item, list) else key: item
            if key in MEANT
            else hostile(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def test_text_from_data_is_harmless(page):
    recorded = metrics() | {"ranking": hostile(ranking()), "two_stage": hostile(two_stage())}
    content = ranking_files(
        metrics=recorded,
        ranking_examples=hostile(ranking_examples()),
        ranker_history=[record | {"stage": HOSTILE} for record in ranker_history()],
    )
    text = render(content)
    attacked = Page(text)
    assert text.count("&lt;script&gt;") > 100
    assert {tag for tag, _, _ in attacked.elements} == {tag for tag, _, _ in page.elements}
    allowed = {key for _, attributes, _ in page.elements for key in attributes}
    assert {key for _, attributes, _ in attacked.elements for key in attributes} <= allowed
    hostile_task = {"ranking": {"test": {f"{HOSTILE.replace('/', '')}/auc": 0.8}}}
    attacked = Page(render(ranking_files(metrics=hostile_task)))
    assert not {"script", "img"} & {tag for tag, _, _ in attacked.elements}


@given(st.integers(0, 10**9))
@settings(max_examples=8)
def test_any_part_may_be_absent_or_not_a_number(seed):
    draw = random.Random(seed)
    measured = {"ranking": ranking(), "two_stage": two_stage()}
    recorded, curves, examples = copy.deepcopy((measured, ranking_curves(), ranking_examples(2)))
    for whole in (recorded, curves, examples):
        for path in draw.sample(paths(whole), draw.randint(0, 25)):
            target = whole
            try:
                for key in path[:-1]:
                    target = target[key]
                current = target[path[-1]]
            except (KeyError, IndexError, TypeError):
                continue  # an earlier step took it away
            if isinstance(target, list) or draw.random() < 0.5:
                target[path[-1]] = math.nan if isinstance(current, int | float) else current
            else:
                del target[path[-1]]
    history = ranker_history(updates=520)
    run = ranking_files(metrics=recorded, ranking_curves=curves, ranking_examples=examples, ranker_history=history)
    text = render(run)
    Page(text)
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
