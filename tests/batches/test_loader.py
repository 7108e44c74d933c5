"""The loader: every event once, order from (seed, epoch) alone, resumable; batches cut and padded right."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.candidates import CandidateBatch
from moerec.batches.histories import TrainHistories
from moerec.batches.loader import SequenceLoader
from moerec.batches.sequences import SequenceBatch, sequence_batch


def loader(lengths: list[int], max_length: int, batch_size: int, windows: str = "all", seed: int = 0) -> SequenceLoader:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return SequenceLoader(
        TrainHistories(np.arange(offsets[-1]) + 2, offsets, None, int(offsets[-1]) + 2),
        max_length,
        batch_size,
        seed,
        windows,
    )


cases = given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    max_length=st.integers(1, 15),
    batch_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
)


@cases
@settings(deadline=None, max_examples=60)
def test_each_event_with_a_successor_is_an_input_once_an_epoch(lengths, max_length, batch_size, epoch):
    made = loader(lengths, max_length, batch_size)
    batches = list(made.epoch(epoch))
    assert len(batches) == made.batches_per_epoch(epoch)
    pairs = sorted((int(a), int(b)) for batch in batches for a, b in zip(batch.items, batch.positives, strict=True))
    ends = np.cumsum(lengths)
    expected = [n + 2 for n in range(ends[-1]) if n + 1 not in ends]
    # Items are numbered in order, so the successor of n within a user is n + 1.
    assert pairs == [(n, n + 1) for n in expected]
    assert all(int(batch.lengths.max()) <= max_length for batch in batches)


@cases
@settings(deadline=None, max_examples=40)
def test_earlier_and_first_items_are_the_users_own(lengths, max_length, batch_size, epoch):
    made = loader(lengths, max_length, batch_size)
    starts = np.concatenate([[0], np.cumsum(lengths)]) + 2
    firsts = []
    for batch in made.epoch(epoch):
        for row in range(len(batch)):
            user = int(batch.users[row])
            items = batch.items[batch.offsets[row] : batch.offsets[row + 1]].tolist()
            earlier = batch.earlier[batch.earlier_offsets[row] : batch.earlier_offsets[row + 1]].tolist()
            assert earlier == list(range(starts[user], items[0]))
            if batch.first[row]:
                assert not earlier
                firsts.append(int(batch.first[row]))
    assert sorted(firsts) == [int(starts[user]) for user, n in enumerate(lengths) if n > 1]


def same(one: SequenceBatch, other: SequenceBatch) -> bool:
    return torch.equal(one.items, other.items) and torch.equal(one.offsets, other.offsets)


def test_order_is_a_function_of_seed_and_epoch_and_resumes_at_any_batch():
    lengths = [30, 4, 17, 50, 9, 22]
    whole = list(loader(lengths, 7, 3).epoch(2))
    for start in range(len(whole) + 1):
        rest = list(loader(lengths, 7, 3).epoch(2, start))
        assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))
    assert not all(same(a, b) for a, b in zip(whole, loader(lengths, 7, 3).epoch(3), strict=False))
    assert not all(same(a, b) for a, b in zip(whole, loader(lengths, 7, 3, seed=1).epoch(2), strict=False))


def test_last_windows_are_the_most_recent_events():
    batches = list(loader([10, 3, 1], 4, 10, "last").epoch(0))
    assert sorted(batches[0].positives.tolist()) == [8, 9, 10, 11, 13, 14]


@given(st.lists(st.lists(st.integers(2, 9), max_size=8), min_size=1, max_size=6), st.integers(1, 6))
@settings(deadline=None)
def test_last_and_padding_agree_with_plain_lists(histories, length):
    batch = sequence_batch(histories).last(length)
    cut = [history[-length:] for history in histories]
    assert batch.lengths.tolist() == [len(history) for history in cut]
    assert batch.items.tolist() == [item for history in cut for item in history]
    longest = max(1, *map(len, cut))
    assert batch.padded_items().tolist() == [history + [0] * (longest - len(history)) for history in cut]


@given(st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_selected_candidates_are_those_of_the_rows(lists, data):
    width = max(map(len, lists))
    items = torch.tensor([row + [0] * (width - len(row)) for row in lists])
    batch = CandidateBatch(items, items > 0).to("cpu")
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=4))
    chosen = batch.select(torch.tensor(rows, dtype=torch.int64))
    assert len(chosen) == len(rows)
    assert [row[mask].tolist() for row, mask in zip(chosen.items, chosen.mask, strict=True)] == [lists[r] for r in rows]
