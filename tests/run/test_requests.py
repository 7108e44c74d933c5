"""Whose lists are asked for, in every form; that the lists of many users are written part by part changes nothing."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moerec.errors import MoerecError
from moerec.recommender import Recommender
from moerec.run import requests
from moerec.run.requests import csv_row, read_histories, read_users, write_frames
from tests.commands import Moerec, assert_one_line

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda text: text == text.strip()
)


@given(st.lists(ids, max_size=4), st.booleans())
def test_any_ids_can_be_written_as_a_row(row: list[str], spaced: bool) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="").writerow(row)
    text = written.getvalue()
    assert csv_row(f" {text} " if spaced and row else text, "--users") == row
    if row and not any(sign in "".join(row) for sign in '",\r\n'):
        assert csv_row(", ".join(row), "--users") == row, "plain ids need no quotes"


@given(st.text(max_size=12))
def test_any_row_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        assert all(part and part == part.strip() for part in csv_row(text, "--users"))
    except MoerecError as error:
        assert str(error).startswith(f"--users {text}: not a row of CSV")  # noqa: PT017  either outcome is right


@pytest.fixture
def many(place: Path, monkeypatch: pytest.MonkeyPatch) -> Recommender:
    """The model of the run, in whose folder the commands work; one of its users has an odd id."""
    monkeypatch.chdir(place)
    shutil.rmtree("odd", ignore_errors=True)
    shutil.copytree(Path("runs/small/latest/model").resolve(), "odd")
    histories = pl.read_parquet("odd/histories.parquet")
    odd = pl.when(pl.col("user_id") == "7").then(pl.lit('ü "q", x')).otherwise("user_id")
    histories.with_columns(odd.alias("user_id")).write_parquet("odd/histories.parquet")
    return Recommender.from_pretrained("odd")


@pytest.mark.usefixtures("many")
def test_an_id_with_a_comma_can_be_named(moerec: Moerec) -> None:
    def asked(*arguments: str) -> list[str]:
        rows = moerec("recommend", "--run", "odd", *arguments, "-k", "1", "--json").json
        return [row["user_id"] for row in rows]

    assert asked("--users", '3,"ü ""q"", x",5') == ["3", 'ü "q", x', "5"]
    assert asked("--users", "3", "--users", '"ü ""q"", x"', "--users", "5,4") == ["3", 'ü "q", x', "5", "4"]
    assert_one_line(moerec("recommend", "--run", "odd", "--users", 'ü "q", x'), "knows no user 'ü \"q\"', 'x'")


@pytest.mark.usefixtures("many")
def test_a_file_of_users_in_every_form(moerec: Moerec, tmp_path: Path) -> None:
    wanted = ["3", 'ü "q", x', "0"]
    named = pl.DataFrame({"age": [1, 2, 3], "user_id": wanted})
    (tmp_path / "users.txt").write_text('3\r\n\n ü "q", x \n0', encoding="utf-8-sig")
    (tmp_path / "users").write_text("\n".join(wanted))
    named.write_csv(tmp_path / "users.csv")
    named.write_csv(tmp_path / "users.tsv", separator="\t")
    named.write_parquet(tmp_path / "users.parquet")
    for name in ("users.txt", "users", "users.csv", "users.tsv", "users.parquet"):
        assert read_users(tmp_path / name) == wanted
    pl.DataFrame({"user_id": [3, 0]}).write_parquet(tmp_path / "numbers.parquet")
    by_file = moerec("recommend", "--run", "odd", "--users-file", tmp_path / "numbers.parquet", "-k", "2", "--json")
    assert by_file.json == moerec("recommend", "--run", "odd", "--users", "3,0", "-k", "2", "--json").json


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"\n \n", "a.txt: names nobody; give one user id a line, or a column user_id"),
        ("a.txt", b"caf\xe9\n", "a.txt: not a UTF-8 text file"),
        ("a.csv", b"user_id\n", "a.csv: names nobody"),
        ("a.csv", b"17\n23\n", "a.csv: no column 'user_id' among 17; rename the right one, or give a .txt file"),
        ("a.csv", b"user_id,age\n1,4\n,4\n", "a.csv: 1 rows have no user_id; leave them out"),
        ("a.parquet", b"nothing", "a.parquet: cannot be read"),
    ],
)
def test_a_file_without_users_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MoerecError) as caught:
        read_users(tmp_path / name)
    assert says in str(caught.value)


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_that_are_lists_are_refused_with_the_name_of_the_file(tmp_path: Path, column: str) -> None:
    path = tmp_path / "h.parquet"
    plain: dict[str, Any] = {"user_id": [1], "item_id": [2]}
    pl.DataFrame(plain | {column: [[1, 2]]}).write_parquet(path)
    with pytest.raises(MoerecError, match=rf"h.parquet: column '{column}': ids of type List\(Int64\) are not scalars"):
        read_histories(path)


@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_all_users_part_by_part(
    moerec: Moerec, many: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(requests, "USERS_AT_ONCE", 7)
    done = moerec("recommend", "--run", "odd", "--all-users", "-k", "3", "--output", tmp_path / name)
    assert (done.status, done.out, done.err) == (0, "", f"180 rows written to {tmp_path / name}\n")
    found = (
        pl.read_parquet(tmp_path / name)
        if name == "all.parquet"
        else pl.read_csv(
            tmp_path / name, schema_overrides={"user_id": pl.String, "item_id": pl.String, "title": pl.String}
        )
    )
    whole = many.recommend(users=many.histories["user_id"], k=3)
    assert found.select("user_id", "item_id", "rank").equals(
        whole.select("user_id", "item_id", "rank").cast({"rank": found.schema["rank"]})
    )
    assert found["score"].to_list() == pytest.approx(whole["score"].to_list(), rel=1e-5)
    assert (
        moerec("recommend", "--run", "odd", "--all-users", "-k", "3", "--json").json[-1]["user_id"]
        == found["user_id"][-1]
    )


def test_an_error_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    def frames() -> Any:
        yield pl.DataFrame({"a": [1]})
        raise MoerecError("no more")

    for name in ("x.csv", "x.parquet"):
        with pytest.raises(MoerecError, match="no more"):
            write_frames(frames(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("many")
def test_a_model_without_users_says_what_else_to_give(moerec: Moerec) -> None:
    Path("odd/histories.parquet").unlink()
    for command in (["recommend", "--all-users"], ["recommend", "--users", "1"]):
        done = moerec(*command, "--run", "odd")
        assert_one_line(done, "this model was saved without its users; give")
        assert "--history or --histories" in done.err
    assert_one_line(moerec("inspect", "user", "1", "--run", "odd"), "this model was saved without its users; give")


def test_help_and_guide_tell_the_unit_of_times(moerec: Moerec) -> None:
    shown = " ".join(moerec("recommend", "--help").out.replace("│", " ").split())
    assert "(milliseconds since 1970, or ISO dates)" in shown
    guide = (Path(__file__).parents[2] / "docs/guides/recommender.md").read_text(encoding="utf-8")
    assert "milliseconds since 1970" in " ".join(guide.split())
