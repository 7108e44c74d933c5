"""Pictures of web addresses, fetched and made once, and found again by address.

Below the folder of a `FetchCache`, `pictures/<fingerprint>/<ab>/<sha256>.jpg` (or .u8) is what was made of a content by
one `PictureConfig`, and `<sha256>.reason` says why nothing could be made of it. With other settings pictures are made
anew from the contents that are there, without the web.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import polars as pl

from moerec.modalities.encoders import Progress
from moerec.modalities.fetch import FetchSummary, Use, run_fetch
from moerec.modalities.fetch_cache import FetchCache, write_whole
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.images import NO_IMAGE_NAMED, BrokenImageError, start_problem
from moerec.modalities.pictures import PictureConfig, make_picture, to_bytes

NOT_FETCHED = "not fetched"
OUTCOMES = {"item_id": pl.String, "url": pl.String, "sha256": pl.String, "path": pl.String, "reason": pl.String}
"""Columns of `PictureStore.outcomes`; `reason` is null where there is a picture."""


@dataclass(frozen=True)
class FoundPicture:
    """The picture of one address, or why there is none."""

    path: Path | None = None
    """The file."""
    sha256: str | None = None
    """Of the content that it was made from; equal contents have equal pictures."""
    reason: str | None = None
    """Why there is none."""


def fetch_pictures(
    urls: Iterable[str | None],
    folder: Path,
    fetch: FetchConfig,
    picture: PictureConfig,
    progress: Progress | None = None,
    total: int | None = None,
) -> FetchSummary:
    """Fetch, decode and resize the picture of each address; what is there already is not done again.

    Args:
        urls: http and https addresses, read as they are needed; None and empty ones are left out and never fetched.
        folder: of the cache; the results are read by `PictureStore`.
        fetch: limits.
        picture: what is made of each picture.
        progress: called, from another thread, with the number of addresses settled and their total.
        total: distinct addresses, if it is known, for `progress`.

    Returns:
        counts: each address ended with a picture or with a reason.

    Raises:
        MissingExtraError: aiohttp or pillow is not installed.
        DatasetError: the table of the folder is damaged.
    """
    files = _Files(folder, picture)
    use = Use(start=start_problem, take=files.make, done=files.made, problem=files.problem)
    return run_fetch(_named(urls), folder, fetch, use, progress, total)


class PictureStore:
    """What `fetch_pictures` left in a folder; as a context manager."""

    def __init__(self, folder: Path, picture: PictureConfig) -> None:
        self._cache = FetchCache(folder)
        self._files = _Files(folder, picture)

    def __enter__(self) -> PictureStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.__exit__(kind, error, trace)

    def find(self, url: str | None) -> FoundPicture:
        """The picture of an address, or the reason why there is none."""
        if url is None or not url.strip():
            return FoundPicture(reason=NO_IMAGE_NAMED)
        outcome = self._cache.get(url)
        if outcome is None:
            return FoundPicture(reason=NOT_FETCHED)
        if outcome.sha256 is None:
            return FoundPicture(reason=outcome.reason)
        if not self._files.made(outcome.sha256):
            return FoundPicture(reason=NOT_FETCHED)
        reason = self._files.problem(outcome.sha256)
        path = self._files.path(outcome.sha256) if reason is None else None
        return FoundPicture(path, outcome.sha256, reason)

    def outcomes(self, items: pl.DataFrame, column: str = "image") -> pl.DataFrame:
        """What became of each item's picture; the columns are `OUTCOMES`.

        Args:
            items: with `item_id` and a column of addresses.
            column: its name.
        """
        urls = items[column].cast(pl.String).to_list()
        found = [self.find(url) for url in urls]
        return pl.DataFrame(
            {
                "item_id": items["item_id"].cast(pl.String),
                "url": urls,
                "sha256": [one.sha256 for one in found],
                "path": [None if one.path is None else str(one.path) for one in found],
                "reason": [one.reason for one in found],
            },
            schema=OUTCOMES,
        )


class _Files:
    """The files made by one configuration."""

    def __init__(self, folder: Path, picture: PictureConfig) -> None:
        self.folder = folder / "pictures" / picture.fingerprint()
        self.picture = picture

    def path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / f"{sha256}{self.picture.suffix}"

    def made(self, sha256: str) -> bool:
        path = self.path(sha256)
        return path.exists() or path.with_suffix(".reason").exists()

    def problem(self, sha256: str) -> str | None:
        path = self.path(sha256)
        return None if path.exists() else path.with_suffix(".reason").read_text(encoding="utf-8")

    def make(self, sha256: str, content: bytes) -> None:
        path = self.path(sha256)
        try:
            made = to_bytes(make_picture(content, self.picture), self.picture)
        except BrokenImageError as broken:
            write_whole(path.with_suffix(".reason"), str(broken).encode())
        else:
            write_whole(path, made)


def _named(urls: Iterable[str | None]) -> Iterator[str]:
    return (url for url in urls if url is not None and url.strip())
