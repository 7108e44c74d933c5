"""DatasetFolder: the files of a data set and the `dataset.json` that lists them, kept in step."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from moerec.dataset.info import INFO_FILE, DatasetInfo, Verify, check_files, file_entry, read_info, write_info
from moerec.errors import DatasetError
from moerec.files import atomic_directory, atomic_file


class DatasetFolder:
    """The info of a data set, and its folder once it is saved.

    Every change of a saved data set rewrites `dataset.json` last, so that a crash at any moment leaves a whole one.
    """

    def __init__(self, info: DatasetInfo, path: Path | None = None) -> None:
        self.info = info
        self.path = path

    @classmethod
    def open(cls, path: Path, verify: Verify) -> DatasetFolder:
        """Read and check `dataset.json`; see `Dataset.open`."""
        info = read_info(path)
        check_files(path, info, verify)
        return cls(info, path)

    def require_path(self, purpose: str) -> Path:
        """The folder, or a `DatasetError` if the data set is not saved yet."""
        if self.path is None:
            raise DatasetError(f"{purpose} needs a data set on disk; call save(directory) first")
        return self.path

    def save(self, target: Path, write_tables: Callable[[Path], None]) -> None:
        """Write or copy everything into `target`, all or nothing, and move there; see `Dataset.save`."""
        if target == self.path:
            return
        if target.exists() and not target.is_dir():
            raise DatasetError(f"{target}: a file stands there; choose a folder")
        if target.is_dir() and any(target.iterdir()) and not (target / INFO_FILE).is_file():
            raise DatasetError(f"{target}: the folder is not empty and holds no data set; choose another folder")
        with atomic_directory(target) as temporary:
            if self.path is None:
                write_tables(temporary)
            else:
                self._copy_files(self.path, temporary)
            paths = sorted(path for path in temporary.rglob("*") if path.is_file())
            files = {path.relative_to(temporary).as_posix(): file_entry(path) for path in paths}
            info = self.info.model_copy(update={"files": files})
            write_info(temporary, info)
        self.info, self.path = info, target

    def read_table(self, relative_path: str, columns: list[str] | None = None) -> pl.DataFrame:
        """Read a Parquet file of the folder, or some of its columns."""
        path = self.require_path("a table") / relative_path
        try:
            return pl.read_parquet(path, columns=columns, glob=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            problem = str(error).partition("\n")[0]
            raise DatasetError(f"{path}: cannot be read ({problem}); make the data set again") from None

    def add_table(self, relative_path: str, table: pl.DataFrame, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Write a table (if there is a folder) and enter it into the info.

        Args:
            relative_path: where the table goes.
            table: what is written.
            entries: further entries of the info, by field and name.
        """
        if self.path is not None:
            path = self.path / relative_path
            with atomic_file(path) as temporary:
                table.write_parquet(temporary)
            entries = {**entries, "files": {relative_path: file_entry(path)}}
        self._update(entries)

    def register_file(self, relative_path: str) -> None:
        """Enter a file of the folder into `dataset.json`; see `Dataset.register_file`."""
        folder = self.require_path("a file").resolve()
        path = (folder / relative_path).resolve()
        if not path.is_file() or not path.is_relative_to(folder):
            raise DatasetError(f"{relative_path}: no such file in {folder}; write it there first")
        self._update({"files": {path.relative_to(folder).as_posix(): file_entry(path)}})

    def forget_file(self, relative_path: str) -> None:
        """Take a file out of `dataset.json`; see `Dataset.forget_file`."""
        folder = self.require_path("a file")
        info = read_info(folder)
        files = {name: entry for name, entry in info.files.items() if name != relative_path}
        self.info = info.model_copy(update={"files": files})
        if len(files) < len(info.files):
            write_info(folder, self.info)

    def _update(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        # Another process may have added something meanwhile: start from what is on disk.
        info = self.info if self.path is None else read_info(self.path)
        merged = {name: {**getattr(info, name), **new} for name, new in entries.items()}
        self.info = info.model_copy(update=merged)
        if self.path is not None:
            write_info(self.path, self.info)

    def _copy_files(self, source: Path, target: Path) -> None:
        check_files(source, self.info, "size")
        for name in self.info.files:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target / name)
