"""From raw files through the local engine to a stream: replayed from the start, or continued with what is new."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from moerec.cli import main
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_files import find_files
from moerec.engines.local import LocalEngineConfig, run_local
from moerec.engines.stream import open_stream
from moerec.errors import ConfigError, DatasetError
from moerec.features.reviews import ReviewExamplesConfig
from tests.engines.stream_cases import line, output

SHAPE = GeneratedReviews(60, 40, 0, 8, compressed=False)
CONFIG = ReviewExamplesConfig()
MOMENT = 1_640_995_200_000
"""2022-01-01, about the middle of the generated reviews."""


def prepare(raw: Path, out: Path) -> None:
    files = find_files(2023, SHAPE.categories, str(raw), None, "required")
    run_local(files, 2023, CONFIG, out, seed=5, settings=LocalEngineConfig(processes=1))


def positives(folder: Path) -> pl.DataFrame:
    paths = sorted((folder / "examples").glob("part-*.parquet"))
    return pl.concat([pl.read_parquet(path) for path in paths]).filter(negative=0).sort("key")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All reviews: raw, prepared, and their lines in the order of time; and those up to a moment, prepared."""
    folder = tmp_path_factory.mktemp("prepared")
    generate_amazon_reviews(folder / "raw", SHAPE)
    prepare(folder / "raw", folder / "all")
    shutil.copytree(folder / "raw", folder / "earlier-raw")
    records = []
    for path in sorted((folder / "earlier-raw/raw/review_categories").iterdir()):
        found = [json.loads(each) for each in path.read_text().splitlines()]
        records += found
        path.write_bytes(b"".join(line(record) for record in found if record["timestamp"] < MOMENT))
    prepare(folder / "earlier-raw", folder / "earlier")
    (folder / "log").mkdir()
    records.sort(key=lambda record: record["timestamp"])
    (folder / "log/reviews.jsonl").write_bytes(b"".join(map(line, records)))
    return folder


def run(folder: Path, prepared: str, out: Path, users: bool) -> dict:
    with open_stream(folder / "log", folder / prepared, out / "state", out / "out", users=users) as stream:
        stream.run(once=True)
        return stream.summary()


def test_a_replay_of_the_files_gives_the_positives_of_the_local_engine(folder, tmp_path):
    summary = run(folder, "all", tmp_path, users=False)
    assert summary["refused"] == {}
    assert_frame_equal(output(tmp_path, "examples").filter(negative=0).sort("key"), positives(folder / "all"))
    assert run(folder, "all", tmp_path, users=False) == summary  # nothing new, nothing done


def test_a_stream_goes_on_where_the_files_end(folder, tmp_path):
    """The log holds all reviews; those of the files are duplicates, the later ones as if made together."""
    summary = run(folder, "earlier", tmp_path, users=True)
    expected = positives(folder / "all").filter(pl.col("timestamp") >= MOMENT)
    assert 50 < expected.height < summary["records"] - 100
    assert_frame_equal(output(tmp_path, "examples").filter(negative=0).sort("key"), expected)
    manifest = json.loads((folder / "earlier/manifest.json").read_text())
    assert summary["refused"] == {"duplicate review": manifest["reviews"]}
    assert summary["reviews"] + manifest["reviews"] == summary["records"]


def test_what_a_stream_cannot_begin_with_is_an_error_of_one_line(folder, tmp_path):
    with pytest.raises(DatasetError, match=r"no manifest\.json; give a folder of examples"):
        run(folder, "raw", tmp_path, users=True)
    shutil.copytree(folder / "earlier", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut/state")
    with pytest.raises(DatasetError, match="it is not whole"):
        run(folder, str(tmp_path / "cut"), tmp_path, users=True)
    run(folder, "earlier", tmp_path, users=True)
    with pytest.raises(ConfigError, match="began_with_users_of"):
        run(folder, "earlier", tmp_path, users=False)
    shutil.copytree(folder / "earlier", tmp_path / "bare")
    (tmp_path / "bare/items.parquet").unlink()
    with pytest.raises(DatasetError, match=r"not whole \(neither items\.parquet nor items/\*\.parquet\)"):
        run(folder, str(tmp_path / "bare"), tmp_path, users=True)


def test_the_layout_of_beam_gives_the_same_stream(folder, tmp_path):
    """Products lie in several files, and the rows of a file have no order."""
    other = tmp_path / "beam"
    shutil.copytree(folder / "earlier", other)
    for name in ("items", "rejects"):
        frame = pl.read_parquet(other / f"{name}.parquet")
        (other / f"{name}.parquet").unlink()
        (other / name).mkdir()
        for number in range(3):
            part = frame.gather_every(3, number).sample(fraction=1, shuffle=True, seed=number)
            part.write_parquet(other / name / f"part-0000{number}-of-00003.parquet")
    for path in (other / "events").iterdir():
        events = pl.read_parquet(path)
        shuffled = events.sample(fraction=1, shuffle=True, seed=1)
        assert not shuffled.equals(events)
        shuffled.write_parquet(path)
    summary = run(folder, "earlier", tmp_path / "plain", users=True)
    assert summary["reviews"] > 50
    assert run(folder, str(other), tmp_path, users=True) == summary
    for kind in ("examples", "texts", "rejects"):
        assert_frame_equal(output(tmp_path, kind), output(tmp_path / "plain", kind))


# --- the command


@pytest.fixture
def moerec(monkeypatch, capsys, folder):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["moerec", "stream", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        shown = capsys.readouterr()
        return int(stopped.value.code or 0), shown.out, shown.err

    return call


def test_the_command_reads_a_folder_to_its_end_and_goes_on_later(moerec, folder, tmp_path):
    (tmp_path / "log").mkdir()
    lines = (folder / "log/reviews.jsonl").read_bytes().splitlines(keepends=True)
    where = ("--prepared", "all", "--state", tmp_path / "state", "--out", tmp_path / "out", "--replay", "--once")
    (tmp_path / "log/a.jsonl").write_bytes(b"".join(lines[:50]) + b"junk\n")
    status, out, err = moerec(tmp_path / "log", *where, "--batch-records", 20)
    assert status == 0
    assert out.startswith("in all: 51 records, 50 reviews, ")
    assert out.endswith("up to part 3; refused: 1 not valid JSON\n")
    assert len(err.splitlines()) == 3
    with (tmp_path / "log/a.jsonl").open("ab") as stream:
        stream.writelines(lines[50:])
    status, out, _ = moerec(tmp_path / "log", *where, "--json")
    assert status == 0
    assert json.loads(out)["records"] == len(lines) + 1
    assert json.loads(out)["batch"] == 4
    assert_frame_equal(output(tmp_path, "examples").filter(negative=0).sort("key"), positives(folder / "all"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a folder of files that grow, or --kafka with --topic, and not both"),
        (("log", "--kafka", "x:1"), "and not both"),
        (("--kafka", "x:1"), "--kafka needs --topic"),
        (("log", "--topic", "x"), "a folder needs neither"),
        (("--kafka", "x:1", "--topic", "t", "--kafka-set", "group.id=x"), "group.id is set by the stream itself"),
        (("missing", "--prepared", "all"), "missing: there is no such folder"),
        (("log", "--prepared", "log"), "no manifest.json"),
    ],
)
def test_mistakes_are_one_line(moerec, tmp_path, arguments, message):
    status, out, err = moerec(*arguments, "--once", "--state", tmp_path / "state", "--out", tmp_path / "out")
    assert status == 2
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_state_goes_on_in_its_own_output_alone(moerec, tmp_path):
    def go(state: str, out: str) -> tuple[int, str, str]:
        where = ("--state", tmp_path / state, "--out", tmp_path / out)
        return moerec("log", "--prepared", "all", "--replay", "--once", *where)

    assert go("state", "out")[0] == go("state-2", "out-2")[0] == 0
    for state, out, message in (
        ("state", "new", "of this stream are not here; give the output folder that the state was made with"),
        ("state", "out-2", "it is the output of another stream; choose another output folder, or give the state"),
        ("new-state", "out", "it is the output of another stream; choose another output folder, or give the state"),
    ):
        status, told, err = go(state, out)
        assert status == 2
        assert told == ""
        assert message in err
        assert len(err.splitlines()) == 1
    (tmp_path / "out").rename(tmp_path / "moved")
    for part in (tmp_path / "moved").glob("*/part-*.parquet"):
        part.unlink()  # what a training has taken may go
    assert go("state", "moved")[0] == 0
    (tmp_path / "out-2/stream.json").unlink()  # as outputs of before
    assert go("state-2", "out-2")[0] == 0
    assert go("state", "out-2")[0] == 2


@pytest.mark.slow
def test_the_command_follows_files_and_survives_kill_9(moerec, folder, tmp_path):
    """Lines arrive in pieces while it runs; each process is killed when it has told of some of them."""
    (tmp_path / "log").mkdir()
    lines = (folder / "log/reviews.jsonl").read_bytes().splitlines(keepends=True)
    where = ["--prepared", folder / "all", "--state", tmp_path / "state", "--out", tmp_path / "out", "--replay"]
    command = [
        sys.executable,
        "-m",
        "moerec.cli",
        "stream",
        tmp_path / "log",
        *where,
        "--batch-records",
        "25",
        "--json",
    ]
    for first in range(0, len(lines), 150):
        child = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        with (tmp_path / "log/a.jsonl").open("ab") as stream:
            stream.writelines(lines[first : first + 150])
        assert child.stdout is not None
        told = json.loads(child.stdout.readline())
        assert 0 < told["records"] <= 25
        child.kill()
        child.communicate()
    status, out, _ = moerec(tmp_path / "log", *where, "--once", "--json")
    assert status == 0
    assert json.loads(out)["records"] == len(lines)
    assert_frame_equal(output(tmp_path, "examples").filter(negative=0).sort("key"), positives(folder / "all"))


@pytest.mark.slow
def test_the_command_reads_a_topic_and_goes_on_later(moerec, folder, tmp_path):
    confluent_kafka = pytest.importorskip("confluent_kafka")
    host = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 3})
    brokers = ",".join(f"{each.host}:{each.port}" for each in host.list_topics(timeout=10).brokers.values())
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    records = [json.loads(each) for each in (folder / "log/reviews.jsonl").read_bytes().splitlines()]
    where = ("--kafka", brokers, "--topic", "reviews", "--group", "g", "--prepared", "all", "--replay", "--once")
    kept = ("--state", tmp_path / "state", "--out", tmp_path / "out", "--batch-records", 40)
    quick = ("--kafka-set", "session.timeout.ms=6000", "--kafka-set", "heartbeat.interval.ms=100")
    for first, last in ((0, 100), (100, len(records))):
        for record in records[first:last]:
            producer.produce("reviews", line(record), key=record["user_id"].encode())
        assert producer.flush(20) == 0
        status, out, err = moerec(*where, *kept, *quick, "--json")
        assert status == 0, err
        assert json.loads(out)["records"] == last
        assert json.loads(out)["refused"] == {}
    assert_frame_equal(output(tmp_path, "examples").filter(negative=0).sort("key"), positives(folder / "all"))
    del producer, host
