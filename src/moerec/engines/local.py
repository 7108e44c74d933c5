"""The local engine: raw files of Amazon reviews become examples on one machine, in bounded memory, with all its cores.

    files -> chunks of reviews, laid down by partition          (spill)
          -> products, their categories as codes                (products)
    partition by partition: clean events and texts -> summary   (partitions)
    all summaries -> state                                      (features.reviews)
    partition by partition: examples                            (partitions)

A partition holds whole users, by a hash of their ids. Each step leaves a marker, so a run that was cut off goes on
where it was. The number of partitions, processes and chunks changes no example. Runs that make the same folder take
turns.
"""

from __future__ import annotations

import glob
import json
import logging
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from moerec.dataset.sources.amazon_files import CategoryFiles
from moerec.dataset.sources.amazon_rows import Year
from moerec.dataset.sources.source_files import GZIP_MAGIC, SourceFile
from moerec.engines.engine import EngineConfig
from moerec.engines.jobs import workers
from moerec.engines.local_steps import LocalPlan, LocalRun
from moerec.engines.manifest import MANIFEST
from moerec.engines.partitions import RESULT
from moerec.errors import DatasetError
from moerec.features.reviews import ReviewExamplesConfig

logger = logging.getLogger(__name__)

_UNPACKED = 4
"""A gzipped file of reviews holds about so many times its own bytes."""


class LocalEngineConfig(EngineConfig):
    """How the local engine works; nothing here changes an example."""

    processes: int | None = Field(default=None, ge=1)
    """Worker processes; by default one for each core. With 1 all is done in this process."""
    partitions: int | None = Field(default=None, ge=1)
    """Partitions of users; by default so many that each has about `partition_bytes`."""
    partition_bytes: int = Field(default=1 << 27, ge=1 << 10)
    """Bytes of raw reviews in a partition."""
    chunk_bytes: int = Field(default=1 << 25, ge=1 << 10)
    """Bytes of raw lines that are parsed at once."""

    def make(
        self, files: Sequence[CategoryFiles], year: Year, config: ReviewExamplesConfig, out: Path, seed: int
    ) -> None:
        """See `EngineConfig`."""
        run_local(files, year, config, out, seed=seed, settings=self)


@dataclass(frozen=True)
class LocalResult:
    """What a run made."""

    out: Path
    """Folder with examples/, events/, texts/, items.parquet, state/, rejects.parquet and manifest.json."""
    manifest: dict[str, Any]
    """What stands in manifest.json: counts by part, refused rows by reason, what is unknown."""
    seconds: dict[str, float]
    """Time of each step; none if it was all done before."""


def run_local(
    files: Sequence[CategoryFiles],
    year: Year,
    config: ReviewExamplesConfig,
    out: Path,
    *,
    seed: int = 0,
    texts: bool = True,
    settings: LocalEngineConfig | None = None,
) -> LocalResult:
    """Make the examples of raw files; a run that was cut off before goes on, a finished one is not done again.

    Args:
        files: from `find_files`.
        year: the release.
        config: the rule of the examples.
        out: the folder to make; one of other inputs or settings is replaced once the new one is whole.
        seed: of down-sampling and negatives.
        texts: whether titles and texts of reviews are kept, in texts/.
        settings: how to work.

    Raises:
        DatasetError: a file cannot be read, has not one good review, or a worker process died.
    """
    settings = settings or LocalEngineConfig()
    partitions = settings.partitions or _partitions([each.reviews for each in files], settings.partition_bytes)
    plan = LocalPlan(tuple(files), year, config, seed, texts, partitions, settings.chunk_bytes)
    # First without the lock: a finished folder may lie where nothing can be written.
    if (done := _finished(plan, out)) is not None:
        return done
    out.parent.mkdir(parents=True, exist_ok=True)
    with _taking_turns(out):
        return _finished(plan, out) or _made(plan, out, settings.processes or os.cpu_count() or 1)


def _finished(plan: LocalPlan, out: Path) -> LocalResult | None:
    """What a run of the same plan left, if it is whole."""
    manifest = _manifest(out)
    if manifest is None or manifest["fingerprint"] != plan.fingerprint():
        return None
    logger.info("local engine: %s is finished already", out)
    return LocalResult(out, manifest, {})


def _made(plan: LocalPlan, out: Path, processes: int) -> LocalResult:
    """Do what is left to do; no other run may make the same folder meanwhile.

    Raises:
        DatasetError: the folder holds something else, or as of `run_local`.
    """
    if _manifest(out) is None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: holds something else than examples of reviews; choose another folder")
    work = out.parent / f".{out.name}.work-{plan.fingerprint()}"
    work.mkdir(exist_ok=True)
    seconds: dict[str, float] = {}
    with workers(processes) as pool:
        run = LocalRun(plan, work, pool)
        for step in (run.spill, run.read_products, run.clean, run.sum_up, run.make, run.finish):
            began = time.perf_counter()
            step()
            seconds[step.__name__] = time.perf_counter() - began
            logger.info("local engine: %s took %.1f s", step.__name__, seconds[step.__name__])
    _replace(work / RESULT, out)
    for old in out.parent.glob(f".{glob.escape(out.name)}.work-*"):
        shutil.rmtree(old)
    manifest = _manifest(out)
    assert manifest is not None
    return LocalResult(out, manifest, seconds)


def _partitions(files: Sequence[SourceFile], partition_bytes: int) -> int:
    """So many that each holds about so many bytes of raw reviews."""
    total = 0
    for file in files:
        with file.open_stored() as stream:
            total += file.size * (_UNPACKED if stream.read(2) == GZIP_MAGIC else 1)
    return max(1, math.ceil(total / partition_bytes))


def _manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of a finished run, if there is one."""
    try:
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    return manifest


@contextmanager
def _taking_turns(out: Path) -> Iterator[None]:
    """Hold the lock of a folder to be made; it goes with the process, so a killed one blocks nobody.

    Windows has no `flock`: there nothing is locked, and two runs must not make the same folder at once.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    path = out.parent / f".{out.name}.lock"
    while True:
        with path.open("ab") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("local engine: %s is being made by another run; waiting for it to end", out)
                fcntl.flock(stream, fcntl.LOCK_EX)
            # The one before removes the file at its end; then this lock is of a file that nobody else will find.
            if not path.exists() or not os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _replace(made: Path, out: Path) -> None:
    """Put a whole folder in the place of another."""
    if out.exists():
        retired = out.parent / f".{out.name}.work-retired"
        shutil.rmtree(retired, ignore_errors=True)
        os.replace(out, retired)
    os.replace(made, out)
