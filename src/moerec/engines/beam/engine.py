"""Reviews to examples on Apache Beam: on this machine, or on Flink, Spark and Dataflow by the options of their runners.

The same functions as in the local engine, so the same rows with the same bits. The workers import this package; nothing
of the main program is pickled, so they need it installed (a container image, or Beam's `--requirements_file`).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from moerec import __version__
from moerec.dataset.sources.amazon_files import CategoryFiles, FileNames, Metadata, choose_files, find_files, folders
from moerec.dataset.sources.amazon_rows import Year
from moerec.dataset.sources.source_files import SourceFile
from moerec.engines.beam.options import make_pipeline
from moerec.engines.beam.output_folder import UNFINISHED, begin, beside, read_manifest, replace
from moerec.engines.beam.paths import delete, literal
from moerec.engines.engine import EngineConfig
from moerec.engines.manifest import add_counts
from moerec.errors import ConfigError, DatasetError, MissingExtraError
from moerec.features.reviews import ReviewExamplesConfig
from moerec.files import fingerprint

if TYPE_CHECKING:
    from moerec.engines.beam.pipeline import Job

logger = logging.getLogger(__name__)


class BeamConfig(EngineConfig):
    """How the pipeline runs."""

    options: tuple[str, ...] = ()
    """Options of Apache Beam as on its command line, for instance [--runner=FlinkRunner, --flink_master=host:8081]; by
    default the pipeline runs in this process."""
    shards: int = Field(default=8, ge=1)
    """Number of files of each table, by a hash of the user or the item; a worker writes one at a time."""
    rows_in_frame: int = Field(default=50_000, ge=1)
    """Whole users are handed to the features together until they have that many reviews."""

    @field_validator("options")
    @classmethod
    def _check(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            if not option.startswith("--"):
                raise ValueError(f"'{option}' is no option; write it as --name=value")
            if option.startswith("--save_main_session"):
                raise ValueError("the workers need nothing of the main program; remove --save_main_session")
        return options

    def make(
        self, files: Sequence[CategoryFiles], year: Year, config: ReviewExamplesConfig, out: Path, seed: int
    ) -> None:
        """See `EngineConfig`."""
        run_beam([file_names(found) for found in files], year, config, str(out), seed=seed, settings=self)


@dataclass(frozen=True)
class BeamResult:
    """What a run made."""

    out: str
    """Folder with examples/, events/, texts/, items/, rejects/, each in shards, state/ and manifest.json."""
    manifest: dict[str, Any]
    """What stands in manifest.json; the names are those of the local engine."""
    counters: dict[str, int]
    """What the runner counted: refused rows by reason; none if it was all done before."""


def find_addresses(
    year: Year, categories: tuple[str, ...], path: str | None, core: bool | None = None, metadata: Metadata = "required"
) -> list[FileNames]:
    """The files of each category as Beam reads them; see `find_files`.

    Args:
        year: the release.
        categories: as they stand in the names of the files; none for all whose reviews are there.
        path: a folder, or an address such as gs://bucket/amazon; None for that of MOEREC_MIRROR.
        core: for 2018 and 2014, the 5-core (True), all reviews (False), or whichever is there (None).
        metadata: whether each category needs a file of products.

    Raises:
        DatasetError: a file is missing, or there are two that could be meant.
        MissingExtraError: apache-beam is not installed.
    """
    if path is None or "://" not in path:
        return [file_names(found) for found in find_files(year, categories, path, core, metadata)]
    _require_beam()
    from apache_beam.io.filesystems import FileSystems

    start = path.rstrip("/") + "/"
    patterns = [literal(start) + ("*" if folder == "." else f"{folder}/*") for folder in folders(year)]
    names = {each.path.removeprefix(start) for match in FileSystems.match(patterns) for each in match.metadata_list}
    return [
        FileNames(found.category, start + found.reviews, found.products and start + found.products)
        for found in choose_files(names, path, year, categories, core, metadata)
    ]


def file_names(found: CategoryFiles) -> FileNames:
    """The files of a category on this machine, by whole paths: workers may have another current folder."""
    products = None if found.products is None else str(found.products.path.resolve())
    return FileNames(found.category, str(found.reviews.path.resolve()), products)


def run_beam(
    files: Sequence[FileNames],
    year: Year,
    config: ReviewExamplesConfig,
    out: str,
    *,
    seed: int = 0,
    texts: bool = True,
    settings: BeamConfig | None = None,
) -> BeamResult:
    """Make the examples of raw files in an Apache Beam pipeline; a finished run is not done again.

    Args:
        files: from `find_addresses`.
        year: the release.
        config: the rule of the examples.
        out: a folder, on any file system that Beam knows. On this machine one of other files or settings is replaced
            once the new one is whole; on another file system it is refused.
        seed: of down-sampling and negatives.
        texts: whether titles and texts of reviews are kept, in texts/.
        settings: how to work.

    Raises:
        ConfigError: Beam does not take an option, or lacks one, or its job service does not answer.
        DatasetError: a file cannot be read or has not one good review, the folder holds something else, or the
            pipeline failed.
        MissingExtraError: apache-beam is not installed.
    """
    _require_beam()
    from moerec.engines.beam.pipeline import Job
    from moerec.engines.beam.reading import RawFile

    settings = settings or BeamConfig()
    out = out if "://" in out else str(Path(out).resolve())
    inputs: dict[str, Any] = {
        "year": year,
        "files": [
            {
                "category": each.category,
                "reviews": _identity(each.reviews),
                "products": each.products and _identity(each.products),
            }
            for each in files
        ],
        "config": config.model_dump(mode="json"),
        "seed": seed,
        "texts": texts,
        "partitions": settings.shards,
    }
    wanted = fingerprint({**inputs, "version": __version__})
    there = read_manifest(out)
    if there is not None and there["fingerprint"] == wanted:
        logger.info("Beam engine: %s is finished already", out)
        return BeamResult(out, there, {})
    pipeline = make_pipeline(settings.options)  # before anything is written or removed: an option may be wrong
    target = out if there is None else beside(out)
    begin(target)
    job = Job(
        reviews=tuple(RawFile(each.reviews) for each in files),
        products=tuple(RawFile(each.products) for each in files if each.products),
        year=year,
        config=config,
        seed=seed,
        texts=texts,
        out=target,
        shards=settings.shards,
        rows_in_frame=settings.rows_in_frame,
        inputs={"engine": "beam", "version": __version__, "fingerprint": wanted, **inputs},
    )
    done = _run(pipeline, job)
    if target != out:
        replace(target, out)
    return BeamResult(out, *done)


def _require_beam() -> None:
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise MissingExtraError("apache-beam", "beam", "the engine 'beam'") from None


def _run(pipeline: Any, job: Job) -> tuple[dict[str, Any], dict[str, int]]:
    """The manifest, and the runner's counters."""
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.runners.portability.portable_runner import PortableRunner
    from apache_beam.runners.runner import PipelineState

    from moerec.engines.beam.pipeline import build
    from moerec.engines.beam.reading import COUNTED_REJECTS

    build(pipeline, job)
    result = None
    try:
        result = pipeline.run()
        state = result.wait_until_finish() or result.state
    except Exception as error:
        # An error of another process comes as text; any has the place in the pipeline behind it.
        told = f"{type(error).__name__}: {error}"
        if found := re.findall(r"DatasetError: (.+?)(?: \[while running.*)?$", told, re.MULTILINE):
            raise DatasetError(found[-1]) from error
        if result is None and isinstance(pipeline.runner, PortableRunner):  # it only hands the job on here
            told = " ".join(told.split())
            raise ConfigError(f"the job service of Beam did not take the job: {told}; correct 'options'") from error
        raise
    if state != PipelineState.DONE:
        raise DatasetError(
            f"{job.out}: the Beam pipeline ended as {state}; its runner's log says why, then run it again"
        )
    manifest = read_manifest(job.out)
    assert manifest is not None
    delete([FileSystems.join(job.out, UNFINISHED)])
    counters: Counter[str] = Counter()
    for counter in result.metrics().query()["counters"]:
        if counter.key.metric.namespace == COUNTED_REJECTS:
            counters[counter.key.metric.name] += int(counter.result)
    return manifest, add_counts([counters])


def _identity(path: str) -> dict[str, Any]:
    """What tells the content of a file from another's: on this machine as in the local engine, elsewhere as far as
    every file system knows it."""
    from apache_beam.io.filesystems import FileSystems

    if not FileSystems.exists(path):
        raise DatasetError(f"{path}: there is no such file")
    if "://" not in path:
        return SourceFile(Path(path)).identity()
    found = FileSystems.get_filesystem(path).metadata(path)
    name = path.rsplit("/", 1)[-1]
    return {"name": name, "bytes": found.size_in_bytes, "changed": found.last_updated_in_seconds}
