"""Census-Income (KDD): people of a census, each with the attributes of the census and two things to predict.

It is the data set of Ma et al. (2018), section 6.2: whether a person earns more than 50,000 dollars a year, and whether
a person never married. There are no items and no times, so each person is a user with one event, the survey.

The marital status itself is kept out of the users' columns, and so is the income. Two other attributes nearly say who
never married: `detailed_household_and_family_stat` and `detailed_household_summary_in_household` have values such as
"Child 18+ never marr Not in a subfamily". Published figures are made with them; leave them out for a real question.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.dataset.download import MIRROR_VARIABLE, cache_directory, download, mirror_directory
from moerec.dataset.schema import RawTables
from moerec.dataset.sources.census_generated import census_lines
from moerec.dataset.sources.census_layout import (
    ATTRIBUTES,
    FIELDS,
    HIGH,
    INCOME,
    LOW,
    MARITAL,
    MARITAL_STATES,
    NEVER_MARRIED,
    NOT_KNOWN,
    NUMBERS,
)
from moerec.dataset.sources.columns import LINE, Column, Table
from moerec.dataset.sources.lines import Delimited, read_delimited
from moerec.dataset.sources.source_files import GZIP_MAGIC, SourceFile, SourceFolder
from moerec.errors import DatasetError

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/census-income-mld"
LICENCE = (
    "Census-Income (KDD), UCI Machine Learning Repository (doi 10.24432/C5N30T), Creative Commons Attribution 4.0; "
    "generated people need no licence"
)
FOLDER, ITEM = "census-income", "survey"
"""Folder of the files in a mirror; the one item."""
ROWS = {"data": 199_523, "test": 99_762}
"""Lines of each published file, census-income.data.gz and census-income.test.gz."""
PARTS = {"test": ("test",), "full": ("data", "test")}
"""The files of each published variant."""
DEFAULT_ROWS = 3000

Variant = Literal["test", "full", "generated"]


@dataclass(frozen=True)
class _Found:
    """The files of a variant by part, and how they came here."""

    files: Mapping[str, SourceFile]
    place: str


class CensusIncomeConfig(Config):
    """Census-Income (KDD): a person is a user with one event, labels `income` and `never_married`; no times."""

    variant: Variant = "test"
    """test (99,762 people), full (299,285 people, both published files), generated (planted structure, no download)."""
    path: str | None = None
    """Folder that holds the files; by default MOEREC_MIRROR is searched, then UCI."""
    rows: int = Field(default=DEFAULT_ROWS, ge=1)
    """For `generated`: number of people."""
    seed: int = Field(default=0, ge=0)
    """For `generated`: seed of everything that is drawn."""

    @model_validator(mode="after")
    def _check(self) -> CensusIncomeConfig:
        if self.variant == "generated" and self.path is not None:
            raise ValueError("path: the variant 'generated' reads no file; remove path or choose test or full")
        if self.variant != "generated" and (self.rows, self.seed) != (DEFAULT_ROWS, 0):
            raise ValueError(f"rows and seed belong to the variant 'generated', not to '{self.variant}'; remove them")
        return self

    def read(self) -> RawTables:
        """Read the files and check that they are whole.

        Raises:
            DatasetError: a file is nowhere to be found, damaged, or not whole.
        """
        if self.variant == "generated":
            return self._generated()
        found = self._find_locally() or self._find_far_away()
        tables = {part: _read_file(file) for part, file in found.files.items()}
        for part, table in tables.items():
            _check_count(found.files[part].name, table, ROWS[part])
        files = [file.identity() for file in found.files.values()]
        return self._tables(tables, {"place": found.place, "files": files})

    def describe(self) -> str:
        """One line that says what is read."""
        if self.variant == "generated":
            return f"generated: {self.rows:,} people in the form of Census-Income, seed {self.seed}"
        rows = sum(ROWS[part] for part in PARTS[self.variant])
        return f"Census-Income {self.variant} ({rows:,} people)" + (f" in {self.path}" if self.path else "")

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The variant, and the content of the files where they lie in `path` or in the mirror."""
        inputs: dict[str, Any] = {"source": "census_income", "variant": self.variant}
        if self.variant == "generated":
            return inputs | {"rows": self.rows, "seed": self.seed}
        found = self._find_locally()
        if found is not None:
            inputs["files"] = [file.identity() for file in found.files.values()]
        return inputs

    def _tables(self, tables: Mapping[str, Table], origin: dict[str, Any]) -> RawTables:
        people = pl.concat(
            [table.frame.with_columns(user_id=pl.format(f"{part}-{{}}", "line")) for part, table in tables.items()]
        )
        events = people.select(
            "user_id",
            pl.lit(ITEM).alias("item_id"),
            pl.lit(None, dtype=pl.Int64).alias("timestamp"),
            (pl.col(INCOME) == HIGH).cast(pl.Int8).alias("income"),
            (pl.col(MARITAL) == NEVER_MARRIED).cast(pl.Int8).alias("never_married"),
        )
        known = [
            pl.when(pl.col(name) != NOT_KNOWN).then(name).alias(name) for name in ATTRIBUTES if name not in NUMBERS
        ]
        return RawTables(
            events=events,
            users=people.with_columns(known).select("user_id", *(name for name in ATTRIBUTES if name != MARITAL)),
            items=pl.DataFrame({"item_id": [ITEM], "title": ["Census survey"]}),
            rejects=pl.concat([table.rejects for table in tables.values()]),
            labels=("income", "never_married"),
            source={
                "name": f"census-income-{self.variant}",
                "source": "census_income",
                "variant": self.variant,
                "licence": LICENCE,
            }
            | origin,
        )

    def _generated(self) -> RawTables:
        """Generated lines, read as a published file is read."""
        with tempfile.TemporaryDirectory(prefix="moerec-") as folder:
            file = Path(folder) / "census-income.generated"
            file.write_text("\n".join(census_lines(self.rows, self.seed)), encoding="utf-8")
            return self._tables({"generated": _read_file(SourceFile(file))}, {"place": "generated", "seed": self.seed})

    def _find_locally(self) -> _Found | None:
        """The files in `path`, else in the mirror if it has all of them."""
        if self.path is not None:
            folder = Path(self.path).expanduser()
            if not folder.exists():
                raise DatasetError(f"{self.path} (key `path`): there is no such folder")
            files = self._look_into(folder)
            missing = [part for part in PARTS[self.variant] if part not in files]
            if missing:
                raise DatasetError(
                    f"{folder}: no census-income.{missing[0]}.gz, which variant '{self.variant}' needs; "
                    "put it there, correct `path`, or choose another variant"
                )
            return _Found(files, "path")
        mirror = mirror_directory()
        files = {} if mirror is None else self._look_into(mirror / FOLDER)
        return _Found(files, MIRROR_VARIABLE) if len(files) == len(PARTS[self.variant]) else None

    def _look_into(self, folder: Path) -> dict[str, SourceFile]:
        """The files of the variant that a folder or archive has."""
        if not folder.exists():
            return {}
        found = {part: SourceFolder(folder).find(f"census-income.{part}") for part in PARTS[self.variant]}
        return {part: file for part, file in found.items() if file is not None}

    def _find_far_away(self) -> _Found:
        """Each file from the mirror, the cache or UCI."""
        files = {}
        for part in PARTS[self.variant]:
            name = f"census-income.{part}.gz"
            try:
                path = download(f"{UCI}/{name}", cache_directory() / FOLDER / name, mirror_name=f"{FOLDER}/{name}")
            except DatasetError as error:
                raise DatasetError(
                    f"{name} is not in {MIRROR_VARIABLE} and cannot be downloaded ({error}); set `dataset.path` to a "
                    f"folder that holds it, {MIRROR_VARIABLE} to the folder above {FOLDER}/, or take variant: generated"
                ) from None
            _check_gzip(path)
            files[part] = SourceFile(path)
        return _Found(files, "UCI")


def _check_gzip(path: Path) -> None:
    """Throw away what is no gzip file: the login page of a network must not stay in the cache as if it were the data.

    Raises:
        DatasetError: it was none.
    """
    with path.open("rb") as stream:
        if stream.read(2) == GZIP_MAGIC:
            return
    if path.is_relative_to(cache_directory()):
        path.unlink()
    raise DatasetError(f"{path.name}: what came from UCI is no gzip file; try again, or set `dataset.path`")


def _read_file(file: SourceFile) -> Table:
    """The people of one file: line, attributes, income; lines that do not fit are rejects."""
    kinds = {INCOME: Column(INCOME, "text", required=True, values=(LOW, HIGH))}
    kinds |= {MARITAL: Column(MARITAL, "text", required=True, values=MARITAL_STATES)}
    kinds |= {name: Column(name, "number") for name in NUMBERS}
    columns = [kinds.get(name, Column(name, "text")) for name in (*ATTRIBUTES, INCOME)]
    return read_delimited(file, Delimited(","), FIELDS, [Column(LINE, "any", "line"), *columns])


def _check_count(name: str, table: Table, expected: int) -> None:
    """Refuse a part of a file; a line that was read and refused does count."""
    kept, refused = table.frame.height, table.rejects.height
    if not kept <= expected <= kept + refused:
        more = f" and {refused:,} refused" if refused else ""
        raise DatasetError(
            f"{name}: {kept:,} people{more}, expected {expected:,}: this is not the whole file; get it again, or read "
            "a part of it with source: table"
        )
