"""Fusions: each equals a loop over rows, and what a gate and experts add to a sum.

Shape letters: N rows, F inputs, D width.
"""

import pytest
import torch
from torch.nn import functional as F

from moerec.nn.fusion import ConcatFusion, Fusion, GatedFusion, MixtureFusion, SENetFusion
from moerec.nn.gates import DenseGateConfig, TopKGateConfig

N, INPUTS, WIDTH = 9, 3, 4
OF_INPUTS = {
    "concat": lambda: ConcatFusion(INPUTS, WIDTH),
    "senet": lambda: SENetFusion(INPUTS, 5),
    "sigmoid": lambda: GatedFusion(INPUTS, WIDTH, "sigmoid"),
    "softmax": lambda: GatedFusion(INPUTS, WIDTH, "softmax"),
}


def shaken(fusion: Fusion) -> Fusion:
    """Away from what it starts as."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in fusion.parameters():
            parameter.add_(torch.randn_like(parameter))
    return fusion.eval()


@pytest.mark.parametrize("name", OF_INPUTS)
def test_it_starts_as_the_sum_and_can_leave_it(name):
    torch.manual_seed(0)
    inputs = torch.randn(N, INPUTS, WIDTH)
    torch.testing.assert_close(OF_INPUTS[name]()(inputs), inputs.sum(1))
    assert (shaken(OF_INPUTS[name]())(inputs) - inputs.sum(1)).abs().amax(1).min() > 1e-2


@pytest.mark.parametrize("name", OF_INPUTS)
def test_every_parameter_learns(name):
    """Layers that start at 0 give the layers below their gradient from the second step on."""
    torch.manual_seed(0)
    fusion, inputs, target = OF_INPUTS[name](), torch.randn(64, INPUTS, WIDTH), torch.randn(64, WIDTH)
    before = {key: value.clone() for key, value in fusion.named_parameters()}
    optimizer = torch.optim.SGD(fusion.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(fusion(inputs), target).backward()
        optimizer.step()
    assert not [key for key, value in fusion.named_parameters() if torch.equal(value, before[key])]


def test_concat_equals_a_matrix_for_each_input():
    fusion, inputs = shaken(OF_INPUTS["concat"]()), torch.randn(N, INPUTS, WIDTH)
    weight, bias = fusion.out.weight, fusion.out.bias
    for row, vector in zip(inputs, fusion(inputs), strict=True):
        parts = [weight[:, WIDTH * place : WIDTH * (place + 1)] @ row[place] for place in range(INPUTS)]
        torch.testing.assert_close(vector, sum(parts) + bias)


def test_senet_equals_a_loop_over_rows():
    fusion, inputs = shaken(OF_INPUTS["senet"]()), torch.randn(N, INPUTS, WIDTH)
    for row, vector, weights in zip(inputs, fusion(inputs), fusion.input_weights(inputs), strict=True):
        squeezed = torch.stack([part.mean() for part in row])
        hidden = (fusion.hidden.weight @ squeezed + fusion.hidden.bias).clamp(min=0)
        expected = 2 / (1 + torch.exp(-(fusion.out.weight @ hidden + fusion.out.bias)))
        torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(vector, sum(w * part for w, part in zip(expected, row, strict=True)))


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_gated_equals_a_loop_over_rows(activation):
    fusion, inputs = shaken(OF_INPUTS[activation]()), torch.randn(N, INPUTS, WIDTH)
    for row, vector, weights in zip(inputs, fusion(inputs), fusion.input_weights(inputs), strict=True):
        logits = fusion.logits.weight @ fusion.norm(row.flatten()) + fusion.logits.bias
        expected = 2 / (1 + torch.exp(-logits)) if activation == "sigmoid" else 3 * logits.exp() / logits.exp().sum()
        torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(vector, sum(w * part for w, part in zip(expected, row, strict=True)))


def test_a_mixture_that_keeps_k_equals_a_loop_over_the_kept_experts():
    fusion = shaken(MixtureFusion(INPUTS, WIDTH, experts=5, hidden=6, dropout=0.0, gate=TopKGateConfig(k=2)))
    inputs = torch.randn(N, INPUTS, WIDTH)
    vectors, gating = fusion.forward_with_gate(inputs)
    outputs = fusion.experts(fusion.norm(inputs.flatten(1)))  # [N, E, D]
    assert ((gating.weights > 0).sum(1) == 2).all()
    for row in range(N):
        kept = gating.weights[row].nonzero().flatten()
        mixed = sum(gating.weights[row, expert] * outputs[row, expert] for expert in kept)
        torch.testing.assert_close(vectors[row], inputs[row].sum(0) + mixed)
    torch.testing.assert_close(fusion.expert_weights(inputs), gating.weights)


def test_fusion_learns_what_a_sum_cannot():
    """The target is one input or the other, depending on a third: a gate and experts fit it, a sum does not."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 3, 4)
    target = torch.where(inputs[:, 2, :1] > 0, inputs[:, 0], inputs[:, 1])
    fusion = MixtureFusion(inputs=3, width=4, experts=3, hidden=32, dropout=0.0, gate=DenseGateConfig())
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.mse_loss(fusion(inputs), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25 * F.mse_loss(inputs.sum(1), target).item()
    assert fusion.expert_weights(inputs).std(0).max() > 0.05
