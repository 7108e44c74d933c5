"""DatasetInfo: what `dataset.json` says about a data set; the file is written last, so it marks a whole folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from moerec import __version__
from moerec.config import Config, describe_validation_error
from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.schema import FORMAT_VERSION
from moerec.dataset.splits import SplitConfig
from moerec.errors import DatasetError
from moerec.files import sha256_of_file, write_json

INFO_FILE = "dataset.json"

Verify = Literal["size", "sha256"]


class FileEntry(Config):
    """Size and checksum of one file."""

    bytes: int
    sha256: str


class Counts(Config):
    """How much a data set holds, and what was left out of it."""

    users: int
    """Users with at least one event."""
    items: int
    """The whole catalogue, with or without events."""
    events: int
    rejected: dict[str, int]
    """Rows refused, by reason; the rows themselves are in `rejects.parquet`."""
    items_without_events: int
    items_without_row: int
    """Items of events that the items table lacks; their columns are null."""
    users_without_row: int
    """Users of events that the users table lacks; their columns are null."""
    users_without_events: int
    """Rows of the users table left out because the user has no event."""


class SplitEntry(Config):
    """One split: its rule, the rule in words, and the number of events of each part."""

    config: SplitConfig
    rule: str
    events: dict[str, int]


class CandidateEntry(Config):
    """One set of candidate lists: its rule, the rule in words, and how many lists there are."""

    config: CandidateConfig
    rule: str
    lists: int
    short_lists: int
    """Lists with fewer negatives than asked for, because the user has seen nearly everything."""


class DatasetInfo(Config):
    """The content of `dataset.json`."""

    format_version: int = FORMAT_VERSION
    created_by: str = f"moerec {__version__}"
    name: str
    licence: str | None
    """Licence note of the source."""
    source: dict[str, Any]
    """Name, variant and the checksums of the files that were read."""
    counts: Counts
    labels: tuple[str, ...]
    """Label and action columns of `events.parquet`."""
    texts: tuple[str, ...] = ()
    """Columns of `events.parquet` that a user wrote with the event; never an input of the event itself."""
    unused_columns: tuple[str, ...]
    """Columns of the events that were given and not kept, because they are no labels."""
    timestamps: bool
    """Whether events have times; without, their order is the order of the source."""
    splits: dict[str, SplitEntry] = Field(default_factory=dict)
    candidates: dict[str, CandidateEntry] = Field(default_factory=dict)
    files: dict[str, FileEntry] = Field(default_factory=dict)
    """Every other file of the folder, by relative path."""


def file_entry(path: Path) -> FileEntry:
    """Size and checksum of a file."""
    return FileEntry(bytes=path.stat().st_size, sha256=sha256_of_file(path))


def write_info(directory: Path, info: DatasetInfo) -> None:
    """Write `dataset.json` atomically; its bytes depend on the content alone."""
    ordered = {name: dict(sorted(getattr(info, name).items())) for name in ("splits", "candidates", "files")}
    write_json(directory / INFO_FILE, info.model_copy(update=ordered).model_dump(mode="json"))


def read_info(directory: Path) -> DatasetInfo:
    """Read `dataset.json`.

    Raises:
        DatasetError: no folder, no whole data set in it, or a format that this version does not read.
    """
    path = directory / INFO_FILE
    if not directory.is_dir():
        raise DatasetError(f"{directory}: no such folder; make the data set with `moerec prepare`, or correct the path")
    if not path.is_file():
        raise DatasetError(f"{directory}: no whole data set, {INFO_FILE} is missing; make it again or correct the path")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise DatasetError(f"{path}: damaged, not valid JSON; make the data set again") from None
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        found = "no data set of moerec" if version is None else f"format version {version}"
        raise DatasetError(f"{path}: {found}, this moerec reads version {FORMAT_VERSION}; make the data set again")
    try:
        return DatasetInfo.model_validate(values)
    except ValidationError as error:
        problem = describe_validation_error(error, DatasetInfo)
        raise DatasetError(f"{path}: {problem}; make the data set again") from None


def check_files(directory: Path, info: DatasetInfo, verify: Verify) -> None:
    """Refuse a data set with a missing, truncated or (with `sha256`) changed file."""
    for name, entry in info.files.items():
        path = directory / name
        if not path.is_file():
            raise DatasetError(f"{path}: missing; make the data set again")
        size = path.stat().st_size
        if size != entry.bytes:
            raise DatasetError(f"{path}: {size} bytes instead of {entry.bytes}; make the data set again")
        if verify == "sha256" and sha256_of_file(path) != entry.sha256:
            raise DatasetError(f"{path}: its content has changed (sha256); make the data set again")
