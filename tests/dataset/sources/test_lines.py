"""Delimited text: equal to a naive reference, and every bad row found with its line number."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moerec.dataset.sources import lines
from moerec.dataset.sources.columns import Column
from moerec.dataset.sources.lines import Delimited, header_of, read_delimited
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

IDS = [Column("user", "id"), Column("item", "id"), Column("rating", "number")]
TEXTS = [Column("item", "id"), Column("title", "text"), Column("note", "text")]
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, content: str | bytes, name: str = "file.txt") -> SourceFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return SourceFile(path)


def names(columns: list[Column]) -> list[str]:
    return [column.name for column in columns]


def rejected(rejects: pl.DataFrame) -> list[tuple[int, str]]:
    return rejects.select("line", "reason").rows()


line_text = st.text(st.sampled_from('ab:1.5-"é,| \t'), max_size=12)


@quick
@given(
    rows=st.lists(line_text, max_size=25),
    separator=st.sampled_from(["::", "\t", "|"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    final=st.booleans(),
    block=st.integers(1, 40),
)
def test_equal_to_splitting_line_by_line(
    tmp_path: Path, rows: list[str], separator: str, line_end: str, final: bool, block: int
) -> None:
    content = line_end.join(rows) + (line_end if final and rows else "")
    good, bad = [], []
    for number, row in enumerate(rows, start=1):
        fields = row.split(separator)
        if not row.strip(" "):
            continue
        if len(fields) != 3:
            bad.append((number, f"expected 3 fields, found {len(fields)}"))
        elif not fields[0].strip():
            bad.append((number, "item is empty"))
        else:
            good.append(tuple(field.strip() or None for field in fields))
    file = write(tmp_path, content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        if not good:
            with pytest.raises(DatasetError):
                read_delimited(file, Delimited(separator), names(TEXTS), TEXTS)
            return
        table = read_delimited(file, Delimited(separator), names(TEXTS), TEXTS)
    assert table.frame.rows() == good
    assert rejected(table.rejects) == bad


cell = st.text(st.sampled_from('ab"\n, é1'), max_size=8)


@quick
@given(
    rows=st.lists(st.tuples(st.integers(0, 99), cell, cell), min_size=1, max_size=20),
    line_end=st.sampled_from(["\n", "\r\n"]),
    block=st.integers(1, 60),
)
def test_equal_to_the_csv_module(tmp_path: Path, rows: list[tuple[int, str, str]], line_end: str, block: int) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=line_end)
    writer.writerow(names(TEXTS))
    writer.writerows(rows)
    file = write(tmp_path, stream.getvalue())
    form = Delimited(",", quote='"', header=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        table = read_delimited(file, form, header_of(file, form), TEXTS)
    expected = [tuple(text.strip() or None for text in (str(number), *texts)) for number, *texts in rows]
    assert table.frame.rows() == expected
    assert table.rejects.height == 0


@quick
@given(
    count=st.integers(1, 60),
    bad=st.dictionaries(st.integers(0, 59), st.sampled_from(["1,2", "1,2,3,4", ",7,1", "5,,1", "5,6,x", "5,6,nan"])),
    quoted=st.sets(st.integers(0, 59)),
    block=st.sampled_from([20, 150, 1000]),
)
def test_bad_rows_are_refused_and_the_rest_is_used(
    tmp_path: Path, count: int, bad: dict[int, str], quoted: set[int], block: int
) -> None:
    rows = [bad.get(n, f'"u{n}",i{n},1.5' if n in quoted else f"u{n},i{n},1.5") for n in range(count)]
    wrong = [n for n in bad if n < count]
    file = write(tmp_path, "user,item,rating\n" + "\n".join(rows))
    form = Delimited(",", quote='"', header=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", block)
        if len(wrong) == count:
            with pytest.raises(DatasetError, match=r"every row .* was refused; the first, line 2"):
                read_delimited(file, form, names(IDS), IDS)
            return
        table = read_delimited(file, form, names(IDS), IDS)
    assert table.frame["user"].to_list() == [f"u{n}" for n in range(count) if n not in bad]
    assert table.rejects["line"].to_list() == [n + 2 for n in sorted(wrong)]
    assert table.rejects["row"].to_list() == [bad[n] for n in sorted(wrong)]
    assert set(table.rejects["source"]) <= {"file.txt"}


def test_reasons_name_the_column(tmp_path: Path) -> None:
    file = write(tmp_path, "u,i,1\nu,i\nu,,1\n,i,1\nu,i,many\nu,i,\n")
    table = read_delimited(file, Delimited(","), names(IDS), IDS)
    assert rejected(table.rejects) == [
        (2, "expected 3 fields, found 2"),
        (3, "item is empty"),
        (4, "user is empty"),
        (5, "rating is not a number"),
    ]
    assert table.frame["rating"].to_list() == [1.0, None]


def test_a_lone_colon_belongs_to_the_title(tmp_path: Path) -> None:
    file = write(tmp_path, "1::Mission: Impossible (1996)::Action\n2::Face/Off: Cut::Action|Crime\n")
    table = read_delimited(file, Delimited("::"), names(TEXTS), TEXTS)
    assert table.frame["title"].to_list() == ["Mission: Impossible (1996)", "Face/Off: Cut"]


def test_line_numbers_count_the_lines_inside_quotes(tmp_path: Path) -> None:
    file = write(tmp_path, 'item,title,note\n1,"two\nlines, and a comma","say ""so"""\n\n2,x\n3,y,z\n')
    form = Delimited(",", quote='"', header=True)
    table = read_delimited(file, form, names(TEXTS), TEXTS)
    assert table.frame.rows() == [("1", "two\nlines, and a comma", 'say "so"'), ("3", "y", "z")]
    assert rejected(table.rejects) == [(5, "expected 3 fields, found 2")]


@pytest.mark.parametrize("stray", ['2,"open,z', '2,"closed" badly,z', '2,open,"z'])
def test_a_stray_quote_costs_one_line(tmp_path: Path, stray: str) -> None:
    following = "\n".join(f"{n},t{n},n{n}" for n in range(3, 3000))
    file = write(tmp_path, f'1,"fine, this",n\n{stray}\n{following}\n9000,"fine, too",n\n')
    table = read_delimited(file, Delimited(",", quote='"'), names(TEXTS), TEXTS)
    assert table.rejects["line"].to_list() == [2]
    assert "quote" in table.rejects["reason"][0]
    assert table.rejects["row"].to_list() == [stray]
    assert table.frame["item"].to_list() == ["1", *map(str, range(3, 3000)), "9000"]


def test_quotes_are_plain_text_where_the_format_has_none(tmp_path: Path) -> None:
    file = write(tmp_path, '1\t"Crocodile" Dundee\tx\n2\t5" disc\ty\n')
    table = read_delimited(file, Delimited("\t"), names(TEXTS), TEXTS)
    assert table.frame["title"].to_list() == ['"Crocodile" Dundee', '5" disc']


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("compress", [False, True])
def test_byte_order_mark_and_gzip(tmp_path: Path, mark: bytes, compress: bool) -> None:
    content = mark + "user,item,rating\r\né,1,2".encode()
    file = write(tmp_path, gzip.compress(content) if compress else content, "file.csv")
    form = Delimited(",", quote='"', header=True)
    assert header_of(file, form) == ["user", "item", "rating"]
    assert read_delimited(file, form, header_of(file, form), IDS).frame.rows() == [("é", "1", 2.0)]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "cp1252"])
def test_declared_encodings(tmp_path: Path, encoding: str) -> None:
    file = write(tmp_path, "é,Misérables,x\nü,y,z\n".encode(encoding))
    table = read_delimited(file, Delimited(",", encoding), names(TEXTS), TEXTS)
    assert table.frame.rows() == [("é", "Misérables", "x"), ("ü", "y", "z")]


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_another_encoding_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    file = write(tmp_path, "1,é,x\n2,y,z\n".encode() + "3,é,x\n".encode("latin-1") + b"4,a,b\n")
    with pytest.raises(DatasetError, match=r"file.txt, line 3: byte 0xe9 is not utf-8; set `encoding: latin-1`"):
        read_delimited(file, Delimited(","), names(TEXTS), TEXTS)


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="unknown encoding 'latin-9000'"):
        read_delimited(write(tmp_path, "1,2,3"), Delimited(",", "latin-9000"), names(TEXTS), TEXTS)


@pytest.mark.parametrize("content", ["", "\n", "\r\n\r\n", "   \n"])
def test_an_empty_file_is_an_error(tmp_path: Path, content: str) -> None:
    with pytest.raises(DatasetError, match=r"file.txt: the file (is empty|has no rows)"):
        read_delimited(write(tmp_path, content), Delimited(",", quote='"'), names(TEXTS), TEXTS)


def test_a_header_alone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no rows"):
        read_delimited(write(tmp_path, "a,b,c\n"), Delimited(",", header=True), names(TEXTS), TEXTS)


def test_a_header_with_one_name_twice_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="line 1: the header has the column 'a' twice"):
        header_of(write(tmp_path, "a,b,a\n1,2,3\n"), Delimited(","))


@pytest.mark.parametrize("block", [3, 1 << 20])
def test_an_id_may_stand_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", block)
    file = write(tmp_path, "1,a,x\n2\n2,b,y\n1,c,z\n2,d,w\n")
    table = read_delimited(file, Delimited(","), names(TEXTS), TEXTS, unique="item")
    assert table.frame.rows() == [("1", "a", "x"), ("2", "b", "y")]
    assert rejected(table.rejects)[1:] == [
        (4, "item stands here a second time"),
        (5, "item stands here a second time"),
    ]


def test_a_missing_file_and_a_cut_gzip_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone.csv: there is no such file"):
        read_delimited(SourceFile(tmp_path / "gone.csv"), Delimited(","), names(TEXTS), TEXTS)
    whole = gzip.compress("".join(f"{n},a{n * n},b\n" for n in range(5000)).encode())
    file = write(tmp_path, whole[: len(whole) // 2], "cut.csv.gz")
    with pytest.raises(DatasetError, match="damaged or cut off"):
        read_delimited(file, Delimited(","), names(TEXTS), TEXTS)
