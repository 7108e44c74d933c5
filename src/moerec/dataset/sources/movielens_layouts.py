"""The layouts in which MovieLens has been published, each read into the same tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from moerec.dataset.schema import RawTables
from moerec.dataset.sources.atomic import only_atomic_name
from moerec.dataset.sources.columns import Column, Table
from moerec.dataset.sources.lines import Delimited, header_of, read_delimited
from moerec.dataset.sources.movie_titles import clean_titles
from moerec.dataset.sources.parquet import read_parquet
from moerec.dataset.sources.source_files import SourceFile, SourceFolder
from moerec.errors import DatasetError

Files = Mapping[str, SourceFile]
"""The files of one data set: `events`, and where they are there `items` and `users`."""

# The order of the flags at the end of each line of u.item; the first says that no genre is known.
U_GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
NO_GENRES = ("", "unknown", "(no genres listed)")

OUR_NAMES = {
    "userId": "user_id",
    "movieId": "item_id",
    "movie_title": "title",
    "release_year": "year",
    "class": "genres",
    "genre": "genres",
}
"""From the names in published headers to ours."""

OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)
"""What the occupation numbers of ML-1M mean."""

EVENT_COLUMNS = (
    Column("user_id", "id"),
    Column("item_id", "id"),
    Column("timestamp", "timestamp", required=True),
    Column("rating", "number", required=True),
)
ITEM_COLUMNS = (Column("item_id", "id"), Column("title", "text"), Column("genres", "text"))
USER_COLUMNS = (
    Column("user_id", "id"),
    Column("age", "integer"),
    Column("gender", "text"),
    Column("occupation", "text"),
    Column("zip_code", "text"),
)


@dataclass(frozen=True)
class Layout:
    """File names of a layout, and how they are read."""

    events: str
    """File of the log; `*` stands for the name of the data set."""
    items: str
    users: str | None
    read: Callable[[Files, str], RawTables]
    """From the files and their encoding."""
    encoding: str | None = None
    """Encoding of this layout, where it is another than that of the data set's own publication."""


def find_files(folder: SourceFolder, layout: Layout, stem: str) -> dict[str, SourceFile]:
    """The files of a layout that a folder has, by purpose.

    Args:
        folder: where to look.
        layout: the names.
        stem: name of the data set, where file names begin with it; "" for the only one there is.
    """
    if "*" in layout.events and not stem:
        if not any(name.removesuffix(".gz").endswith(layout.events[1:]) for name in folder.names()):
            return {}
        stem = only_atomic_name(folder)
    named = {"events": layout.events, "items": layout.items, "users": layout.users}
    found = {key: folder.find(name.replace("*", stem)) for key, name in named.items() if name is not None}
    return {key: file for key, file in found.items() if file is not None}


def _read_u(files: Files, encoding: str) -> RawTables:
    """`u.data` (tabs), `u.item` and `u.user` (`|`), of ML-100K."""
    names = ["user_id", "item_id", "rating", "timestamp"]
    events = read_delimited(files["events"], Delimited("\t", encoding), names, EVENT_COLUMNS)
    bars = Delimited("|", encoding)
    items = users = None
    if "items" in files:
        names = ["item_id", "title", "release_date", "video_release_date", "url", *U_GENRES]
        columns = [Column("item_id", "id"), Column("title", "text"), *(Column(name, "integer") for name in U_GENRES)]
        rows = read_delimited(files["items"], bars, names, columns, unique="item_id")
        flagged = [pl.when(pl.col(name) == 1).then(pl.lit(name)) for name in U_GENRES[1:]]
        genres = pl.concat_str(flagged, separator="|", ignore_nulls=True).alias("genres")
        items = Table(rows.frame.select("item_id", "title", genres), rows.rejects)
    if "users" in files:
        names = ["user_id", "age", "gender", "occupation", "zip_code"]
        users = read_delimited(files["users"], bars, names, USER_COLUMNS, unique="user_id")
    return _assemble(events, items, users)


def _read_dat(files: Files, encoding: str) -> RawTables:
    """`ratings.dat`, `movies.dat`, `users.dat` with `::`, of ML-1M and ML-10M."""
    names = ["user_id", "item_id", "rating", "timestamp"]
    events = read_delimited(files["events"], Delimited("::", encoding), names, EVENT_COLUMNS)
    return _assemble(events, _movies_dat(files, encoding), _users_dat(files, encoding))


def _read_sequences(files: Files, encoding: str) -> RawTables:
    """`sequences.parquet` (user_id, movie_id, position) beside ML-1M's `movies.dat` and `users.dat`.

    The catalogue is that of the log, as in all figures published on it: `movies.dat` also has movies that the log left
    out as too rare, and what nobody can meet would be an easy negative in samples and a stranger in full ranking.
    """
    columns = [
        Column("user_id", "id"),
        Column("movie_id", "id", "item_id"),
        Column("position", "integer", required=True),
    ]
    table = read_parquet(files["events"], columns)
    # The order of the file is the order of events, so it must be that of the positions.
    steps = table.frame.select((pl.col("position").diff().over("user_id") <= 0).any()).item()
    if steps:
        raise DatasetError(f"{files['events'].name}: the positions of a user do not rise from row to row; get it again")
    no_time = pl.lit(None, dtype=pl.Int64).alias("timestamp")
    events = Table(table.frame.select("user_id", "item_id", no_time), table.rejects)
    movies = _movies_dat(files, encoding)
    if movies is not None:
        met = movies.frame.join(events.frame, on="item_id", how="semi", maintain_order="left")
        movies = Table(met, movies.rejects)
    return _assemble(events, movies, _users_dat(files, encoding))


def _movies_dat(files: Files, encoding: str) -> Table | None:
    if "items" not in files:
        return None
    names = [column.name for column in ITEM_COLUMNS]
    return read_delimited(files["items"], Delimited("::", encoding), names, ITEM_COLUMNS, unique="item_id")


def _users_dat(files: Files, encoding: str) -> Table | None:
    if "users" not in files:
        return None
    names = ["user_id", "gender", "age", "occupation", "zip_code"]
    table = read_delimited(files["users"], Delimited("::", encoding), names, USER_COLUMNS, unique="user_id")
    meaning = {str(number): words for number, words in enumerate(OCCUPATIONS)}
    return Table(table.frame.with_columns(pl.col("occupation").replace(meaning)), table.rejects)


def _read_csv(files: Files, encoding: str) -> RawTables:
    """`ratings.csv` and `movies.csv` with headers, of ML-20M and later."""
    return _read_headed(files, Delimited(",", encoding, quote='"', header=True), ITEM_COLUMNS)


def _read_atomic(files: Files, encoding: str) -> RawTables:
    """RecBole's files; its titles have lost their years to a column of their own."""
    items = (*ITEM_COLUMNS[:2], Column("genres", "sequence"), Column("year", "text"))
    return _read_headed(files, Delimited("\t", encoding, header=True), items)


def _read_headed(files: Files, form: Delimited, item_columns: Sequence[Column]) -> RawTables:
    """Files with a header, whose names are translated to ours."""

    def read(key: str, columns: Sequence[Column], unique: str | None) -> Table | None:
        if key not in files:
            return None
        file = files[key]
        # RecBole's names carry a type: user_id:token.
        fields = [field.partition(":")[0] for field in header_of(file, form)]
        names = [OUR_NAMES.get(field, field) for field in fields]
        missing = [column.name for column in columns if column.name not in names]
        if missing:
            raise DatasetError(
                f"{file.name}, line 1: this is no MovieLens header, there is no {', '.join(missing)} in "
                f"{', '.join(fields)}; read other tables with the source `table`"
            )
        return read_delimited(file, form, names, columns, unique)

    events = read("events", EVENT_COLUMNS, None)
    assert events is not None  # find_files gave it, or this layout would not have been chosen
    return _assemble(events, read("items", item_columns, "item_id"), read("users", USER_COLUMNS, "user_id"))


def _assemble(events: Table, items: Table | None, users: Table | None) -> RawTables:
    """The same columns from every layout."""
    return RawTables(
        events=events.frame,
        users=None if users is None else users.frame.with_columns(pl.col("age").cast(pl.Int32)),
        items=None if items is None else _clean_items(items.frame),
        rejects=pl.concat([table.rejects for table in (events, items, users) if table is not None]),
        labels=("rating",) if "rating" in events.frame.columns else (),
    )


def _clean_items(items: pl.DataFrame) -> pl.DataFrame:
    """Columns item_id, title, year, genres; null where nothing is known."""
    titles = clean_titles(items["title"], items["year"] if "year" in items.columns else None)
    genres = pl.when(~pl.col("genres").is_in(NO_GENRES)).then(pl.col("genres"))
    return items.select("item_id", titles["title"], titles["year"], genres)


LAYOUTS: dict[str, Layout] = {
    "u": Layout("u.data", "u.item", "u.user", _read_u),
    "dat": Layout("ratings.dat", "movies.dat", "users.dat", _read_dat),
    "csv": Layout("ratings.csv", "movies.csv", None, _read_csv),
    "atomic": Layout("*.inter", "*.item", "*.user", _read_atomic, "utf-8"),
    "sequences": Layout("sequences.parquet", "movies.dat", "users.dat", _read_sequences),
}
