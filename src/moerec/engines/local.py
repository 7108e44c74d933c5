"""The local engine: raw files of Amazon reviews become examples on one machine, in bounded memory, with all its cores.

    files -> chunks of reviews, laid down by partition          (spill)
          -> products, their categories as codes                (products)
    partition by partition: clean events and texts -> summary   (partitions)
    all summaries -> state                                      (features.reviews)
    partition by partition: examples                            (partitions)

A partition holds whole users, by a hash of their ids. Each step leaves a marker, so a run that was cut off goes on
where it was. The number of partitions, processes and chunks changes no example.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import time
from collections.abc import Sequence
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
    name = plan.fingerprint()
    done = _manifest(out)
    if done is not None and done["fingerprint"] == name:
        logger.info("local engine: %s is finished already", out)
        return LocalResult(out, done, {})
    work = out.parent / f".{out.name}.work-{name}"
    work.mkdir(parents=True, exist_ok=True)
    seconds: dict[str, float] = {}
    with workers(settings.processes or os.cpu_count() or 1) as pool:
        run = LocalRun(plan, work, pool)
        for step in (run.spill, run.read_products, run.clean, run.sum_up, run.make, run.finish):
            began = time.perf_counter()
            step()
            seconds[step.__name__] = time.perf_counter() - began
            logger.info("local engine: %s took %.1f s", step.__name__, seconds[step.__name__])
    _replace(work / RESULT, out)
    for old in out.parent.glob(f".{out.name}.work-*"):
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
    """The manifest of a finished run, if there is one.

    Raises:
        DatasetError: the folder holds something else.
    """
    if (out / MANIFEST).is_file():
        manifest: dict[str, Any] = json.loads((out / MANIFEST).read_text())
        return manifest
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out}: holds something else than examples of reviews; choose another folder")
    return None


def _replace(made: Path, out: Path) -> None:
    """Put a whole folder in the place of another."""
    if out.exists():
        retired = out.parent / f".{out.name}.work-retired"
        shutil.rmtree(retired, ignore_errors=True)
        os.replace(out, retired)
    os.replace(made, out)
