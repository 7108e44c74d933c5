import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moerec.report.plots import Bar, Callout, Estimate, Line, bar_chart, interval_plot, line_chart
from moerec.report.scales import make_axis, plottable

ANY_VALUE = st.one_of(
    st.none(),
    st.floats(),  # with NaN, infinities and the largest and smallest numbers
    st.floats(-10, 10),
    st.just(0.25),
    st.integers(-3, 3).map(float),
)
TEXT = st.one_of(st.sampled_from(["", "EASE", "<b>&\"'", "a\x00b\u0007", "a rather long label of a system"]), st.text())
NAMESPACE = "{http://www.w3.org/2000/svg}"


def parse(chart: str) -> ET.Element:
    """The picture as XML: a chart must be well-formed whatever its labels hold."""
    drawn = re.sub(r'aria-label="[^"]*"', "", chart)  # the description may say what it likes
    assert "nan" not in drawn.replace("NaN", "").lower().split("<text")[0]
    return ET.fromstring(chart)


def marks(picture: ET.Element) -> list[ET.Element]:
    return [element for element in picture.iter() if "mark" in element.get("class", "").split()]


def number_of(element: ET.Element, key: str) -> float:
    value = float(element.get(key, "nan"))
    assert math.isfinite(value)
    return value


def points_of(element: ET.Element) -> list[tuple[float, float]]:
    """Where the data of a mark lie: the centre of a dot, the corners of anything else."""
    kind = element.tag.removeprefix(NAMESPACE)
    if kind == "circle":
        return [(number_of(element, "cx"), number_of(element, "cy"))]
    if kind == "line":
        return [(number_of(element, f"x{end}"), number_of(element, f"y{end}")) for end in (1, 2)]
    if kind == "rect":
        left, top = number_of(element, "x"), number_of(element, "y")
        return [(left, top), (left + number_of(element, "width"), top + number_of(element, "height"))]
    corners = [tuple(float(part) for part in pair.split(",")) for pair in element.get("points", "").split()]
    if kind == "polyline":
        return [(x, y) for x, y in corners]
    assert kind == "polygon"
    across, down = zip(*corners, strict=True)
    return [((min(across) + max(across)) / 2, (min(down) + max(down)) / 2)]


def assert_inside(picture: ET.Element) -> None:
    """Every plotted coordinate lies inside the frame, and the frame and all words inside the picture."""
    frame = next(element for element in picture.iter() if element.get("class") == "frame")
    left, top = number_of(frame, "x"), number_of(frame, "y")
    right, bottom = left + number_of(frame, "width"), top + number_of(frame, "height")
    width, height = number_of(picture, "width"), number_of(picture, "height")
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    for mark in marks(picture):
        for x, y in points_of(mark):
            assert left - 0.02 <= x <= right + 0.02
            assert top - 0.5 <= y <= bottom + 0.5
    for element in picture.iter(f"{NAMESPACE}text"):
        assert 0 <= number_of(element, "x") <= width
        assert 0 <= number_of(element, "y") <= height


@given(
    st.lists(st.lists(st.tuples(st.floats(), ANY_VALUE), max_size=12), max_size=3),
    st.lists(st.tuples(st.floats(), st.floats(), TEXT), max_size=2),
    st.lists(st.tuples(st.floats(), TEXT), max_size=3),
)
def test_a_line_chart_keeps_everything_inside(series, pointed, starts):
    lines = [Line(f"line {index}", points, index) for index, points in enumerate(series)]
    chart = line_chart(
        lines,
        x_title="Updates",
        y_title="Loss",
        description="told",
        callouts=[Callout(*parts) for parts in pointed],
        boundaries=starts,
    )
    picture = parse(chart)
    assert_inside(picture)
    drawable = [point for points in series for point in points if plottable(point[0]) and plottable(point[1])]
    assert bool(drawable) == ("no data" not in chart)


@given(
    st.lists(st.tuples(TEXT, ANY_VALUE, st.one_of(st.none(), st.tuples(st.floats(), st.floats())), TEXT), max_size=8),
    st.one_of(st.none(), st.floats(-5, 5)),
    st.booleans(),
)
def test_an_interval_plot_keeps_everything_inside(rows, reference, logarithmic):
    estimates = [Estimate(label, value, bounds, index, text) for index, (label, value, bounds, text) in enumerate(rows)]
    if logarithmic:
        reference = None
    chart = interval_plot(
        estimates,
        x_title="HR@10",
        description="told",
        names=("model", "baseline"),
        reference=reference,
        logarithmic=logarithmic,
    )
    assert_inside(parse(chart))


@given(
    st.lists(st.tuples(TEXT, st.lists(ANY_VALUE, max_size=3)), max_size=6),
    st.one_of(st.none(), st.floats(-5, 5)),
)
def test_a_bar_chart_keeps_everything_inside(rows, reference):
    bars = [Bar(label, values) for label, values in rows]
    chart = bar_chart(bars, x_title="Share", description="told", names=("weight", "load"), reference=reference)
    picture = parse(chart)
    assert_inside(picture)
    drawn = sum(plottable(value) for _, values in rows for value in values)
    assert len([mark for mark in marks(picture) if "bar" in mark.get("class", "")]) == drawn


def test_bars_are_as_long_as_their_values():
    picture = parse(bar_chart([Bar("a", [1.0]), Bar("b", [2.0]), Bar("c", [0.0])], x_title="", description=""))
    one, two, nothing = (number_of(mark, "width") for mark in marks(picture))
    assert two == pytest.approx(2 * one, abs=0.02)
    assert nothing == 0


def test_positions_follow_the_values():
    points = [(0.0, 1.0), (1.0, 3.0), (3.0, 2.0)]
    picture = parse(line_chart([Line("a", points)], x_title="", y_title="", description=""))
    (x0, y0), (x1, y1), (x2, y2) = points_of(next(picture.iter(f"{NAMESPACE}polyline")))
    assert x2 - x0 == pytest.approx(3 * (x1 - x0), abs=0.05)
    assert y0 - y1 == pytest.approx(2 * (y0 - y2), abs=0.05)
    assert y1 < y0


def test_a_gap_breaks_the_line_and_a_lone_point_stays_visible():
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, math.nan), (3.0, 3.0), (4.0, None), *((5.0 + i, 1.0) for i in range(60))]
    picture = parse(line_chart([Line("a", points)], x_title="", y_title="", description=""))
    assert [len(points_of(line)) for line in picture.iter(f"{NAMESPACE}polyline")] == [2, 60]
    assert len([mark for mark in marks(picture) if "dot" in mark.get("class", "")]) == 1


def test_a_single_point_and_a_constant_line_are_drawn():
    for points in ([(5.0, 0.3)], [(0.0, 0.0), (1.0, 0.0)], [(7.0, -4.0), (9.0, -4.0)]):
        picture = parse(line_chart([Line("a", points)], x_title="", y_title="", description=""))
        assert_inside(picture)
        assert len([mark for mark in marks(picture) if "dot" in mark.get("class", "")]) == len(points)


@given(TEXT, TEXT)
def test_words_are_escaped_and_the_text_alternative_is_there(label, description):
    chart = interval_plot([Estimate(label, 0.5)], x_title=label, description=description)
    picture = parse(chart)
    assert picture.get("role") == "img"
    assert picture.get("aria-label") is not None
    assert {element.tag.removeprefix(NAMESPACE) for element in picture.iter()} <= {
        "svg", "rect", "line", "text", "circle", "polygon", "title",
    }  # fmt: skip


@given(
    st.lists(st.one_of(ANY_VALUE, st.floats(1e-6, 1e12)), max_size=20),
    st.lists(st.floats(-10, 10), max_size=1),
    st.integers(3, 8),
    st.booleans(),
)
def test_a_linear_axis_holds_its_data_and_has_round_ticks(values, include, count, round_range):
    axis = make_axis(values, 10, 110, include=include, count=count, round_range=round_range)
    low, high = axis.scale.low, axis.scale.high
    assert low < high
    for value in [value for value in values if plottable(value)] + include:
        assert low <= value <= high
        assert 10 <= axis.scale(value) <= 110
    ticks = [value for value, _ in axis.ticks]
    assert 2 <= len(ticks) <= 2.5 * count + 2
    margin = 1e-6 * (high - low)
    assert all(low - margin <= tick <= high + margin for tick in ticks)
    assert all(before < after for before, after in pairwise(ticks))
    assert len({label for _, label in axis.ticks}) == len(ticks)


@given(st.lists(st.one_of(ANY_VALUE, st.floats(1e-12, 1e12)), max_size=20))
def test_a_logarithmic_axis_holds_its_positive_data(values):
    axis = make_axis(values, 10, 110, logarithmic=True)
    positive = [value for value in values if plottable(value) and value > 1e-100]
    for value in positive:
        assert axis.scale.low <= value <= axis.scale.high
        assert 10 - 1e-9 <= axis.scale(value) <= 110 + 1e-9
    ratios = [after / before for (before, _), (after, _) in pairwise(axis.ticks)]
    assert all(ratio > 1 for ratio in ratios)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([0.0, 0.1], ["0", "0.02", "0.04", "0.06", "0.08", "0.10"]),
        ([0, 10_000], ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]),
        ([0, 5e6], ["0", "1M", "2M", "3M", "4M", "5M"]),
        ([-1, 1], ["−1.0", "−0.5", "0", "0.5", "1.0"]),
        ([0, 5e-7], ["0", "1e−07", "2e−07", "3e−07", "4e−07", "5e−07"]),
    ],
)
def test_tick_labels_read_well(values, labels):
    assert [label for _, label in make_axis(values, 0, 1).ticks] == labels
