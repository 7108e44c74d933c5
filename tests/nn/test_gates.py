"""Gates: distributions, selection, noise, dropout of experts, balance, and what a gate says of its experts' use.

Shape letters: N rows, E experts.
"""

import math
from dataclasses import fields

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from moerec.config import discover, implementations, validate
from moerec.errors import ConfigError
from moerec.losses.balance import BalanceConfig, auxiliary_loss, z_loss
from moerec.nn.gates import AttentionGateConfig, DenseGateConfig, NoisyTopKGateConfig, TopKGateConfig, utilisation

BALANCES = ("none", "auxiliary", "z_loss", "loss_free")
GATES = {kind: {"k": 2} if kind == "attention" else {} for kind in implementations("gate")}


def shaken(gate):
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.randn_like(parameter))
    return gate


def test_a_dense_gate_starts_uniform_and_stays_a_distribution():
    gate, x = DenseGateConfig().build(5, 3), torch.randn(10, 5)
    torch.testing.assert_close(gate(x).weights, torch.full((10, 3), 1 / 3))
    weights = shaken(gate)(x).weights
    torch.testing.assert_close(weights.sum(1), torch.ones(10))
    assert (weights > 0).all()


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("kind", sorted(GATES))
def test_every_gate_with_every_balance(kind, balance):
    """Forward and backward; the balance's loss is there where it should be, and every parameter learns."""
    torch.manual_seed(0)
    if kind == "dense" and balance == "loss_free":
        with pytest.raises(ConfigError, match=r"loss_free moves a bias on the selection.*write kind: auxiliary"):
            discover("gate", {"kind": kind, "balance": {"kind": balance}})
        return
    gate = shaken(discover("gate", {"kind": kind, "balance": {"kind": balance}, **GATES[kind]}).build(6, 4)).train()
    x = torch.randn(64, 6)
    gating = gate(x)
    torch.testing.assert_close(gating.weights.sum(1), torch.ones(64))
    kept = 4 if kind == "dense" else 2
    assert ((gating.weights > 0).sum(1) == kept).all()
    assert (gating.balance_loss is not None) == (balance in ("auxiliary", "z_loss"))
    loss = (gating.weights * torch.randn(64, 4)).sum() + (0 if gating.balance_loss is None else gating.balance_loss)
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any() for p in gate.parameters())
    if balance == "loss_free":
        assert gate.load.sum() == 64 * kept
        gate.move_bias()
        assert gate.bias.any()
        assert not gate.load.any()
    assert gate.eval()(x).balance_loss is None


class Operations(TorchDispatchMode):
    """Names of the tensor operations that are done meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def operations(function, x):
    with Operations() as done, torch.no_grad():
        function(x)
    return done.names


@pytest.mark.parametrize("balance", BALANCES)
def test_a_gate_that_nobody_asks_how_it_is_used_does_nothing_for_it(balance):
    """In evaluation: scores, selection, softmax. No load, no loss of balance, no entropy, no history."""
    dense, x = DenseGateConfig(hidden=(7,)).build(5, 4).eval(), torch.randn(30, 5)
    plain = operations(lambda rows: torch.softmax((dense.scores(rows) / 1.0).t().contiguous(), dim=0).t(), x)
    assert operations(dense, x) == plain
    top = TopKGateConfig(k=2, balance=BalanceConfig(kind=balance)).build(5, 4).eval()
    bare = TopKGateConfig(k=2).build(5, 4).eval()
    more = ["aten._softmax.default", "aten.add.Tensor"] if balance == "loss_free" else []  # the bias selects
    assert sorted(operations(top, x)) == sorted(operations(bare, x) + more)
    before = {name: buffer.clone() for name, buffer in top.named_buffers()}
    said = top(x)
    assert [field.name for field in fields(said)] == ["weights", "balance_loss"]
    assert said.balance_loss is None
    torch.testing.assert_close(dict(top.named_buffers()), before, rtol=0, atol=0)
    if balance in ("none", "loss_free"):
        assert top.train()(x).balance_loss is None


def test_top_k_is_the_softmax_over_the_k_best():
    torch.manual_seed(0)
    gate, x = shaken(TopKGateConfig(k=2, temperature=0.7).build(5, 4)), torch.randn(20, 5)
    logits = gate.scores(x) / 0.7
    for row in range(20):
        best = logits[row].argsort(descending=True)[:2]
        expected = torch.zeros(4).index_put((best,), torch.softmax(logits[row, best], 0))
        torch.testing.assert_close(gate(x).weights[row], expected)


def test_k_of_all_experts_is_dense_and_more_is_refused():
    torch.manual_seed(0)
    top, x = shaken(TopKGateConfig(k=3).build(5, 3)), torch.randn(8, 5)
    torch.testing.assert_close(top(x).weights, torch.softmax(top.scores(x), -1))
    with pytest.raises(ConfigError, match=r"gate.k: 4, but there are only 3 experts"):
        TopKGateConfig(k=4).build(5, 3)


def test_an_untrained_top_k_gate_does_not_always_select_the_first_experts():
    torch.manual_seed(0)
    weights = TopKGateConfig(k=1).build(16, 4)(torch.randn(400, 16)).weights
    assert ((weights > 0).float().mean(0) > 0.02).sum() >= 3


def test_noise_tries_other_experts_in_training_and_is_gone_in_evaluation():
    torch.manual_seed(0)
    gate, x = NoisyTopKGateConfig(k=1).build(5, 4), torch.randn(1, 5).expand(300, 5)
    assert (gate.train()(x).weights.sum(0) > 0).sum() == 4
    assert (gate.eval()(x).weights.sum(0) > 0).sum() == 1
    torch.testing.assert_close(gate(x).weights, gate(x).weights, rtol=0, atol=0)


def test_the_attention_gate_reads_its_row_alone():
    """Attention over the rows of a batch, as if they were a sequence, leaks from one example to another."""
    torch.manual_seed(0)
    gate, x = AttentionGateConfig(heads=3, width=4).build(5, 4), torch.randn(10, 5)
    together = gate(x).weights
    torch.testing.assert_close(torch.cat([gate(x[[row]]).weights for row in range(10)]), together)
    queries = gate.scores.query(x).view(10, 3, 4)
    logits = sum(queries[:, head] @ gate.scores.keys[head].T / math.sqrt(4) for head in range(3)) / 3
    torch.testing.assert_close(together, torch.softmax(logits, -1))


def test_dropped_experts_are_silent_in_training_and_weights_still_sum_to_one():
    torch.manual_seed(0)
    gate, x = shaken(DenseGateConfig(expert_dropout=0.5).build(5, 4)), torch.randn(2000, 5)
    weights = gate.train()(x).weights
    torch.testing.assert_close(weights.sum(1), torch.ones(2000))
    silent = (weights == 0).float().mean(0)
    assert ((silent > 0.35) & (silent < 0.6)).all()
    assert (gate.eval()(x).weights > 0).all()
    top = TopKGateConfig(k=3, expert_dropout=0.9).build(5, 4).train()
    assert ((top(x).weights > 0).sum(1) == 3).all()


def test_a_lower_temperature_is_sharper():
    torch.manual_seed(0)
    warm, cold = DenseGateConfig().build(5, 3), DenseGateConfig(temperature=0.1).build(5, 3)
    cold.load_state_dict(shaken(warm).state_dict())
    x = torch.randn(50, 5)
    assert utilisation(cold(x).weights).entropy < utilisation(warm(x).weights).entropy


def test_the_bias_selects_and_never_weighs():
    torch.manual_seed(0)
    gate = shaken(TopKGateConfig(k=2, balance=BalanceConfig(kind="loss_free")).build(5, 4)).eval()
    x = torch.randn(50, 5)
    gate.bias.copy_(torch.tensor([5.0, 0.0, 0.0, 0.0]))
    weights = gate(x).weights
    assert (weights[:, 0] > 0).all()
    logits = gate.scores(x).masked_fill(weights == 0, -torch.inf)
    torch.testing.assert_close(weights, torch.softmax(logits, -1))


def test_the_bias_moves_by_its_rate_towards_the_mean_load():
    gate = TopKGateConfig(k=1, balance=BalanceConfig(kind="loss_free", rate=0.1)).build(5, 4)
    gate.load.copy_(torch.tensor([7.0, 1.0, 4.0, 4.0]))
    gate.move_bias()
    torch.testing.assert_close(gate.bias, torch.tensor([-0.1, 0.1, 0.0, 0.0]))
    assert "bias" in gate.state_dict()
    assert "load" not in gate.state_dict()


def test_auxiliary_loss_is_least_for_even_use():
    even, skewed = torch.zeros(8, 4), torch.tensor([[3.0, 0.0, 0.0, 0.0]]).repeat(8, 1)
    assert auxiliary_loss(even, None).item() == pytest.approx(1.0)
    assert auxiliary_loss(skewed, None) > 1.5
    first = F.one_hot(skewed.argmax(1), 4).bool()
    assert auxiliary_loss(skewed, first).item() == pytest.approx(4 * torch.softmax(skewed[0], 0)[0].item())


def test_the_weight_multiplies_the_loss_and_null_is_the_weight_that_the_documentation_names():
    logits = torch.randn(8, 4)
    for kind, loss, default in (("auxiliary", auxiliary_loss(logits, None), 0.01), ("z_loss", z_loss(logits), 0.001)):
        torch.testing.assert_close(BalanceConfig(kind=kind).loss(logits, None), default * loss)
        torch.testing.assert_close(BalanceConfig(kind=kind, weight=0.3).loss(logits, None), 0.3 * loss)
    gate = TopKGateConfig(k=1, balance=BalanceConfig(kind="loss_free")).build(5, 2)
    gate.load.copy_(torch.tensor([3.0, 1.0]))
    gate.move_bias()
    torch.testing.assert_close(gate.bias, torch.tensor([-0.001, 0.001]))


def test_hidden_layers_of_a_gate():
    """A gate without them cannot tell rows apart that differ by a product of two inputs."""
    for config in (DenseGateConfig(hidden=(9, 7)), TopKGateConfig(hidden=(9, 7)), NoisyTopKGateConfig(hidden=(9, 7))):
        widths = [
            tuple(parameter.shape) for name, parameter in config.build(5, 3).named_parameters() if "noise" not in name
        ]
        assert widths == [(9, 5), (9,), (7, 9), (7,), (3, 7), (3,)]


def test_z_loss_of_known_logits():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    assert z_loss(logits).item() == pytest.approx((math.log(2) ** 2 + math.log(4) ** 2) / 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "loss_free", "weight": 0.1}, "no loss that it could weigh"),
        ({"kind": "auxiliary", "rate": 0.1}, "no bias that could move"),
        ({"kind": "aux"}, "expected|Input should be"),
    ],
)
def test_contradictory_balances_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        validate(BalanceConfig, values)


def test_utilisation_of_known_weights():
    use = utilisation(torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]]))
    assert use.mean_weight == pytest.approx([0.65, 0.2, 0.15])
    assert use.load == pytest.approx([1.0, 0.0, 0.0])
    assert use.max_over_mean_load == pytest.approx(3.0)
    assert use.dead == 0
    assert use.selected == 3


def test_load_of_a_gate_that_keeps_k_counts_selections():
    use = utilisation(torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.9, 0.0, 0.1, 0.0]]))
    assert use.load == pytest.approx([0.5, 0.25, 0.25, 0.0])
    assert use.max_over_mean_load == pytest.approx(2.0)
    assert use.entropy == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    assert use.dead == 1
    assert use.selected == 2


def test_load_of_uniform_weights_is_even():
    assert utilisation(torch.full((6, 4), 0.25)).max_over_mean_load == pytest.approx(1.0)
