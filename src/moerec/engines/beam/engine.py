"""Reviews to examples on Apache Beam: on this machine, or on Flink, Spark and Dataflow by the options of their runners.

The same functions as in the local engine, so the same rows with the same bits. The workers import this package; nothing
of the main program is pickled, so they need it installed (a container image, or Beam's `--requirements_file`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from moerec.config import Config
from moerec.dataset.sources.amazon_files import FileNames, Metadata, choose_files, find_files, folders
from moerec.dataset.sources.amazon_rows import Year
from moerec.errors import DatasetError, MissingExtraError
from moerec.features.reviews import ReviewExamplesConfig
from moerec.files import fingerprint

if TYPE_CHECKING:
    from moerec.engines.beam.pipeline import Job
    from moerec.engines.beam.reading import RawFile

logger = logging.getLogger(__name__)

FOLDERS = ("examples", "texts", "items", "rejects", "state")
"""What is written into the output folder, beside the manifest."""


class BeamConfig(Config):
    """How the pipeline runs."""

    options: tuple[str, ...] = ()
    """Options of Apache Beam as on its command line, for instance [--runner=FlinkRunner, --flink_master=host:8081]; by
    default the pipeline runs in this process."""
    shards: int = Field(default=8, ge=1)
    """Number of files of each table; a worker writes one at a time."""
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


@dataclass(frozen=True)
class BeamRun:
    """What a run gives."""

    manifest: dict[str, Any]
    """As it stands in manifest.json."""
    counters: dict[str, int]
    """What the runner counted: refused rows by reason; none if there was nothing to do."""


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
        return [
            FileNames(found.category, str(found.reviews.path), found.products and str(found.products.path))
            for found in find_files(year, categories, path, core, metadata)
        ]
    _require_beam()
    from apache_beam.io.filesystems import FileSystems

    start = path.rstrip("/") + "/"
    patterns = [start + ("*" if folder == "." else f"{folder}/*") for folder in folders(year)]
    names = {each.path.removeprefix(start) for match in FileSystems.match(patterns) for each in match.metadata_list}
    return [
        FileNames(found.category, start + found.reviews, found.products and start + found.products)
        for found in choose_files(names, path, year, categories, core, metadata)
    ]


def run_beam(
    files: Sequence[FileNames],
    year: Year,
    out: str,
    config: ReviewExamplesConfig,
    engine: BeamConfig,
    seed: int = 0,
) -> BeamRun:
    """Read raw reviews and products, and write examples, texts, items, rejects, state and the manifest.

    Args:
        files: what to read, from `find_addresses`.
        year: the release that the files are of.
        out: a folder, on any file system that Beam knows; one that holds this very result already stays as it is.
        config: how examples are made.
        engine: how the pipeline runs.
        seed: of what is drawn.

    Raises:
        DatasetError: a file is missing, the folder holds something else, or the pipeline failed.
        MissingExtraError: apache-beam is not installed.
    """
    _require_beam()
    from moerec.engines.beam.pipeline import Job
    from moerec.engines.beam.reading import RawFile

    reviews = tuple(RawFile(found.reviews, found.category) for found in files)
    products = tuple(RawFile(found.products, found.category) for found in files if found.products)
    out = out if "://" in out else str(Path(out).resolve())
    inputs: dict[str, Any] = {
        "year": year,
        "seed": seed,
        "config": config.model_dump(mode="json"),
        "files": [_identity(file) for file in (*reviews, *products)],
    }
    wanted = fingerprint(inputs)
    if (there := _finished(out, wanted)) is not None:
        logger.info("%s: the same examples are there already", out)
        return BeamRun(there, {})
    _clear(out)
    manifest = {"engine": "beam", "fingerprint": wanted, **inputs}
    return _run(Job(reviews, products, year, config, seed, out, engine.shards, engine.rows_in_frame, manifest), engine)


def _require_beam() -> None:
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise MissingExtraError("apache-beam", "beam", "the engine 'beam'") from None


def _run(job: Job, engine: BeamConfig) -> BeamRun:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.runner import PipelineState

    from moerec.engines.beam.pipeline import build
    from moerec.engines.beam.reading import COUNTED_REJECTS

    # Beam's own default would first try to download a runner.
    default = () if any(option.startswith("--runner") for option in engine.options) else ("--runner=FnApiRunner",)
    pipeline = beam.Pipeline(options=PipelineOptions([*default, *engine.options]))
    build(pipeline, job)
    result = pipeline.run()
    state = result.wait_until_finish() or result.state
    if state != PipelineState.DONE:
        raise DatasetError(
            f"{job.out}: the Beam pipeline ended as {state}; its runner's log says why, then run it again"
        )
    manifest = _finished(job.out, job.manifest["fingerprint"])
    assert manifest is not None
    counters: dict[str, int] = {}
    for counter in result.metrics().query()["counters"]:
        if counter.key.metric.namespace == COUNTED_REJECTS:
            reason = counter.key.metric.name
            counters[reason] = counters.get(reason, 0) + int(counter.result)
    return BeamRun(manifest, dict(sorted(counters.items())))


def _identity(file: RawFile) -> dict[str, Any]:
    """What tells the content of a file from another's, as far as every file system knows it."""
    from apache_beam.io.filesystems import FileSystems

    found = FileSystems.match([file.path])[0].metadata_list
    if len(found) != 1:
        raise DatasetError(f"{file.path}: there is no such file")
    return {"name": file.name, "bytes": found[0].size_in_bytes, "changed": found[0].last_updated_in_seconds}


def _finished(out: str, wanted: str) -> dict[str, Any] | None:
    """The manifest of a whole folder, None if there is none.

    Raises:
        DatasetError: it is of something else.
    """
    from apache_beam.io.filesystems import FileSystems

    from moerec.engines.beam.writing import MANIFEST

    path = FileSystems.join(out, MANIFEST)
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path) as stream:
        manifest: dict[str, Any] = json.loads(stream.read())
    if manifest.get("fingerprint") != wanted:
        raise DatasetError(f"{out}: it holds the examples of other files or settings; choose another folder")
    return manifest


def _clear(out: str) -> None:
    """Remove what a run that did not end has left."""
    from apache_beam.io.filesystems import FileSystems

    from moerec.engines.beam.writing import TEMPORARY

    patterns = [
        FileSystems.join(out, folder, name) for folder in FOLDERS for name in ("part-*-of-*.parquet", TEMPORARY)
    ]
    left = [found.path for match in FileSystems.match(patterns) for found in match.metadata_list]
    if left:
        FileSystems.delete(left)
