"""Generated data: the structure that is said to be planted is there, and nothing else is."""

import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moerec import Dataset
from moerec.config import validate
from moerec.dataset.schema import Part, RawTables
from moerec.dataset.sources import Source
from moerec.dataset.sources.synthetic import GENRE_WORDS, SyntheticConfig
from moerec.dataset.splits import SplitConfig
from moerec.errors import ConfigError


def walks(raw: RawTables) -> list[list[str]]:
    frame = raw.events.sort("timestamp", maintain_order=True).group_by("user_id", maintain_order=True).all()
    return [list(items) for items in frame["item_id"]]


@settings(max_examples=40)
@example(users=40, items=18, cold_items=0.49, follow=0.6, seed=6)  # two genres without a warm item
@given(
    users=st.integers(2, 30),
    items=st.integers(18, 90),
    cold_items=st.floats(0, 0.49),
    follow=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_any_settings_give_whole_tables(users: int, items: int, cold_items: float, follow: float, seed: int) -> None:
    config = SyntheticConfig(
        users=users, items=items, events_per_user=4, cold_items=cold_items, follow=follow, seed=seed
    )
    assert isinstance(config, Source)
    raw = config.read()
    assert raw.items is not None
    assert raw.events["user_id"].n_unique() == users, "nobody is without events"
    assert raw.items["item_id"].n_unique() == len(raw.items) == items
    genre = dict(raw.items.select("item_id", "genres").iter_rows())
    for walk in walks(raw):
        assert len(set(walk)) == len(walk), "an item is met once"
        assert len({genre[item] for item in walk}) <= 2, "a user likes two genres"
    for title, name in raw.items.select("title", "genres").iter_rows():
        first, second = title.removeprefix("The ").split(" and the ")
        assert {first.lower(), second.lower()} < set(GENRE_WORDS[name]), "the title tells the genre"
    again = config.read()
    assert raw.events.equals(again.events)
    assert raw.items.equals(again.items)
    dataset = Dataset.from_raw(raw, "synthetic")
    dataset.validate()
    assert dataset.info.counts.rejected == {}


def test_another_seed_gives_other_events() -> None:
    assert not SyntheticConfig(seed=1).read().events.equals(SyntheticConfig(seed=2).read().events)
    assert SyntheticConfig(seed=1).fingerprint_inputs() != SyntheticConfig(seed=2).fingerprint_inputs()


def test_times_rise_with_the_place() -> None:
    raw = SyntheticConfig().read()
    for _, rows in raw.events.group_by("user_id", maintain_order=True):
        assert (rows["timestamp"].diff().drop_nulls() > 0).all()


@pytest.mark.parametrize(("follow", "low", "high"), [(0.0, 0.0, 0.15), (0.6, 0.45, 0.75), (1.0, 0.9, 1.0)])
def test_as_many_events_follow_the_chain_as_are_asked_for(follow: float, low: float, high: float) -> None:
    """The share of steps that go where most steps from the same item go."""
    pairs = [
        pair
        for walk in walks(SyntheticConfig(users=600, follow=follow, cold_items=0).read())
        for pair in itertools.pairwise(walk)
    ]
    counts = pl.DataFrame(pairs, schema=["from", "to"], orient="row").group_by("from", "to").len()
    likeliest = counts.group_by("from").agg(pl.col("len").max())["len"].sum()
    assert low <= likeliest / len(pairs) <= high


def test_cold_items_are_met_last_of_all_and_only_by_those_who_like_them() -> None:
    dataset = Dataset.from_raw(SyntheticConfig(users=400, cold_items=0.1).read(), "synthetic")
    parts = dataset.add_split("main", SplitConfig(kind="leave_last_out"))
    cold = ~dataset.trained_items("main")
    assert 0 < cold[2:].sum() <= 24
    where = parts[cold[dataset.event_items]]
    assert len(where) > 20
    assert set(where.tolist()) == {int(Part.TEST)}


def test_without_cold_items_every_item_is_trained_on() -> None:
    dataset = Dataset.from_raw(SyntheticConfig(users=400, cold_items=0).read(), "synthetic")
    dataset.add_split("main", SplitConfig(kind="leave_last_out"))
    assert dataset.trained_items("main")[2:].all()


def test_pictures_tell_the_genre(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    raw = SyntheticConfig(users=4, items=36, events_per_user=4, images=tmp_path / "pictures").read()
    assert raw.items is not None
    means: dict[str, list[np.ndarray]] = {}
    for name, genre in raw.items.select("image", "genres").iter_rows():
        with image.open(tmp_path / "pictures" / name) as picture:
            means.setdefault(genre, []).append(np.asarray(picture.convert("RGB"), dtype=float).mean((0, 1)))
    centres = np.array([np.mean(values, axis=0) for values in means.values()])
    for own, values in enumerate(means.values()):
        for value in values:
            assert np.linalg.norm(centres - value, axis=1).argmin() == own


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"users": 1}, "users: Input should be greater than or equal to 2"),
        ({"events_per_user": 500}, "events_per_user is too high"),
        ({"follow": 1.5}, "follow: Input should be less than or equal to 1"),
        ({"cold_items": 0.9}, "cold_items: Input should be less than 0.5"),
        ({"usres": 5}, "usres: unknown key; did you mean 'users'?"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        validate(SyntheticConfig, values)


def test_the_device_goes_by_the_age_of_the_user_and_else_by_the_genre_of_the_item() -> None:
    raw = SyntheticConfig(users=600).read()
    assert raw.labels == ("rating", "device")
    assert raw.items is not None
    assert raw.users is not None
    genres = {name: place for place, name in enumerate(GENRE_WORDS)}
    events = raw.events.join(raw.users, on="user_id").join(raw.items, on="item_id")
    of_age = events.select(1 + (pl.col("age") >= 34).cast(pl.Int64) + (pl.col("age") >= 52).cast(pl.Int64)).to_series()
    of_genre = events["genres"].replace_strict(genres) % 3 + 1
    is_of_age, is_of_genre = events["device"] == of_age, events["device"] == of_genre
    assert (is_of_age | is_of_genre).all()
    apart = of_age != of_genre
    assert abs(is_of_age.filter(apart).mean() - 0.7) < 0.02
    assert set(events["device"]) == {1.0, 2.0, 3.0}
