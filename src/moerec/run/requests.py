"""Requests for lists as the command line makes them."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from moerec.dataset.frames import require_columns
from moerec.errors import MoerecError
from moerec.files import atomic_file
from moerec.recommender import Recommender


def answer(
    recommender: Recommender,
    users: str | None,
    history: list[str] | None,
    histories: Path | None,
    k: int,
    filter_seen: bool,
) -> pl.DataFrame:
    """Lists for users by id, for new users by item ids, or for the histories of a file; with titles.

    Raises:
        MoerecError: none or several of the three are given, or the file cannot be read.
    """
    if sum(given is not None for given in (users, history or None, histories)) != 1:
        raise MoerecError("recommend: give one of --users 1,2,3, --history ID,ID,... and --histories FILE")
    if users is not None:
        ids = [part.strip() for part in users.split(",") if part.strip()]
        if not ids:
            raise MoerecError("recommend: --users names nobody; give user ids, separated by commas")
        frame = recommender.recommend(users=ids, k=k, filter_seen=filter_seen)
    elif history:
        lists = [[part.strip() for part in line.split(",") if part.strip()] for line in history]
        frame = recommender.recommend(histories=lists, k=k, filter_seen=filter_seen)
    else:
        assert histories is not None
        frame = recommender.recommend(histories=read_frame(histories), k=k, filter_seen=filter_seen)
    if "title" not in recommender.items.columns:
        return frame
    titles = recommender.items.select("item_id", "title")
    return frame.join(titles, on="item_id", how="left", maintain_order="left")


def read_frame(path: Path) -> pl.DataFrame:
    """A table of histories: user_id, item_id, and a timestamp if rows are not in time order.

    Ids of a text file are read as they are written (007 is not 7); its timestamps are numbers or ISO dates.

    Raises:
        MoerecError: it is not there or cannot be read.
    """
    if not path.is_file():
        raise MoerecError(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path, glob=False)
        else:
            frame = pl.read_csv(path, separator="\t" if path.suffix == ".tsv" else ",", infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        problem = str(error).strip().splitlines()[0]
        raise MoerecError(f"{path}: cannot be read ({problem}); give UTF-8 CSV or TSV, or Parquet") from None
    require_columns(frame, ("user_id", "item_id"), str(path))
    written = frame.schema.get("timestamp") == pl.String
    return _with_times(frame, path) if written else frame


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


def write_frame(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame as .csv or .parquet, atomically.

    Raises:
        MoerecError: another suffix.
    """
    check_output(path)
    with atomic_file(path) as temporary:
        if path.suffix == ".csv":
            frame.write_csv(temporary)
        else:
            frame.write_parquet(temporary)
