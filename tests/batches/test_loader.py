"""The loader: every event once, order from (seed, epoch) alone, resumable; batches cut, packed and padded right."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.candidates import CandidateBatch
from moerec.batches.histories import TrainHistories
from moerec.batches.loader import SequenceLoader
from moerec.batches.packing import pack_by_length
from moerec.batches.sequences import SequenceBatch, sequence_batch
from moerec.dataset.schema import PADDING
from moerec.errors import ConfigError


def loader(
    lengths: list[int],
    max_length: int,
    batch_size: int | None,
    windows: str = "all",
    seed: int = 0,
    batch_events: int | None = None,
) -> SequenceLoader:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return SequenceLoader(
        TrainHistories(np.arange(offsets[-1]) + 2, offsets, None, int(offsets[-1]) + 2),
        max_length,
        batch_size,
        seed,
        windows,
        batch_events,
    )


def sizes(batch_size: int, max_length: int, packed: bool) -> dict[str, int | None]:
    """A loader's size of batches: sequences, or as many events at least as one window has."""
    return {"batch_size": None, "batch_events": max_length + 3 * batch_size} if packed else {"batch_size": batch_size}


cases = given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    max_length=st.integers(1, 15),
    batch_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    packed=st.booleans(),
)


@cases
@settings(max_examples=60)
def test_each_event_with_a_successor_is_an_input_once_an_epoch(lengths, max_length, batch_size, epoch, packed):
    made = loader(lengths, max_length, **sizes(batch_size, max_length, packed))
    batches = list(made.epoch(epoch))
    assert len(batches) == made.batches_per_epoch(epoch)
    pairs = sorted((int(a), int(b)) for batch in batches for a, b in zip(batch.items, batch.positives, strict=True))
    ends = np.cumsum(lengths)
    expected = [n + 2 for n in range(ends[-1]) if n + 1 not in ends]
    # Items are numbered in order, so the successor of n within a user is n + 1.
    assert pairs == [(n, n + 1) for n in expected]
    assert all(int(batch.lengths.max()) <= max_length for batch in batches)
    if packed:
        assert all(len(batch) * max(1, int(batch.lengths.max())) <= max_length + 3 * batch_size for batch in batches)
    else:
        assert all(len(batch) == batch_size for batch in batches[:-1])


@cases
@settings(max_examples=40)
@pytest.mark.parametrize("windows", ["all", "last"])
def test_each_user_whose_first_event_is_shown_is_asked_for_it_once(
    windows, lengths, max_length, batch_size, epoch, packed
):
    made = loader(lengths, max_length, windows=windows, **sizes(batch_size, max_length, packed))
    asked = sorted(int(item) for batch in made.epoch(epoch) for item in batch.first if item != PADDING)
    begins = np.cumsum([0, *lengths[:-1]]) + 2
    # The last window of a long history begins later.
    whole = [length > 0 and (windows == "all" or length - 1 <= max_length) for length in lengths]
    assert asked == [int(begin) for begin, kept in zip(begins, whole, strict=True) if kept]


def literal_windows(lengths: list[int], made: SequenceLoader, epoch: int) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Inputs and positives of each window, cut one event at a time."""
    cut = np.random.default_rng([made.seed, epoch, 0]).integers(0, made.max_length, size=len(lengths))
    windows, begin = {}, 2
    for user, length in enumerate(lengths):
        events = list(range(begin, begin + length))
        begin += length
        pairs = list(itertools.pairwise(events))
        if made.windows == "last":
            pieces = [pairs[-made.max_length :]]
        else:
            # The cuts are where the place, counted from a random one, is a whole number of windows.
            shift = int(cut[user]) if len(pairs) > made.max_length else 0
            pieces = [
                [pair for place, pair in enumerate(pairs) if (place + shift) // made.max_length == number]
                for number in range(length + made.max_length)
            ]
        windows |= {tuple(a for a, _ in piece): tuple(b for _, b in piece) for piece in pieces if piece}
        if length == 1:
            windows[()] = ()
    return windows


@cases
@settings(max_examples=40)
@pytest.mark.parametrize("windows", ["all", "last"])
def test_windows_are_those_of_a_slow_reference(windows, lengths, max_length, batch_size, epoch, packed):
    made = loader(lengths, max_length, windows=windows, **sizes(batch_size, max_length, packed))
    found = {}
    for batch in made.epoch(epoch):
        bounds = batch.offsets.tolist()
        for a, b in itertools.pairwise(bounds):
            found[tuple(batch.items[a:b].tolist())] = tuple(batch.positives[a:b].tolist())
    assert found == literal_windows(lengths, made, epoch)


@pytest.mark.parametrize("windows", ["all", "last"])
def test_short_histories_are_packed_with_hardly_any_padding(windows):
    lengths = (np.minimum(np.random.default_rng(0).geometric(1 / 8, 5000), 50) + 1).tolist()
    batches = list(loader(lengths, 50, None, windows, batch_events=1000).epoch(0))
    places = sum(len(batch) * int(batch.lengths.max()) for batch in batches)
    assert sum(len(batch.items) for batch in batches) > 0.95 * places
    assert min(len(batch.items) for batch in batches) > 400  # no rest of a few windows makes an update of its own
    assert max(map(len, batches)) > 10 * min(map(len, batches))


def test_one_of_the_two_sizes_is_given_and_has_room_for_a_window():
    for size, events in ((None, None), (4, 40)):
        with pytest.raises(ConfigError, match="exactly one"):
            loader([5], 4, size, batch_events=events)
    with pytest.raises(ConfigError, match="batch_events: 49 is less than one sequence of 50 events"):
        loader([5], 50, None, batch_events=49)


@given(st.lists(st.integers(0, 12), max_size=30), st.integers(1, 30), st.none() | st.integers(1, 5))
@settings(max_examples=60)
def test_packs_hold_every_sequence_once_short_ones_first(lengths, events, sequences):
    packs = pack_by_length(np.array(lengths, np.int64), sequences=sequences, events=events)
    packed = [lengths[position] for pack in packs for position in pack]
    assert sorted(position for pack in packs for position in pack.tolist()) == list(range(len(lengths)))
    assert packed == sorted(lengths)
    for pack in packs:
        assert len(pack) == 1 or len(pack) * max(lengths[position] for position in pack) <= events
        assert sequences is None or len(pack) <= sequences


@given(st.lists(st.lists(st.integers(2, 9), max_size=6), min_size=1, max_size=6), st.data())
def test_selected_sequences_are_those_of_plain_lists(histories, data):
    rows = data.draw(st.lists(st.integers(0, len(histories) - 1), max_size=6))
    chosen = sequence_batch(histories).select(torch.tensor(rows, dtype=torch.int64))
    assert chosen.lengths.tolist() == [len(histories[row]) for row in rows]
    assert chosen.items.tolist() == [item for row in rows for item in histories[row]]


@cases
@settings(max_examples=40)
def test_earlier_and_first_items_are_the_users_own(lengths, max_length, batch_size, epoch, packed):
    made = loader(lengths, max_length, **sizes(batch_size, max_length, packed))
    starts = np.concatenate([[0], np.cumsum(lengths)]) + 2
    firsts = []
    for batch in made.epoch(epoch):
        for row in range(len(batch)):
            user = int(batch.users[row])
            items = batch.items[batch.offsets[row] : batch.offsets[row + 1]].tolist()
            earlier = batch.earlier[batch.earlier_offsets[row] : batch.earlier_offsets[row + 1]].tolist()
            assert earlier == list(range(starts[user], items[0] if items else starts[user]))
            if batch.first[row]:
                assert not earlier
                firsts.append(int(batch.first[row]))
    assert sorted(firsts) == [int(starts[user]) for user, n in enumerate(lengths) if n > 0]


def same(one: SequenceBatch, other: SequenceBatch) -> bool:
    return torch.equal(one.items, other.items) and torch.equal(one.offsets, other.offsets)


@pytest.mark.parametrize("size", [{"batch_size": 3}, {"batch_size": None, "batch_events": 21}])
def test_order_is_a_function_of_seed_and_epoch_and_resumes_at_any_batch(size):
    lengths = [30, 4, 17, 50, 9, 22]
    whole = list(loader(lengths, 7, **size).epoch(2))
    for start in range(len(whole) + 1):
        rest = list(loader(lengths, 7, **size).epoch(2, start))
        assert all(same(a, b) for a, b in zip(rest, whole[start:], strict=True))
    assert not all(same(a, b) for a, b in zip(whole, loader(lengths, 7, **size).epoch(3), strict=False))
    assert not all(same(a, b) for a, b in zip(whole, loader(lengths, 7, **size, seed=1).epoch(2), strict=False))


def test_last_windows_are_the_most_recent_events():
    batches = list(loader([10, 3, 1], 4, 10, "last").epoch(0))
    assert sorted(batches[0].positives.tolist()) == [8, 9, 10, 11, 13, 14]


@given(st.lists(st.lists(st.integers(2, 9), max_size=8), min_size=1, max_size=6), st.integers(1, 6))
def test_last_and_padding_agree_with_plain_lists(histories, length):
    batch = sequence_batch(histories).last(length)
    cut = [history[-length:] for history in histories]
    assert batch.lengths.tolist() == [len(history) for history in cut]
    assert batch.items.tolist() == [item for history in cut for item in history]
    longest = max(1, *map(len, cut))
    assert batch.padded_items().tolist() == [history + [0] * (longest - len(history)) for history in cut]


@given(st.lists(st.lists(st.integers(2, 9), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_selected_candidates_are_those_of_the_rows(lists, data):
    width = max(map(len, lists))
    items = torch.tensor([row + [0] * (width - len(row)) for row in lists])
    batch = CandidateBatch(items, items > 0).to("cpu")
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=4))
    chosen = batch.select(torch.tensor(rows, dtype=torch.int64))
    assert len(chosen) == len(rows)
    assert [row[mask].tolist() for row, mask in zip(chosen.items, chosen.mask, strict=True)] == [lists[r] for r in rows]
