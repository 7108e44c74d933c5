"""UserState: one store for all features; what happens at a request's own time stays hidden from it."""

import json

import numpy as np
import pytest

from moerec.errors import ConfigError, DatasetError
from moerec.features.feature import Event
from moerec.features.item_statistics import ItemStatisticsConfig
from moerec.features.user_state import UserState
from moerec.features.user_statistics import UserStatisticsConfig
from tests.features.properties import DAY, START, event_of, make_catalogue, make_events

ITEMS = np.array([2, 3])


@pytest.fixture(scope="module")
def features():
    events, catalogue = make_events(), make_catalogue()
    configs = {"user": UserStatisticsConfig(labels=("rating",)), "item": ItemStatisticsConfig(labels=("like",))}
    return {name: (config, config.fit(events, catalogue)) for name, config in configs.items()}


def test_all_features_are_read_at_once(features):
    columns = UserState.empty(features).read(ITEMS, START, features)
    assert list(columns) == [spec.name for feature, _ in features.values() for spec in feature.specs]
    assert all(column.shape == ITEMS.shape for column in columns.values())


def test_events_of_the_time_of_the_request_are_not_seen(features):
    user = UserState.empty(features)
    for number in range(3):
        user = user.update(Event(2 + number, START, {"rating": 5.0}), features)
        assert user.read(ITEMS, START, features)["user_count"].tolist() == [0, 0]
        assert user.read(ITEMS, START + 1, features)["user_count"].tolist() == [number + 1] * 2
    user = user.update(Event(2, START + 5, {}), features)
    assert user.read(ITEMS, START + 5, features)["user_count"].tolist() == [3, 3]
    assert user.read(ITEMS, START + 6, features)["user_count"].tolist() == [4, 4]
    assert user.read(ITEMS, START + 6, features)["user_rating_mean"].tolist() == [5, 5]


def test_time_does_not_run_backwards(features):
    user = UserState.empty(features).update(Event(2, START, {}), features)
    with pytest.raises(DatasetError, match="order of time"):
        user.update(Event(2, START - 1, {}), features)
    with pytest.raises(DatasetError, match="order of time"):
        user.read(ITEMS, START - 1, features)


def test_a_state_of_other_features_is_refused(features):
    user = UserState.empty({"user": features["user"]})
    with pytest.raises(ConfigError, match="features user, not item, user"):
        user.read(ITEMS, START, features)
    with pytest.raises(ConfigError, match="not none"):
        user.update(Event(2, START, {}), {})


def test_json_brings_the_same_state_back(features):
    user = UserState.empty(features)
    for row in make_events(users=1, most=12, seed=3).iter_rows(named=True):
        user = user.update(event_of(row), features)
        again = UserState.from_json(json.loads(json.dumps(user.to_json())))
        assert again == user
        later = user.last + DAY
        one, two = (state.read(ITEMS, later, features) for state in (user, again))
        assert all(np.array_equal(one[name], two[name], equal_nan=True) for name in one)


def test_a_memory_does_not_grow_with_the_years(features):
    user = UserState.empty(features)
    for day in range(400):
        user = user.update(Event(2 + day % 4, START + day * DAY, {"rating": 3.0}), features)
    assert len(json.dumps(user.to_json())) < 2000
