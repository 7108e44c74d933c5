import copy
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.report.page import blocks, render, write_report
from tests.report.sample_run import examples, files, history, metrics, write_sample_run

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
SECTIONS = ["results", "protocol", "learning", "experts", "slices", "beyond", "examples", "data", "reproduce"]


class Page(HTMLParser):
    """The elements of a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text)).replace("\u00a0", " ")

    def all(self, tag):
        return [attributes for name, attributes, _ in self.elements if name == tag]


@pytest.fixture(scope="module")
def page():
    return Page(render(files()))


def test_the_page_is_written_beside_the_metrics(tmp_path):
    run = write_sample_run(tmp_path / "run")
    target = write_report(run)
    assert target == run / "report.html"
    text = target.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<!doctype html>")
    assert "SASRec finds the held-out item in its top 10 for 20.9" in text
    assert sorted(path.name for path in run.iterdir()) == [
        "environment.json", "examples.json", "history.jsonl", "metrics.json", "recipe.yaml", "report.html",
    ]  # fmt: skip


def test_sections_come_in_reading_order(page):
    assert [attributes["id"] for attributes in page.all("section") if "id" in attributes] == SECTIONS
    assert [attributes["href"] for attributes in page.all("a")] == [f"#{key}" for key in SECTIONS]


def test_the_page_needs_nothing_from_outside(page):
    text = render(files())
    assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & {tag for tag, _, _ in page.elements}
    assert not any("src" in attributes for _, attributes, _ in page.elements)
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?://[^\"' <]+", text) == ["http://www.w3.org/2000/svg"] * text.count("<svg")
    policies = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_tables_and_figures_are_accessible(page):
    assert page.all("html") == [{"lang": "en"}]
    assert all(attributes.get("scope") in {"row", "col", "colgroup"} for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert len(page.all("figcaption")) == len(page.all("figure")) == len(page.all("svg")) > 5
    assert all(svg["role"] == "img" and len(svg["aria-label"]) > 20 for svg in page.all("svg"))
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1
    identifiers = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(set(identifiers)) == len(identifiers)


def test_the_table_holds_no_metric_of_which_less_is_better():
    recorded = metrics()
    for values in (recorded["retrieval"]["test"], *recorded["retrieval"]["baselines"].values()):
        values |= {"mean_rank/uniform100": 20.0, "mrr@20/uniform100": 0.2, "hr@1": 0.01}
    table = blocks(files(metrics=recorded))[0].tables[0]
    assert [(column.group, column.label) for column in table.columns][:8] == [
        *(("Full ranking", label) for label in ("HR@10", "HR@1", "HR@5", "HR@20", "NDCG@10", "MRR@10")),
        *(("Sampled: uniform100", label) for label in ("HR@10", "NDCG@10")),
    ]
    assert (
        blocks(files(metrics={"retrieval": {"test": {"mean_rank": 3.0}}}, history=[], examples=[]))[0].key
        == "reproduce"
    )


def test_every_headline_number_is_in_the_table():
    table = blocks(files())[0].tables[0]
    values = metrics()["retrieval"]
    heads = [(column.group, column.label) for column in table.columns]
    keys = {
        ("Full ranking", "HR@10"): "hr@10",
        ("Full ranking", "NDCG@10"): "ndcg@10",
        ("Full ranking", "MRR@10"): "mrr@10",
    }
    keys |= {("Sampled: uniform100", "HR@10"): "hr@10/uniform100"}
    names = {"SASRec": values["test"], "EASE with recency": values["baselines"]["ease_recency"]}
    for row in table.rows:
        for head, key in keys.items():
            if row.label in names:
                assert row.cells[heads.index(head)].text == f"{names[row.label][key]:.3f}"
    assert len(table.rows) == 1 + len(values["baselines"])
    assert [row.label for row in table.rows if row.emphasised] == ["SASRec"]
    assert table.rows[0].cells[0].note == "[0.183, 0.235]"


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=7))
@settings(max_examples=25)
def test_bold_is_the_best_of_each_column(values):
    names = [f"baseline {index}" for index in range(len(values) - 1)]
    recorded = {"model": {"kind": "sasrec"}, "retrieval": {"test": {"hr@10": values[0], "mrr@10": 0.1}}}
    recorded["retrieval"]["baselines"] = {name: {"hr@10": value} for name, value in zip(names, values[1:], strict=True)}
    table = blocks(files(metrics=recorded))[0].tables[0]
    column = [column.label for column in table.columns].index("HR@10") if any(v is not None for v in values) else None
    if column is None:
        return
    given_values = dict(zip(["SASRec", *(name.capitalize() for name in names)], values, strict=True))
    best = max(value for value in values if value is not None)
    for row in table.rows:
        differ = len({value for value in values if value is not None}) > 1
        assert row.cells[column].best == (given_values[row.label] == best and differ)


FREE_KEYS = {"ease", "bad timestamp", "text", "image", "numpy", "new", "encode_s", "l2", "ties"}


def hostile(value):
    """The same data with hostile text in every string and in keys that the data choose."""
    if isinstance(value, dict):
        return {
            f"{key}{HOSTILE}" if key in FREE_KEYS else key: item if key == "metric" else hostile(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) else value


def test_text_from_data_is_harmless(page):
    records = [record | {"stage": HOSTILE} for record in history()] + [{"stage": "two", "update": 9000, "loss": 1.0}]
    content = files(
        metrics=hostile(metrics()),
        history=records,
        examples=hostile(examples()),
        environment=hostile({"moerec": "0", "cpu": "a", "platform": "b", "libraries": {"numpy": "2"}, "command": "c"}),
        recipe=HOSTILE,
    )
    text = render(content)
    attacked = Page(text)
    assert text.count("&lt;script&gt;") > 100
    assert "alert(1)" in attacked.words
    assert {tag for tag, _, _ in attacked.elements} == {tag for tag, _, _ in page.elements}
    allowed = {key for _, attributes, _ in page.elements for key in attributes}
    assert {key for _, attributes, _ in attacked.elements for key in attributes} <= allowed


def test_half_a_surrogate_pair_does_not_stop_the_report(tmp_path):
    users = examples()
    users[0]["history"][-1]["title"] = "broken \ud800 title"
    target = write_report(write_sample_run(tmp_path, examples=users))
    assert "broken ? title" in target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("changed", "gone"),
    [
        ({"history": []}, "learning"),
        ({"examples": []}, "examples"),
        ({"metrics": {key: value for key, value in metrics().items() if key != "experts"}}, "experts"),
        ({"metrics": {key: value for key, value in metrics().items() if key != "dataset"}}, "data"),
    ],
)
def test_a_section_without_data_is_left_out(changed, gone):
    found = Page(render(files(**changed)))
    assert [attributes["id"] for attributes in found.all("section") if "id" in attributes] == [
        key for key in SECTIONS if key != gone
    ]


def test_a_run_of_test_metrics_alone_is_a_page(tmp_path):
    recorded = {"model": {"kind": "sasrec"}, "retrieval": {"test": {"hr@10": 0.2}}}
    run = write_sample_run(tmp_path, metrics=recorded, history=None, examples=None, environment=None, recipe=None)
    found = Page(write_report(run).read_text(encoding="utf-8"))
    assert [attributes["id"] for attributes in found.all("section")] == ["results", "protocol"]
    assert "no baseline was measured beside it" in found.words
    assert "unnamed run" in found.words


def test_a_run_without_retrieval_says_so():
    assert "recorded no retrieval metric" in Page(render(files(metrics={"name": "empty"}))).words


def paths(value, prefix=()):
    """The path of everything in the data."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in [(*prefix, key), *paths(item, (*prefix, key))]]


@given(st.data())
@settings(max_examples=40)
def test_any_part_may_be_absent_or_not_a_number(data):
    recorded = copy.deepcopy(metrics())
    for path in data.draw(st.lists(st.sampled_from(paths(recorded)), max_size=12)):
        target = recorded
        try:
            for key in path[:-1]:
                target = target[key]
            current = target[path[-1]]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier step took it away
        if isinstance(target, list) or data.draw(st.booleans()):
            target[path[-1]] = math.nan if isinstance(current, int | float) else current
        else:
            del target[path[-1]]
    Page(render(files(metrics=recorded, history=history(validations=1), examples=[])))


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "stage": st.sampled_from(["a", "b"]),
                "update": st.one_of(st.none(), st.integers(0, 500)),
                "loss": st.one_of(st.none(), st.floats()),
                "valid": st.one_of(st.none(), st.dictionaries(st.sampled_from(["hr@10", "mrr@5"]), st.floats())),
                "best": st.booleans(),
                "seconds": st.floats(),
            },
        ),
        max_size=8,
    )
)
@settings(max_examples=40)
def test_any_history_makes_a_page(records):
    measured = {"model": {"kind": "sasrec"}, "retrieval": {"test": {"hr@10": 0.2}}}
    Page(render(files(metrics=measured, history=records, examples=[])))


def test_weights_by_group_that_fit_no_names_are_left_out_with_a_notice():
    recorded = metrics()
    recorded["experts"]["by_group"]["rows"].pop()
    block = next(block for block in blocks(files(metrics=recorded)) if block.key == "experts")
    assert block.notices == ["The weights by group hold 3 rows for 4 experts: not shown."]
    assert len(block.figures) == 2
    del recorded["experts"]["by_group"], recorded["experts"]["inputs"]
    block = next(block for block in blocks(files(metrics=recorded)) if block.key == "experts")
    assert (list(block.notices), len(block.figures)) == ([], 1)


def test_example_users_show_the_end_of_the_history_and_the_held_out_rank():
    user = examples(1)[0]
    words = Page(render(files(examples=[user]))).words
    assert f"… {len(user['history']) - 12} earlier" in words
    assert user["history"][-1]["title"] in words
    assert f"held out: {user['held_out']['title']}, rank 3" in words
    assert words.count("held-out item ") >= 1
    words = Page(render(files(examples=[user | {"history_length": 400, "history": user["history"][-5:]}]))).words
    assert "400 items seen" in words
    assert "… 395 earlier" in words
    cold = {"user_id": "9", "history": [], "held_out": None, "list": [{"rank": 1, "item_id": "17"}]}
    words = Page(render(files(examples=[cold]))).words
    assert "nothing held out" in words
    assert "item 17" in words


def test_a_histogram_is_drawn_where_it_was_recorded():
    recorded = metrics()
    recorded["dataset"]["events_per_user"]["histogram"] = {"edges": [20, 50, 100, 800], "counts": [400, 300, 243]}
    block = next(block for block in blocks(files(metrics=recorded)) if block.key == "data")
    assert "20 to &lt;50" in block.figures[0].chart
    assert block.figures[0].chart.count("mark bar") == 3


def colours(scheme):
    """The custom properties of a scheme of the style sheet."""
    css = re.search(r"<style>(.*?)</style>", render(files(history=[], examples=[])), re.S)[1]
    light, dark = [found[1] for found in re.finditer(r":root \{(.*?)\}", css, re.S)][:2]
    return dict(re.findall(r"--([a-z-]+): ([^;]+);", light if scheme == "light" else light + dark))


def luminance(rgb):
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb_of(text):
    return [int(text[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def contrast(one, other):
    bright, dim = sorted([luminance(one), luminance(other)], reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(scheme):
    palette = colours(scheme)
    paper = rgb_of(palette["paper"])
    for name in ("ink", "soft", "model", "other", "third", "fourth", "notice"):
        assert contrast(rgb_of(palette[name]), paper) >= 4.5, name
    for name in ("ink", "model", "soft"):
        assert contrast(rgb_of(palette[name]), rgb_of(palette["hit"])) >= 4.5, name
    most = float(palette["heat-most"])
    fullest = [most * heat + (1 - most) * back for heat, back in zip(rgb_of(palette["heat"]), paper, strict=True)]
    assert contrast(rgb_of(palette["ink"]), fullest) >= 4.5
