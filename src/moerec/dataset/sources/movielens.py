"""MovieLens by the name of a variant: found locally, in a mirror or on the network, and checked to be whole."""

from __future__ import annotations

import difflib
import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import field_validator, model_validator

from moerec.config import Config
from moerec.dataset.download import MIRROR_VARIABLE, cache_directory, download, mirror_directory
from moerec.dataset.schema import RawTables
from moerec.dataset.sources.movielens_layouts import LAYOUTS, find_files
from moerec.dataset.sources.movielens_variants import (
    CUSTOM,
    CUSTOM_VARIANT,
    GROUPLENS,
    LICENCE,
    VARIANTS,
    Variant,
    check_counts,
)
from moerec.dataset.sources.recbole_wheel import cached_wheel, fetch_wheel
from moerec.dataset.sources.source_files import SourceFile, SourceFolder
from moerec.errors import DatasetError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Found:
    """The files of a variant, and how they came here."""

    layout: str
    files: dict[str, SourceFile]
    place: str


class MovieLensConfig(Config):
    """MovieLens in any published layout; a part of a data set is never taken for the whole."""

    variant: str = "ml-100k"
    """ml-100k, ml-1m, ml-1m-users-2999, ml-1m-sequences, ml-10m, ml-20m, ml-25m, ml-32m, ml-latest-small, ml-latest;
    or custom for one's own part of one, with `path` and without a check of the counts."""
    path: str | None = None
    """Folder or zip archive that holds the files; by default MOEREC_MIRROR is searched, then the network."""
    encoding: str | None = None
    """Encoding of the text files; by default the one in which the variant was published (custom: utf-8)."""

    @field_validator("variant")
    @classmethod
    def _known(cls, value: str) -> str:
        known = [*VARIANTS, CUSTOM]
        if value in known:
            return value
        near = difflib.get_close_matches(value, known, n=1)
        raise ValueError(f"unknown variant; did you mean '{near[0]}'?" if near else f"variants: {', '.join(known)}")

    @model_validator(mode="after")
    def _check(self) -> MovieLensConfig:
        if self.variant == CUSTOM and self.path is None:
            raise ValueError("variant 'custom' needs `path`, the folder of your files")
        return self

    def read(self) -> RawTables:
        """Read the variant from the first place that has it, and check that it is whole.

        Raises:
            DatasetError: nowhere to be found (with every place that was tried), damaged, or not whole.
        """
        found = self._find_locally() or self._find_far_away()
        layout = LAYOUTS[found.layout]
        tables = layout.read(found.files, self.encoding or layout.encoding or self._variant.encoding)
        check_counts(self.variant, self._variant, tables, [found.files["events"].name])
        source = {
            "name": self.variant,
            "source": "movielens",
            "variant": self.variant,
            "licence": LICENCE,
            "layout": found.layout,
            "place": found.place,
            "files": [file.identity() for file in found.files.values()],
        }
        return replace(tables, source=source)

    def describe(self) -> str:
        """One line that says what is read."""
        events = f" ({self._variant.events:,} events)" if self._variant.events else ""
        return f"MovieLens {self.variant}{events}" + (f" in {self.path}" if self.path else "")

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The variant, and the content of the files where they lie in `path` or in the mirror.

        A downloaded variant goes by its name alone, so that it is found again whether the download is
        still there or not; `ml-latest` and `ml-latest-small` too, although they change at the publisher.
        """
        inputs: dict[str, Any] = {"source": "movielens", "variant": self.variant, "encoding": self.encoding}
        if "sequences" in self._variant.layouts:
            inputs["catalogue"] = "items of the log"
        found = self._find_locally()
        if found is not None:
            inputs["files"] = [file.identity() for file in found.files.values()]
        return inputs

    @property
    def _variant(self) -> Variant:
        return CUSTOM_VARIANT if self.variant == CUSTOM else VARIANTS[self.variant]

    def _find_locally(self) -> _Found | None:
        """The files in `path`, else in the mirror if it has them."""
        if self.path is not None:
            folder = SourceFolder(Path(self.path).expanduser())
            if not folder.path.exists():
                raise DatasetError(f"{self.path} (key `path`): there is no such folder or archive")
            return self._look_into(folder, "path")
        mirror = mirror_directory()
        if mirror is None:
            return None
        for place in self._mirror_places(mirror):
            if place.exists():
                try:
                    return self._look_into(SourceFolder(place), MIRROR_VARIABLE)
                except _NotHereError as error:
                    logger.info("%s", error)
        return None

    def _mirror_places(self, mirror: Path) -> list[Path]:
        folder = self._variant.folder
        return [mirror / folder, mirror / f"{folder}.zip", mirror / folder / f"{folder}.zip"]

    def _look_into(self, folder: SourceFolder, place: str) -> _Found:
        """The files of the first layout that is there as a whole.

        Raises:
            _NotHereError: no layout of this variant is there; it names what is missing.
        """
        partly = ""
        for name in self._variant.layouts:
            layout = LAYOUTS[name]
            files = find_files(folder, layout, self._variant.folder)
            needed = ["events", "items", *(["users"] if self._variant.has_users else [])]
            if self.variant == CUSTOM:
                needed = ["events"]
            missing = [key for key in needed if key not in files]
            if not missing:
                return _Found(name, files, place)
            if files:
                partly = (
                    f" (there is {', '.join(file.name for file in files.values())}, but no file of the {missing[0]})"
                )
        wanted = " or ".join(LAYOUTS[name].events.replace("*", self._variant.folder) for name in self._variant.layouts)
        raise _NotHereError(f"{folder.path}: no {wanted} for variant {self.variant}{partly}")

    def _find_far_away(self) -> _Found:
        """Download the variant: first what the cache has, then GroupLens, then the package index."""
        tried = [self._why_not_in_mirror()]
        for place, get in self._ways(cached_only=True) + self._ways(cached_only=False):
            try:
                archive = get()
                if archive is not None:
                    return self._look_into(SourceFolder(archive), place)
            except DatasetError as error:
                tried.append(str(error))
                logger.warning("%s is not to be had from %s: %s", self.variant, place, error)
        listed = "; ".join(f"({number}) {reason}" for number, reason in enumerate(tried, start=1))
        raise DatasetError(
            f"{self.variant} was found nowhere: {listed}. Set `dataset.path` to a folder that holds it, "
            f"or {MIRROR_VARIABLE} to the folder above {self._variant.folder}/"
        )

    def _why_not_in_mirror(self) -> str:
        mirror = mirror_directory()
        if mirror is None:
            return f"{MIRROR_VARIABLE} is not set"
        for place in self._mirror_places(mirror):
            if place.exists():
                try:
                    self._look_into(SourceFolder(place), MIRROR_VARIABLE)
                except _NotHereError as error:
                    return str(error)
        return f"{mirror}: neither {self._variant.folder}/ nor {self._variant.folder}.zip"

    def _ways(self, cached_only: bool) -> list[tuple[str, Callable[[], Path | None]]]:
        """(name of the place, how to get an archive from it)."""
        ways: list[tuple[str, Callable[[], Path | None]]] = []
        if self._variant.published:
            ways.append(("GroupLens", partial(_from_grouplens, f"{self._variant.folder}.zip", cached_only)))
        if self._variant.folder == "ml-100k":
            ways.append(("the package index", cached_wheel if cached_only else fetch_wheel))
        return ways


def _from_grouplens(name: str, cached_only: bool) -> Path | None:
    """The archive in the cache, else (unless `cached_only`) from the publisher's server."""
    archive = cache_directory() / name
    if not archive.is_file():
        if cached_only:
            return None
        # No checksum is pinned: the length, the checksums inside the archive and the counts must be right.
        archive = download(f"{GROUPLENS}/{name}", archive)
    if not zipfile.is_zipfile(archive):
        # A login page of a network, for instance; it must not stay in the cache as if it were the data.
        if archive.parent == cache_directory():
            archive.unlink()
        raise DatasetError(f"{GROUPLENS}/{name}: what came is no zip archive")
    return archive


class _NotHereError(DatasetError):
    """A place does not hold the variant; another one may."""
