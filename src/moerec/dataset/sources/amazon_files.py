"""Where the files of the Amazon reviews lie, by year and category, under the names that they were published by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from moerec.dataset.download import MIRROR_VARIABLE, mirror_directory
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

Metadata = Literal["required", "optional", "none"]

REVIEWS = {
    2023: ("raw/review_categories/{}.jsonl", "{}.jsonl"),
    2018: ("{}_5.json", "{}.json"),
    2014: ("reviews_{}_5.json", "reviews_{}.json"),
}
"""File names for each year; each may end in .gz. For 2018 and 2014: the 5-core, then all reviews."""
PRODUCTS = {
    2023: ("raw/meta_categories/meta_{}.jsonl", "meta_{}.jsonl"),
    2018: ("meta_{}.json",),
    2014: ("meta_{}.json",),
}


@dataclass(frozen=True)
class CategoryFiles:
    """The files of one category."""

    category: str
    reviews: SourceFile
    products: SourceFile | None
    """None if there is none, and none is needed."""


@dataclass(frozen=True)
class FileNames:
    """The files of one category by their names or addresses."""

    category: str
    reviews: str
    products: str | None
    """None if there is none, and none is needed."""


def find_files(
    year: int, categories: tuple[str, ...], path: str | None, core: bool | None, metadata: Metadata
) -> list[CategoryFiles]:
    """The files of each category, in `path`, or else in the folder `amazon-<year>` of MOEREC_MIRROR.

    Args:
        year: the release.
        categories: as they stand in the names of the files; none for all whose reviews are there.
        path: folder that holds the files.
        core: the 5-core (True), all reviews (False), or whichever is there (None); not for 2023.
        metadata: whether each category needs a file of products.

    Raises:
        DatasetError: a file is missing, or there are two that could be meant; it says what to put where.
    """
    folder = _folder(year, (*categories, "<category>")[0], path)
    names = [f"{each}/{path.name}" for each in folders(year) for path in _files(folder / each)]
    return [
        CategoryFiles(
            found.category,
            SourceFile(folder / found.reviews),
            None if found.products is None else SourceFile(folder / found.products),
        )
        for found in choose_files(names, str(folder), year, categories, core, metadata)
    ]


def folders(year: int) -> list[str]:
    """The folders below that of a release in which its files may lie; `.` is itself."""
    return sorted({str(PurePosixPath(pattern).parent) for pattern in (*REVIEWS[year], *PRODUCTS[year])})


def choose_files(
    names: Collection[str], where: str, year: int, categories: tuple[str, ...], core: bool | None, metadata: Metadata
) -> list[FileNames]:
    """The files of each category among those that are there.

    Args:
        names: of all files, from `where` on.
        where: the folder or address, for messages.
        year: see `find_files`, as the rest.

    Raises:
        DatasetError: a file is missing, or there are two that could be meant; it says what to put where.
    """
    there = {str(PurePosixPath(name)) for name in names}
    chosen = categories or _categories_there(there, where, year)
    return [_of_category(there, where, year, category, core, metadata) for category in chosen]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _folder(year: int, category: str, path: str | None) -> Path:
    if path is not None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"{path} (key `path`): there is no such folder; put {_wanted(year, category)} there")
        return folder
    mirror = mirror_directory()
    folder = Path(f"amazon-{year}") if mirror is None else mirror / f"amazon-{year}"
    if mirror is None or not folder.is_dir():
        where = f"{MIRROR_VARIABLE} is not set" if mirror is None else f"{folder} is no folder"
        raise DatasetError(
            f"Amazon reviews {year}: {where}; write `download: true`, or get {_wanted(year, category)} "
            f"and set `dataset.path` to their folder, or {MIRROR_VARIABLE} to the folder above amazon-{year}/"
        )
    return folder


def _categories_there(there: Collection[str], where: str, year: int) -> list[str]:
    """The categories whose reviews are there, in alphabetical order."""
    found: set[str] = set()
    for pattern in REVIEWS[year]:
        before, after = pattern.split("{}")
        for path in there:
            name = path.removesuffix(".gz")
            category = name.removeprefix(before).removesuffix(after)
            if name == f"{before}{category}{after}" and "/" not in category and not category.startswith("meta_"):
                found.add(category)
    if year != 2023:  # the pattern of all reviews fits the 5-core too
        found = {name.removesuffix("_5") for name in found}
    if not found:
        raise DatasetError(f"{where}: no reviews of any category; put {_wanted(year, '<category>')} there")
    return sorted(found)


def _of_category(
    there: Collection[str], where: str, year: int, category: str, core: bool | None, metadata: Metadata
) -> FileNames:
    names: tuple[str, ...] = REVIEWS[year]
    if year != 2023 and core is not None:
        names = names[:1] if core else names[1:]
    found = [file for name in names if (file := _file(there, name.format(category))) is not None]
    if not found:
        raise DatasetError(f"{where}: no reviews of '{category}'; put {_wanted(year, category)} there")
    if len(found) > 1 and year != 2023:
        raise DatasetError(
            f"{where}: both {found[0]} and {found[1]} are there; say `core: true` for the first or "
            "`core: false` for the second"
        )
    products = None
    if metadata != "none":
        tried = (_file(there, name.format(category)) for name in PRODUCTS[year])
        products = next((file for file in tried if file is not None), None)
    if products is None and metadata == "required":
        name = PRODUCTS[year][-1].format(category)
        raise DatasetError(
            f"{where}: no products of '{category}'; put {name}.gz there, or set `metadata: optional` to go without"
        )
    return FileNames(category, found[0], products)


def _file(there: Collection[str], name: str) -> str | None:
    return next((each for each in (name, f"{name}.gz") if each in there), None)


def _wanted(year: int, category: str) -> str:
    return f"{REVIEWS[year][0].format(category)}.gz and {PRODUCTS[year][0].format(category)}.gz"
