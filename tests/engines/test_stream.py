"""A stream against the batch functions: the same positives and profiles, and negatives of who knows only the past."""

import itertools
import json
import random
from collections import Counter

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from moerec.dataset.sources.amazon_rows import BAD_RATING, NO_TIME, NO_USER, REPEATED_REVIEW
from moerec.dataset.sources.json_lines import NOT_AN_OBJECT, NOT_JSON
from moerec.engines import stream as stream_engine
from moerec.engines import stream_negatives, stream_parts, stream_store
from moerec.engines.stream_reviews import LATE
from moerec.engines.stream_store import StreamStore
from moerec.errors import ConfigError, DatasetError
from moerec.features.feature import Catalogue
from moerec.features.reviews import ReviewExamplesConfig, ReviewNegativesConfig, make_examples, review_key
from moerec.features.user_statistics import UserStatisticsConfig
from tests.engines.stream_cases import (
    CONFIG,
    DAY,
    events_of,
    line,
    open_stream,
    output,
    products,
    reviews,
    rules_of,
    write_log,
)

NEGATIVES = [
    ReviewNegativesConfig(count=2),
    ReviewNegativesConfig(count=2, exclude="train"),
    ReviewNegativesConfig(count=3, sampling="popularity", smoothing=0.0),
    ReviewNegativesConfig(count=9),  # more than there are
    ReviewNegativesConfig(count=2, exclude="past"),
    ReviewNegativesConfig(count=9, exclude="past", sampling="popularity"),
]


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Nothing here pulls the plug, so nothing waits for the disk."""
    monkeypatch.setattr(stream_parts.os, "fsync", lambda handle: None)
    monkeypatch.setattr(stream_store, "SYNCHRONOUS", "OFF")
    monkeypatch.setattr(stream_engine, "END_SECONDS", 0.0)


def run(folder, log, rules, known, batch_records=10):
    write_log(folder / "log", [line(review) for review in log])
    stream = open_stream(folder, rules, known, batch_records)
    stream.run(once=True)
    return stream


@pytest.mark.parametrize("seed", range(3))
def test_replaying_a_log_gives_the_positives_and_profiles_of_the_batch(tmp_path, seed):
    log, known = reviews(seed, 100), products()
    events = events_of(log, known)
    rules = rules_of(events)
    run(tmp_path, log, rules, known, batch_records=6 + 20 * seed)
    streamed = output(tmp_path, "examples").filter(negative=0)
    expected = make_examples(events, rules.state, CONFIG, rules.seed).filter(negative=0)
    assert 0 < expected.height < events.height
    assert_frame_equal(streamed.sort("key"), expected.sort("key"))
    # They stand in the order in which they arrived.
    keys = [review_key(each["user_id"], each["parent_asin"], each["timestamp"]) for each in log]
    assert streamed["key"].to_list() == [key for key in keys if key in set(streamed["key"])]
    texts = output(tmp_path, "texts")
    assert texts.rows() == [(k, each["title"], each["text"] or None) for k, each in zip(keys, log, strict=True)]


@pytest.mark.parametrize("negatives", NEGATIVES, ids=lambda each: each.describe()[:40])
@pytest.mark.parametrize("few", [0, 1000])
def test_negatives_are_those_of_the_log_up_to_their_review(tmp_path, monkeypatch, negatives, few):
    """What the batch function draws for a review when the log ends with it."""
    monkeypatch.setattr(stream_negatives, "FEW_REVIEWS", few)
    config = CONFIG.model_copy(update={"negatives": negatives})
    log, known = reviews(5, 40, users=3), products()
    events = events_of(log, known)
    rules = rules_of(events, config)
    run(tmp_path, log, rules, known, batch_records=7)
    expected = []
    for stop in range(1, len(log) + 1):
        up_to_it = make_examples(events[:stop], rules.state, config, rules.seed)
        last = log[stop - 1]
        key = review_key(last["user_id"], last["parent_asin"], last["timestamp"])
        expected.append(up_to_it.filter(positive=key))
    streamed = output(tmp_path, "examples")
    assert streamed["negative"].sum() > 15
    assert_frame_equal(streamed, pl.concat(expected))


@pytest.mark.parametrize("count", [2, 9])
@pytest.mark.parametrize("few", [0, 1000])
def test_with_exclude_past_a_replay_gives_the_negatives_of_the_batch_too(tmp_path, monkeypatch, count, few):
    monkeypatch.setattr(stream_negatives, "FEW_REVIEWS", few)
    config = CONFIG.model_copy(update={"negatives": ReviewNegativesConfig(count=count, exclude="past")})
    log, known = reviews(13, 90, users=3, days=40), products()  # many at the same time
    events = events_of(log, known)
    rules = rules_of(events, config)
    run(tmp_path, log, rules, known, batch_records=8)
    streamed = output(tmp_path, "examples")
    assert_frame_equal(streamed.sort("key"), make_examples(events, rules.state, config, rules.seed).sort("key"))


def test_negatives_differ_from_the_batch_by_items_met_later_alone(tmp_path):
    """The batch leaves out what the user meets at any time; a stream cannot know it."""
    log, known = reviews(1, 150), products()
    events = events_of(log, known)
    rules = rules_of(events)
    run(tmp_path, log, rules, known)
    streamed = output(tmp_path, "examples").filter(negative=1)
    batch = make_examples(events, rules.state, CONFIG, rules.seed).filter(negative=1)
    met = events.group_by("user_id", "item_id").agg(pl.col("timestamp").min().alias("met_at"))
    joined = streamed.join(met, on=["user_id", "item_id"], how="left")
    assert not joined.filter(pl.col("met_at") < pl.col("timestamp")).height
    later = joined.filter(pl.col("met_at") >= pl.col("timestamp"))
    assert later.height
    unaffected = streamed.filter(~pl.col("positive").is_in(later["positive"].implode()))
    same = unaffected.join(batch, on=["positive", "item_id"], how="semi")
    assert same.height == unaffected.height


@pytest.mark.parametrize("few", [0, 1000])
def test_the_size_of_micro_batches_changes_nothing(tmp_path, monkeypatch, few):
    monkeypatch.setattr(stream_negatives, "FEW_REVIEWS", few)
    log, known = reviews(2, 30, users=2), products()
    rules = rules_of(events_of(log, known))
    frames = []
    for size in (1, 7, 1000):
        run(tmp_path / str(size), log, rules, known, size)
        frames.append({kind: output(tmp_path / str(size), kind) for kind in ("examples", "texts")})
    for other in frames[1:]:
        for kind, frame in frames[0].items():
            assert_frame_equal(frame, other[kind])


def test_late_reviews_duplicates_and_broken_lines_are_refused_and_counted(tmp_path):
    log, known = reviews(4, 80), products()
    rules = rules_of(events_of(log, known))
    plain = run(tmp_path / "plain", log, rules, known)
    first, later = log[0], log[40]
    late = {**first, "user_id": log[30]["user_id"], "timestamp": first["timestamp"] - DAY}
    refused = {
        REPEATED_REVIEW: [line(first), line(later), line({**later, "rating": 1.0})],
        LATE: [line(late), line(late)],
        NOT_JSON: [b'{"user_id": "u1", \n'],
        NOT_AN_OBJECT: [b"17\n"],
        NO_USER: [line({**first, "user_id": " "})],
        NO_TIME: [line({**first, "timestamp": None})],
        BAD_RATING: [line({**first, "rating": 6})],
    }
    dirty = [line(review) for review in log]
    dirty[50:50] = itertools.chain(*refused.values())
    write_log(tmp_path / "dirty/log", dirty)
    stream = open_stream(tmp_path / "dirty", rules, known, 9)
    stream.run(once=True)
    for kind in ("examples", "texts"):
        assert_frame_equal(output(tmp_path / "plain", kind), output(tmp_path / "dirty", kind))
    rejects = output(tmp_path / "dirty", "rejects")
    assert Counter(rejects["reason"]) == {reason: len(lines) for reason, lines in refused.items()}
    content = (tmp_path / "dirty/log/a.jsonl").read_bytes()
    for source, offset, _, row in rejects.iter_rows():
        assert source == "a.jsonl"
        assert content[offset:].startswith(row.encode())
    summary = stream.summary()
    assert summary["refused"] == {reason: len(lines) for reason, lines in refused.items()}
    assert summary["records"] == len(dirty)
    assert summary["reviews"] == plain.summary()["reviews"] == len(log)
    made = output(tmp_path / "dirty", "examples")
    assert sum(summary["examples"].values()) == made.height
    assert summary["examples"]["train negatives"] == made.filter(part=0, negative=1).height


def test_a_stream_goes_on_where_it_stood(tmp_path):
    log, known = reviews(6, 60), products()
    rules = rules_of(events_of(log, known))
    run(tmp_path / "whole", log, rules, known)
    draw = random.Random(0)
    waiting = [line(review) for review in log]
    while waiting:
        count = draw.randrange(1, 30)
        write_log(tmp_path / "pieces/log", waiting[:count])
        waiting = waiting[count:]
        stream = open_stream(tmp_path / "pieces", rules, known, 8)
        stream.run(once=True)
        stream.store.close()
    for kind in ("examples", "texts"):
        assert_frame_equal(output(tmp_path / "whole", kind), output(tmp_path / "pieces", kind))


def test_two_processes_share_a_store_and_take_each_record_once(tmp_path):
    """Both poll the same records; whoever comes second reads on behind them."""
    log, known = reviews(7, 60), products()
    rules = rules_of(events_of(log, known))
    run(tmp_path / "one", log, rules, known)
    write_log(tmp_path / "two/log", [line(review) for review in log])
    streams = [open_stream(tmp_path / "two", rules, known, 8) for _ in range(2)]
    conflicts = 0
    for turn in range(40):
        conflicts += streams[turn % 2].step(0.0) == Counter()
    assert conflicts > 3
    for kind in ("examples", "texts"):
        assert_frame_equal(output(tmp_path / "one", kind), output(tmp_path / "two", kind))


def test_further_features_are_those_of_the_batch(tmp_path):
    """`UserState` folded on the stream gives the columns that `apply` gives for the whole log."""
    log, known = reviews(8, 90, items=13), products(13)
    events = events_of(log, known)
    index = {item: row[2] for item, row in known.items()}
    numbers = {user: number for number, user in enumerate(sorted(set(events["user_id"])))}
    numbered = events.select(
        pl.col("user_id").replace_strict(numbers).alias("user"),
        pl.col("item_id").replace_strict(index, default=1).alias("item"),
        "timestamp",
        "rating",
    ).sort("user", "timestamp", maintain_order=True)  # a tie keeps the order of arrival, as in a data set
    feature = UserStatisticsConfig(labels=("rating",))
    catalogue = Catalogue(pl.DataFrame({"item": range(2, 14)}), 14)
    fitted = feature.fit(numbered.filter(pl.col("timestamp") < CONFIG.train_end), catalogue)
    rules = rules_of(events, features={"user_statistics": (feature, fitted)})
    run(tmp_path, log, rules, known, 9)
    made = output(tmp_path, "examples")
    asked = made.select(
        pl.col("user_id").replace_strict(numbers).alias("user"),
        pl.col("item_id").replace_strict(index, default=1).alias("item"),
        "timestamp",
    )
    expected = feature.apply(numbered, asked, fitted)
    assert made["negative"].sum() > 0
    assert expected["user_count"].n_unique() > 4
    assert_frame_equal(made.select(expected.columns), expected)
    run(tmp_path / "without", log, rules_of(events), known)
    assert_frame_equal(made.drop(expected.columns), output(tmp_path / "without", "examples"))


def test_logs_without_anything_to_draw_or_without_reviews(tmp_path):
    """No review of the train part, so no item exists yet; and a micro-batch of blank lines alone."""
    log, known = [each for each in reviews(9, 40) if each["timestamp"] >= CONFIG.train_end], products()
    events = events_of(log, known)
    rules = rules_of(events)
    assert not len(rules.state.items)
    stream = run(tmp_path, log, rules, known)
    expected = make_examples(events, rules.state, CONFIG, rules.seed)
    assert_frame_equal(output(tmp_path, "examples").sort("key"), expected.sort("key"))
    write_log(tmp_path / "log", [b"\n", b"  \n"])
    before = stream.summary()
    stream.run(once=True)
    assert stream.summary() == before | {"batch": before["batch"] + 1}
    write_log(tmp_path / "log", [line(log[0])])
    stream.run(once=True)
    assert stream.summary()["refused"] == {REPEATED_REVIEW: 1}


def test_a_log_that_falls_silent_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    """As a topic whose brokers have gone: no records, and no end."""
    log, known = reviews(9, 20), products()
    write_log(tmp_path / "log", [line(review) for review in log])
    stream = open_stream(tmp_path, rules_of(events_of(log, known)), known)
    monkeypatch.setattr(stream_engine, "SILENCE_SECONDS", 0.0)
    monkeypatch.setattr(stream.log, "at_end", lambda: False)
    with pytest.raises(DatasetError, match="neither records nor an end"):
        stream.run(once=True)
    assert stream.summary()["reviews"] == len(log)


def test_a_state_of_other_rules_is_refused(tmp_path):
    log, known = reviews(9, 20), products()
    events = events_of(log, known)
    rules = rules_of(events)
    run(tmp_path, log, rules, known)
    with pytest.raises(ConfigError, match=r"other settings \(examples\)"):
        open_stream(tmp_path, rules_of(events, ReviewExamplesConfig()), known)
    with pytest.raises(ConfigError, match=r"other settings \(fitted\)"):
        open_stream(tmp_path, rules_of(events[:5]), known)


# --- work


def work_of_one_batch(folder, monkeypatch, log, new, rules, known):
    """Rows read from the store, and steps of SQLite's machine, for some new reviews behind a log."""
    run(folder, log, rules, known, 5000).store.close()
    write_log(folder / "log", [line(review) for review in new])
    stream = open_stream(folder, rules, known, 5000)
    steps = itertools.count()
    stream.store.connection.set_progress_handler(lambda: next(steps) and None, 1)
    before = stream.store.rows_read
    assert stream.step(0.0)["reviews"] == len(new)
    return stream.store.rows_read - before, next(steps)


@pytest.mark.parametrize("users", ["the same", "more"])
def test_the_work_of_a_micro_batch_is_that_of_its_own_reviews(tmp_path, monkeypatch, users):
    """The same new reviews behind a log, and behind one ten times as long of the same users or of ten times as many."""
    monkeypatch.setattr(stream_negatives, "FEW_REVIEWS", 8)
    count = 30 if users == "the same" else 300
    whole = reviews(10, 3300, users=count, items=3000, days=300)
    known = products(3000)
    rules = rules_of(events_of(whole, known))
    if users == "the same":
        old, new = whole[:-100], whole[-100:]
        short = old[-len(old) // 10 :]
    else:
        old, short = whole, [each for each in whole if each["user_id"].endswith("0")]
        later = whole[-1]["timestamp"] + DAY
        new = [{**each, "user_id": f"u{number % 30}0", "timestamp": later} for number, each in enumerate(whole[:100])]
    assert len(old) > 9 * len(short)
    rows_short, steps_short = work_of_one_batch(tmp_path / "short", monkeypatch, short, new, rules, known)
    rows_long, steps_long = work_of_one_batch(tmp_path / "long", monkeypatch, old, new, rules, known)
    assert rows_long < 1.3 * rows_short
    assert steps_long < 1.3 * steps_short


def test_every_query_of_the_store_searches(tmp_path):
    """No statement of a transaction scans a table that grows."""
    store = StreamStore(tmp_path, {})
    asked: list[str] = []
    store.connection.set_trace_callback(asked.append)
    with store.transaction({"p": None}) as transaction:
        transaction.states(["u"])
        transaction.items(["i"])
        transaction.has_review("u", "i", 1)
        transaction.has_met("u", "i", 2)
        transaction.met("u", 2)
    store.connection.set_trace_callback(None)
    queries = [query for query in asked if query.startswith("SELECT")]
    assert len(queries) >= 6
    for query in queries:
        plan = store.connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert all("SCAN" not in step[-1] for step in plan), (query, plan)


def test_no_state_of_a_user_grows_with_what_the_user_did(tmp_path):
    log, known = reviews(11, 600, users=1, items=200, days=3000), products(200)
    log = [review | {"timestamp": review["timestamp"] - 2000 * DAY} for review in log]
    stream = run(tmp_path, log, rules_of(events_of(log, known)), known, 100)
    (state,) = stream.store.connection.execute("SELECT state FROM users").fetchone()
    assert json.loads(state)["reviews"]["count"] > 550
    assert len(state) < 1000
