import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moerec.report.curve_plots import Panel, Point, histogram, square_chart, weight_columns
from moerec.report.plots import Bar, Line, bar_chart
from moerec.report.scales import plottable
from moerec.report.svg import cut, text_width
from tests.report.test_plots import ANY_VALUE, NAMESPACE, TEXT, assert_inside, marks, number_of, parse, points_of

INTERVAL = st.one_of(st.none(), st.tuples(st.floats(), st.floats()))


@given(
    st.lists(st.lists(st.tuples(st.floats(), ANY_VALUE), max_size=10), max_size=2),
    st.lists(st.tuples(ANY_VALUE, ANY_VALUE, INTERVAL, TEXT), max_size=6),
    st.one_of(st.none(), st.floats()),
    st.booleans(),
)
@settings(max_examples=60)
def test_a_square_keeps_everything_inside(curves, marked, level, diagonal):
    chart = square_chart(
        [Line(f"line {index}", points, index) for index, points in enumerate(curves)],
        x_title="False positive rate",
        y_title="True positive rate",
        description="told",
        points=[Point(*parts) for parts in marked],
        names=("many", "few"),
        diagonal=diagonal,
        level=level,
    )
    assert_inside(parse(chart))
    drawable = [pair for points in curves for pair in points] + [(x, y) for x, y, _, _ in marked]
    assert any(plottable(x) and plottable(y) for x, y in drawable) == ("no data" not in chart)


def test_both_sides_of_the_square_have_the_same_range():
    points = [Point(1.0, 3.0, (2.5, 6.0)), Point(5.0, 5.0)]
    picture = parse(square_chart([], x_title="", y_title="", description="", points=points, diagonal=True, span=(1, 5)))
    frame = next(element for element in picture.iter() if element.get("class") == "frame")
    assert number_of(frame, "width") == number_of(frame, "height")
    left, bottom = number_of(frame, "x"), number_of(frame, "y") + number_of(frame, "height")
    (x, y), (x_end, y_end) = (points_of(mark)[0] for mark in picture.iter(f"{NAMESPACE}circle"))
    assert x_end - left == pytest.approx(bottom - y_end, abs=0.02)  # 5 against 5 lies on the diagonal
    assert bottom - y > x - left  # 3 against 1 lies above it
    diagonal = next(element for element in picture.iter() if element.get("class") == "reference")
    assert points_of(diagonal)[0] == pytest.approx((left, bottom), abs=0.02)


@given(
    st.lists(st.floats(-1e6, 1e6), max_size=8, unique=True).map(sorted),
    st.lists(st.lists(ANY_VALUE, max_size=8), min_size=1, max_size=3),
    st.one_of(st.none(), st.floats(-5, 5)),
)
@settings(max_examples=60)
def test_a_histogram_keeps_everything_inside(edges, counts, reference):
    chart = histogram(edges, counts, x_title="p", y_title="Rows", description="told", names="ab", reference=reference)
    assert_inside(parse(chart))


def test_bars_of_a_histogram_stand_over_their_bins():
    picture = parse(histogram([0, 1, 2, 4], [[1, 2, 4], [2, 0, 1]], x_title="", y_title="", description=""))
    first, beside, second, _, third, _ = marks(picture)  # bin by bin
    assert number_of(second, "height") == pytest.approx(2 * number_of(first, "height"), abs=0.05)
    assert number_of(third, "height") == pytest.approx(4 * number_of(first, "height"), abs=0.05)
    assert number_of(third, "width") > 1.8 * number_of(first, "width")  # twice as wide a bin
    assert number_of(beside, "x") >= number_of(first, "x") + number_of(first, "width")  # beside, not over
    assert number_of(beside, "height") == pytest.approx(number_of(second, "height"), abs=0.05)


@given(st.lists(st.tuples(TEXT, st.lists(ANY_VALUE, max_size=6)), max_size=5), st.lists(TEXT, max_size=6))
@settings(max_examples=60)
def test_columns_keep_everything_inside(rows, names):
    rows = [(title, [value if value is None or value >= 0 else 0.0 for value in values]) for title, values in rows]
    picture = parse(weight_columns([Panel(*row, names) for row in rows], description="told"))
    assert_inside(picture)
    drawn = sum(plottable(value) for _, values in rows for value in values)
    assert len([mark for mark in marks(picture) if "bar" in mark.get("class", "").split()]) == drawn


def test_the_strongest_weight_alone_is_filled_and_numbered():
    panels = [Panel("like", [0.2, 0.7, 0.1]), Panel("rating", [0.5, 0.5])]
    chart = weight_columns(panels, description="", value_format=lambda value: f"{value:.2f}")
    bars = [mark.get("class", "").split()[-1] for mark in marks(parse(chart))]
    assert bars == ["quiet", "series-0", "quiet", "series-0", "quiet"]
    assert [text.text for text in parse(chart).iter(f"{NAMESPACE}text") if text.get("class") == "value"] == [
        "0.70",
        "0.50",
    ]


def test_columns_of_one_kind_stand_under_its_name():
    def ticks(*names):
        weights = [1 / len(names)] * len(names)
        chart = parse(weight_columns([Panel("task", weights, names)] * 2, description=""))
        found = [text for text in chart.iter(f"{NAMESPACE}text") if text.get("class") == "tick"]
        return [text.text for text in found], chart

    numbers, plain = ticks("expert 1", "expert 2")
    assert numbers == ["1", "2"] * 2  # where there is one kind only its name would say nothing
    mixed, named = ticks("long watch 1", "long watch 2", "shared 1", "shared 2", "shared 3")
    assert mixed == ["1", "2", "1", "2", "3", "long watch", "shared"] * 2
    assert number_of(named, "height") > number_of(plain, "height")
    crowded, _ = ticks(*(f"a kind of its own {letter} 1" for letter in "abcdefgh"))
    assert any(text.endswith("…") for text in crowded)


@given(st.lists(st.tuples(st.floats(-5, 5), ANY_VALUE), min_size=1, max_size=5))
@settings(max_examples=40)
def test_deviations_are_whiskers_inside_the_frame(rows):
    bars = [Bar("feature", [value], [deviation]) for value, deviation in rows]
    picture = parse(bar_chart(bars, x_title="", description=""))
    assert_inside(picture)
    whiskers = [mark for mark in marks(picture) if "over" in mark.get("class", "").split()]
    assert len(whiskers) == sum(plottable(deviation) for _, deviation in rows)


@given(TEXT, st.floats(10, 200))
@example("@", 10.0)  # wider than the room, and so is anything of it with an ellipsis
def test_a_cut_label_fits(text, width):
    short = cut(text, width)
    assert short == text if text_width(text) <= width else short.endswith("…") and len(short) <= len(text)
    assert text_width(short) <= max(width, 18.0)
