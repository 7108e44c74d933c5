"""A small made-up MovieLens, written in every published layout."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import polars as pl

from moerec.dataset.sources.movielens_layouts import OCCUPATIONS, U_GENRES
from moerec.dataset.sources.movielens_variants import Variant

USERS = 12
MOVIES: tuple[tuple[str, int | None, tuple[str, ...]], ...] = (
    ("Toy Story", 1995, ("Animation", "Children's", "Comedy")),
    ("Full Monty, The", 1997, ("Comedy",)),
    ("Misérables, Les", 1998, ("Drama", "Musical")),
    ("Mission: Impossible", 1996, ("Action",)),
    ("Horseman on the Roof, The (Hussard sur le toit, Le)", 1995, ("Drama",)),
    ("unknown", None, ()),
    ("Good Morning", 1971, ()),
)
TITLES = [
    "Toy Story",
    "The Full Monty",
    "Les Misérables",
    "Mission: Impossible",
    "The Horseman on the Roof (Le Hussard sur le toit)",
    None,
    "Good Morning",
]
GENRES = ["|".join(genres) or None for _, _, genres in MOVIES]
YEARS = [year for _, year, _ in MOVIES]


def ratings() -> list[tuple[int, int, int, int]]:
    """(user, item, rating, seconds) in no particular order; every user and every item occurs."""
    random_numbers = random.Random(5)
    rows = [
        (user, item, random_numbers.randint(1, 5), 874_724_710 + random_numbers.randrange(10**7))
        for user in range(1, USERS + 1)
        for item in range(1, len(MOVIES) + 1)
        if (user + item) % 3
    ]
    random_numbers.shuffle(rows)
    return rows


EVENTS = len(ratings())
VARIANT = Variant("ml-tiny", ("u", "atomic"), EVENTS, USERS, len(MOVIES), len(MOVIES), "latin-1", has_users=True)


def people() -> list[tuple[int, int, str, int, str]]:
    """(user, age, gender, occupation number, zip code)."""
    return [(user, 20 + user, "FM"[user % 2], user % len(OCCUPATIONS), f"0{user:04d}") for user in range(1, USERS + 1)]


def _full_title(number: int) -> str:
    title, year, _ = MOVIES[number]
    return f"{title} ({year})" if year else title


def write_u(folder: Path) -> Path:
    folder.mkdir(parents=True)
    _write(folder / "u.data", ["\t".join(map(str, row)) for row in ratings()])
    items = []
    for number, (_, year, genres) in enumerate(MOVIES):
        flags = ["1" if genre in genres or (not genres and genre == "unknown") else "0" for genre in U_GENRES]
        date = f"01-Jan-{year}" if year else ""
        items.append("|".join([str(number + 1), _full_title(number), date, "", "http://x", *flags]))
    _write(folder / "u.item", items, "latin-1")
    rows = [f"{user}|{age}|{gender}|{OCCUPATIONS[job]}|{code}" for user, age, gender, job, code in people()]
    _write(folder / "u.user", rows)
    return folder


def write_atomic(folder: Path, name: str = "ml-tiny") -> Path:
    folder.mkdir(parents=True)
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    _write(folder / f"{name}.inter", [header, *("\t".join(map(str, row)) for row in ratings())])
    items = ["item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"]
    for number, (title, year, genres) in enumerate(MOVIES, start=1):
        shown = (title, str(year), " ".join(genres) or "unknown") if year else ("unkonwn", "unkonwn", "unknown")
        items.append("\t".join([str(number), *shown]))
    _write(folder / f"{name}.item", items)
    header = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
    rows = [f"{user}\t{age}\t{gender}\t{OCCUPATIONS[job]}\t{code}" for user, age, gender, job, code in people()]
    _write(folder / f"{name}.user", [header, *rows])
    return folder


def write_dat(folder: Path) -> Path:
    folder.mkdir(parents=True)
    _write(folder / "ratings.dat", ["::".join(map(str, row)) for row in ratings()])
    items = [f"{n + 1}::{_full_title(n)}::{'|'.join(genres)}" for n, (_, _, genres) in enumerate(MOVIES)]
    _write(folder / "movies.dat", items, "latin-1")
    _write(
        folder / "users.dat", [f"{user}::{gender}::{age}::{job}::{code}" for user, age, gender, job, code in people()]
    )
    return folder


def write_csv(folder: Path) -> Path:
    folder.mkdir(parents=True)
    _write(folder / "ratings.csv", ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in ratings())])
    items = ["movieId,title,genres"]
    for number, (_, _, genres) in enumerate(MOVIES):
        title = _full_title(number)
        quoted = f'"{title}"' if "," in title else title
        items.append(f"{number + 1},{quoted},{'|'.join(genres) or '(no genres listed)'}")
    _write(folder / "movies.csv", items)
    return folder


def write_sequences(folder: Path) -> Path:
    write_dat(folder)
    (folder / "ratings.dat").unlink()
    frame = pl.DataFrame(ratings(), schema=["user_id", "movie_id", "rating", "time"], orient="row")
    frame = frame.sort("user_id", "time", descending=[True, False])
    position = pl.int_range(pl.len(), dtype=pl.Int32).over("user_id").alias("position")
    frame.select("user_id", "movie_id", position).write_parquet(folder / "sequences.parquet")
    return folder


def zip_folder(folder: Path, archive: Path) -> Path:
    """Pack a folder as its publisher does, inside a folder of the same name, beside a distracting file."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, f"{folder.name}/{path.name}")
            packed.writestr(f"__MACOSX/{folder.name}/._{path.name}", "no data")
    return archive


def _write(path: Path, lines: list[str], encoding: str = "utf-8") -> None:
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
