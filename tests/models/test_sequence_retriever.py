"""Sequential retrievers: what they refuse, what reads times, the same numbers by every way of computing."""

import pytest
import torch

from moerec.batches.sequences import sequence_batch
from moerec.config import discover
from moerec.errors import ConfigError
from moerec.models.roles import Retriever
from tests.models.test_registered import ENCODERS, NUM_INDICES, timed_batch, with_learned_zeros

every_encoder = pytest.mark.parametrize("encoder", ENCODERS)


def build(settings: dict, **changes) -> Retriever:
    torch.manual_seed(0)
    small = {"width": 16, "max_length": 12, "item_tower": {"fusion": "sum"}}
    model = discover("retriever", small | settings | changes).build(torch.arange(NUM_INDICES) > 1)
    return with_learned_zeros(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sasrec", "width": 10, "heads": 3}, r"heads \(3\) must divide width \(10\)"),
        ({"kind": "hstu", "width": 10, "heads": 3}, r"heads \(3\) must divide width \(10\)"),
        ({"kind": "hstu", "width": 10, "heads": 3, "qk_width": 4}, r"heads \(3\) must divide width \(10\)"),
        ({"kind": "ligr", "width": 6, "heads": 2, "positions": "rope"}, "a head is 3 wide; make it even"),
        ({"kind": "hstu", "qk_width": 5, "positions": "rope"}, "a head is 5 wide; make it even"),
        ({"kind": "ligr", "stochastic_depth": 1.0}, "stochastic_depth"),
    ],
)
def test_contradictions_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        discover("retriever", settings)


def test_hstu_of_its_own_widths_needs_no_common_divisor():
    model = build({"kind": "hstu", "width": 10, "heads": 3, "qk_width": 4, "value_width": 5})
    assert model.encode_users(sequence_batch([[3, 4]])).shape == (1, 10)


@every_encoder
def test_packed_and_padded_rows_give_the_same_vectors(encoder):
    batch = timed_batch([[3, 4, 5], [], list(range(2, 14)), [7]])
    settings = ENCODERS[encoder] | {"time_bias": True, "relative_bias": True}
    packed, padded = (build(settings, packed=form).encode_events(batch) for form in (True, False))
    torch.testing.assert_close(packed, padded, atol=1e-5, rtol=1e-5)


@every_encoder
def test_histories_without_times_are_refused_where_times_are_read(encoder):
    model = build(ENCODERS[encoder] | {"time_bias": True})
    batch = sequence_batch([[3, 4]])
    calls = (
        model.encode_events,
        model.encode_users,
        model.score,
        lambda batch: model.encode_padded(batch.padded_items(), batch.lengths),
    )
    for call in calls:
        with pytest.raises(ConfigError, match=r"time_bias.*no timestamps; give timestamps") as caught:
            call(batch)
        assert "\n" not in str(caught.value)
    build(ENCODERS[encoder]).score(batch)


@every_encoder
def test_times_are_read_by_all_ways_and_their_beginning_does_not_matter(encoder):
    model = build(ENCODERS[encoder] | {"time_bias": True})
    items = [[3, 4, 5, 6]]
    close, apart, later = (
        sequence_batch(items, times=[times])
        for times in ([0, 1000, 2000, 3000], [0, 10**6, 10**9, 10**12], [10**12 + t for t in (0, 1000, 2000, 3000)])
    )
    for encode in (model.encode_users, model.encode_events):
        assert (encode(close) - encode(apart)).abs().max() > 1e-3
        torch.testing.assert_close(encode(close), encode(later), atol=0, rtol=0)


@every_encoder
def test_only_the_most_recent_events_and_their_times_count(encoder):
    model = build(ENCODERS[encoder] | {"time_bias": True})
    items = list(range(2, 26))
    times = [10**9 + place**4 * 1000 for place in range(24)]
    whole = sequence_batch([items, [3]], times=[times, [5]])
    cut = sequence_batch([items[-12:], [3]], times=[times[-12:], [5]])
    torch.testing.assert_close(model.encode_users(whole), model.encode_users(cut), atol=1e-6, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"kind": "sasrec"}, {"kind": "hstu", "time_bias": True}], ids=["sasrec", "hstu"])
def test_a_compiled_encoder_learns_the_same(settings):
    def losses(compiled: bool) -> list[float]:
        model = build(settings, blocks=1, dropout=0.0).train()
        names = list(model.state_dict())
        if compiled:
            model.compile_for_training()
        assert list(model.state_dict()) == names
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        out = []
        for length in (7, 5, 9):  # other lengths do not compile again
            batch = timed_batch([list(range(2, 2 + length)), [3, 4, 5], [9, 3]])
            users, vectors = model.encode_events(batch), model.encode_items()
            loss = torch.nn.functional.cross_entropy(users @ vectors.T, batch.items.roll(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out

    eager, compiled = losses(False), losses(True)
    assert compiled == pytest.approx(eager, abs=1e-5)
    assert eager[0] != eager[1]


def test_a_model_without_a_part_that_compiles_says_so():
    model = build({"kind": "sasrec"})
    with pytest.raises(ConfigError, match=r"training\.compile: SASRec has no part that compiles; write compile: false"):
        Retriever.compile_for_training(model)
