"""The folder of a run: made once, found again, resumed only by the recipe that began it."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml

from moerec import __version__
from moerec.errors import MoerecError
from moerec.files import atomic_file, write_json
from moerec.recipe import Recipe, load_recipe, plain_recipe

RECIPE, METRICS, REPORT, MODEL = "recipe.yaml", "metrics.json", "report.html", "model"
ORIGIN = "origin.json"
LONGEST_SHOWN = 80
LIBRARIES = ("torch", "numpy", "polars", "pydantic", "safetensors", "scipy", "transformers", "sentence-transformers")


def check_out(out: Path | None) -> None:
    """Refuse a folder that cannot take a new run, before any work.

    Raises:
        MoerecError: `out` is a file, or a folder that is not empty.
    """
    if out is not None and out.exists():
        if not out.is_dir():
            raise MoerecError(f"{out}: this is a file; give another --out")
        if any(out.iterdir()):
            raise MoerecError(f"{out}: this folder is not empty; continue it with --resume, or give another --out")


def new_run(recipe: Recipe, runs: Path, out: Path | None, dataset: Mapping[str, Any] | None = None) -> Path:
    """Make the folder of a new run, `out` or `runs/<name>/<time>`, and write the resolved recipe into it.

    The latter becomes the latest run of its name.

    Args:
        recipe: what is done.
        runs: folder of all runs.
        out: folder of this run.
        dataset: what decides the data set that was prepared for it, if one was.

    Raises:
        MoerecError: `out` is a file, or a folder that is not empty.
    """
    check_out(out)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        directory = out
    else:
        directory = _make_timed(runs / recipe.name)
    with atomic_file(directory / RECIPE) as temporary:
        temporary.write_text(yaml.safe_dump(plain_recipe(recipe), sort_keys=False, allow_unicode=True), "utf-8")
    write_json(directory / "environment.json", environment())
    write_json(directory / ORIGIN, {"folder": str(Path.cwd()), "dataset": dataset})
    if out is None:
        link = latest_link(runs, recipe.name)
        temporary_link = link.with_name(f".latest.tmp-{os.getpid()}")
        temporary_link.unlink(missing_ok=True)
        temporary_link.symlink_to(directory.name, target_is_directory=True)
        os.replace(temporary_link, link)
    return directory


def _make_timed(parent: Path) -> Path:
    """A new folder named by the time; runs that begin in the same second, here or elsewhere, never share one."""
    directory = parent / time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            if not parent.is_dir():
                raise
            number += 1
            directory = directory.with_name(f"{time.strftime('%Y%m%d-%H%M%S')}-{number}")
        else:
            return directory


def latest_link(runs: Path, name: str) -> Path:
    """The link to the latest run of a name."""
    return runs / name / "latest"


def find_run(runs: Path, name: str, out: Path | None) -> Path:
    """The run to resume: `out`, or the latest one of that name.

    Raises:
        MoerecError: there is none.
    """
    directory = out or latest_link(runs, name)
    if not (directory / RECIPE).is_file():
        raise MoerecError(f"{directory}: no run to resume here; start it without --resume")
    return directory.resolve()


def recipe_of(directory: Path) -> Recipe:
    """The resolved recipe of a run.

    Raises:
        MoerecError: the folder is no run.
    """
    path = directory / RECIPE
    if not path.is_file():
        hint = no_run(directory)
        raise MoerecError(
            f"{directory}: {hint or f'no run here (no {RECIPE}); give the folder of a run, such as runs/<name>/latest'}"
        )
    return load_recipe(path)


def no_run(directory: Path) -> str | None:
    """Why a folder that was named as a run is none, where that can be seen; None if it may be one."""
    if not directory.exists():
        return "no such folder"
    if not directory.is_dir():
        return "a file, not the folder of a run"
    if (directory / RECIPE).is_file():
        return None
    for pattern in ("latest", "*/latest", "*"):
        found = sorted(inner for inner in directory.glob(pattern) if (inner / RECIPE).is_file())
        if found:
            return f"it holds several runs; name one of them, such as {found[-1]}"
    return None


@dataclass(frozen=True)
class Origin:
    """Where a run began, and what decided its data set."""

    folder: Path | None
    """The working directory, from which relative paths of its recipe start; None if it was not recorded."""
    dataset: dict[str, Any] | None
    """The plain data that decided the content of its data set; None if there was none, or it was not recorded."""

    @classmethod
    def of(cls, directory: Path) -> Origin:
        """What a run recorded.

        Raises:
            MoerecError: the record is damaged.
        """
        path = directory / ORIGIN
        if not path.is_file():
            return cls(None, None)
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(Path(found["folder"]), found["dataset"])
        except (ValueError, KeyError, TypeError) as error:
            raise MoerecError(f"{path}: damaged ({error!r}); remove it, and call from where the run began") from None

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work in the folder where the run began, if it is still there; it is the whole process that goes there."""
        if self.folder is None or not self.folder.is_dir():
            yield
            return
        with chdir(self.folder):
            yield


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """The path of the first key in which two plain recipes differ, with both values; None if they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            found = first_difference(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (left, right) in enumerate(zip(old, new, strict=True)):
            found = first_difference(left, right, f"{path}[{number}]")
            if found:
                return found
        return None
    return None if old == new else f"{path} was {_shortened(old)} and is now {_shortened(new)}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def environment() -> dict[str, Any]:
    """What the numbers depend on beside the recipe: versions and machine."""
    libraries = {}
    for name in LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "moerec": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": _memory(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "libraries": libraries,
    }


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
