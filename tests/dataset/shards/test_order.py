"""Every example once, whoever shares the work; the order is random, repeatable, and known at any place."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.dataset.shards.order import ShardOrder
from moerec.errors import ConfigError

SHARDS = st.lists(st.integers(1, 40), min_size=1, max_size=9)


def numbers_of(order: ShardOrder, epoch: int, workers: int, block: int) -> list[list[int]]:
    """What each worker of a rank reads."""
    made = order.epoch(epoch)
    return [
        [
            int(number)
            for at in order.blocks(block, worker, workers)
            for number in made.numbers(at * block, (at + 1) * block)
        ]
        for worker in range(workers)
    ]


@settings(max_examples=120)
@given(
    counts=SHARDS,
    ranks=st.integers(1, 7),
    workers=st.integers(1, 5),
    block=st.integers(1, 9),
    window=st.integers(1, 60),
    seed=st.one_of(st.none(), st.integers(0, 3)),
    epoch=st.integers(0, 3),
)
def test_each_example_is_read_once(
    counts: list[int], ranks: int, workers: int, block: int, window: int, seed: int | None, epoch: int
) -> None:
    shards = np.array(counts)
    total = sum(counts)
    read: Counter[int] = Counter()
    for rank in range(ranks):
        order = ShardOrder(shards, seed, rank, ranks, window)
        assert len(order) in (total // ranks, total // ranks + 1)
        for worker, numbers in enumerate(numbers_of(order, epoch, workers, block)):
            assert len(numbers) == order.count(block, worker, workers)
            read.update(numbers)
    assert read == Counter(range(total))


@settings(max_examples=60)
@given(counts=SHARDS, ranks=st.integers(1, 7), workers=st.integers(1, 4), window=st.integers(1, 60))
def test_ranks_of_equal_size(counts: list[int], ranks: int, workers: int, window: int) -> None:
    total = sum(counts)
    for remainder, size in (("drop", total // ranks), ("repeat", -(-total // ranks))):
        read: Counter[int] = Counter()
        for rank in range(ranks):
            order = ShardOrder(np.array(counts), 0, rank, ranks, window, remainder)  # type: ignore[arg-type]
            assert len(order) == size
            read.update(number for some in numbers_of(order, 0, workers, 3) for number in some)
        assert read.total() == size * ranks
        assert set(read) <= set(range(total))
        if remainder == "repeat":
            assert set(read) == set(range(total))
        else:
            assert max(read.values(), default=1) == 1


@settings(max_examples=60)
@given(counts=SHARDS, window=st.integers(1, 60), start=st.integers(0, 50), ranks=st.integers(1, 3))
def test_any_place_is_known_without_those_before(counts: list[int], window: int, start: int, ranks: int) -> None:
    order = ShardOrder(np.array(counts), 1, ranks - 1, ranks, window)
    whole = order.epoch(2).numbers(0, len(order))
    np.testing.assert_array_equal(order.epoch(2).numbers(start, len(order)), whole[start:])
    np.testing.assert_array_equal(
        np.concatenate([order.epoch(2).numbers(place, place + 1) for place in range(len(order))] or [whole]), whole
    )


def test_the_order_of_workers_together_is_that_of_one() -> None:
    order = ShardOrder(np.full(5, 20), 0, window=32)
    whole = order.epoch(0).numbers(0, 100).tolist()
    for workers in (1, 2, 3):
        queues = [iter(numbers) for numbers in numbers_of(order, 0, workers, 4)]
        merged = [next(queues[at % workers]) for at in range(25) for _ in range(4)]
        assert merged == whole


def test_epochs_and_seeds_differ_and_repeat() -> None:
    def order(seed: int | None, epoch: int) -> list[int]:
        made = ShardOrder(np.full(8, 100), seed, window=200)
        return made.epoch(epoch).numbers(0, 800).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert order(None, 0) == order(None, 1) == list(range(800))


def test_shuffling_mixes_and_stays_in_few_shards() -> None:
    order = ShardOrder(np.full(64, 128), 5, window=8 * 128)
    numbers = order.epoch(0).numbers(0, len(order))
    open_at = [len(set(numbers[place : place + 1024] // 128)) for place in range(0, 8192, 1024)]
    assert open_at == [8] * 8
    steps = np.diff(numbers)
    assert np.mean(np.abs(steps) == 1) < 0.01
    # Over epochs an example meets all others: its place is spread evenly over the epoch.
    places = [int(np.flatnonzero(order.epoch(epoch).numbers(0, 8192) == 77)[0]) for epoch in range(64)]
    assert 0.4 < np.mean(places) / 8192 < 0.6


def test_shards_are_announced_in_the_order_of_need() -> None:
    order = ShardOrder(np.full(10, 30), 3, rank=1, ranks=2, window=60)
    epoch = order.epoch(0)
    announced = list(epoch.shards_from(70))
    needed = epoch.numbers(60, 150) // 30
    assert set(announced) == set(needed.tolist())
    assert len(list(epoch.shards_from(0))) <= 10 // 2 + 2
    assert set(announced[:2]) == set((epoch.numbers(60, 120) // 30).tolist())


@pytest.mark.parametrize("wrong", [{"rank": 2, "ranks": 2}, {"rank": -1}, {"window": 0}])
def test_impossible_shares_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        ShardOrder(np.array([3]), 0, **wrong)
    with pytest.raises(ConfigError):
        ShardOrder(np.array([3]), 0).blocks(1, worker=2, workers=2)
