"""Requests for lists as the command line makes them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from moerec.dataset.frames import id_strings, require_columns
from moerec.errors import MoerecError
from moerec.files import atomic_file
from moerec.recommender import Recommender

USERS_AT_ONCE = 10_000
"""Users whose lists are held in memory while the lists of many are written."""


@dataclass(frozen=True)
class Asked:
    """Whose lists are asked for: users that the model knows, or new users by their histories."""

    users: Sequence[str] | None
    """Ids of users, none where there are histories; None for all users that the model knows."""
    histories: pl.DataFrame | list[list[str]] | None = None
    """Histories of new users."""

    @classmethod
    def of(
        cls,
        users: Sequence[str] | None,
        users_file: Path | None,
        all_users: bool,
        history: Sequence[str] | None,
        histories: Path | None,
    ) -> Asked:
        """What the options of a command ask for.

        Raises:
            MoerecError: none or several of them are given, one names nobody, or a file cannot be read.
        """
        if sum([bool(users), users_file is not None, all_users, bool(history), histories is not None]) != 1:
            raise MoerecError(
                "recommend: give one of --users 1,2,3, --users-file FILE, --all-users, --history ID,ID,... and "
                "--histories FILE"
            )
        if all_users:
            return cls(None)
        if history:
            return cls((), [csv_row(row, "--history") for row in history])
        if histories is not None:
            return cls((), read_histories(histories))
        if users_file is not None:
            return cls(read_users(users_file))
        ids = [user for row in users or () for user in csv_row(row, "--users")]
        if not ids:
            raise MoerecError("recommend: --users names nobody; give user ids, separated by commas")
        return cls(ids)


def csv_row(text: str, option: str) -> list[str]:
    """Ids that are written as one row of CSV; those that hold a comma or begin with a quote stand in double quotes.

    Raises:
        MoerecError: a quote is not closed, or something follows one that is.
    """
    try:
        rows = list(csv.reader([text.strip()], skipinitialspace=True, strict=True))
    except csv.Error as error:
        raise MoerecError(
            f"{option} {text}: not a row of CSV ({error}); put an id that holds a comma or a quote between double "
            "quotes, and write its own quotes twice"
        ) from None
    return [part.strip() for row in rows for part in row if part.strip()]


def answers(recommender: Recommender, asked: Asked, k: int, filter_seen: bool) -> Iterator[pl.DataFrame]:
    """Lists with titles, of some users at a time.

    Raises:
        MoerecError: the model does not know a user, or knows none.
    """
    if asked.histories is not None:
        yield titled(recommender, recommender.recommend(histories=asked.histories, k=k, filter_seen=filter_seen))
        return
    if asked.users is not None:
        check_known(recommender, asked.users, "give their events with --history or --histories")
    elif recommender.histories.is_empty():
        raise MoerecError("this model was saved without its users; give events with --history or --histories")
    users = recommender.histories["user_id"].to_list() if asked.users is None else asked.users
    for start in range(0, len(users), USERS_AT_ONCE):
        some = users[start : start + USERS_AT_ONCE]
        yield titled(recommender, recommender.recommend(users=some, k=k, filter_seen=filter_seen))


def check_known(recommender: Recommender, users: Sequence[str], remedy: str) -> None:
    """Refuse users that the model does not know.

    Raises:
        MoerecError: with their ids and the remedy.
    """
    asked = pl.DataFrame({"user_id": pl.Series(users, dtype=pl.String)})
    unknown = asked.join(recommender.histories, on="user_id", how="anti", maintain_order="left")["user_id"].to_list()
    if recommender.histories.is_empty():
        raise MoerecError(f"this model was saved without its users; {remedy}")
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise MoerecError(f"the model knows no user {', '.join(map(repr, unknown[:5]))}{more}; {remedy}")


def titled(recommender: Recommender, frame: pl.DataFrame) -> pl.DataFrame:
    """A frame with item_id, and the catalogue's title where it has one."""
    if "title" not in recommender.items.columns:
        return frame
    titles = recommender.items.select("item_id", "title")
    return frame.join(titles, on="item_id", how="left", maintain_order="left")


def read_users(path: Path) -> list[str]:
    """Ids of users: the column user_id of a .csv, .tsv or .parquet file, or a line each of any other.

    Raises:
        MoerecError: it is not there, cannot be read, or holds no id.
    """
    if path.suffix in (".csv", ".tsv", ".parquet"):
        frame = _read_table(path)
        if "user_id" not in frame.columns:
            raise MoerecError(
                f"{path}: no column 'user_id' among {', '.join(frame.columns)}; rename the right one, or give a .txt "
                "file with one id a line"
            )
        ids = _scalars(frame, "user_id", path)["user_id"]
        if ids.null_count():
            raise MoerecError(f"{path}: {ids.null_count()} rows have no user_id; leave them out")
        users = ids.to_list()
    else:
        _check_file(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise MoerecError(
                f"{path}: not a UTF-8 text file ({error.reason} at byte {error.start}); write one id a line"
            ) from None
        users = [line.strip() for line in lines if line.strip()]
    if not users:
        raise MoerecError(f"{path}: names nobody; give one user id a line, or a column user_id")
    return users


def read_histories(path: Path) -> pl.DataFrame:
    """A table of histories: user_id, item_id, and a timestamp if rows are not in time order.

    Ids of a text file are read as they are written (007 is not 7); its timestamps are numbers or ISO dates.

    Raises:
        MoerecError: it is not there or cannot be read.
    """
    frame = _read_table(path)
    require_columns(frame, ("user_id", "item_id"), str(path))
    frame = _scalars(_scalars(frame, "user_id", path), "item_id", path)
    written = frame.schema.get("timestamp") == pl.String
    return _with_times(frame, path) if written else frame


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise MoerecError(f"{path}: a folder; name a file in it")
    if not path.is_file():
        raise MoerecError(f"{path}: no such file")


def _read_table(path: Path) -> pl.DataFrame:
    _check_file(path)
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path, glob=False)
        return pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).strip().splitlines()[0]
        raise MoerecError(f"{path}: cannot be read ({problem}); give UTF-8 CSV or TSV, or Parquet") from None


def _scalars(frame: pl.DataFrame, name: str, path: Path) -> pl.DataFrame:
    """The frame with a column of ids as strings."""
    return frame.with_columns(id_strings(frame[name], f"{path}: column '{name}'"))


def _with_times(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Timestamps as numbers if all are, else as dates, so that they sort by time and not as text."""
    written = frame["timestamp"].str.strip_chars()
    dated = written.str.replace(" ", "T").str.strip_suffix("Z")
    forms = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d")
    dates = pl.select(pl.coalesce(dated.str.to_datetime(form, time_unit="ms", strict=False) for form in forms))
    for times in (written.cast(pl.Int64, strict=False), written.cast(pl.Float64, strict=False), dates.to_series()):
        if times.null_count() == written.null_count():
            return frame.with_columns(times.alias("timestamp"))
    raise MoerecError(f"{path}: timestamps must be all numbers or all ISO dates, such as 2001-12-31T23:59:59")


def check_output(path: Path | None) -> None:
    """Refuse an output file that could not be written, before any work.

    Raises:
        MoerecError: another suffix than .csv or .parquet.
    """
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise MoerecError(f"--output {path}: the name must end in .csv or .parquet")


def write_frames(frames: Iterable[pl.DataFrame], path: Path) -> int:
    """Write frames of the same columns below each other, as .csv or .parquet, atomically; no two are held at once.

    Returns:
        the number of rows.

    Raises:
        MoerecError: another suffix, or whatever making the frames raises; then nothing is written.
    """
    check_output(path)
    with atomic_file(path) as temporary:
        return _write_csv(frames, temporary) if path.suffix == ".csv" else _write_parquet(frames, temporary)


def _write_csv(frames: Iterable[pl.DataFrame], path: Path) -> int:
    rows = 0
    with path.open("wb") as stream:
        for number, frame in enumerate(frames):
            frame.write_csv(stream, include_header=number == 0)
            rows += frame.height
    return rows


def _write_parquet(frames: Iterable[pl.DataFrame], path: Path) -> int:
    rows, writer = 0, None
    try:
        for frame in frames:
            table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            rows += frame.height
    finally:
        if writer is not None:
            writer.close()
    return rows
