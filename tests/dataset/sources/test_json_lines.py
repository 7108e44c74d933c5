"""JSON lines: every line is a row, a blank or a reject with its number, in chunks, whatever happens to the file."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.dataset.sources import json_lines
from moerec.dataset.sources.columns import LINE, LONGEST_RAW_ROW
from moerec.dataset.sources.json_lines import (
    CUT_ARCHIVE,
    CUT_LINE,
    NOT_AN_OBJECT,
    NOT_JSON,
    NOT_UTF_8,
    TOO_LONG,
    RowRefusedError,
    numbered_lines,
    read_json_lines,
)
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

SCHEMA = {"x": pl.Int64}
Refused = list[tuple[int, str, str]]


def row(record: dict[str, Any]) -> tuple[int]:
    if "x" not in record:
        raise RowRefusedError("no x")
    return (record["x"],)


def read(path: Path) -> tuple[list[tuple[int, int]], Refused]:
    """(x, line) of the rows and (line, reason, row) of the rejects."""
    tables = list(read_json_lines(SourceFile(path), SCHEMA, row))
    rows = [(x, line) for table in tables for x, line in table.frame.select("x", LINE).iter_rows()]
    return rows, [found[1:] for table in tables for found in table.rejects.iter_rows()]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_every_broken_line_is_a_reject_with_its_number_and_reason(tmp_path: Path, name: str) -> None:
    lines = [
        b'\xef\xbb\xbf{"x": 1}',
        b'{"x": 2',
        b"",
        b"[1]",
        b'{"x": "\xff"}',
        b'{"x": 6}\r',
        b'{"y": 7}',
        b"[" * 100_000,
        b'{"x": 9}',
        b'{"x": 1',
    ]
    rows, refused = read(write(tmp_path / name, b"\n".join(lines)))
    assert rows == [(1, 1), (6, 6), (9, 9)]
    assert [found[:2] for found in refused] == [
        (2, NOT_JSON),
        (4, NOT_AN_OBJECT),
        (5, NOT_UTF_8),
        (7, "no x"),
        (8, NOT_JSON),
        (10, CUT_LINE),
    ]
    assert refused[0][2] == '{"x": 2'
    assert max(len(found[2]) for found in refused) == LONGEST_RAW_ROW
    assert read(write(tmp_path / name, b'{"x": 1}\n{"x": 2}'))[0] == [(1, 1), (2, 2)], "a whole last line is a row"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_broken_archive_counts_up_to_the_damage_and_the_rest_is_one_reject(tmp_path: Path, share: float) -> None:
    content = b"".join(json.dumps({"x": number, "note": number**5}).encode() + b"\n" for number in range(20_000))
    whole = gzip.compress(content)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: int(len(whole) * share)])
    rows, refused = read(cut)
    assert rows == [(number, number + 1) for number in range(len(rows))]
    assert 0.8 * share < len(rows) / 20_000 < 1
    assert [found[:2] for found in refused] == [(len(rows) + 1, CUT_ARCHIVE)]
    assert content.split(b"\n")[len(rows)].decode().startswith(refused[0][2])
    wrong = tmp_path / "wrong.jsonl.gz"
    wrong.write_bytes(whole[:-8] + b"12345678")
    rows, refused = read(wrong)
    assert len(rows) == 20_000
    assert [found[1] for found in refused] == [CUT_ARCHIVE], "a wrong checksum is damage too"


@settings(max_examples=60)
@given(
    lines=st.lists(st.one_of(st.just(b""), st.binary(max_size=30), st.integers(0, 99).map(lambda x: b'{"x": %d}' % x))),
    block=st.integers(1, 40),
)
def test_lines_are_those_of_a_plain_split_whatever_the_size_of_a_block(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], block: int
) -> None:
    content = b"\n".join(lines)
    path = write(tmp_path_factory.mktemp("lines") / "a.jsonl", content)
    split = content.split(b"\n")
    expected = [
        (number, line if number == len(split) else line.removesuffix(b"\r"))
        for number, line in enumerate(split, start=1)
        if line.strip()
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "BLOCK_BYTES", block)
        assert (
            content[:2] == b"\x1f\x8b"
            or [(line.number, line.content) for line in numbered_lines(SourceFile(path))] == expected
        )


def test_no_more_than_one_chunk_of_lines_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "CHUNK_LINES", 100)
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 1 << 10)
    path = write(tmp_path / "a.jsonl.gz", b'{"x": 1}\n' * 5_000 + b"broken\n" * 1_000)
    parsed = 0

    def counting(record: dict[str, Any]) -> tuple[int]:
        nonlocal parsed
        parsed += 1
        return row(record)

    taken = refused = 0
    for table in read_json_lines(SourceFile(path), SCHEMA, counting):
        assert table.frame.height + table.rejects.height <= 100
        taken, refused = taken + table.frame.height, refused + table.rejects.height
        assert parsed == taken, "nothing is parsed ahead of what has been handed over"
    assert (taken, refused) == (5_000, 1_000)


def test_a_line_without_end_is_refused_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 1 << 12)
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 1 << 8)
    path = write(tmp_path / "a.jsonl", b'{"x": 1}\n' + b"y" * 50_000 + b'\n{"x": 3}\n' + b"z" * 50_000)
    assert max(len(line.content) for line in numbered_lines(SourceFile(path))) <= 4 * LONGEST_RAW_ROW
    rows, refused = read(path)
    assert rows == [(1, 1), (3, 3)]
    assert [found[:2] for found in refused] == [(2, TOO_LONG), (4, TOO_LONG)]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="there is no such file"):
        read(tmp_path / "no.jsonl")
