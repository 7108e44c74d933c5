"""Batches of shards: the same with any number of workers, from any place on, pictures decoded and masked."""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from moerec.batches.shard_batches import ShardBatch, ShardLoader, shard_batch
from moerec.batches.shared_copy import SharedCopy
from moerec.batches.workers import BatchStream
from moerec.dataset.shards.examples import ShardExample
from moerec.dataset.shards.reader import ShardReader
from moerec.dataset.shards.writer import write_shards
from moerec.errors import DatasetError


def example(number: int) -> ShardExample:
    picture = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return ShardExample(f"k{number}", {"number": number, "text": "t" * number}, picture if number % 4 else None)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = str(tmp_path_factory.mktemp("shards"))
    write_shards(folder, lambda start: map(example, range(start, 50)), examples_per_shard=12)
    return ShardReader(folder)


def numbers(examples: Sequence[ShardExample]) -> list[int]:
    return [one.record["number"] for one in examples]


def same(batches: Iterable[ShardBatch], others: Sequence[ShardBatch]) -> None:
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys == other.keys
        assert batch.records == other.records
        assert batch.pictures is not None
        assert other.pictures is not None
        assert torch.equal(batch.pictures, other.pictures)
        assert torch.equal(batch.present, other.present)


def test_each_batch_is_made_by_itself_wherever_it_is_asked_for(reader: ShardReader) -> None:
    loader = ShardLoader(reader, reader.order(3, window=20), 8)
    assert loader.batches_per_epoch(0) == 7
    batches = loader.batches(1)
    wanted = [batches[number] for number in range(7)]
    assert sorted(one["number"] for batch in wanted for one in batch.records) == list(range(50))
    sent = SharedCopy.of([loader]).value()[0]
    same((sent.batches(1)[number] for number in range(6, -1, -1)), wanted[::-1])


@pytest.mark.slow
def test_workers_and_resume_change_nothing(reader: ShardReader) -> None:
    loader = ShardLoader(reader, reader.order(3, window=20), 8)
    batches = loader.batches(1)
    wanted = [batches[number] for number in range(7)]
    with BatchStream([loader], workers=2) as stream:
        for start in (0, 3):
            same(stream.epoch(0, 1, start), wanted[start:])


def test_ranks_read_everything_once(reader: ShardReader) -> None:
    found = []
    for rank in range(3):
        loader = ShardLoader(reader, reader.order(0, rank=rank, ranks=3), 5, collate=numbers)
        batches = loader.batches(0)
        found += [number for at in range(len(batches)) for number in batches[at]]
    assert sorted(found) == list(range(50))
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_pictures_are_decoded_and_missing_ones_masked() -> None:
    picture = np.full((8, 8, 3), 90, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95)
    jpeg = stream.getvalue()
    batch = shard_batch([ShardExample("a", {}, picture), ShardExample("b", {}), ShardExample("c", {}, jpeg)])
    assert batch.present.tolist() == [True, False, True]
    assert batch.pictures is not None
    assert batch.pictures.shape == (3, 8, 8, 3)
    assert batch.pictures.dtype == torch.uint8
    assert batch.pictures[1].sum() == 0
    assert (batch.pictures[[0, 2]].int() - 90).abs().max() <= 2
    none = shard_batch([ShardExample("a", {})])
    assert none.pictures is None
    with pytest.raises(DatasetError, match="in one size"):
        shard_batch([ShardExample("a", {}, picture), ShardExample("b", {}, picture[:4])])
    with pytest.raises(DatasetError, match=r"'b'.*decoded"):
        shard_batch([ShardExample("b", {}, jpeg[:100])])
