"""Amazon reviews from elsewhere: downloaded from the publisher, or copied from any address that fsspec knows.

A file lies under its name only when it is whole. What has come of a broken transfer waits beside it and is continued.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from moerec.dataset.download import Credential, NotThereError, cache_directory, download, mirror_directory
from moerec.dataset.parallel import Watch, in_parallel
from moerec.dataset.sources.amazon_files import PRODUCTS, REVIEWS, FileNames, Metadata, choose_files, folders
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError
from moerec.files import atomic_file, fingerprint

HUB, HUB_VARIABLE, TOKEN_VARIABLE = "https://huggingface.co", "HF_ENDPOINT", "HF_TOKEN"
DATASET = "datasets/McAuley-Lab/Amazon-Reviews-2023/resolve/main"
BELOW = {
    2023: ("",),
    2018: ("", "categoryFilesSmall/", "categoryFiles/", "metaFiles2/"),
    2014: ("", "categoryFiles/", "metaFiles/"),
}
"""Where below its address a publisher may keep the files of a release."""


def hub() -> Credential:
    """The model hub's address (HF_ENDPOINT, or the public one) and the token that it alone is shown (HF_TOKEN)."""
    return Credential(os.environ.get(HUB_VARIABLE) or HUB, os.environ.get(TOKEN_VARIABLE) or None, TOKEN_VARIABLE)


def default_url(year: int) -> str | None:
    """Where the files of a release are, if one place has them all."""
    return f"{hub().origin.rstrip('/')}/{DATASET}" if year == 2023 else None


@dataclass(frozen=True)
class Wanted:
    """Which files of a release; see `find_files`."""

    year: int
    categories: tuple[str, ...]
    core: bool | None
    metadata: Metadata

    def choose(self, storage: Storage) -> list[FileNames]:
        """The files among those of a place.

        Raises:
            DatasetError: one is missing, or the place cannot be read.
        """
        names = [
            name if below == "." else f"{below}/{name}"
            for below in folders(self.year)
            for name in Storage(storage.address(below) if below != "." else storage.url).names()
        ]
        return choose_files(names, storage.url, self.year, self.categories, self.core, self.metadata)


def download_files(url: str, folder: Path, wanted: Wanted) -> None:
    """Bring files into a folder, under the names that `find_files` knows; those that are there are not asked for.

    Args:
        url: below it lie the files.
        folder: where they go.
        wanted: which; of the 5-core and all reviews the first that the server has, if it does not say.

    Raises:
        DatasetError: a file is not there, or cannot be had; it says why.
    """
    reviews: tuple[str, ...] = REVIEWS[wanted.year]
    if wanted.year == 2023:
        reviews = reviews[:1]
    elif wanted.core is not None:
        reviews = reviews[:1] if wanted.core else reviews[1:]
    transfers: list[Callable[[Watch], Path | None]] = []
    for category in wanted.categories:
        kinds = [(reviews, True)]
        if wanted.metadata != "none":
            kinds.append((PRODUCTS[wanted.year][:1], wanted.metadata == "required"))
        for patterns, required in kinds:
            names = [pattern.format(category) for pattern in patterns]
            if not any(_is_there(folder, name) for name in names):
                transfers.append(partial(_first_of, wanted.year, url, names, folder, required))
    if transfers:
        in_parallel(transfers, f"Amazon reviews {wanted.year}: {len(transfers)} files")


def copy_files(address: str, wanted: Wanted) -> Path:
    """Copy files from an address of fsspec into the cache; return their folder there.

    Raises:
        DatasetError: a file is missing, or the address cannot be read.
    """
    storage, folder = Storage(address), copies_of(address)
    names = [name for files in wanted.choose(storage) for name in (files.reviews, files.products) if name is not None]
    transfers = [
        partial(_copied, storage, name, folder / name, mark)
        for name in names
        if _mark_of(folder / name) != (mark := storage.mark(name))
    ]
    if transfers:
        in_parallel(transfers, f"Amazon reviews {wanted.year}: {len(transfers)} files")
    return folder


def identities_at(address: str, wanted: Wanted) -> list[dict[str, Any]]:
    """Names of the files at an address, and what changes with their content; nothing is copied."""
    storage = Storage(address)
    return [
        {"name": PurePosixPath(name).name, "mark": storage.mark(name)}
        for files in wanted.choose(storage)
        for name in (files.reviews, files.products)
        if name is not None
    ]


def downloads_of(year: int, url: str) -> Path:
    """The folder of the cache for what is downloaded from an address; that of the default one has a plain name."""
    name = f"amazon-{year}"
    return cache_directory() / (name if url == default_url(year) else f"{name}-{fingerprint(url)}")


def copies_of(address: str) -> Path:
    """The folder of the cache for what is copied from an address."""
    return cache_directory() / f"amazon-{fingerprint(address)}"


def is_in_mirror(wanted: Wanted) -> bool:
    """Whether the folder of this release in MOEREC_MIRROR holds all that is wanted."""
    mirror = mirror_directory()
    if mirror is None:
        return False
    try:
        wanted.choose(Storage(str(mirror / f"amazon-{wanted.year}")))
    except DatasetError:
        return False
    return True


def _is_there(folder: Path, name: str) -> bool:
    tried = (folder / name, folder / PurePosixPath(name).name)
    return any(path.is_file() or path.with_name(f"{path.name}.gz").is_file() for path in tried)


def _first_of(year: int, url: str, names: Sequence[str], folder: Path, required: bool, watch: Watch) -> Path | None:
    """Download the first of some files that the server has, gzipped or plain."""
    endings = ("", ".gz") if year == 2023 else (".gz", "")
    tried = [f"{below}{name}{ending}" for name in names for below in BELOW[year] for ending in endings]
    for each in tried:
        target = folder / (each if year == 2023 else PurePosixPath(each).name)
        try:
            return download(
                f"{url.rstrip('/')}/{each}",
                target,
                use_mirror=False,
                credential=hub(),
                advance=watch.advance,
                stop=watch.stop,
            )
        except NotThereError:
            continue
    if not required:
        return None
    raise DatasetError(
        f"{url}: the server has none of {', '.join(tried[:2])}{', ...' if len(tried) > 2 else ''}; "
        "is the category written as in the names of the files, such as All_Beauty?"
    )


def _copied(storage: Storage, name: str, target: Path, mark: str, watch: Watch) -> Path:
    target.unlink(missing_ok=True)
    with atomic_file(_mark_file(target)) as temporary:
        temporary.write_text(mark, encoding="ascii")
    return storage.fetch(name, target, watch=watch)


def _mark_of(copy: Path) -> str | None:
    """The mark of the file that was copied, if the copy is whole."""
    marks = _mark_file(copy)
    return marks.read_text(encoding="ascii") if copy.is_file() and marks.is_file() else None


def _mark_file(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.mark")
