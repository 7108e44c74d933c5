"""The Beam engine gives what the features give in one process, bit for bit, on every runner that is here."""

import dataclasses
import gzip
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import numpy as np
import polars as pl
import pytest
from apache_beam.io.filesystem import FileMetadata, FileSystem
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from polars.testing import assert_frame_equal

import moerec
from moerec.config import validate
from moerec.dataset.download import MIRROR_VARIABLE
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.generators.dirty_lines import OF_PRODUCTS, OF_REVIEWS
from moerec.dataset.schema import REJECT_COLUMNS
from moerec.dataset.sources.amazon_files import FileNames, find_files
from moerec.dataset.sources.json_lines import CUT_ARCHIVE
from moerec.engines.beam.engine import BeamConfig, BeamResult, find_addresses, run_beam
from moerec.engines.beam.options import make_pipeline
from moerec.engines.beam.output_folder import UNFINISHED
from moerec.engines.beam.pipeline import BY_PRODUCT, BY_USER, Job, build
from moerec.engines.beam.reading import RawFile
from moerec.engines.local import LocalEngineConfig, LocalResult, run_local
from moerec.engines.state_files import load_state
from moerec.errors import ConfigError, DatasetError, MissingExtraError
from moerec.features.reviews import ReviewExamplesConfig

MIRROR = os.environ.get(MIRROR_VARIABLE)
RULE = ReviewExamplesConfig(train_until="2021-12-31", valid_until="2022-06-30")
SEED = 3


@pytest.fixture(autouse=True)
def _temporary_files_of_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("generated") / "reviews"
    generate_amazon_reviews(out, GeneratedReviews(users=80, items=60, dirt=0.2, seed=5))
    for first, last, change in (
        ("raw/review_categories/All_Beauty", "raw/review_categories/Toys_and_Games", {"rating": 1.0, "text": "second"}),
        ("raw/meta_categories/meta_All_Beauty", "raw/meta_categories/meta_Toys_and_Games", {"price": 0.01}),
    ):  # the same once more, but not equal, at the top of a later file
        with gzip.open(f"{out / first}.jsonl.gz") as lines:
            record = json.loads(next(lines)) | change
        path = out / f"{last}.jsonl.gz"
        path.write_bytes(gzip.compress(json.dumps(record).encode() + b"\n") + path.read_bytes())
    return out


@pytest.fixture(scope="module")
def local(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalResult:
    return run_here(folder, tmp_path_factory.mktemp("local") / "out")


def run_here(folder: Path, out: Path, year: int = 2023, rule: ReviewExamplesConfig = RULE) -> LocalResult:
    files = find_files(year, (), str(folder), None, "optional")
    return run_local(files, year, rule, out, seed=SEED, settings=LocalEngineConfig(processes=1, partitions=3))


def run(folder: Path, out: Path, *options: str, year: int = 2023, rule: ReviewExamplesConfig = RULE) -> BeamResult:
    files = find_addresses(year, (), str(folder), metadata="optional")
    settings = BeamConfig(options=options, shards=3, rows_in_frame=100)
    return run_beam(files, year, rule, str(out), seed=SEED, settings=settings)


def assert_equal(beam_out: Path, local: LocalResult) -> None:
    """The same rows with the same bits, the same state, the same counts."""
    for name in ("examples", "events", "texts"):
        for path in (local.out / name).glob("part-*.parquet"):  # a user is in the part of the same number
            found, wanted = pl.read_parquet(beam_out / name / path.name), pl.read_parquet(path)
            assert wanted.height
            assert_frame_equal(found.sort("key"), wanted.sort("key"), check_exact=True)
    for name, keys in {"items": ["item_id"], "rejects": ["source", "line", "reason", "row"]}.items():
        found = pl.read_parquet(beam_out / name / "part-*.parquet")
        assert_frame_equal(
            found.sort(keys), pl.read_parquet(local.out / f"{name}.parquet").sort(keys), check_exact=True
        )
    states = [load_state(out / "state").to_feature_state() for out in (beam_out, local.out)]
    assert states[0].values == states[1].values
    assert states[0].arrays.keys() == states[1].arrays.keys()
    for name, array in states[0].arrays.items():
        assert np.array_equal(array, states[1].arrays[name]), name
    manifest = json.loads((beam_out / "manifest.json").read_text())
    others = {"engine", "fingerprint", "files"}
    assert {name: manifest[name] for name in local.manifest if name not in others} == {
        name: value for name, value in local.manifest.items() if name not in others
    }
    for name, files in manifest["written"].items():
        assert files == {path.name: pl.read_parquet(path).height for path in (beam_out / name).iterdir()}


def test_beam_gives_the_rows_of_the_local_engine_and_counts_every_reject(
    folder: Path, local: LocalResult, tmp_path: Path
) -> None:
    given = run(folder, tmp_path / "out")
    assert_equal(tmp_path / "out", local)
    assert given.counters == given.manifest["rejects"] == local.manifest["rejects"]
    assert set(given.counters) >= {*OF_REVIEWS, *OF_PRODUCTS, CUT_ARCHIVE}


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")  # Beam has no other way to write a bracket
def test_frames_files_and_a_second_run_change_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out [1]"  # as a pattern it would be another folder
    (out / "texts").mkdir(parents=True)
    for name in ("part-00001-of-00009.parquet", ".part-00000-of-00001.parquet.tmp-1"):
        (out / "texts" / name).write_text("left by a run that was stopped")
    (out / UNFINISHED).touch()
    rule = ReviewExamplesConfig(train_until="2021-12-31", valid_until="2022-06-30", negatives=None, most_categories=2)
    files = find_addresses(2023, (), str(folder), metadata="none")
    settings = BeamConfig(shards=3, rows_in_frame=10**6)
    run_beam(files, 2023, rule, str(out), seed=SEED, texts=False, settings=settings)
    bare = find_files(2023, (), str(folder), None, "none")
    here = LocalEngineConfig(processes=1, partitions=3)
    shutil.copytree(out, tmp_path / "copy")
    assert_equal(
        tmp_path / "copy", run_local(bare, 2023, rule, tmp_path / "local", seed=SEED, texts=False, settings=here)
    )
    assert not list((out / "texts").iterdir())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert run_beam(files, 2023, rule, str(out), seed=SEED, texts=False, settings=settings).counters == {}
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before, "no work is done twice"
    for path in folder.rglob("*.jsonl.gz"):
        os.utime(path, (1, 1))
    assert run_beam(files, 2023, rule, str(out), seed=SEED, texts=False, settings=settings).counters == {}, (
        "files are told apart by what stands in them"
    )
    fewer = settings.model_copy(update={"shards": 2})
    replaced = run_beam(files, 2023, rule, str(out), seed=SEED, texts=False, settings=fewer)
    assert replaced.out == str(out)
    rows = {path.name: pl.read_parquet(path, glob=False).height for path in (out / "events").iterdir()}
    assert rows.keys() == {"part-00000.parquet", "part-00001.parquet"}
    assert sum(rows.values()) == replaced.manifest["reviews"]
    assert not list(out.parent.glob(".out*")), "nothing is left beside it"


def test_a_result_that_cannot_be_made_leaves_the_one_that_is_there(
    folder: Path, local: LocalResult, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(local.out, out)
    (tmp_path / "empty.jsonl").write_text('{"rating": 6}\n')
    empty = [FileNames("E", str(tmp_path / "empty.jsonl"), None)]
    with pytest.raises(DatasetError, match="not one good review"):
        run_beam(empty, 2023, RULE, str(out))
    assert json.loads((out / "manifest.json").read_text()) == local.manifest
    # The next run clears away what that one has left.
    run(folder, out)
    assert_equal(out, local)
    assert not list(tmp_path.glob(".out*"))


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    review = {"rating": 5.0, "title": "a", "text": "b", "asin": "A", "parent_asin": "A", "user_id": "u"}
    review |= {"timestamp": 1_600_000_000_000, "helpful_vote": 0, "verified_purchase": True, "images": []}
    (tmp_path / "clean.jsonl").write_text(json.dumps(review) + "\n")
    clean = [FileNames("Clean", str(tmp_path / "clean.jsonl"), None)]
    given = run_beam(clean, 2023, RULE, str(tmp_path / "out"))
    assert given.manifest["rejects"] == given.counters == {}
    assert given.manifest["written"]["rejects"] == {"part-00000.parquet": 0}
    rejects = pl.read_parquet(tmp_path / "out/rejects/*.parquet")
    assert_frame_equal(rejects, pl.DataFrame(schema=REJECT_COLUMNS))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--runner=Nope"], r"Unexpected pipeline runner: Nope"),
        (["--runner=no.such.Runner"], r"No module named 'no'; correct"),
        (["--runner=PortableRunner", "--environment_type=EXTERNAL"], r"external_service_address is required"),
        (["--runner=PortableRunner"], r"needs a job service; add --job_endpoint=host:port"),
        (["--direct_running_mode=quickly"], r"direct_running_mode: invalid choice: 'quickly'"),
        (["--nope=1"], r"there is no --nope; remove it"),
        (["--direct_num_worker=1"], r"there is no --direct_num_worker; did you mean --direct_num_workers\?"),
        (["--runner"], r"--runner: expected one argument"),
        (["--help"], r"--help starts nothing"),
    ],
)
def test_a_wrong_option_of_beam_is_one_line_and_nothing_is_touched(
    options: list[str], message: str, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"^options of Beam: .*{message}.*$") as raised:
        run(folder, tmp_path / "out", *options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_a_job_service_that_does_not_answer_is_one_line(folder: Path, tmp_path: Path) -> None:
    options = ("--runner=PortableRunner", "--job_endpoint=localhost:1", "--environment_type=LOOPBACK")
    with pytest.raises(ConfigError, match=r"^the job service of Beam did not take the job: .*; correct 'options'$"):
        run(folder, tmp_path / "out", *options, "--job_server_timeout=1")


def test_options_of_every_runner_are_known(caplog: pytest.LogCaptureFixture) -> None:
    flink = ("--flink_master=host:8081", "--environment_type=EXTERNAL", "--environment_config=host:50000")
    for options in (
        ("--direct_running_mode=multi_processing", "--direct_num_workers=4"),
        ("--runner=FlinkRunner", *flink),
        ("--runner=SparkRunner", "--spark_master_url=spark://host:7077", *flink[1:]),
    ):
        make_pipeline(options)
    assert "job service" not in caplog.text
    make_pipeline(("--runner=FlinkRunner", *flink, "--checkpointingInterval=9"))
    assert "--checkpointingInterval is none of Beam itself; it is handed to the job service" in caplog.text


def test_the_graph_has_a_shuffle_by_product_and_then_one_by_user() -> None:
    files = (RawFile("/nowhere/a.jsonl"), RawFile("/nowhere/b.jsonl"))
    job = Job(files, files, 2023, RULE, SEED, True, "/out", 2, 100, {})
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
    written = {f"Write {name}" for name in ("examples", "events", "texts", "items", "rejects")}
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


def test_any_file_system_of_beam_is_read_and_written(
    folder: Path, local: LocalResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {f"memory://a/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*.jsonl.gz")}
    monkeypatch.setattr(MemoryFiles, "content", content)
    files = find_addresses(2023, (), "memory://a")
    run_beam(files, 2023, RULE, "memory://b/out", seed=SEED, settings=BeamConfig(shards=3))
    for path in [path for path in content if path.startswith("memory://b/out/")]:
        target = tmp_path / path.removeprefix("memory://b/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[path])
    assert not [path for path in content if ".tmp-" in path]
    with pytest.raises(DatasetError, match="other files or settings; choose another folder"):
        run_beam(files, 2023, RULE, "memory://b/out", seed=SEED + 1)
    assert_equal(tmp_path / "out", local)


def test_mistakes_are_one_line(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for option in ("--save_main_session", "runner=FlinkRunner"):
        with pytest.raises(ConfigError, match="options"):
            validate(BeamConfig, {"options": [option]})
    files = find_addresses(2023, (), str(folder))
    gone = [dataclasses.replace(files[0], reviews=f"{folder}/gone.jsonl")]
    with pytest.raises(DatasetError, match=r"gone\.jsonl: there is no such file"):
        run_beam(gone, 2023, RULE, str(tmp_path / "out"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").touch()
    for content in (None, "[]", "no json", '{"name": "an application"}'):
        if content is not None:
            (tmp_path / "other/manifest.json").write_text(content)
        with pytest.raises(DatasetError, match="something else than examples of reviews; choose another folder"):
            run_beam(files, 2023, RULE, str(tmp_path / "other"))
    assert (tmp_path / "other/thesis.txt").exists()
    (tmp_path / "empty.jsonl").write_text('{"rating": 6}\n')
    empty = [FileNames("E", str(tmp_path / "empty.jsonl"), None)]
    with pytest.raises(DatasetError, match=r"empty\.jsonl: not one good review \(rejects/ says why\); get .* again$"):
        run_beam(empty, 2023, RULE, str(tmp_path / "out"))
    assert not (tmp_path / "out/manifest.json").exists()
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moerec\[beam\]'"):
        run_beam(files, 2023, RULE, str(tmp_path / "out"))


@pytest.mark.slow
@pytest.mark.skipif(MIRROR is None, reason="needs MOEREC_MIRROR with amazon-2018")
def test_the_published_files_go_through_whole(tmp_path: Path) -> None:
    folder = Path(MIRROR or "") / "amazon-2018"
    if not folder.is_dir():
        pytest.skip("MOEREC_MIRROR has no amazon-2018")
    rule = ReviewExamplesConfig(train_until="2016-12-31", valid_until="2017-06-30")
    run(folder, tmp_path / "out", year=2018, rule=rule)
    local = run_here(folder, tmp_path / "local", 2018, rule)
    assert_equal(tmp_path / "out", local)
    assert local.manifest["reviews"] > 8000


@pytest.mark.slow
def test_two_processes_of_the_direct_runner(folder: Path, local: LocalResult, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", "--direct_num_workers=2", "--direct_running_mode=multi_processing")
    assert_equal(tmp_path / "out", local)


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["EXTERNAL", "beam:env:harness_subprocess_python:v1"])
def test_a_portable_job_service_with_two_workers(
    folder: Path, local: LocalResult, tmp_path: Path, environment: str
) -> None:
    with job_service(tmp_path) as (port, pool, log):
        value = f"localhost:{pool}" if environment == "EXTERNAL" else f"{sys.executable} {WORKER}"
        workers = (f"--environment_type={environment}", f"--environment_config={value}")
        job = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}", *workers)
        run(folder, tmp_path / "out", *job)
        if environment == "EXTERNAL":
            assert log.read_text().count("Starting worker") == 2
            (tmp_path / "empty.jsonl").write_text("{}\n")
            empty, settings = FileNames("E", str(tmp_path / "empty.jsonl"), None), BeamConfig(options=job)
            with pytest.raises(DatasetError, match=r"not one good review \(rejects/ says why\); get .* again$"):
                run_beam([empty], 2023, RULE, str(tmp_path / "none"), settings=settings)
    assert_equal(tmp_path / "out", local)


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
