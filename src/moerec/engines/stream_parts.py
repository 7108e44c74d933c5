"""The output of a stream: files by number of their micro-batch, which appear when the micro-batch is kept.

A part is written whole under a hidden name and flushed to disk. Then the transaction of the micro-batch is committed,
and then the part is renamed. So a visible part is never taken back. After a crash between commit and rename, the hidden
parts that the store knows are renamed and the others removed. Whoever reads `examples/part-*.parquet` needs no store.

`stream.json` names the store that an output belongs to. So a store goes on in its own output alone, also when both were
moved or old parts were deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from moerec.config import Config
from moerec.errors import DatasetError
from moerec.files import write_json

EXAMPLES = "examples"
KINDS = ("texts", "rejects", EXAMPLES)
"""Folders of a stream's output. The examples of a micro-batch appear last, so with them all else is there."""
STREAM_FILE = "stream.json"
_HIDDEN = re.compile(r"\.part-(\d{9,})\.parquet\.pending")
_VISIBLE = re.compile(r"part-(\d{9,})\.parquet")


class StreamParts:
    """Writes the parts of a stream."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for kind in KINDS:
            (folder / kind).mkdir(parents=True, exist_ok=True)
        _flush_folder(folder)

    def claim(self, store: str, last: int) -> None:
        """Refuse the output of another store, or an empty one for a store that has written; mark this one.

        Args:
            store: name of the store.
            last: its last micro-batch that is kept.

        Raises:
            DatasetError: the folder is not the output of this store.
        """
        path = self.folder / STREAM_FILE
        if path.is_file():
            if json.loads(path.read_text(encoding="utf-8"))["store"] != store:
                raise DatasetError(
                    f"{self.folder}: it is the output of another stream; choose another output folder, or give the "
                    "state folder that it was made with"
                )
            return
        # Outputs of before have no such file; their parts are looked at by `recover`.
        if last and not any(_VISIBLE.fullmatch(each.name) for kind in KINDS for each in (self.folder / kind).iterdir()):
            raise DatasetError(
                f"{self.folder}: parts 1 to {last} of this stream are not here; give the output folder that the state "
                "was made with, or start anew in another state folder and another output folder"
            )
        write_json(path, {"store": store})
        _flush_folder(self.folder)

    def recover(self, last: int) -> None:
        """After a crash: show the parts up to the last micro-batch that is kept, remove those of later ones.

        Raises:
            DatasetError: there are visible parts of later ones, so the folder belongs to another stream.
        """
        for kind in KINDS:
            for path in sorted((self.folder / kind).iterdir()):
                if (found := _VISIBLE.fullmatch(path.name)) and int(found[1]) > last:
                    raise DatasetError(f"{path}: this part is of another stream; choose another output folder")
                if found := _HIDDEN.fullmatch(path.name):
                    if int(found[1]) <= last:
                        os.replace(path, part_path(self.folder, kind, int(found[1])))
                    else:
                        path.unlink()

    def write(self, number: int, tables: Mapping[str, pl.DataFrame]) -> None:
        """Write the tables of a micro-batch, by kind, hidden; what another process left of this number goes."""
        for kind in KINDS:
            self._hidden(kind, number).unlink(missing_ok=True)
        for kind, table in tables.items():
            path = self._hidden(kind, number)
            with path.open("wb") as stream:
                table.write_parquet(stream)
                stream.flush()
                os.fsync(stream.fileno())
            _flush_folder(path.parent)

    def show(self, number: int) -> None:
        """Give the parts of a micro-batch that is kept their names, and those of the one before it.

        The process that kept the one before may have died in between; or it does the same at this moment.
        """
        for each in (number - 1, number):
            for kind in KINDS:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self._hidden(kind, each), part_path(self.folder, kind, each))

    def _hidden(self, kind: str, number: int) -> Path:
        return self.folder / kind / f".part-{number:09d}.parquet.pending"


def part_path(folder: Path, kind: str, number: int) -> Path:
    """Where the part of a micro-batch lies when it is kept."""
    return folder / kind / f"part-{number:09d}.parquet"


class TrainingPosition(Config):
    """How far a training has come in the examples of a stream; part of its checkpoint, as `model_dump()`."""

    part: int = 0
    """Number of the micro-batch whose examples were all taken; 0 before the first."""
    rows: int = 0
    """How many examples of the next micro-batch were taken too."""


@dataclass(frozen=True, eq=False)
class NewExamples:
    """Some examples of a stream."""

    frame: pl.DataFrame
    position: TrainingPosition
    """After them: a training that has learned from them goes on from here."""


def new_examples(folder: Path, position: TrainingPosition, rows: int | None = None) -> Iterator[NewExamples]:
    """The examples that a training has not taken yet, in the order of the stream, up to what is there now.

    Args:
        folder: output folder of the stream.
        position: how far the training has come.
        rows: most examples to give at once; by default those of a whole micro-batch.

    Raises:
        DatasetError: no output of a stream, or parts that the training has not taken are gone.
    """
    if not (folder / EXAMPLES).is_dir():
        raise DatasetError(f"{folder}: no output of a stream; give the --out folder of moerec stream")
    number, taken = position.part + 1, position.rows
    while (path := part_path(folder, EXAMPLES, number)).is_file():
        frame = pl.read_parquet(path, glob=False)
        if taken > frame.height:
            raise DatasetError(f"{path}: it has fewer rows than the training took; give the output it was trained on")
        while taken < frame.height:
            piece = frame.slice(taken, rows)
            taken += piece.height
            done = taken == frame.height
            yield NewExamples(piece, TrainingPosition(part=number if done else number - 1, rows=0 if done else taken))
        number, taken = number + 1, 0
    later = (int(found[1]) for path in (folder / EXAMPLES).iterdir() if (found := _VISIBLE.fullmatch(path.name)))
    # A part can lack its name for a moment while later ones have theirs; those that were removed lack it for ever.
    waiting = (folder / EXAMPLES / f".part-{number:09d}.parquet.pending").is_file()
    if any(part > number for part in later) and not waiting and not path.is_file():
        raise DatasetError(f"{path}: this part is gone, and the training has not taken it; bring it back")


def _flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
