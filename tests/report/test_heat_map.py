import pytest
from hypothesis import given
from hypothesis import strategies as st

from moerec.report.content import Figure
from moerec.report.heat_map import heat_map
from moerec.report.scales import plottable
from moerec.report.svg import WIDTH, text_width
from tests.report.test_plots import ANY_VALUE, NAMESPACE, TEXT, assert_inside, marks, number_of, parse


def texts(picture, kind):
    return [text for text in picture.iter(f"{NAMESPACE}text") if text.get("class") == kind]


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=5), st.data())
def test_a_heat_map_keeps_everything_inside(columns, groups, data):
    values = data.draw(st.lists(st.lists(ANY_VALUE, max_size=5), max_size=5))
    rows = [f"expert {index}" for index in range(len(values))]
    picture = parse(heat_map(rows, columns, values, groups=groups, description="told"))
    assert_inside(picture)
    cells = [mark for mark in marks(picture) if "cell" in mark.get("class", "")]
    assert len(cells) == sum(plottable(value) for row in values for value in row[: len(columns)])
    for cell in cells:
        assert 0 <= number_of(cell, "fill-opacity") <= 1


@given(st.integers(1, 40), st.lists(st.sampled_from(["like", "a long name of a task", "shared"]), min_size=1))
def test_cells_are_as_wide_as_their_numbers(count, kinds):
    groups = [kinds[place % len(kinds)] for place in range(count)]
    columns = [str(place + 1) for place in range(count)]
    chart = heat_map(
        ["like"], columns, [[0.125] * count], groups=groups, value_format=lambda v: f"{v:.3f}", description=""
    )
    picture = parse(chart)
    assert_inside(picture)
    cells = [mark for mark in marks(picture) if "cell" in mark.get("class", "")]
    assert all(number_of(cell, "width") >= text_width("0.125") for cell in cells)
    assert not any("…" in text.text for text in texts(picture, "in-cell"))
    assert Figure(chart, "").is_wide == (number_of(picture, "width") > WIDTH)


def test_neighbours_of_one_group_share_a_heading():
    chart = heat_map(
        ["a"], ["1", "2", "1", "x"], [[0.1, 0.2, 0.3, 0.4]], groups=["own", "own", "shared", ""], description=""
    )
    headings = texts(parse(chart), "tick")
    assert [heading.text for heading in headings] == ["own", "shared", "1", "2", "1", "x"]
    own, _, first, second, *_ = (number_of(heading, "x") for heading in headings)
    assert own == pytest.approx((first + second) / 2, abs=0.02)


def test_a_stronger_colour_is_more():
    picture = parse(heat_map(["a", "b"], ["c"], [[0.2], [0.8]], description=""))
    weak, strong = (number_of(mark, "fill-opacity") for mark in marks(picture))
    assert strong == 1
    assert weak == pytest.approx(0.25, abs=1e-3)
