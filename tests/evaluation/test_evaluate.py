"""The whole evaluation against sorting in plain Python, and what must not change it."""

import math
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from moerec.batches.candidates import CandidateBatch
from moerec.errors import ConfigError, MoerecError
from moerec.evaluation.candidates import align_candidates
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import ProtocolConfig

from .scorers import MeanRetriever, TableScorer, random_cases

FULL = ProtocolConfig()


def naive(table, cases, candidates_of):
    """Metrics at 10 and the top 20 of each case for scores without ties, one target."""
    rows = {"hr@10": [], "ndcg@10": [], "mrr@10": [], "recall@10": [], "mean_rank": []}
    lists = []
    for case in range(len(cases)):
        target = int(cases.target_items[case])
        scores = table[int(cases.users[case])]
        ranked = sorted(candidates_of(case), key=lambda item: -scores[item])
        rank = ranked.index(target) + 1
        rows["hr@10"].append(float(rank <= 10))
        rows["recall@10"].append(float(rank <= 10))
        rows["ndcg@10"].append(1 / math.log2(rank + 1) if rank <= 10 else 0.0)
        rows["mrr@10"].append(1 / rank if rank <= 10 else 0.0)
        rows["mean_rank"].append(rank)
        lists.append((ranked + [0] * 20)[:20])
    return rows, lists


def history_of(cases, case):
    return set(cases.history_items[cases.history_offsets[case] : cases.history_offsets[case + 1]].tolist())


@pytest.mark.parametrize("filter_seen", [True, False])
def test_full_ranking_equals_sorting(filter_seen):
    protocol = ProtocolConfig(filter_seen=filter_seen)
    cases = random_cases(protocol=protocol)
    table = torch.randn(30, 42, generator=torch.Generator().manual_seed(0))
    table[:, :2] = math.nan  # reserved indices are meaningless
    result = evaluate(TableScorer(table), cases, protocol)
    rows, lists = naive(
        table.tolist(), cases, lambda case: set(range(2, 42)) - (history_of(cases, case) if filter_seen else set())
    )
    for name, expected in rows.items():
        assert result.per_case[name] == pytest.approx(np.array(expected))
        assert result.metrics[name] == pytest.approx(np.mean(expected))
    assert result.top_items.tolist() == lists
    assert result.ranks.tolist() == rows["mean_rank"]


@pytest.mark.parametrize("kind", ["table", "factorised", "streamed"])
def test_what_a_split_hides_of_a_user_is_no_candidate(kind, monkeypatch):
    """What the user met in an event that is left out can be recommended no more; other users have it still."""
    cases = random_cases()
    generator = np.random.default_rng(4)
    hidden = [
        [item for item in generator.permutation(np.arange(2, 42))[:6] if item != target]
        for target in cases.target_items
    ]
    with_hidden = replace(
        cases,
        hidden_items=np.concatenate(hidden).astype(np.int64),
        hidden_offsets=np.cumsum([0, *map(len, hidden)]),
    )
    if kind == "streamed":
        module = sys.modules["moerec.evaluation.evaluate"]
        monkeypatch.setattr(module, "WHOLE", 8)
        monkeypatch.setattr(module, "CHUNK", 16)
    retriever = MeanRetriever(42, 6).eval()
    table = retriever.score(cases.batch(np.arange(len(cases)))).detach()
    rows_of = {int(user): row for row, user in enumerate(cases.users)}
    by_user = torch.stack([table[rows_of.get(user, 0)] for user in range(int(cases.users.max()) + 1)])
    result = evaluate(TableScorer(by_user) if kind == "table" else retriever, with_hidden, FULL)
    rows, lists = naive(
        by_user.tolist(),
        cases,
        lambda case: set(range(2, 42)) - history_of(cases, case) - set(map(int, hidden[case])),
    )
    assert result.top_items.tolist() == lists
    assert result.ranks.tolist() == rows["mean_rank"]


@pytest.mark.parametrize("factorised", [True, False])
def test_sampled_ranking_equals_sorting_the_list(factorised):
    protocol = ProtocolConfig(ranking="sampled", candidates="uniform8")
    cases = random_cases(protocol=protocol)
    generator = np.random.default_rng(5)
    drawn = [generator.permutation(np.arange(2, 42))[: generator.integers(3, 9)].tolist() for _ in range(30)]
    frame = pl.DataFrame({"user": range(30), "items": drawn})
    model = MeanRetriever(42, 6).eval()
    with torch.no_grad():
        table = model.score(cases.batch(np.arange(30)))
    result = evaluate(model if factorised else TableScorer(table), cases, protocol, align_candidates(frame, cases))
    rows, lists = naive(
        table.tolist(),
        cases,
        lambda case: {*drawn[case], int(cases.target_items[case])} - history_of(cases, case),
    )
    assert set(result.metrics) == {
        f"{name}@{k}/uniform8" for name in ("hr", "recall", "ndcg", "mrr") for k in (5, 10, 20)
    } | {"mean_rank/uniform8"}
    for name, expected in rows.items():
        assert result.per_case[f"{name}/uniform8"] == pytest.approx(np.array(expected))
    assert result.top_items.tolist() == lists


def test_a_retriever_encodes_its_items_once_and_gets_what_a_scorer_gets():
    cases = random_cases(users=50)
    model = MeanRetriever(42, 6)
    result = evaluate(model, cases, ProtocolConfig(users_per_batch=7))
    assert model.item_calls == 1
    assert model.training  # and yet dropout was off:
    with torch.no_grad():
        table = model.eval().score(cases.batch(np.arange(50)))
    again = evaluate(TableScorer(table), cases, FULL)
    assert result.metrics == pytest.approx(again.metrics)
    np.testing.assert_array_equal(result.top_items, again.top_items)
    lengths = [length for batch in model.lengths[:-1] for length in batch]
    assert lengths == sorted(lengths)


def test_a_retriever_with_a_score_of_its_own_is_asked_for_it():
    class Backward(MeanRetriever):
        def score(self, batch, candidates=None):
            return -super().score(batch, candidates)

    cases = random_cases()
    forward, backward = evaluate(MeanRetriever(42, 6), cases, FULL), evaluate(Backward(42, 6), cases, FULL)
    eligible = 40 - np.diff(cases.history_offsets)
    assert (forward.ranks + backward.ranks).tolist() == (eligible + 1).tolist()


@pytest.mark.parametrize("change", [{"users_per_batch": 1}, {"users_per_batch": 4}, {"scores_in_memory": 1}])
def test_batches_change_nothing(change):
    cases = random_cases(targets=3)
    table = torch.randint(0, 6, (30, 42), generator=torch.Generator().manual_seed(1)).float()
    whole, parts = (evaluate(TableScorer(table), cases, protocol) for protocol in (FULL, ProtocolConfig(**change)))
    np.testing.assert_array_equal(whole.top_items, parts.top_items)
    for name, values in whole.per_case.items():
        np.testing.assert_array_equal(values, parts.per_case[name])


def test_a_constant_scorer_gets_what_random_order_gets_and_lists_the_lowest_indices():
    cases = random_cases(targets=2)
    result = evaluate(TableScorer(torch.zeros(30, 42)), cases, FULL)
    eligible = 40 - np.diff(cases.history_offsets)
    assert result.per_case["recall@10"] == pytest.approx(10 / eligible)
    missed = (eligible - 10) * (eligible - 11) / (eligible * (eligible - 1))
    assert result.per_case["hr@10"] == pytest.approx(1 - missed)
    for case, top in enumerate(result.top_items.tolist()):
        assert top == sorted(set(range(2, 42)) - history_of(cases, case))[:20]


def test_scores_may_be_scaled_and_shifted():
    cases = random_cases()
    table = torch.randint(0, 9, (30, 42), generator=torch.Generator().manual_seed(2)).float()
    first, second = evaluate(TableScorer(table), cases, FULL), evaluate(TableScorer(4 * table - 8), cases, FULL)
    assert first.metrics == second.metrics


def test_the_scorers_own_scores_are_left_alone():
    table = torch.randn(30, 42)
    before = table.clone()

    class Shared(TableScorer):
        def score(self, batch, candidates=None):
            return self.table

    evaluate(Shared(table), random_cases(), FULL)
    assert torch.equal(table, before)


def test_nan_is_an_error_that_names_the_model_and_never_a_rank():
    cases = random_cases()
    table = torch.randn(30, 42)
    item = int(cases.target_items[3])
    table[3, item] = math.nan
    with pytest.raises(MoerecError, match=f"my model: gives a NaN score .user 3, item {item}."):
        evaluate(TableScorer(table), cases, FULL, name="my model")
    with pytest.raises(MoerecError, match="TableScorer: gives a NaN"):
        evaluate(TableScorer(torch.full((30, 42), math.nan)), cases, FULL)


def test_minus_infinity_is_no_candidate():
    cases = random_cases()
    table = torch.randn(30, 42)
    table[torch.arange(30), torch.from_numpy(cases.target_items)] = -math.inf
    result = evaluate(TableScorer(table), cases, FULL)
    assert result.metrics["hr@20"] == 0
    assert result.metrics["mean_rank"] == 40
    nothing = evaluate(TableScorer(torch.full((30, 42), -math.inf)), cases, FULL)
    assert nothing.metrics["hr@20"] == 0
    assert not nothing.top_items.any()


def lists_of(cases: int, item: int) -> CandidateBatch:
    items = torch.full((cases, 3), item)
    return CandidateBatch(items, items > 0)


def test_wrong_shapes_and_contradictions_are_refused():
    cases = random_cases()

    class Short(TableScorer):
        def score(self, batch, candidates=None):
            return super().score(batch)[:, :-1]

    with pytest.raises(MoerecError, match=r"shape \(30, 41\), expected \(30, 42\)"):
        evaluate(Short(torch.randn(30, 42)), cases, FULL)
    scorer = TableScorer(torch.randn(30, 42))
    with pytest.raises(ConfigError, match="made with test"):
        evaluate(scorer, cases, ProtocolConfig(part="valid"))
    with pytest.raises(ConfigError, match="filter_seen"):
        evaluate(scorer, cases, ProtocolConfig(filter_seen=False))
    sampled = ProtocolConfig(ranking="sampled", candidates="uniform8")
    with pytest.raises(ConfigError, match="takes the candidate lists"):
        evaluate(scorer, cases, sampled)
    with pytest.raises(ConfigError, match="takes no candidate lists"):
        evaluate(scorer, cases, FULL, lists_of(30, 2))
    with pytest.raises(ConfigError, match="not among its candidates"):
        evaluate(scorer, cases, sampled, lists_of(30, 0))
    with pytest.raises(ConfigError, match="30"):
        evaluate(scorer, cases, sampled, lists_of(29, 2))


@pytest.mark.slow
def test_a_big_catalogue_takes_little_time():
    generator = np.random.default_rng(0)
    cases = random_cases(users=6040, items=3416)
    model = MeanRetriever(3418, 64, seed=int(generator.integers(100)))
    assert evaluate(model, cases, FULL).seconds < 5  # 0.3 s on an idle core


@pytest.mark.gpu
@pytest.mark.parametrize("sampled", [False, True])
def test_an_accelerator_gives_the_same_places(sampled):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    protocol = ProtocolConfig(ranking="sampled", candidates="uniform8") if sampled else FULL
    cases = random_cases(targets=2, protocol=protocol)
    frame = pl.DataFrame({"user": range(30), "items": [list(range(5, 13))] * 30})
    lists = align_candidates(frame, cases) if sampled else None
    model = MeanRetriever(42, 6).double()
    here = evaluate(model, cases, protocol, lists)
    there = evaluate(model.cuda(), cases, protocol, lists)
    assert there.metrics == pytest.approx(here.metrics)
    np.testing.assert_array_equal(there.top_items, here.top_items)
