"""Experts: equality with a loop over single ones, shared layers, own modules.

Shape letters: N rows, E experts.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from moerec.nn.experts import ConvolutionExpertConfig, ExpertList, MLPExpertConfig, MLPExperts, mix


def looped(experts: MLPExperts, x: torch.Tensor, activation, *, activate_output: bool) -> torch.Tensor:
    """The slow, literal reference: one expert after another, one layer after another."""
    outputs = []
    for e in range(len(experts.weights[0])):
        rows = x[e] if x.dim() == 3 else x
        for layer, (weight, bias) in enumerate(zip(experts.weights, experts.biases, strict=True)):
            rows = rows @ weight[e] + bias[e]
            if layer < len(experts.weights) - 1 or activate_output:
                if len(experts.scales):
                    rows = F.layer_norm(rows, rows.shape[1:], experts.scales[layer][e, 0], experts.shifts[layer][e, 0])
                rows = activation(rows)
        outputs.append(rows)
    return torch.stack(outputs, dim=1)


@pytest.mark.parametrize("own_inputs", [False, True])
@pytest.mark.parametrize(
    ("fields", "activation"),
    [
        ({}, F.gelu),
        ({"hidden": (7, 6), "activation": "relu", "activate_output": True}, F.relu),
        ({"hidden": (), "width": 3}, F.gelu),
        ({"hidden": (8,), "normalize": True, "activation": "silu", "activate_output": True}, F.silu),
    ],
)
def test_batched_experts_equal_a_loop_over_single_ones(fields, activation, own_inputs):
    torch.manual_seed(0)
    config = MLPExpertConfig(**fields)
    experts = config.build(3, 5, 0.0)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    x = torch.randn(3, 6, 5) if own_inputs else torch.randn(6, 5)
    expected = looped(experts, x, activation, activate_output=config.activate_output)
    assert expected.shape == (6, 3, config.width)
    torch.testing.assert_close(experts(x), expected)


def test_experts_start_different_from_each_other():
    out = MLPExperts(4, 6, (8,), 5)(torch.randn(3, 6))
    assert all((out[:, a] - out[:, b]).abs().max() > 1e-3 for a in range(4) for b in range(a))


def test_shared_layers_are_one_set_of_parameters_below_all_experts():
    torch.manual_seed(0)
    shared = MLPExpertConfig(shared_hidden=(16, 12), hidden=(8,), activation="relu").build(3, 5, 0.0)
    x = torch.randn(4, 5)
    below = x
    for weight, bias in zip(shared.shared.weights, shared.shared.biases, strict=True):
        below = F.relu(below @ weight[0] + bias[0])
    torch.testing.assert_close(shared(x), shared.own(below))
    for expert in range(3):
        shared.zero_grad()
        shared(x)[:, expert].sum().backward()
        assert shared.shared.weights[0].grad.abs().sum() > 0
        assert [bool(part.abs().sum() > 0) for part in shared.own.weights[0].grad] == [e == expert for e in range(3)]


def test_shared_layers_below_experts_with_inputs_of_their_own():
    """As in the second level of PLE: each expert has its rows, and all of them pass the same layers."""
    torch.manual_seed(0)
    experts = MLPExpertConfig(shared_hidden=(16,), normalize=True, activation="silu").build(3, 5, 0.0)
    assert len(experts.shared.scales) == 1
    rows = torch.randn(3, 4, 5)
    torch.testing.assert_close(experts(rows), torch.stack([experts(rows[e])[:, e] for e in range(3)], dim=1))


def test_any_modules_of_one_output_width_are_experts():
    modules = [nn.Linear(5, 4), nn.Sequential(nn.Linear(5, 9), nn.Tanh(), nn.Linear(9, 4))]
    experts, x = ExpertList(modules, 4), torch.randn(6, 5)
    torch.testing.assert_close(experts(x), torch.stack([module(x) for module in modules], dim=1))
    assert [tuple(p.shape) for p in experts.last_layer()] == [(4, 5), (4, 9)]


@pytest.mark.parametrize("config", [MLPExpertConfig(shared_hidden=(64,), hidden=(64,)), ConvolutionExpertConfig()])
def test_dropout_of_hidden_values_in_training_alone(config):
    torch.manual_seed(0)
    experts, x = config.build(2, 6, 0.5), torch.randn(4, 6)
    assert not torch.allclose(experts.train()(x), experts(x))
    torch.testing.assert_close(experts.eval()(x), experts(x), rtol=0, atol=0)


def test_the_kernel_of_a_convolution_is_how_far_it_looks():
    torch.manual_seed(0)
    for kernel, reach in ((1, 0), (5, 2)):
        convolution = ConvolutionExpertConfig(channels=2, kernel=kernel).build(1, 11, 0.0).experts[0].convolutions[0]
        x = torch.randn(1, 1, 11, requires_grad=True)
        convolution(x)[0, :, 5].sum().backward()
        assert x.grad[0, 0].nonzero().flatten().tolist() == list(range(5 - reach, 6 + reach))


def test_convolution_experts_see_neighbours_and_not_other_rows():
    torch.manual_seed(0)
    experts = ConvolutionExpertConfig(channels=4, layers=2, width=3).build(2, 11, 0.0)
    x = torch.randn(6, 11)
    together = experts(x)
    assert together.shape == (6, 2, 3)
    torch.testing.assert_close(experts(x[2:3])[0], together[2])


def test_mix_is_the_weighted_sum_and_passes_the_gradient():
    weights, outputs = torch.rand(5, 3, requires_grad=True), torch.randn(5, 3, 4, requires_grad=True)
    expected = torch.einsum("ne,ned->nd", weights, outputs)
    torch.testing.assert_close(mix(weights, outputs), expected)
    ours = torch.autograd.grad(mix(weights, outputs).square().sum(), (weights, outputs))
    torch.testing.assert_close(ours, torch.autograd.grad(expected.square().sum(), (weights, outputs)))
