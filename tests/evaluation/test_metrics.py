"""Expected metrics under ties against every order of the ties, a naive reference, and an independent library."""

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.evaluation.metrics import Places, metrics_of_places

CUTOFFS = (1, 2, 3, 5)


def naive_metrics(ranked: list[int], targets: set[int], k: int) -> dict[str, float]:
    """The textbook formulas on one ordered list."""
    hits = [item in targets for item in ranked[:k]]
    ideal = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(targets))))
    first = next((rank for rank, hit in enumerate(hits, 1) if hit), None)
    return {
        f"hr@{k}": float(any(hits)),
        f"recall@{k}": sum(hits) / len(targets),
        f"ndcg@{k}": sum(hit / math.log2(rank + 2) for rank, hit in enumerate(hits)) / ideal,
        f"mrr@{k}": 0.0 if first is None else 1 / first,
    }


def naive_places(scores: list[list[float]], targets: list[list[int]]) -> tuple[Places, np.ndarray]:
    """Places by counting in plain Python."""
    better, tied, listed, items = [], [], [], []
    for row, wanted in zip(scores, targets, strict=True):
        for target in wanted:
            better.append(sum(score > row[target] for score in row))
            tied.append(sum(score == row[target] for score in row) - 1)
            listed.append(row[target] > -math.inf)
            items.append(len(row))
    offsets = np.cumsum([0, *map(len, targets)])
    return Places(np.array(better), np.array(tied), np.array(listed), np.array(items)), offsets


@st.composite
def tied_case(draw):
    width = draw(st.integers(1, 6))
    values = st.sampled_from([0.0, 1.0, 2.0, -math.inf])
    scores = draw(st.lists(values, min_size=width, max_size=width))
    targets = draw(st.sets(st.integers(0, width - 1), min_size=1))
    return scores, sorted(targets)


@given(st.lists(tied_case(), min_size=1, max_size=3))
@settings(max_examples=60)
def test_equals_the_mean_over_every_order_of_the_ties(cases):
    places, offsets = naive_places([scores for scores, _ in cases], [targets for _, targets in cases])
    values = metrics_of_places(places, offsets, CUTOFFS)
    for number, (scores, targets) in enumerate(cases):
        candidates = [item for item in range(len(scores)) if scores[item] > -math.inf]
        orders = [sorted(order, key=lambda item: -scores[item]) for order in permutations(candidates)]
        for k in CUTOFFS:
            every = [naive_metrics(order, set(targets), k) for order in orders]
            for name in every[0]:
                expected = sum(metrics[name] for metrics in every) / len(every)
                assert values[name][number] == pytest.approx(expected, abs=1e-12), name


@given(st.integers(2, 60), st.data())
@settings(max_examples=40)
def test_a_constant_scorer_gets_what_random_order_gets(width, data):
    wanted = data.draw(st.integers(1, width))
    places, offsets = naive_places([[0.5] * width], [list(range(wanted))])
    values = metrics_of_places(places, offsets, CUTOFFS)
    for k in CUTOFFS:
        drawn = min(k, width)
        missed = math.comb(width - wanted, drawn) / math.comb(width, drawn)
        assert values[f"hr@{k}"][0] == pytest.approx(1 - missed)
        assert values[f"recall@{k}"][0] == pytest.approx(drawn / width)
    assert values["mean_rank"][0] == pytest.approx((width + 1) / 2)


def test_equals_the_naive_reference_without_ties():
    generator = np.random.default_rng(1)
    scores = [generator.permutation(40).astype(float).tolist() for _ in range(50)]
    targets = [generator.choice(40, generator.integers(1, 15), replace=False).tolist() for _ in range(50)]
    places, offsets = naive_places(scores, targets)
    values = metrics_of_places(places, offsets, (5, 10, 20))
    for number, (row, wanted) in enumerate(zip(scores, targets, strict=True)):
        ranked = sorted(range(40), key=lambda item: -row[item])
        for k in (5, 10, 20):
            for name, expected in naive_metrics(ranked, set(wanted), k).items():
                assert values[name][number] == pytest.approx(expected, abs=1e-12)
        assert values["mean_rank"][number] == pytest.approx(np.mean([ranked.index(item) + 1 for item in wanted]))


@given(st.lists(tied_case(), min_size=1, max_size=4))
@settings(max_examples=60)
def test_bounds_and_order_between_metrics_and_cutoffs(cases):
    places, offsets = naive_places([scores for scores, _ in cases], [targets for _, targets in cases])
    values = metrics_of_places(places, offsets, CUTOFFS)
    tiny = 1e-12
    for k, longer in pairwise(CUTOFFS):
        for name in ("hr", "recall", "mrr"):
            assert (values[f"{name}@{k}"] <= values[f"{name}@{longer}"] + tiny).all()
    for k in CUTOFFS:
        for name in ("hr", "recall", "ndcg", "mrr"):
            assert (values[f"{name}@{k}"] >= 0).all()
            assert (values[f"{name}@{k}"] <= values[f"hr@{k}"] + tiny).all()
            assert (values[f"hr@{k}"] <= 1 + tiny).all()


def test_a_target_that_is_no_candidate_is_never_found_and_ranks_last():
    places, offsets = naive_places([[-math.inf, -math.inf, -math.inf]], [[1]])
    values = metrics_of_places(places, offsets, (5,))
    assert values["hr@5"][0] == values["ndcg@5"][0] == values["mrr@5"][0] == values["recall@5"][0] == 0
    assert values["mean_rank"][0] == 3


def test_a_case_without_targets_is_refused():
    places, _ = naive_places([[1.0, 2.0]], [[0]])
    with pytest.raises(ValueError, match="at least one target"):
        metrics_of_places(places, np.array([0, 0, 1]), (5,))


@pytest.mark.slow
def test_equals_ranx():
    from ranx import Qrels, Run
    from ranx import evaluate as ranx_evaluate

    generator = np.random.default_rng(2)
    scores = [generator.permutation(60).astype(float).tolist() for _ in range(80)]
    targets = [generator.choice(60, generator.integers(1, 12), replace=False).tolist() for _ in range(80)]
    qrels = Qrels({f"u{n}": {f"i{item}": 1 for item in wanted} for n, wanted in enumerate(targets)})
    run = Run({f"u{n}": {f"i{item}": score for item, score in enumerate(row)} for n, row in enumerate(scores)})
    places, offsets = naive_places(scores, targets)
    values = metrics_of_places(places, offsets, (5, 10, 20))
    for ours, theirs in {"hr": "hit_rate", "recall": "recall", "ndcg": "ndcg", "mrr": "mrr"}.items():
        for k in (5, 10, 20):
            independent = ranx_evaluate(qrels, run, f"{theirs}@{k}")
            assert values[f"{ours}@{k}"].mean() == pytest.approx(float(independent), abs=1e-9), f"{ours}@{k}"
