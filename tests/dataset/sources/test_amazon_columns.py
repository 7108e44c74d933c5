"""Reviews column by column: exactly what the reader that goes line by line gives, for any lines."""

import json
import sys
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from moerec.dataset.sources import amazon_columns
from moerec.dataset.sources.amazon_columns import BLANKS, review_table
from moerec.dataset.sources.amazon_rows import REVIEW_NAMES, REVIEW_SCHEMA, review_row
from moerec.dataset.sources.json_lines import CUT_LINE, Line, LineBlock, table_of_lines

USUAL: dict[int, dict[str, Any]] = {
    2023: {
        "rating": 5.0,
        "title": "Good",
        "text": 'Fine, {really},\nso "it" is 🙂',
        "images": [{"large": "https://x/l.jpg"}, {"large": "https://x/m.jpg"}],
        "asin": "B1",
        "parent_asin": "B2",
        "user_id": "A1",
        "timestamp": 1_600_000_000_123,
        "helpful_vote": 3,
        "verified_purchase": True,
    },
    2018: {
        "overall": 4.0,
        "vote": "12",
        "verified": False,
        "reviewerID": "A1",
        "asin": "B1",
        "style": {"Color:": " Red"},
        "summary": "Good",
        "reviewText": "Fine",
        "unixReviewTime": 1_500_000_000,
    },
    2014: {
        "reviewerID": "A1",
        "asin": "B1",
        "helpful": [2, 3],
        "reviewText": "Fine",
        "overall": 4.0,
        "summary": "Good",
        "unixReviewTime": 1_300_000_000,
    },
}
ODD_VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 5, 6.0, 1e300, 10**25, 1_600_000_000, 1_600_000_000_000, 99_999_999_999, 2**31, "", " ",
    "5", "4.0", "1,234", "x&amp;y", "\u00a0x\u2003", "\x1fx\u200b", "\x00", "\ud83d", [], ["a", None], [7], [None],
    [1.5, 2], ["3"], {}, {"a": 1},
]  # fmt: skip
ODD_LINES = [
    b"", b" ", b"null", b"[1]", b'"x"', b"{}", b'{"a":', b"}{", b'{"a": 1} {"b": 2}', b'{"a": 1}null{"b": 2}',
    b'{"a": 1} null}', b'{"a": Inf}', b'{"a": [1, -Inf ]}', b'{"a": NaN, "b": -Infinity}', b'{"a": "Inf, Info"}',
    b'\xef\xbb\xbf{"a": 1}', b'{"user_id": "\xff"}', b'{"a": "\\ud83d"}', b'{"a": 01}', b'{"a": 1,}', b"{'a': 1}",
    b'{"a": ' + b"9" * 5000 + b"}", b'{"a": ' + b"[" * 1500 + b"]" * 1500 + b"}", b'{"a": "}"} x', b'{"a": {}} 5',
    b'{"rating": 1, "rating": 2}', b'{"user_id": "A", "user_id": 3}', b'{"x": "\xed\xa0\x80"}', b'{"a": "\x01"}',
]  # fmt: skip


def both(content: bytes, year: Any, number: int = 1, last: Line | None = None) -> Any:
    block = LineBlock(number, content, last)
    slow = table_of_lines(block.lines(), "f", REVIEW_SCHEMA, partial(review_row, names=REVIEW_NAMES[year]))
    fast = review_table(block, "f", year)
    assert_frame_equal(fast.frame, slow.frame, check_exact=True)
    assert_frame_equal(fast.rejects, slow.rejects)
    return fast


@st.composite
def contents(draw: st.DrawFn, year: int) -> bytes:
    """Usual lines, lines with an odd value in a place that is read, and lines that are no records."""
    lines = []
    for _ in range(draw(st.integers(1, 12))):
        record = dict(USUAL[year])
        kind = draw(st.integers(0, 5))
        if kind >= 4:
            lines.append(draw(st.sampled_from(ODD_LINES)))
            continue
        for name in draw(st.lists(st.sampled_from(sorted(record)), max_size=kind)):
            if draw(st.booleans()):
                record[name] = draw(st.sampled_from(ODD_VALUES) | st.text(max_size=5) | st.integers(-5, 2**70))
            else:
                record.pop(name, None)
        line = json.dumps(record, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
        lines.append(line + draw(st.sampled_from([b"", b"", b"\r", b" ", b"x", b"}"])))
    return b"\n".join(lines)


@pytest.mark.parametrize("year", [2023, 2018, 2014])
def test_any_lines_give_what_one_by_one_gives(year: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amazon_columns, "FEWEST_LINES", 1)

    @settings(max_examples=40)
    @given(content=contents(year))
    def check(content: bytes) -> None:
        both(content, year)

    check()


@pytest.mark.parametrize("year", [2023, 2018, 2014])
def test_odd_lines_and_values_among_many_usual_ones(year: int) -> None:
    usual = USUAL[year]
    lines = [json.dumps(usual).encode()] * 40
    for name in usual:
        for value in ODD_VALUES:
            odd = json.dumps({**usual, name: value}).encode()
            lines += [odd, lines[0], lines[0]]
    lines += ODD_LINES
    found = both(b"\n".join(lines), year, 7, Line(10**6, b'{"a"', is_open=True))
    assert found.frame.height > 2 * len(usual) * len(ODD_VALUES)
    assert found.rejects["reason"].to_list()[-1] == CUT_LINE
    assert found.rejects.height > 50


def test_usual_lines_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Line] = []

    def counting(lines: Any, *rest: Any) -> Any:
        taken.extend(lines)
        return table_of_lines(taken, *rest)

    monkeypatch.setattr(amazon_columns, "table_of_lines", counting)
    for year in (2023, 2018, 2014):
        content = b"\n".join([json.dumps(USUAL[year], ensure_ascii=False).encode()] * 1000)
        assert review_table(LineBlock(1, content), "f", year).frame.height == 1000
    assert taken == []


def test_blanks_are_those_that_python_strips() -> None:
    assert set(BLANKS) == {character for character in map(chr, range(sys.maxunicode + 1)) if character.isspace()}
