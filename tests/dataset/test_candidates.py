from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from moerec.dataset.candidates import CandidateConfig, count_short_lists, draw_candidates
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.errors import ConfigError, DatasetError

CATALOGUE = 9

events = st.tuples(st.integers(FIRST_ITEM, FIRST_ITEM + CATALOGUE - 1), st.sampled_from(list(Part)))
histories = st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=10)
configs = st.builds(
    CandidateConfig,
    split=st.just("s"),
    part=st.sampled_from(["test", "valid"]),
    negatives=st.integers(1, 12),
    sampling=st.sampled_from(["uniform", "popularity"]),
    seed=st.integers(0, 3),
)
Users = list[list[tuple[int, Part]]]


def draw(config: CandidateConfig, users: Users, catalogue: int = CATALOGUE) -> pl.DataFrame:
    offsets = np.concatenate([[0], np.cumsum([len(user) for user in users])]).astype(np.int64)
    items = np.array([item for user in users for item, _ in user], dtype=np.int32)
    parts = np.array([part for user in users for _, part in user], dtype=np.int8)
    return draw_candidates(config, offsets, items, parts, catalogue)


@given(histories, configs)
@settings(max_examples=60)
def test_lists_hold_the_positive_and_distinct_unseen_items(users: Users, config: CandidateConfig) -> None:
    part = Part[config.part.upper()]
    positives = {
        number: next(item for item, code in user if code == part)
        for number, user in enumerate(users)
        if any(code == part for _, code in user)
    }
    if not positives:
        with pytest.raises(DatasetError, match=f"no {config.part} events"):
            draw(config, users)
        return
    trained = {item for user in users for item, code in user if code == Part.TRAIN}
    drawable = trained if config.sampling == "popularity" else set(range(FIRST_ITEM, FIRST_ITEM + CATALOGUE))
    lists = draw(config, users)
    assert lists.schema == {"user": pl.Int32, "items": pl.List(pl.Int32)}
    assert lists["user"].to_list() == sorted(positives)
    short = 0
    for user, (positive, *negatives) in lists.iter_rows():
        unseen = drawable - {item for item, _ in users[user]}
        assert positive == positives[user]
        assert set(negatives) <= unseen
        assert len(set(negatives)) == len(negatives) == min(config.negatives, len(unseen))
        short += len(unseen) < config.negatives
    assert count_short_lists(config, lists) == short
    assert draw(config, users).equals(lists), "the same seed draws the same lists"


def test_another_seed_draws_other_lists() -> None:
    users: Users = [[(FIRST_ITEM + user, Part.TEST)] for user in range(5)]
    lists = [draw(CandidateConfig(split="s", negatives=20, seed=seed), users, catalogue=200) for seed in (0, 1)]
    assert not lists[0].equals(lists[1])


@pytest.mark.parametrize("negatives", [1, 3, 7])
def test_uniform_draws_are_uniform_at_every_place(negatives: int) -> None:
    # One positive and one seen item leave seven; with seven wanted, the last ones come from the rest.
    users: Users = [[(2, Part.TRAIN), (3, Part.TEST)]] * 4000
    lists = draw(CandidateConfig(split="s", negatives=negatives), users)
    for place in range(1, negatives + 1):
        drawn = Counter(lists["items"].list.get(place).to_list())
        assert set(drawn) == set(range(4, 4 + 7))
        assert chisquare(list(drawn.values())).pvalue > 1e-4


def test_popularity_draws_follow_the_train_counts_without_replacement() -> None:
    weights = {4: 12, 5: 6, 6: 2, 7: 1}
    crowd: Users = [[(item, Part.TRAIN)] * count for item, count in weights.items()]
    # Item 4 is also popular in the test part of others, and item 8 only there: neither may count.
    others: Users = [[(4, Part.TEST), (8, Part.TEST)]] * 50
    users: Users = [[(3, Part.TEST)]] * 6000
    lists = draw(CandidateConfig(split="s", negatives=2, sampling="popularity"), crowd + others + users)
    pairs = Counter(
        map(tuple, lists.filter(pl.col("user") >= len(crowd) + len(others))["items"].list.slice(1).to_list())
    )
    total = sum(weights.values())
    expected = {
        (a, b): 6000 * weights[a] / total * weights[b] / (total - weights[a])
        for a in weights
        for b in weights
        if a != b
    }
    assert set(pairs) <= set(expected)
    assert chisquare([pairs[pair] for pair in expected], list(expected.values())).pvalue > 1e-4


def test_the_last_draws_follow_the_weights_too() -> None:
    # The user has seen what holds nearly all of the weight, so that drawing and rejecting does not get far.
    weights = {4: 3, 5: 2, 6: 1}
    crowd: Users = [[(3, Part.TRAIN)] * 100_000, *([(item, Part.TRAIN)] * count for item, count in weights.items())]
    users: Users = [[(3, Part.TEST)]] * 3000
    lists = draw(CandidateConfig(split="s", negatives=1, sampling="popularity"), crowd + users)
    drawn = Counter(lists["items"].list.get(1).to_list())
    assert chisquare([drawn[item] for item in weights], [500 * weights[item] for item in weights]).pvalue > 1e-4


def test_a_rule_says_what_it_does_and_refuses_nonsense() -> None:
    words = CandidateConfig(split="loo", part="valid", negatives=99, sampling="popularity", seed=7).describe()
    assert all(word in words for word in ("first valid event", "'loo'", "99", "popularity", "seed 7"))
    from moerec.config import validate

    for values in ({"negatives": 0}, {"seed": -1}, {"sampling": "random"}, {"part": "train"}):
        with pytest.raises(ConfigError):
            validate(CandidateConfig, {"split": "s", **values})
