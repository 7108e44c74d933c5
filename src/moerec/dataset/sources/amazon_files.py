"""Where the files of the Amazon reviews lie, by year and category, under the names that they were published by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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
    chosen = categories or _categories_there(folder, year)
    return [_of_category(folder, year, category, core, metadata) for category in chosen]


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
            f"Amazon reviews {year}: {where}; get {_wanted(year, category)} from the publisher and set "
            f"`dataset.path` to their folder, or {MIRROR_VARIABLE} to the folder above amazon-{year}/"
        )
    return folder


def _categories_there(folder: Path, year: int) -> list[str]:
    """The categories whose reviews are there, in alphabetical order."""
    found: set[str] = set()
    for pattern in REVIEWS[year]:
        before, after = (folder / pattern).name.split("{}")
        for path in (folder / pattern).parent.glob(f"{before}*"):
            name = path.name.removesuffix(".gz")
            if path.is_file() and name.endswith(after) and not name.startswith("meta_"):
                found.add(name.removeprefix(before).removesuffix(after))
    if year != 2023:  # the pattern of all reviews fits the 5-core too
        found = {name.removesuffix("_5") for name in found}
    if not found:
        raise DatasetError(f"{folder}: no reviews of any category; put {_wanted(year, '<category>')} there")
    return sorted(found)


def _of_category(folder: Path, year: int, category: str, core: bool | None, metadata: Metadata) -> CategoryFiles:
    names: tuple[str, ...] = REVIEWS[year]
    if year != 2023 and core is not None:
        names = names[:1] if core else names[1:]
    found = [file for name in names if (file := _file(folder, name.format(category))) is not None]
    if not found:
        raise DatasetError(f"{folder}: no reviews of '{category}'; put {_wanted(year, category)} there")
    if len(found) > 1 and year != 2023:
        raise DatasetError(
            f"{folder}: both {found[0].name} and {found[1].name} are there; say `core: true` for the first or "
            "`core: false` for the second"
        )
    products = None
    if metadata != "none":
        tried = (_file(folder, name.format(category)) for name in PRODUCTS[year])
        products = next((file for file in tried if file is not None), None)
    if products is None and metadata == "required":
        name = PRODUCTS[year][-1].format(category)
        raise DatasetError(
            f"{folder}: no products of '{category}'; put {name}.gz there, or set `metadata: optional` to go without"
        )
    return CategoryFiles(category, found[0], products)


def _file(folder: Path, name: str) -> SourceFile | None:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return SourceFile(path)
    return None


def _wanted(year: int, category: str) -> str:
    return f"{REVIEWS[year][0].format(category)}.gz and {PRODUCTS[year][0].format(category)}.gz"
