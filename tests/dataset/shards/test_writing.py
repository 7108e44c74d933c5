"""Shards come out as they went in, with the same bytes each time, and a killed writer goes on."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.index import INDEX_FILE, shard_name
from moerec.dataset.shards.reader import ShardReader
from moerec.dataset.shards.writer import STARTED_FILE, finish_set, start_set, write_shard, write_shards
from moerec.dataset.storage import Storage
from moerec.errors import DatasetError
from tests.dataset.shards.made_examples import JPEG, example, examples_from, key_of

webdataset = pytest.importorskip("webdataset")


def write(folder: Any, count: int = 50, size: int = 16, **options: Any) -> None:
    write_shards(str(folder), lambda start: examples_from(start, count), examples_per_shard=size, **options)


def test_what_went_in_comes_out(tmp_path: Path) -> None:
    write(tmp_path)
    reader = ShardReader(str(tmp_path))
    assert len(reader) == 50
    assert [entry.examples for entry in reader.index.shards] == [16, 16, 16, 2]
    assert reader.read(range(50)) == list(examples_from(0, 50))
    for number in (0, 49, 17):
        assert reader.find(key_of(number)) == number
        assert reader.by_key(key_of(number)) == example(number)
    assert reader.find("0" * 32) == 0
    assert reader.find("f" * 32) is None
    assert reader.index.members == {"jpg": 13, "json": 50, "mask.npy": 25, "tokens.npy": 25, "u8.npy": 24}
    reader.verify()


def test_the_library_webdataset_reads_the_same(tmp_path: Path) -> None:
    write(tmp_path)
    files = [str(tmp_path / shard_name(number)) for number in range(4)]
    found = list(webdataset.WebDataset(files, shardshuffle=False, empty_check=False).decode())
    assert [sample["__key__"] for sample in found] == [key_of(number) for number in range(50)]
    raw = list(webdataset.WebDataset(files, shardshuffle=False))
    for number, sample in enumerate(found):
        wanted = example(number)
        assert sample["json"] == wanted.record
        if isinstance(wanted.picture, bytes):
            assert raw[number]["jpg"] == wanted.picture
        elif wanted.picture is not None:
            np.testing.assert_array_equal(sample["u8.npy"], wanted.picture, strict=True)
        for name, array in wanted.arrays.items():
            np.testing.assert_array_equal(sample[f"{name}.npy"], array, strict=True)
        members = {name for name in sample if not name.startswith("__")}
        assert len(members) == 1 + (wanted.picture is not None) + len(wanted.arrays)


def test_bytes_depend_on_the_examples_alone(tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]) -> None:
    write(tmp_path / "one")
    time.sleep(0.01)
    write_shards(
        str(tmp_path / "two"),
        lambda start: (
            ShardExample(one.key, dict(reversed(one.record.items())), one.picture, dict(reversed(one.arrays.items())))
            for one in examples_from(start, 50)
        ),
        examples_per_shard=16,
    )
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / shard_name(0)) as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.mode, member.uname) == (0, 0, 0, 0o644, "")


WRITER = """
import sys, time
from moerec.dataset.shards.writer import write_shards
from tests.dataset.shards.made_examples import examples_from

def slowly(start):
    print(start, flush=True)
    for one in examples_from(start, 64):
        time.sleep(0.002)
        yield one
        if one.record["number"] == int(sys.argv[2]):
            print("there", flush=True)
            time.sleep(30)

write_shards(sys.argv[1], slowly, examples_per_shard=8)
"""


def test_a_killed_writer_goes_on_to_the_same_bytes(
    tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", WRITER, str(folder), "27"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        assert process.stdout.readline() == "there\n"
        process.send_signal(signal.SIGKILL)
    names = {path.name for path in folder.iterdir()}
    assert STARTED_FILE in names
    assert INDEX_FILE not in names
    with pytest.raises(DatasetError, match=r"index\.json"):
        ShardReader(str(folder))
    starts = []

    def examples(start: int) -> Any:
        starts.append(start)
        return examples_from(start, 64)

    write_shards(str(folder), examples, examples_per_shard=8)
    assert starts == [24]
    write(tmp_path / "whole", 64, 8)
    assert contents(folder) == contents(tmp_path / "whole")
    write_shards(str(folder), examples, examples_per_shard=8)
    assert starts == [24], "a whole set is not written again"


def test_a_cut_shard_is_written_again(tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]) -> None:
    write(tmp_path / "whole")
    write(tmp_path / "cut")
    (tmp_path / "cut" / INDEX_FILE).unlink()
    (tmp_path / "cut" / STARTED_FILE).write_text('{"examples_per_shard": 16}')
    shard = tmp_path / "cut" / shard_name(1)
    shard.write_bytes(shard.read_bytes()[:1000])
    (tmp_path / "cut" / f".{shard_name(3)}.tmp-left").write_bytes(b"half")
    write(tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize("half", ["shard-000002.json", INDEX_FILE])
def test_a_store_that_leaves_half_a_file_is_written_to_again(tmp_path: Path, half: str) -> None:
    url = f"memory://{tmp_path.name}-{half}"
    write(url)
    storage = Storage(url)
    whole = {name: storage.read(name) for name in storage.names()}
    if half != INDEX_FILE:
        storage.remove(INDEX_FILE)
    storage.write(half, whole[half][:40])
    storage.write(STARTED_FILE, b'{"examples_per_shard": 16}')
    write(url)
    assert {name: storage.read(name) for name in storage.names()} == whole


def test_shards_of_other_inputs_are_not_continued(tmp_path: Path) -> None:
    write(tmp_path, inputs={"seed": 1})
    with pytest.raises(DatasetError, match="other inputs"):
        write(tmp_path, inputs={"seed": 2})
    (tmp_path / INDEX_FILE).unlink()
    with pytest.raises(DatasetError, match="unknown origin"):
        write(tmp_path, inputs={"seed": 1})
    (tmp_path / STARTED_FILE).write_text("{}")
    with pytest.raises(DatasetError, match="unfinished shards of other inputs"):
        write(tmp_path, inputs={"seed": 1})


def test_shards_written_in_any_order_make_the_same_set(
    tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    write(tmp_path / "one")
    storage = Storage(str(tmp_path / "two"))
    assert start_set(storage, {"examples_per_shard": 16}) is None
    for number in (2, 0, 3):
        write_shard(storage, number, examples_from(number * 16, min(50, number * 16 + 16)))
    with pytest.raises(DatasetError, match=r"shard-000001\.tar: not finished"):
        finish_set(storage, 4)
    write_shard(storage, 1, examples_from(16, 32))
    finish_set(storage, 4)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_address_of_fsspec_holds_the_same_bytes(
    tmp_path: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    url = f"memory://{tmp_path.name}"
    write(url)
    write(tmp_path / "here")
    fs = fsspec.filesystem("memory")
    found = {path.rpartition("/")[2]: fs.cat_file(path) for path in fs.ls(f"/{tmp_path.name}", detail=False)}
    assert found == contents(tmp_path / "here")
    write(f"file://{tmp_path}/there")
    assert contents(tmp_path / "there") == found


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ShardExample("a.b", {}), "letters, digits"),
        (ShardExample("a/b", {}), "letters, digits"),
        (ShardExample("a" * 96, {}), "too long by 1"),
        (ShardExample("a", {"x": float("nan")}), "no JSON"),
        (ShardExample("a", {"x": object()}), "no JSON"),
        (ShardExample("a", {}, b"<html>"), "no JPEG"),
        (ShardExample("a", {}, np.zeros((4, 4), dtype=np.uint8)), r"uint8 \[4, 4\]"),
        (ShardExample("a", {}, np.zeros((4, 4, 3), dtype=np.float32)), "float32"),  # type: ignore[arg-type]
        (ShardExample("a", {}, JPEG, {"Tokens": np.zeros(1)}), "name 'Tokens'"),
        (ShardExample("a", {}, JPEG, {"words": np.array(["a"], dtype=object)}), "objects"),
    ],
)
def test_what_cannot_be_written_is_refused_in_one_line(
    tmp_path: Path, refusal: Callable[..., str], wrong: ShardExample, words: str
) -> None:
    import re

    said = refusal(write_shards, str(tmp_path), lambda start: [example(1), wrong])
    assert re.search(words, said), said
    assert not list(tmp_path.glob("shard-*"))


def test_an_error_of_the_one_who_makes_examples_comes_out_as_it_is(tmp_path: Path) -> None:
    def failing(start: int) -> Any:
        yield example(0)
        raise ValueError("a mistake of mine")

    for url in (str(tmp_path), f"memory://{tmp_path.name}-failing"):
        with pytest.raises(ValueError, match="a mistake of mine"):
            write_shards(url, failing)
        assert Storage(url).names() == [STARTED_FILE]


def test_keys_are_unique(tmp_path: Path, refusal: Callable[..., str]) -> None:
    rows = [*examples_from(0, 20), example(7)]
    assert "twice" in refusal(write_shards, str(tmp_path / "a"), lambda start: iter(rows))
    said = refusal(write_shards, str(tmp_path / "b"), lambda start: iter(rows), examples_per_shard=10)
    assert f"'{key_of(7)}' stands in two shards" in said


def test_damage_is_told(tmp_path: Path, refusal: Callable[..., str]) -> None:
    write(tmp_path)
    reader = ShardReader(str(tmp_path))
    shard = tmp_path / shard_name(2)
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    assert "not what was written" in refusal(reader.verify)
    shard.write_bytes(content[:-512])
    assert "expected" in refusal(reader.__getitem__, 40)
    shard.unlink()
    assert "missing" in refusal(reader.__getitem__, 40)
    offsets = tmp_path / "shard-000000.json"
    values = json.loads(offsets.read_text())
    offsets.write_text(json.dumps(values))
    assert "other shards" in refusal(reader.__getitem__, 0)


def test_no_examples_make_an_empty_set(tmp_path: Path) -> None:
    write(tmp_path, 0)
    reader = ShardReader(str(tmp_path))
    assert len(reader) == 0
    assert reader.find("a") is None
    assert list(reader.examples(reader.order(0).epoch(0))) == []
