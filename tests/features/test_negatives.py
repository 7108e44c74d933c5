"""Negatives: of their positive's time, never met, never twice, the same from any partition, by the weights promised."""

from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.example_rows import examples_of, with_negatives
from moerec.dataset.schema import Part
from moerec.errors import DatasetError
from moerec.features import negatives as module
from moerec.features.negatives import NegativesConfig, draw_negatives
from tests.batches.small_examples import SPLIT, small_dataset

ITEMS = 9
SCHEMA = {"user": pl.Int32, "item": pl.Int32, "timestamp": pl.Int64}


@st.composite
def logs(draw: st.DrawFn) -> tuple[pl.DataFrame, np.ndarray]:
    """Events of a few users with ties, and their parts."""
    event = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(2, ITEMS + 1), st.sampled_from([0, 0, 0, 1, 2]))
    rows = sorted(set(draw(st.lists(event, min_size=1, max_size=25))))
    rows = [row for number, row in enumerate(rows) if number == 0 or row[:3] != rows[number - 1][:3]]
    frame = pl.DataFrame([(u, i, t) for u, t, i, _ in rows], schema=SCHEMA, orient="row")
    return frame, np.array([row[3] for row in rows], np.int8)


configs = st.builds(
    NegativesConfig,
    count=st.integers(1, 6),
    sampling=st.sampled_from(["uniform", "popularity"]),
    power=st.sampled_from([0.0, 0.5, 1.0, 1.5]),
    smoothing=st.sampled_from([0.0, 0.5, 1.0]),
    exclude=st.sampled_from(["ever", "train", "past"]),
)


def allowed(events: pl.DataFrame, parts: np.ndarray, row: int, config: NegativesConfig) -> set[int]:
    """What may be drawn for an event, found event by event."""
    rows = list(zip(*(events[name].to_list() for name in SCHEMA), parts.tolist(), strict=True))
    user, item, time, part = rows[row]
    strictly = config.sampling == "popularity" and config.smoothing == 0
    exists = {i for _, i, t, p in rows if p == Part.TRAIN and (t < time or (t == time and not strictly))}
    train_alone = config.exclude == "train" and part == Part.TRAIN
    met = {i for u, i, _, p in rows if u == user and (p == Part.TRAIN or not train_alone)}
    if config.exclude == "past":
        met = {i for u, i, t, _ in rows if u == user and t < time} | {item}
    return exists - met


@settings(max_examples=150)
@given(log=logs(), config=configs, seed=st.integers(0, 2**40), extra_rounds=st.sampled_from([24, 0, -2]))
def test_every_draw_is_one_that_may_be_drawn_and_none_is_left_out(log, config, seed, extra_rounds):
    events, parts = log
    rows = np.arange(events.height)
    # With few rounds of drawing and rejecting, what is missing is drawn from the rest.
    with mock.patch.object(module, "_EXTRA_ROUNDS", extra_rounds):
        drawn = draw_negatives(events, parts, rows, ITEMS + 2, config, seed)
    missing = 0
    for row in rows.tolist():
        of_row = drawn.frame.filter(pl.col("event") == row)
        possible = allowed(events, parts, row, config)
        items = of_row["item"].to_list()
        assert len(set(items)) == len(items) == min(config.count, len(possible))
        assert set(items) <= possible
        assert (of_row["user"] == events["user"][row]).all()
        assert (of_row["timestamp"] == events["timestamp"][row]).all()
        missing += config.count - len(items)
    assert drawn.missing == missing


@settings(max_examples=60)
@given(log=logs(), config=configs, data=st.data())
def test_a_draw_hangs_on_its_own_event_alone(log, config, data):
    events, parts = log
    whole = draw_negatives(events, parts, np.arange(events.height), ITEMS + 2, config, 5).frame
    rows = np.array(data.draw(st.permutations(range(events.height))))[: data.draw(st.integers(1, events.height))]
    part = draw_negatives(events, parts, rows, ITEMS + 2, config, 5).frame
    assert part.equals(pl.concat([whole.filter(pl.col("event") == row) for row in rows.tolist()]))


def crowd(people: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Items met 1, 2, 3, ... times before time 100, more often then and later, and people with one event at 100."""
    before = [(people + n, item, n) for item in range(2, 8) for n in range(item - 1)]
    # Events at that time and later are of other proportions, so that a draw that looks at them is found out.
    after = [(people + 10 + n, item, time) for item, time in ((2, 200), (3, 200), (4, 100)) for n in range(50)]
    asking = [(user, 8, 100) for user in range(people)]
    frame = pl.DataFrame(before + after + asking, schema=SCHEMA, orient="row").unique().sort("user", "timestamp")
    return frame, np.zeros(frame.height, np.int8)


@pytest.mark.parametrize("from_rest", [False, True])
@pytest.mark.parametrize(
    ("config", "weight"),
    [
        (NegativesConfig(count=1), lambda count: 1.0),
        (NegativesConfig(count=1, sampling="popularity", smoothing=0), lambda count: count),
        (NegativesConfig(count=1, sampling="popularity", smoothing=2), lambda count: count + 2),
        (NegativesConfig(count=1, sampling="popularity", smoothing=0, power=0.5), lambda count: count**0.5),
        (NegativesConfig(count=1, sampling="popularity", smoothing=1, power=2), lambda count: (count + 1) ** 2),
    ],
)
def test_items_come_in_proportion_to_their_weight_at_the_time(config, weight, from_rest, monkeypatch):
    if from_rest:
        monkeypatch.setattr(module, "_EXTRA_ROUNDS", -config.count)  # as if every draw had been rejected
    people = 3000
    events, parts = crowd(people)
    rows = np.arange(people)
    drawn = draw_negatives(events, parts, rows, 12, config, 1).frame
    counts = np.bincount(drawn["item"].to_numpy(), minlength=9)[2:8]
    # Item 8 is met by all who ask, and so never drawn.
    shares = np.array([weight(item - 1) for item in range(2, 8)], float)
    expected = people * shares / shares.sum()
    assert counts.sum() == people
    assert (abs(counts - expected) < 5 * np.sqrt(expected)).all(), (counts, expected)


def test_by_default_train_rows_do_not_tell_what_the_user_meets_later():
    # The trap: if an item of the test part is never a train negative of its user, it can be told from all others.
    events = pl.DataFrame([(0, 2, 5), (0, 3, 9), (1, 3, 1), (1, 4, 2), (1, 5, 3)], schema=SCHEMA, orient="row")
    parts = np.array([Part.TRAIN, Part.TEST, *[Part.TRAIN] * 3], np.int8)
    drawn = {
        exclude: draw_negatives(events, parts, np.array([0, 1]), 7, NegativesConfig(count=9, exclude=exclude), 0).frame
        for exclude in ("train", "ever")
    }
    assert NegativesConfig().exclude == "train"
    items = {exclude: [set(frame.filter(event=row)["item"]) for row in (0, 1)] for exclude, frame in drawn.items()}
    assert items == {"train": [{3, 4, 5}, {4, 5}], "ever": [{4, 5}, {4, 5}]}


def test_seeds_draw_differently():
    events, parts = crowd(50)
    rows = np.arange(50)
    one, other = (draw_negatives(events, parts, rows, 12, NegativesConfig(count=2), seed).frame for seed in (1, 2))
    assert not one.equals(other)


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
def test_negatives_follow_their_positive_into_its_part(sampling):
    # The trap: negatives of all parts end up in one, so that the parts are of different kinds.
    dataset = small_dataset()
    config = NegativesConfig(count=3, sampling=sampling)
    rates = {}
    for part in (Part.TRAIN, Part.VALID, Part.TEST):
        examples = examples_of(dataset, SPLIT, part, ["rating"])
        rows = examples["event"].to_numpy()
        drawn = draw_negatives(dataset.events, dataset.split(SPLIT), rows, dataset.num_indices, config, 0)
        joined = with_negatives(examples, drawn)
        negative = joined.filter("negative")
        assert (dataset.split(SPLIT)[negative["event"].to_numpy()] == part).all()
        assert negative["rating"].null_count() == negative.height
        assert joined.head(examples.height).equals(examples)
        assert drawn.missing == 3 * examples.height - negative.height
        # Before the first train events of others nothing exists that could be drawn.
        late = negative.join(examples.filter(pl.col("timestamp") > dataset.timestamps.min()), on="event", how="semi")
        rates[part] = late.height / examples.filter(pl.col("timestamp") > dataset.timestamps.min()).height
    assert all(rate == pytest.approx(3, abs=0.15) for rate in rates.values()), rates


def test_without_times_there_is_one_clear_error():
    events, parts = crowd(3)
    with pytest.raises(DatasetError, match="needs timestamps"):
        draw_negatives(
            events.with_columns(timestamp=pl.lit(None, pl.Int64)), parts, np.arange(2), 12, NegativesConfig(), 0
        )
