"""The Beam engine gives what the features give in one process, bit for bit, on every runner that is here."""

import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import polars as pl
import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from polars.testing import assert_frame_equal
from safetensors.numpy import load_file

import moerec
from moerec.config import validate
from moerec.dataset.download import MIRROR_VARIABLE
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.engines.beam.engine import BeamConfig, BeamRun, find_addresses, run_beam
from moerec.engines.beam.pipeline import BY_PRODUCT, BY_USER, Job, build
from moerec.engines.beam.reading import RawFile
from moerec.errors import ConfigError, DatasetError, MissingExtraError
from moerec.features.feature import FeatureState
from moerec.features.reviews import (
    EVENT_SCHEMA,
    ReviewExamplesConfig,
    ReviewState,
    category_names,
    make_examples,
    merge,
    summarise,
    with_keys,
)

MIRROR = os.environ.get(MIRROR_VARIABLE)
CONFIG = ReviewExamplesConfig(train_until="2021-12-31", valid_until="2022-06-30")
SEED = 3


@pytest.fixture(autouse=True)
def _temporary_files_of_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "reviews"
    generate_amazon_reviews(out, GeneratedReviews(users=80, items=60, dirt=0.05, seed=5))
    return out


def events_of(folder: Path, config: ReviewExamplesConfig, year: int = 2023) -> tuple[pl.DataFrame, ReviewState]:
    """Events by the source's own reader, with categories and prices, and the state by one call of each function."""
    raw = AmazonReviewsConfig(year=year, path=str(folder), metadata="optional").read()
    assert raw.items is not None
    names = category_names(Counter(name for name in raw.items["main_category"].to_list() if name), config)
    codes = {name: code for code, name in enumerate(names, start=1)}
    products = raw.items.select("item_id", "price", category="main_category")
    events = raw.events.join(products, on="item_id", how="left").with_columns(
        pl.col("category").replace_strict(codes, default=0, return_dtype=pl.Int32)
    )
    events = events.select(*EVENT_SCHEMA)
    return events, merge([summarise(events, config)], names, config)


def expected(folder: Path, config: ReviewExamplesConfig, year: int = 2023) -> dict[str, pl.DataFrame]:
    """The tables that must come out."""
    raw = AmazonReviewsConfig(year=year, path=str(folder), metadata="optional").read()
    assert raw.items is not None
    events, state = events_of(folder, config, year)
    texts = with_keys(raw.events).select("key", title="review_title", text="review_text")
    examples = make_examples(events, state, config, SEED)
    return {"examples": examples, "texts": texts, "items": raw.items, "rejects": raw.rejects}


def table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(sorted((out / name).glob("part-*.parquet")))


def assert_as_expected(out: Path, wanted: dict[str, pl.DataFrame]) -> None:
    by = {"examples": ["key"], "texts": ["key"], "items": ["item_id"], "rejects": ["source", "line", "reason"]}
    for name, columns in by.items():
        assert wanted[name].height
        found = table(out, name).sort(columns)
        assert_frame_equal(found, wanted[name].sort(columns), check_exact=True, check_column_order=True)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["rejects"] == dict(sorted(Counter(wanted["rejects"]["reason"]).items()))
    counted = wanted["examples"].group_by("part", "negative").len().rows()
    kinds, parts = ("positives", "negatives"), ("train", "valid", "test")
    assert {(parts.index(part), kinds.index(kind), count) for part, kind, count in _leaves(manifest["examples"])} == {
        *counted
    }


def _leaves(nested: dict[str, dict[str, int]]) -> Iterator[tuple[str, str, int]]:
    for part, kinds in nested.items():
        for kind, count in kinds.items():
            yield part, kind, count


def run(folder: Path, out: Path, *options: str, year: int = 2023, config: ReviewExamplesConfig = CONFIG) -> BeamRun:
    engine = BeamConfig(options=options, shards=3, rows_in_frame=100)
    return run_beam(find_addresses(year, (), str(folder), metadata="optional"), year, str(out), config, engine, SEED)


def test_beam_gives_the_rows_of_one_process_and_counts_every_reject(folder: Path, tmp_path: Path) -> None:
    wanted = expected(folder, CONFIG)
    given = run(folder, tmp_path / "out")
    assert_as_expected(tmp_path / "out", wanted)
    assert len(list((tmp_path / "out/examples").iterdir())) == 3, "several shards, and no file that is not whole"
    values = json.loads((tmp_path / "out/state/state.json").read_text())
    arrays = load_file(tmp_path / "out/state/state.safetensors")
    events, state = events_of(folder, CONFIG)
    written = ReviewState.from_feature_state(FeatureState(values, arrays))
    assert_frame_equal(make_examples(events, written, CONFIG, SEED), make_examples(events, state, CONFIG, SEED))
    assert given.counters == given.manifest["rejects"] == dict(sorted(Counter(wanted["rejects"]["reason"]).items()))


def test_frames_files_and_a_second_run_change_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "texts").mkdir(parents=True)
    for name in ("part-00001-of-00009.parquet", ".part-00000-of-00001.parquet.tmp-1"):
        (out / "texts" / name).write_text("left by a run that was stopped")
    files = find_addresses(2023, (), str(folder))
    config = ReviewExamplesConfig(train_until="2021-12-31", valid_until="2022-06-30", negatives=None)
    engine = BeamConfig(shards=1, rows_in_frame=10**6)
    run_beam(files, 2023, str(out), config, engine, SEED)
    assert_as_expected(out, expected(folder, config))
    assert [path.name for path in (out / "texts").iterdir()] == ["part-00000-of-00001.parquet"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run_beam(files, 2023, str(out), config, engine, SEED).counters == {}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before, "no work is done twice"
    with pytest.raises(DatasetError, match="other files or settings; choose another folder"):
        run_beam(files, 2023, str(out), config, engine, SEED + 1)


def test_the_graph_has_a_shuffle_by_product_and_then_one_by_user() -> None:
    file = RawFile("/nowhere.jsonl", "C")
    job = Job((file,), (file,), 2023, CONFIG, SEED, "/out", 2, 100, {})
    pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([]))
    build(pipeline, job)
    proto = pipeline.to_runner_api()
    transforms = proto.components.transforms
    assert "main_session" not in str(proto.components.environments)
    single = {name: each for name, each in transforms.items() if not each.subtransforms}
    made_by = {
        made: name
        for name, each in single.items()
        for made in set(each.outputs.values()) - set(each.inputs.values())  # some only hand on what they are given
    }

    def above(name: str) -> set[str]:
        direct = {made_by[read] for read in transforms[name].inputs.values() if read in made_by}
        return direct.union(*map(above, direct))

    shuffles = {
        each.unique_name: name
        for name, each in transforms.items()
        if each.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    }
    (product,) = (name for path, name in shuffles.items() if path.startswith(BY_PRODUCT))
    (user,) = (name for path, name in shuffles.items() if path.startswith(BY_USER))
    assert product in above(user), "products are joined before users are grouped"
    assert any(name.endswith("ParDo(ParseReviews)") for name in names_of(transforms, above(product)))
    assert any(name.endswith("ParDo(ParseProducts)") for name in names_of(transforms, above(product)))
    examples = next(name for name, each in transforms.items() if each.unique_name.endswith("ParDo(MakeExamples)"))
    assert {product, user} <= above(examples)
    others = {path.split("/")[0] for path, name in shuffles.items() if name not in (product, user)}
    spread = {"List reviews", "List products", "Spread reviews", "Spread products"}
    written = {f"Write {name}" for name in ("examples", "texts", "items", "rejects")}
    sums = {"Count categories", "All categories", "Summarise", "Count"}
    assert others <= spread | written | sums, "nothing else moves single rows"


def names_of(transforms: Mapping[str, Any], ids: Iterable[str]) -> set[str]:
    return {transforms[each].unique_name for each in ids}


class MemoryFiles(FileSystem):
    """A file system that this machine's own does not know."""

    content: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls) -> str:
        return "memory"

    def join(self, path: str, *more: str) -> str:
        return "/".join([path, *more])

    def split(self, path: str) -> tuple[str, str]:
        folder, _, name = path.rpartition("/")
        return folder, name

    def has_dirs(self) -> bool:
        return False

    def _list(self, prefix: str) -> Iterator[FileMetadata]:
        for path, content in self.content.items():
            if path.startswith(prefix):
                yield FileMetadata(path, len(content), 1.0)

    def open(self, path: str, mime_type: str = "", compression_type: str = "") -> io.BytesIO:
        return io.BytesIO(self.content[path])

    def create(self, path: str, mime_type: str = "", compression_type: str = "") -> io.BytesIO:
        class Written(io.BytesIO):
            def close(self) -> None:
                if not self.closed:
                    MemoryFiles.content[path] = self.getvalue()
                super().close()

        return Written()

    def rename(self, sources: list[str], targets: list[str]) -> None:
        for source, target in zip(sources, targets, strict=True):
            self.content[target] = self.content.pop(source)

    def metadata(self, path: str) -> FileMetadata:
        return FileMetadata(path, len(self.content[path]), 1.0)

    def exists(self, path: str) -> bool:
        return path in self.content

    def delete(self, paths: list[str]) -> None:
        for path in paths:
            del self.content[path]

    def mkdirs(self, path: str) -> None:
        raise AssertionError("not called")

    copy = size = last_updated = checksum = mkdirs


def test_any_file_system_of_beam_is_read_and_written(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    content = {f"memory://a/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.jsonl.gz")}
    monkeypatch.setattr(MemoryFiles, "content", content)
    files = find_addresses(2023, (), "memory://a")
    run_beam(files, 2023, "memory://b/out", CONFIG, BeamConfig(shards=2), SEED)
    for path in [path for path in content if path.startswith("memory://b/out/")]:
        target = tmp_path / path.removeprefix("memory://b/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[path])
    assert not [path for path in content if ".tmp-" in path]
    assert_as_expected(tmp_path / "out", expected(folder, CONFIG))


def test_mistakes_are_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for option in ("--save_main_session", "runner=FlinkRunner"):
        with pytest.raises(ConfigError, match="options"):
            validate(BeamConfig, {"options": [option]})
    files = find_addresses(2023, (), str(folder))
    gone = [dataclasses.replace(files[0], reviews=f"{folder}/gone.jsonl")]
    with pytest.raises(DatasetError, match=r"gone\.jsonl: there is no such file"):
        run_beam(gone, 2023, str(tmp_path / "out"), CONFIG, BeamConfig())
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moerec\[beam\]'"):
        run_beam(files, 2023, str(tmp_path / "out"), CONFIG, BeamConfig())


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs MOEREC_MIRROR with amazon-2018")
def test_the_published_files_go_through_whole(tmp_path: Path) -> None:
    folder = Path(MIRROR or "") / "amazon-2018"
    if not folder.is_dir():
        pytest.skip("MOEREC_MIRROR has no amazon-2018")
    config = ReviewExamplesConfig(train_until="2016-12-31", valid_until="2017-06-30")
    run(folder, tmp_path / "out", year=2018, config=config)
    assert_as_expected(tmp_path / "out", expected(folder, config, 2018))


@pytest.mark.slow
def test_two_processes_of_the_direct_runner(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", "--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert_as_expected(tmp_path / "out", expected(folder, CONFIG))


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["EXTERNAL", "beam:env:harness_subprocess_python:v1"])
def test_a_portable_job_service_with_two_workers(folder: Path, tmp_path: Path, environment: str) -> None:
    with job_service(tmp_path) as (port, pool, log):
        value = f"localhost:{pool}" if environment == "EXTERNAL" else f"{sys.executable} {WORKER}"
        options = (f"--environment_type={environment}", f"--environment_config={value}")
        run(folder, tmp_path / "out", "--runner=PortableRunner", f"--job_endpoint=localhost:{port}", *options)
        if environment == "EXTERNAL":
            assert log.read_text().count("Starting worker") == 2
    assert_as_expected(tmp_path / "out", expected(folder, CONFIG))


WORKER = "-m apache_beam.runners.worker.sdk_worker_main"


@contextmanager
def job_service(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """A job service and a pool of workers, each a process of its own."""
    source = Path(moerec.__file__).parents[1]
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # the pool starts `python`
        "PYTHONPATH": str(source),
    }
    with socket.socket() as free:
        free.bind(("localhost", 0))
        pool = free.getsockname()[1]
    service = [sys.executable, str(Path(__file__).with_name("beam_workers.py")), "--port_file", str(folder / "port")]
    workers = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}"]
    with (folder / "service.log").open("w") as first, (folder / "pool.log").open("w") as second:
        processes = [
            subprocess.Popen(command, env=variables, stdout=log, stderr=log)
            for command, log in ((service, first), (workers, second))
        ]
        try:
            deadline = time.monotonic() + 60
            while not (folder / "port").exists() or "Started worker pool" not in (folder / "pool.log").read_text():
                assert time.monotonic() < deadline, "the job service does not start"
                time.sleep(0.1)
            yield int((folder / "port").read_text()), pool, folder / "pool.log"
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=20)
