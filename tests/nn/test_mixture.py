"""Experts, gates and fusion."""

import math

import pytest
import torch
from torch.nn import functional as F

from moerec.nn.experts import MLPExperts
from moerec.nn.fusion import MixtureFusion
from moerec.nn.gates import DenseGate, utilisation


def test_batched_experts_equal_a_loop_over_single_ones():
    torch.manual_seed(0)
    experts = MLPExperts(experts=3, width_in=5, hidden=7, width_out=4)
    x = torch.randn(6, 5)
    looped = [
        F.gelu(x @ experts.weight_in[e] + experts.bias_in[e]) @ experts.weight_out[e] + experts.bias_out[e]
        for e in range(3)
    ]
    torch.testing.assert_close(experts(x), torch.stack(looped, dim=1))


def test_experts_start_different_from_each_other():
    out = MLPExperts(4, 6, 8, 5)(torch.randn(3, 6))
    assert all((out[:, a] - out[:, b]).abs().max() > 1e-3 for a in range(4) for b in range(a))


def test_gate_weights_are_a_distribution_and_start_uniform():
    gate = DenseGate(5, 3)
    x = torch.randn(10, 5)
    torch.testing.assert_close(gate(x), torch.full((10, 3), 1 / 3))
    torch.nn.init.normal_(gate.logits.weight)
    weights = gate(x)
    torch.testing.assert_close(weights.sum(1), torch.ones(10))
    assert (weights > 0).all()


def test_a_lower_temperature_is_sharper():
    warm, cold = DenseGate(5, 3, temperature=1.0), DenseGate(5, 3, temperature=0.1)
    torch.nn.init.normal_(warm.logits.weight)
    cold.load_state_dict(warm.state_dict())
    x = torch.randn(50, 5)
    assert utilisation(cold(x)).entropy < utilisation(warm(x)).entropy


def test_utilisation_of_known_weights():
    use = utilisation(torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    assert use.mean_weight == pytest.approx([0.75, 0.25, 0.0])
    assert use.load == pytest.approx([1.0, 0.0, 0.0])
    assert use.entropy == pytest.approx(math.log(2) / 2)
    assert use.max_over_mean_load == pytest.approx(3.0)
    assert use.dead == 1


def test_fusion_learns_what_a_sum_cannot():
    """The target is one input or the other, depending on a third: a gate and experts fit it, a sum does not."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 3, 4)
    target = torch.where(inputs[:, 2, :1] > 0, inputs[:, 0], inputs[:, 1])
    fusion = MixtureFusion(inputs=3, width=4, experts=3, hidden=32, dropout=0.0, temperature=1.0)
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.mse_loss(fusion(inputs), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25 * F.mse_loss(inputs.sum(1), target).item()
    assert fusion.gate_weights(inputs).std(0).max() > 0.05
