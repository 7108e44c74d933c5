"""Layers of experts: the same numbers, gradients and draws as the plain formulation."""

import pytest
import torch
from torch.nn import functional as F

from moerec.nn.dropout import Dropout
from moerec.nn.expert_layers import linear_layer, relu_layer
from moerec.nn.experts import MLPExperts, mix, mix_all

INPUTS = pytest.mark.parametrize("own_inputs", [False, True])


def layer(own_inputs: bool, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Rows, weight and bias: 3 experts, 6 rows, 5 inputs, 4 outputs."""
    torch.manual_seed(0)
    shapes = [(3, 6, 5) if own_inputs else (6, 5), (3, 5, 4), (3, 1, 4)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def plain_linear(x, weight, bias):
    return torch.einsum("eni,eih->enh" if x.dim() == 3 else "ni,eih->enh", x, weight) + bias


def plain_relu(x, weight, bias, dropout):
    return dropout(F.relu(plain_linear(x, weight, bias)))


def check_same(ours, expected, tensors):
    """Equal values, and equal gradients of a loss that looks at each of them."""
    torch.testing.assert_close(ours, expected)
    towards = torch.randn_like(expected)
    found = [torch.autograd.grad(output, tensors, towards) for output in (ours, expected)]
    torch.testing.assert_close(found[0], found[1])


@INPUTS
def test_linear_layer_equals_the_plain_one(own_inputs):
    tensors = layer(own_inputs)
    check_same(linear_layer(*tensors), plain_linear(*tensors), tensors)


@INPUTS
@pytest.mark.parametrize("dropout", [Dropout(0.0), Dropout(0.5), Dropout(0.1), Dropout(0.5).eval()])
def test_relu_layer_equals_the_plain_one_with_the_same_draws(own_inputs, dropout):
    tensors, outputs = layer(own_inputs), []
    for function in (relu_layer, plain_relu):
        torch.manual_seed(1)
        outputs.append(function(*tensors, dropout))
    assert (outputs[0] > 0).any()
    check_same(*outputs, tensors)


@INPUTS
def test_gradients_and_their_gradients_are_those_of_the_function(own_inputs):
    tensors = layer(own_inputs, torch.float64)

    def dropped(*tensors: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        return relu_layer(*tensors, Dropout(0.3))

    for function in (linear_layer, dropped):
        assert torch.autograd.gradcheck(function, tensors)
        assert torch.autograd.gradgradcheck(function, tensors)


@INPUTS
def test_rows_and_parameters_without_gradients(own_inputs):
    x, weight, bias = layer(own_inputs)
    for inputs in ((x.detach(), weight, bias), (x, weight.detach(), bias.detach())):
        trained = [tensor for tensor in inputs if tensor.requires_grad]
        check_same(relu_layer(*inputs, Dropout(0.0)), plain_relu(*inputs, Dropout(0.0)), trained)
        check_same(linear_layer(*inputs), plain_linear(*inputs), trained)
    with torch.no_grad():
        torch.testing.assert_close(linear_layer(x, weight, bias), plain_linear(x, weight, bias))


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_mixed_precision_trains(activation):
    experts, x = MLPExperts(3, 5, (8,), 4, 0.1, activation, activate_output=True), torch.randn(6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        output = experts(x)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(tensor.grad.dtype == torch.float32 for tensor in (x, *experts.parameters()))


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_relu_experts_equal_those_made_of_plain_layers(share):
    torch.manual_seed(0)
    experts = MLPExperts(3, 5, (8, 7), 4, share, "relu", activate_output=True)
    x, outputs = torch.randn(6, 5, requires_grad=True), []
    torch.manual_seed(1)
    outputs.append(experts(x))
    torch.manual_seed(1)
    expected = x
    for weight, bias in zip(experts.weights, experts.biases, strict=True):
        expected = plain_relu(expected, weight, bias, experts.dropout)
    check_same(outputs[0], expected.transpose(0, 1), [x, *experts.parameters()])


@pytest.mark.parametrize("tasks", [1, 2, 5])
def test_mixing_for_all_tasks_is_mixing_for_each(tasks):
    torch.manual_seed(0)
    outputs = torch.randn(3, 6, 4, requires_grad=True)
    weights = [torch.rand(6, 3, requires_grad=True) for _ in range(tasks)]
    ours = torch.stack(mix_all(weights, outputs.transpose(0, 1)))
    expected = torch.stack([mix(of_task, outputs.transpose(0, 1)) for of_task in weights])
    check_same(ours, expected, [outputs, *weights])
    in_64_bits = mix_all([of_task.double() for of_task in weights], outputs.transpose(0, 1))
    torch.testing.assert_close(torch.stack(in_64_bits), expected.double())
