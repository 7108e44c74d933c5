"""Where a training's numbers go: history.jsonl, the terminal, TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from moerec.errors import MissingExtraError


class TrainingLog:
    """Appends records to history.jsonl and shows them; a resumed run cuts the file where its checkpoint stood."""

    def __init__(
        self, path: Path, console: Console, *, tensorboard: bool = False, keep_bytes: int = 0, keep_update: int = 0
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as stream:
            stream.truncate(min(keep_bytes, stream.tell()))  # never longer: that would fill it with zero bytes
        self._stream = path.open("a", encoding="utf-8")
        self._console = console
        self._writer = _tensorboard_writer(path.parent / "tensorboard", keep_update) if tensorboard else None
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("updates"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=None, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        self._stream.close()
        if self._writer is not None:
            self._writer.close()

    @property
    def size(self) -> int:
        """Bytes of history.jsonl so far, all of them on disk."""
        self._stream.flush()
        return self._stream.tell()

    def record(self, values: dict[str, Any]) -> None:
        """Write one line; nested numbers become TensorBoard scalars at `update`."""
        self._stream.write(json.dumps(values, ensure_ascii=False) + "\n")
        self._stream.flush()
        if self._writer is not None and "update" in values:
            for name, value in _scalars(values).items():
                self._writer.add_scalar(name, value, values["update"])

    def say(self, line: str) -> None:
        """Print a line above the progress bar."""
        self._console.print(line, highlight=False)

    def advance(self, description: str, done: int, total: int, note: str) -> None:
        """Move the progress bar."""
        self._progress.update(self._task, description=description, completed=done, total=total, note=note)


def _scalars(values: dict[str, Any], prefix: str = "") -> dict[str, float]:
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in ("update", "epoch"):
            found[prefix + key] = value
    return found


def _tensorboard_writer(directory: Path, keep_update: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "track", "training.tensorboard: true") from None
    # What a killed run wrote after its checkpoint is written again: the older points are hidden.
    return SummaryWriter(str(directory), purge_step=keep_update + 1 if keep_update else None)
