"""Every loss equals its plain formula, each of its switches acts, and each learns a planted signal."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.histories import TrainHistories
from moerec.batches.sequences import sequence_batch
from moerec.config import implementations, validate
from moerec.errors import ConfigError
from moerec.losses.retrieval import FullSoftmaxConfig, Negatives, NextItems, RetrievalLossConfig, SampledLossConfig
from moerec.models.sasrec import SASRecConfig
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig
from tests.losses.retrieval.dense import dense_loss
from tests.losses.retrieval.problems import T, loss_of, problem
from tests.order_of_sums import sums_in_any_order

DRAWS = {
    "uniform": {"kind": "uniform", "count": 6},
    "own": {"kind": "uniform", "count": 4, "shared": False},
    "popularity": {"kind": "popularity", "count": 6},
    "in_batch": {"kind": "in_batch"},
    "mixed": {"kind": "mixed", "count": 5, "power": 0.5},
}
SOFTMAX = [
    {},
    {"temperature": 0.5, "focal_gamma": 1.5},
    {"normalize": True, "temperature": 0.3},
    {"focal_gamma": 0.5, "log_q": False},
    {"temperature": 0.5, "negative_temperature": 0.8, "focal_gamma": 2.0},
]
SETTINGS = {
    "full_softmax": [{}, {"temperature": 0.5, "focal_gamma": 1.5}, {"normalize": True, "focal_gamma": 0.5, "chunk": 3}],
    "sampled_softmax": SOFTMAX[:4],
    "info_nce": SOFTMAX,
    "bce": [{}],
    "gbce": [{}, {"calibration": 0.0}, {"calibration": 1.0}],
    "bpr": [{}],
}
CASES = [
    pytest.param(
        kind, settings | ({} if kind == "full_softmax" else {"negatives": DRAWS[name]}), id=f"{kind}-{name}-{n}"
    )
    for kind, several in SETTINGS.items()
    for n, settings in enumerate(several)
    for name in DRAWS
    if (kind != "full_softmax" or name == "uniform") and (kind != "gbce" or name in ("uniform", "own"))
]


def gradients(loss: torch.Tensor, events: NextItems) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, (events.users, events.items))


def test_every_registered_loss_is_tested():
    assert set(implementations("retrieval_loss")) >= set(SETTINGS)


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_value_and_gradient_equal_the_plain_formula(kind, settings, monkeypatch):
    monkeypatch.setattr("moerec.losses.retrieval.contrast._parts", lambda users, _: map(slice, *chunks(len(users))))
    loss = loss_of(kind, **settings)
    for seen, weights in ((False, False), (True, True)):
        events = problem(loss, seen=seen, weights=weights)
        with sums_in_any_order() as unordered:
            value = loss(events)
            found = gradients(3 * value, events)
        assert not unordered
        expected = dense_loss(loss, events)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
        for ours, theirs in zip(found, gradients(3 * expected, events), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def chunks(events: int) -> tuple[list[int], list[int]]:
    """Uneven chunks."""
    return [0, 5, 6], [5, 6, events]


@pytest.mark.parametrize(("kind", "settings"), [case for case in CASES if case.id.endswith(("-0", "-4"))])
def test_gradients_are_the_derivatives(kind, settings):
    loss = loss_of(kind, **settings)
    events = problem(loss, seen=True, weights=True)

    def value(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return loss(replace(events, users=users, items=items))

    assert torch.autograd.gradcheck(value, (events.users, events.items), atol=1e-6)


@pytest.mark.parametrize(("kind", "settings"), [case for case in CASES if case.id.endswith("-0")])
def test_chunks_do_not_change_the_result(kind, settings, monkeypatch):
    loss = loss_of(kind, **settings)
    events = problem(loss, seen=True)
    if isinstance(loss, SampledLossConfig):
        whole = loss(events)
        monkeypatch.setattr(
            "moerec.losses.retrieval.contrast._parts", lambda users, _: (slice(i, i + 1) for i in range(T))
        )
        torch.testing.assert_close(loss(events), whole)
    else:
        torch.testing.assert_close(loss_of(kind, chunk=1)(events), loss_of(kind, chunk=1000)(events))


@pytest.mark.parametrize("kind", [kind for kind in SETTINGS if kind != "full_softmax"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_negative_that_is_the_positive_never_pushes_it_down(kind, shared):
    loss = loss_of(kind, negatives={"kind": "uniform", "count": 3, "shared": shared})
    events = problem(loss)
    ones = torch.zeros(1) if shared else torch.zeros(T, 3)
    planted = Negatives(ones.long() + 7, ones, 10, ones.long() + 3 if shared else None)
    same = replace(events, positives=torch.full((T,), 7), negatives=planted)
    value = loss(same)
    _, by_items = gradients(value, same)
    # All negatives are the positive itself, so there is nothing to be told apart from.
    alone = {"bce", "gbce"}
    assert (value.item() > 0) == (kind in alone)
    if kind in alone:
        pull = -sum(torch.sigmoid(-user @ same.items[7]) * user for user in same.users)
        torch.testing.assert_close(by_items[7] / pull, (by_items[7] / pull).mean().expand(5))
        assert (by_items[7] / pull).min() > 0
    else:
        assert by_items.abs().max() == 0


def test_without_calibration_gbce_is_bce():
    plain, calibrated = (
        loss_of(kind, negatives={"count": 6}, **more) for kind, more in (("bce", {}), ("gbce", {"calibration": 0.0}))
    )
    events = problem(plain)
    torch.testing.assert_close(plain(events), calibrated(events))


def test_full_calibration_gives_probabilities():
    """At t = 1 the minimum of gBCE over one score is the probability itself (Petrov & Macdonald 2023, theorem 4.1)."""
    loss = loss_of("gbce", calibration=1.0, negatives={"count": 2})
    share = 0.3  # of all events the item is the positive, else it is one of 10 items of which 2 are drawn
    beta = loss.rule(problem(loss).negatives).positive_weight
    rate = 2 / 9
    assert beta == pytest.approx(rate)
    # beta * p * log s + rate * (1 - p) * log (1 - s) is greatest at s = p.
    s = torch.linspace(0.01, 0.99, 99)
    objective = beta * share * s.log() + rate * (1 - share) * (1 - s).log()
    assert s[objective.argmax()].item() == pytest.approx(share)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *[(kind, {"temperature": 0.5}) for kind in ("full_softmax", "sampled_softmax", "info_nce")],
        *[(kind, {"normalize": True}) for kind in ("full_softmax", "sampled_softmax", "info_nce")],
        *[(kind, {"focal_gamma": 1.0}) for kind in ("full_softmax", "sampled_softmax", "info_nce")],
        *[(kind, {"log_q": False}) for kind in ("sampled_softmax", "info_nce")],
        ("info_nce", {"negative_temperature": 0.5}),
        *[(kind, {"negatives": {"kind": "popularity"}}) for kind in ("sampled_softmax", "info_nce", "bce", "bpr")],
        *[(kind, {"negatives": {"count": 3}}) for kind in ("sampled_softmax", "info_nce", "bce", "gbce", "bpr")],
        ("sampled_softmax", {"negatives": {"count": 512, "shared": False}}),
        ("info_nce", {"negatives": {"kind": "mixed", "power": 2.0}}),
        ("sampled_softmax", {"negatives": {"kind": "in_batch"}}),
    ],
)
def test_every_switch_changes_the_loss(kind, change):
    plain, changed = loss_of(kind), loss_of(kind, **change)
    assert plain(problem(plain)).item() != pytest.approx(changed(problem(changed)).item(), rel=1e-4)


def test_the_calibration_of_gbce_acts():
    events = problem(loss_of("gbce", negatives={"count": 3}))
    assert loss_of("gbce", calibration=0.2)(events).item() > loss_of("gbce", calibration=0.9)(events).item() + 0.01


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_16_bits_are_near_32(kind):
    loss = loss_of(kind, **({} if kind == "full_softmax" else {"negatives": {"count": 6}}))
    events = problem(loss, seen=True)
    events = replace(events, users=events.users.float(), items=events.items.float())
    plain = loss(events)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = loss(events)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow, plain, atol=0, rtol=0.02)
    for ours, theirs in zip(gradients(narrow, events), gradients(plain, events), strict=True):
        assert (ours - theirs).norm() < 0.02 * theirs.norm()
        assert not torch.equal(ours, theirs)  # so the products were really in 16 bits


def test_what_no_negatives_need_is_refused():
    with pytest.raises(ValueError, match="needs negatives"):
        loss_of("bpr")(replace(problem(loss_of("bpr")), negatives=None))
    with pytest.raises(ConfigError, match=r"gbce is calibrated for uniform negatives, not popularity"):
        loss_of("gbce", negatives={"kind": "popularity"})


CYCLE = 8


@pytest.mark.parametrize(
    ("kind", "negatives"),
    [
        ("full_softmax", None),
        *[
            (kind, DRAWS[name])
            for kind in ("sampled_softmax", "info_nce", "bce", "bpr")
            for name in ("uniform", "own", "popularity", "in_batch", "mixed")
        ],
        *[("gbce", DRAWS[name]) for name in ("uniform", "own")],
    ],
)
def test_it_learns_the_circle(kind, negatives):
    """Everybody walks round one circle of items, each from an own start; the next item gets the highest score."""
    items = np.concatenate([(np.arange(9) + start) % CYCLE + 2 for start in range(CYCLE)])
    trained = torch.ones(CYCLE + 2, dtype=torch.bool)
    trained[:2] = False
    torch.manual_seed(0)
    model = SASRecConfig(width=16, blocks=1, feed_forward=16, max_length=8, dropout=0.0).build(trained)
    torch.nn.init.normal_(model.item_tower.id_embedding.weight, std=0.3)
    histories = TrainHistories(items, np.arange(CYCLE + 1) * 9, None, CYCLE + 2)
    objective = RetrievalObjective(model, histories, trained, seed=0)
    # Seen items are negatives here: on a short circle everything has been seen.
    settings = {"kind": kind, "exclude_seen": False} | ({} if negatives is None else {"negatives": negatives})
    stage = RetrieverStageConfig.model_validate({"epochs": 1, "batch_size": CYCLE, "loss": settings})
    (batch,) = objective.epoch(stage, 0, 0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    # The many negatives of a mean outweigh the one positive at first.
    for _ in range(150 if kind == "bce" else 60):
        optimizer.zero_grad()
        (objective.loss(stage, batch) / objective.targets(batch)).backward()
        optimizer.step()
    starts = range(CYCLE)
    scores = model.score(sequence_batch([[(start + place) % CYCLE + 2 for place in range(6)] for start in starts]))
    assert (scores[:, 2:].argmax(1) == (torch.arange(CYCLE) + 6) % CYCLE).all()


class HalvedConfig(RetrievalLossConfig):
    """A loss of one's own."""

    factor: float = 0.5
    """Its setting."""

    def __call__(self, events: NextItems) -> torch.Tensor:
        return self.factor * FullSoftmaxConfig(exclude_seen=self.exclude_seen)(events)


def test_a_stage_finds_its_loss_by_kind_and_has_a_default():
    def loss(**settings: object) -> RetrievalLossConfig:
        stage = validate(RetrieverStageConfig, {"epochs": 1, "loss": settings})
        assert validate(RetrieverStageConfig, stage.model_dump()) == stage
        return stage.loss

    assert loss(exclude_seen=False) == FullSoftmaxConfig(exclude_seen=False)
    assert loss(kind="bpr").negatives.drawn == 1
    own = loss(kind=f"{__name__}:HalvedConfig", factor=0.25)
    assert own.factor == 0.25
    with pytest.raises(ConfigError, match=r"unknown retrieval_loss 'info_nse'; did you mean 'info_nce'\?"):
        loss(kind="info_nse")
    with pytest.raises(ConfigError, match=r"loss.exlude_seen: unknown key; did you mean 'exclude_seen'\?"):
        loss(exlude_seen=False)
