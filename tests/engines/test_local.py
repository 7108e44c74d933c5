"""The local engine: equal to the whole-table reader and the pure functions, in any cut of the work, after any crash."""

import gzip
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from moerec.dataset.download import MIRROR_VARIABLE
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_files import find_files
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.engines import local
from moerec.engines.example_folder import ExampleFolder
from moerec.engines.local import LocalEngineConfig, LocalResult, run_local
from moerec.engines.state_files import load_state
from moerec.errors import DatasetError
from moerec.features.reviews import EVENT_ORDER, ReviewExamplesConfig, ReviewNegativesConfig, make_examples, with_keys

MIRROR = os.environ.get(MIRROR_VARIABLE)
RULE = ReviewExamplesConfig(train_until="2022-12-31", valid_until="2023-03-31")
HERE = {"processes": 1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated files of four categories with every kind of broken line; users review in several of them."""
    folder = tmp_path_factory.mktemp("raw") / "amazon"
    generate_amazon_reviews(folder, GeneratedReviews(users=150, items=80, seed=1, dirt=0.1, compressed=False))
    return folder


def run(raw: Path, out: Path, config: ReviewExamplesConfig = RULE, **settings: Any) -> LocalResult:
    files = find_files(2023, (), str(raw), None, "optional")
    return run_local(files, 2023, config, out, seed=5, settings=LocalEngineConfig(**{**HERE, **settings}))


def table(out: Path, kind: str) -> pl.DataFrame:
    """All partitions, in the order that one partition would have."""
    frame = pl.read_parquet(out / kind / "part-*.parquet")
    return frame.sort("key") if kind == "texts" else frame.sort("user_id", maintain_order=True)


@pytest.fixture(scope="module")
def whole(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> LocalResult:
    return run(raw, tmp_path_factory.mktemp("whole") / "out", partitions=1)


def test_events_and_refused_rows_are_those_of_the_whole_table_reader(raw: Path, whole: LocalResult) -> None:
    read = AmazonReviewsConfig(path=str(raw)).read()
    events = with_keys(read.events).join(read.items, on="item_id", how="left", maintain_order="left")
    codes = {name: code for code, name in enumerate(whole.manifest["categories"], 1)}
    expected = events.select(
        "key",
        "user_id",
        "item_id",
        "timestamp",
        "rating",
        category=pl.col("main_category").replace_strict(codes, default=0, return_dtype=pl.Int32),
        price="price",
        verified="verified",
        helpful="helpful",
    ).sort(EVENT_ORDER)
    assert_frame_equal(table(whole.out, "events"), expected)
    texts = events.select("key", title="review_title", text="review_text").sort("key")
    assert_frame_equal(table(whole.out, "texts"), texts)
    items = pl.read_parquet(whole.out / "items.parquet")
    assert items.drop("category").equals(read.items.select(items.drop("category").columns))
    rejects = pl.read_parquet(whole.out / "rejects.parquet")
    order = ["source", "line", "reason"]
    assert_frame_equal(rejects.sort(order).drop("row"), read.rejects.sort(order).drop("row"))


def test_every_broken_line_that_was_written_is_counted(raw: Path, whole: LocalResult) -> None:
    written: Counter[str] = Counter()
    for counts in json.loads((raw / "dirt.json").read_text()).values():
        written.update(counts)
    assert whole.manifest["rejects"] == dict(written)
    assert pl.read_parquet(whole.out / "rejects.parquet").height == sum(written.values())
    assert whole.manifest["unknown"]["without price"] > 0


def test_examples_are_those_of_the_pure_functions(whole: LocalResult) -> None:
    events = pl.read_parquet(whole.out / "events" / "part-*.parquet")
    examples = make_examples(events, load_state(whole.out / "state"), RULE, 5)
    assert_frame_equal(table(whole.out, "examples"), examples)
    counts = examples.group_by("part").agg(
        reviews=(pl.col("negative") == 0).sum(), negatives=pl.col("negative").cast(pl.Int64).sum()
    )
    for part, reviews, negatives in counts.sort("part").iter_rows():
        name = ("train", "valid", "test")[part]
        assert whole.manifest["examples"][name] == {"reviews": reviews, "negatives": negatives}
        assert negatives > 4 * reviews > 0


@pytest.mark.parametrize("sampling", ["uniform", pytest.param("popularity", marks=pytest.mark.slow)])
def test_partitions_chunks_and_processes_change_no_example(raw: Path, tmp_path: Path, sampling: str) -> None:
    rule = RULE.model_copy(update={"negatives": ReviewNegativesConfig(sampling=sampling)})
    one = run(raw, tmp_path / "one", rule, partitions=1)
    many = run(raw, tmp_path / "many", rule, partitions=7, chunk_bytes=20_000, processes=1 + (sampling == "uniform"))
    for kind in ("examples", "events", "texts"):
        assert len(list((many.out / kind).iterdir())) == 7
        assert_frame_equal(table(many.out, kind), table(one.out, kind))
    for name in ("examples", "rejects", "unknown", "reviews", "left_empty"):
        assert many.manifest[name] == one.manifest[name]
    assert_frame_equal(pl.read_parquet(many.out / "items.parquet"), pl.read_parquet(one.out / "items.parquet"))


CRASH = """
import os, signal, sys
from pathlib import Path
from moerec.engines import partitions
from tests.engines.test_local import run
step, left = getattr(partitions, sys.argv[3]), [3]
work = step.run
def dying(self):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return work(self)
step.run = dying
run(Path(sys.argv[1]), Path(sys.argv[2]), partitions=6, chunk_bytes=50_000)
"""


@pytest.mark.parametrize("step", [pytest.param("CleanPartition", marks=pytest.mark.slow), "ExamplePartition"])
def test_a_killed_run_goes_on_and_does_nothing_twice(raw: Path, tmp_path: Path, step: str) -> None:
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", CRASH, str(raw), str(out), step], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not out.exists()
    (work,) = tmp_path.glob(".out.work-*")
    kind = "events" if step == "CleanPartition" else "examples"
    made = {path.name: path.stat().st_mtime_ns for path in (work / "result" / kind).glob("part-*.parquet")}
    spilled = {path: path.stat().st_mtime_ns for path in work.glob("reviews-*/*.arrow")}
    assert len(made) == 3
    assert len(spilled) > 6
    result = run(raw, out, partitions=6, chunk_bytes=50_000)
    again = {path.name: path.stat().st_mtime_ns for path in (out / kind).glob("part-*.parquet")}
    assert len(again) == 6
    assert made.items() <= again.items()
    assert list(tmp_path.glob(".out.work-*")) == []
    clean = run(raw, tmp_path / "clean", partitions=6, chunk_bytes=50_000)
    assert result.manifest == clean.manifest
    for kind in ("examples", "events", "texts"):
        assert_frame_equal(table(out, kind), table(clean.out, kind))


def test_a_finished_run_is_not_done_again_and_another_rule_replaces_it(raw: Path, tmp_path: Path) -> None:
    first = run(raw, tmp_path / "out", partitions=2)
    times = {path: path.stat().st_mtime_ns for path in first.out.rglob("*")}
    second = run(raw, tmp_path / "out", partitions=2)
    assert (second.seconds, second.manifest) == ({}, first.manifest)
    assert {path: path.stat().st_mtime_ns for path in first.out.rglob("*")} == times
    other = RULE.model_copy(update={"negatives": None})
    assert run(raw, tmp_path / "out", other, partitions=2).manifest["examples"]["train"]["negatives"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


HELD = """
import sys
from pathlib import Path
from moerec.engines.local_steps import LocalRun
from tests.engines.test_local import run
finish = LocalRun.finish
def held(self):
    print("ready", flush=True)
    sys.stdin.readline()
    finish(self)
LocalRun.finish = held
run(Path(sys.argv[1]), Path(sys.argv[2]), partitions=2)
"""


@pytest.mark.parametrize("same", [True, False])
def test_two_runs_that_make_one_folder_take_turns(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """The other process is before its last step, and goes on once this one tells that it waits."""
    out = tmp_path / "deep" / "out"
    command = [sys.executable, "-c", HELD, str(raw), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        told: list[str] = []

        def tell(message: str, *values: Any) -> None:
            told.append(message % values)
            if "waiting" in message:
                other.stdin.write("\n")
                other.stdin.flush()

        monkeypatch.setattr(local.logger, "info", tell)
        result = run(raw, out, RULE if same else RULE.model_copy(update={"negatives": None}), partitions=2)
        assert other.wait() == 0
    assert told[0] == f"local engine: {out} is being made by another run; waiting for it to end"
    assert (result.seconds == {}) == same
    assert (result.manifest["examples"]["train"]["negatives"] == 0) != same
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_run_without_texts_keeps_none(raw: Path, tmp_path: Path, whole: LocalResult) -> None:
    files = find_files(2023, (), str(raw), None, "optional")
    out = run_local(files, 2023, RULE, tmp_path / "out", seed=5, texts=False, settings=LocalEngineConfig(**HERE)).out
    assert not (out / "texts").exists()
    assert_frame_equal(table(out, "examples"), table(whole.out, "examples"))


def test_reviews_without_product_count_as_unknown(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "All_Beauty.jsonl").symlink_to(raw / "raw/review_categories/All_Beauty.jsonl")
    result = run(folder, tmp_path / "out")
    unknown = result.manifest["unknown"]
    assert unknown["without product"] == result.manifest["reviews"] > 0
    assert result.manifest["categories"] == []
    items = pl.read_parquet(result.out / "items.parquet")
    assert items.height == unknown["items without product"] > 0
    assert table(result.out, "examples").filter(pl.col("price_mean").is_not_null()).height == 0


def test_a_file_without_one_good_review_and_a_foreign_folder_are_refused(raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "Books.jsonl").write_text('{"rating": 5}\nnonsense\n')
    with pytest.raises(DatasetError, match="not one good review"):
        run(folder, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="choose another folder"):
        run(raw, tmp_path / "out")


def test_a_cut_archive_counts_up_to_the_damage(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    generate_amazon_reviews(folder, GeneratedReviews(users=80, items=20, seed=2))
    path = folder / "raw/review_categories/All_Beauty.jsonl.gz"
    lines = gzip.decompress(path.read_bytes()).count(b"\n")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    result = run(folder, tmp_path / "out", chunk_bytes=4096)
    assert result.manifest["rejects"] == {"the compressed file is damaged or cut off here": 1}
    others = sum(
        gzip.decompress(other.read_bytes()).count(b"\n") for other in path.parent.iterdir() if other.name != path.name
    )
    assert others + lines * 0.4 < result.manifest["reviews"] < others + lines * 0.8


@pytest.mark.skipif(MIRROR is None, reason="needs the published files in MOEREC_MIRROR")
def test_the_published_files_of_2018_go_through_whole(tmp_path: Path) -> None:
    rule = ReviewExamplesConfig(train_until="2017-06-30", valid_until="2017-12-31")
    files = find_files(2018, (), None, None, "optional")
    runs = [
        run_local(files, 2018, rule, tmp_path / f"out-{count}", settings=LocalEngineConfig(**HERE, partitions=count))
        for count in (1, 5)
    ]
    read = AmazonReviewsConfig(year=2018, metadata="optional").read()
    for result in runs:
        assert_frame_equal(table(result.out, "examples"), table(runs[0].out, "examples"))
        manifest = result.manifest
        assert manifest["reviews"] == read.events.height == 8362
        assert sum(manifest["rejects"].values()) == read.rejects.height
        assert manifest["rejects"]["duplicate review"] == 161
        assert manifest["unknown"]["without product"] == 3126
        for part in ("train", "valid", "test"):
            assert manifest["examples"][part]["negatives"] > 4.5 * manifest["examples"][part]["reviews"] > 0


def test_a_folder_may_be_named_like_a_pattern(raw: Path, whole: LocalResult, tmp_path: Path) -> None:
    out = run(raw, tmp_path / "run [ab]*" / "out?", partitions=2).out
    folder = ExampleFolder(out)
    examples = folder.examples.collect().sort("user_id", maintain_order=True)
    assert_frame_equal(examples, table(whole.out, "examples"))
    assert folder.events.collect().height == table(whole.out, "events").height
    file = folder.example_files[0]
    keys = pl.scan_parquet(file, glob=False).filter(pl.col("negative") == 0).collect()["key"]
    assert folder.texts_of(file, keys).height == keys.n_unique()
