"""The published layout: every whole example is read, everything else is a reject with a reason."""

import gzip
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moerec.dataset.dataset import Dataset
from moerec.dataset.shards import published
from moerec.dataset.shards.published import PublishedExample, RefusedExample, read_published
from moerec.dataset.shards.reader import ShardReader
from moerec.dataset.shards.writer import write_shards
from moerec.dataset.sources.published_shards import PublishedShardsConfig
from moerec.dataset.sources.source_files import SourceFile

SHAPE = [4, 3, 2, 2]
SIZE = 48


def members(number: int, **changes: Any) -> dict[str, bytes]:
    has_image = number % 3 > 0
    patch = np.random.default_rng(number).integers(0, 256, SIZE, dtype=np.uint8).tobytes()
    values: dict[str, Any] = {
        "user_json": f"Category history: Beauty: {number}%. \u2603".encode(),
        "item_json": f"Item title: product {number}.".encode(),
        "patch_bin": patch if has_image else bytes(2 * SIZE),
        "misc_json": json.dumps({"has_image": int(has_image), "shape": SHAPE}).encode(),
        "label_json": json.dumps({"label_good": number % 2, "label_best": 0}).encode(),
    } | changes
    return {name.replace("_", "."): content for name, content in values.items() if content is not None}


def key_of(number: int) -> str:
    return f"AG{number:05d}-B{number % 7:09d}-{number:06x}"


def archive(path: Path, examples: list[tuple[str, dict[str, bytes]]], compressed: bool = True) -> Path:
    with tarfile.open(path, "w:gz" if compressed else "w") as tar:
        for key, values in examples:
            for name, content in values.items():
                header = tarfile.TarInfo(f"{key}.{name}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return path


def read(path: Path) -> tuple[list[PublishedExample], list[RefusedExample]]:
    found = list(read_published(SourceFile(path)))
    good = [one for one in found if isinstance(one, PublishedExample)]
    return good, [one for one in found if isinstance(one, RefusedExample)]


@pytest.mark.parametrize("compressed", [True, False])
def test_whole_examples(tmp_path: Path, compressed: bool) -> None:
    rows = [(key_of(number), members(number)) for number in range(20)]
    good, refused = read(archive(tmp_path / "data-000000-0a1b2c3d.tar.gz", rows, compressed))
    assert refused == []
    assert [one.key for one in good] == [key_of(number) for number in range(20)]
    for number, one in enumerate(good):
        assert (one.user_id, one.item_id) == (f"AG{number:05d}", f"B{number % 7:09d}")
        assert one.user_text == f"Category history: Beauty: {number}%. \u2603"
        assert one.item_text == f"Item title: product {number}."
        assert (one.good, one.best) == (number % 2, 0)
        if number % 3 == 0:
            assert one.patches is None, "zeros are no picture"
        else:
            assert one.patches is not None
            assert one.patches.shape == tuple(SHAPE)
            assert one.patches.tobytes() == members(number)["patch.bin"]


def test_patches_of_two_bytes_are_floats(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, SIZE, dtype=np.float16)
    good, _ = read(archive(tmp_path / "a.tar.gz", [(key_of(1), members(1, patch_bin=values.tobytes()))]))
    assert good[0].patches is not None
    np.testing.assert_array_equal(good[0].patches, values.reshape(SHAPE), strict=True)


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"user_json": b"\xff\xfe"}, published.NOT_UTF_8),
    ({"item_json": None}, "there is no item.json"),
    ({"label_json": b"{"}, published.BAD_LABEL),
    ({"label_json": b"[1]"}, published.BAD_LABEL),
    ({"label_json": b'{"label_good": 2, "label_best": 0}'}, published.BAD_LABEL),
    ({"misc_json": b"null"}, published.BAD_MISC),
    ({"misc_json": b'{"has_image": 1, "shape": [4, 3, 2]}'}, published.BAD_MISC),
    ({"misc_json": b'{"has_image": 1, "shape": [4, 3, 2, -2]}'}, published.BAD_MISC),
    ({"patch_bin": b"12345"}, published.BAD_PATCH),
    ({"label_json": b"[" * 100_000}, published.BAD_LABEL),
]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_member_costs_its_example(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    rows = [(key_of(number), members(number, **(change if number == 1 else {}))) for number in range(3)]
    good, refused = read(archive(tmp_path / "a.tar.gz", rows))
    assert [one.key for one in good] == [key_of(0), key_of(2)]
    assert refused == [RefusedExample(6, reason, key_of(1))]


def test_other_names_and_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST_MEMBER", 1000)
    rows = [
        ("AG-1", members(0)),
        (key_of(1), members(1) | {"thumb.jpg": b"?"}),
        (key_of(2), members(2)),
        (key_of(1), members(1)),
        (key_of(4), members(4, user_json=b"x" * 1001)),
        (key_of(5), members(5)),
    ]
    good, refused = read(archive(tmp_path / "a.tar.gz", rows))
    assert [one.key for one in good] == [key_of(1), key_of(2), key_of(5)]
    assert Counter(one.reason for one in refused) == Counter(
        [published.BAD_KEY, published.UNKNOWN_MEMBER, published.REPEATED_KEY, published.TOO_LARGE]
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_a_cut_archive_counts_up_to_the_cut(tmp_path: Path, share: float) -> None:
    rows = [(key_of(number), members(number)) for number in range(40)]
    whole = archive(tmp_path / "whole.tar.gz", rows).read_bytes()
    path = tmp_path / "cut.tar.gz"
    path.write_bytes(whole[: int(len(whole) * share)] or b"not an archive")
    good, refused = read(path)
    assert [one.key for one in good] == [key_of(number) for number in range(len(good))]
    assert len(good) < 40
    assert len(good) >= 40 * share - 15
    assert [one.reason for one in refused] == [published.DAMAGED_ARCHIVE]
    # The same inside a compression that is whole.
    plain = gzip.decompress(whole)
    path.write_bytes(gzip.compress(plain[: int(40 * 5 * 1024 * share) + 300]))
    assert len(read(path)[0]) <= 40 * share + 1
    assert [one.reason for one in read(path)[1]] == [published.DAMAGED_ARCHIVE]


def test_the_source_gives_a_data_set(tmp_path: Path, refusal: Callable[..., str]) -> None:
    config = PublishedShardsConfig(path=str(tmp_path / "data"))
    assert "no such folder" in refusal(config.read)
    (tmp_path / "data").mkdir()
    assert "data-*-*.tar*" in refusal(config.read)
    (tmp_path / "data" / "data-000001-cut.tar.gz").write_bytes(b"\x1f\x8bno")
    assert published.DAMAGED_ARCHIVE in refusal(config.read)
    rows = [(key_of(number), members(number, **(BROKEN[0][0] if number == 3 else {}))) for number in range(30)]
    archive(tmp_path / "data" / "data-000000-abc.tar.gz", rows)
    before = config.fingerprint_inputs()
    tables = config.read()
    assert tables.rejects["reason"].to_list() == [published.NOT_UTF_8, published.DAMAGED_ARCHIVE]
    dataset = Dataset.from_raw(tables, "published")
    dataset.validate()
    assert dataset.info.counts.events == 29
    assert list(dataset.info.labels) == ["good", "best"]
    assert list(dataset.info.texts) == ["user_text"], "never an input of the event itself"
    assert dataset.items["text"][0] == f"Item title: product {dataset.items['item_id'][0][-1]}."
    archive(tmp_path / "data" / "data-000002-abc.tar.gz", [(key_of(77), members(77))])
    assert config.fingerprint_inputs() != before


def test_it_becomes_shards_of_our_own(tmp_path: Path) -> None:
    rows = [(key_of(number), members(number)) for number in range(10)]
    good, _ = read(archive(tmp_path / "data-0-a.tar.gz", rows))
    write_shards(str(tmp_path / "shards"), lambda start: (one.to_shard() for one in good[start:]), examples_per_shard=4)
    for one, read_again in zip(good, ShardReader(str(tmp_path / "shards")).read(range(10)), strict=True):
        assert read_again == one.to_shard()
        assert read_again.record["user_text"] == one.user_text
