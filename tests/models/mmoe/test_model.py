"""The mixture: equality with a literal loop, export, compile, own experts and gates, what is refused, saving.

Shape letters: B rows, E experts.
"""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from moerec.errors import CheckpointError, ConfigError
from moerec.models.mmoe import ExpertNetwork, GateNetwork, MMoEModel
from moerec.models.mmoe.own_modules import own_experts, own_gates
from moerec.nn.experts import ConvolutionExpertConfig, MLPExpertConfig
from moerec.nn.gates import AttentionGateConfig, TopKGateConfig
from tests.models.mmoe.examples import BatchAttentionGate, SignalExpert, shaken, small


def looped(model: MMoEModel, x: torch.Tensor) -> list[torch.Tensor]:
    """The literal reference: row by row, expert by expert, layer by layer, from the parameters alone."""
    outputs = []
    for gate, tower in zip(model.gates, model.towers, strict=True):
        rows = []
        for row in x:
            experts = []
            for e in range(model.config.num_experts):
                value = row
                for weight, bias in zip(model.experts.weights, model.experts.biases, strict=True):
                    value = torch.relu(value @ weight[e] + bias[e, 0])
                experts.append(value)
            logits = row
            for layer in gate.scores:
                logits = torch.relu(logits) if isinstance(layer, nn.ReLU) else layer.weight @ logits + layer.bias
            weights = torch.exp(logits) / torch.exp(logits).sum()
            mixed = sum(weight * expert for weight, expert in zip(weights, experts, strict=True))
            for layer in (*tower.hidden, tower.out):
                if isinstance(layer, nn.Linear):
                    mixed = layer.weight @ mixed + layer.bias
                elif isinstance(layer, nn.GELU):
                    mixed = F.gelu(mixed)
            rows.append(mixed)
        outputs.append(torch.stack(rows))
    return outputs


@pytest.mark.parametrize(
    "fields", [{}, {"gate_hidden_dims": [7], "num_experts": 5}, {"task_output_dims": [1, 3], "tower_hidden_dims": []}]
)
def test_it_equals_a_literal_loop(fields):
    model, x = small(**fields), torch.randn(9, 10)
    for ours, expected in zip(model(x), looped(model, x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_weights_are_those_that_mixed_the_experts():
    model, x = small(), torch.randn(9, 10)
    predictions, weights = model(x, return_expert_weights=True)
    torch.testing.assert_close(predictions, model(x), rtol=0, atol=0)
    for tower, weight, prediction in zip(model.towers, weights, predictions, strict=True):
        torch.testing.assert_close(tower(torch.einsum("be,bed->bd", weight, model.experts(x))), prediction)


def every_form() -> dict[str, MMoEModel]:
    gate = AttentionGateConfig().build(10, 3)
    return {
        "plain": small(gate_hidden_dims=[6]),
        "configured": small(experts=ConvolutionExpertConfig(channels=4, width=6), gates=TopKGateConfig(k=2)),
        "own": small(experts=[nn.Linear(10, 6), ExpertNetwork(10, [6]), nn.Linear(10, 6)], gates=[gate, gate]),
    }


@pytest.mark.parametrize("form", every_form())
def test_export_gives_the_same_for_any_number_of_rows(form):
    model, rows = every_form()[form], torch.export.Dim("rows", min=2, max=4096)
    exported = torch.export.export(model, (torch.randn(8, 10),), dynamic_shapes=({0: rows},)).module()
    x = torch.randn(33, 10)
    torch.testing.assert_close(exported(x), model(x), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["plain", "configured", "own"])
def test_compiled_it_computes_and_learns_the_same(form):
    model, x = every_form()[form].eval(), torch.randn(16, 10)
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x), atol=1e-5, rtol=1e-5)
    gradients = []
    for module in (compiled, model):
        model.zero_grad()
        sum(prediction.square().sum() for prediction in module(x)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_the_guides_own_expert_and_gate_work_inside():
    def expert():
        return nn.Sequential(nn.Unflatten(1, (2, 8)), SignalExpert(2, 5))

    with pytest.warns(UserWarning, match=r"gates\[.\] lets the rows of a batch see each other"):
        model = MMoEModel(16, experts=[expert() for _ in range(3)], gates=[BatchAttentionGate(16, 3) for _ in range(2)])
    predictions, weights = model(torch.randn(6, 16), return_expert_weights=True)
    sum(prediction.sum() for prediction in predictions).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    torch.testing.assert_close(weights[0].sum(1), torch.ones(6))


def test_modules_are_tried_without_a_trace():
    """No warning for what is right; no random number drawn, no statistics moved, no mode changed."""
    gates = [GateNetwork(16, 3), AttentionGateConfig(k=2).build(16, 3)]
    experts = [nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)) for _ in range(3)]
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own_experts(experts, 16, 3)
        own_gates(gates, 16, 2, 3)
    assert torch.equal(before, torch.get_rng_state())
    assert all(int(expert[1].num_batches_tracked) == 0 and expert.training for expert in experts)
    model = shaken(MMoEModel(16, experts=experts, gates=gates))
    rows = torch.randn(6, 16)
    torch.testing.assert_close([prediction[:1] for prediction in model(rows)], model(rows[:1]))


def test_balance_shared_layers_and_selection_come_with_configurations():
    kept = TopKGateConfig(k=2, temperature=0.5, expert_dropout=0.2, balance={"kind": "auxiliary"})
    model = small(num_experts=4, experts=MLPExpertConfig(shared_hidden=(9,), hidden=()), gates=kept).train()
    predictions, gatings = model.forward_with_gates(torch.randn(50, 10))
    assert all(((gating.weights > 0).sum(1) == 2).all() for gating in gatings)
    assert all(gating.balance_loss > 0 for gating in gatings)
    sum(gating.balance_loss for gating in gatings).backward()
    assert all(parameter.grad.any() for gate in model.gates for parameter in gate.parameters())
    assert len(predictions) == 2


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_experts": 0}, r"MMoEModel.num_experts: Input should be greater than 0, got 0"),
        ({"expert_hidden_dims": []}, r"MMoEModel.expert_hidden_dims: .* at least 1 item"),
        ({"dropout_rate": 1.0}, r"MMoEModel.dropout_rate: Input should be less than 1"),
        ({"task_output_dims": [1, 1, 1]}, r"task_output_dims: it has 3 widths, and num_tasks is 2; give num_tasks=3"),
        ({"gates": TopKGateConfig(k=4)}, r"gate.k: 4, but there are only 3 experts"),
        ({"experts": [nn.Linear(10, 4)]}, r"experts: they are 1, and num_experts is 3; give num_experts=1"),
        ({"experts": [nn.Linear(10, w) for w in (4, 4, 3)]}, r"experts\[2\]: its output is 3 wide, that of .* 4;"),
        ({"experts": [SignalExpert(1, 4)] * 3}, r"experts\[0\]: it cannot read rows \[3, 10\] .*nn.Unflatten"),
        ({"experts": [nn.Unflatten(1, (2, 5))] * 3}, r"experts\[0\]: it gives \[3, 2, 5\] for 3 rows"),
        (
            {"gates": [nn.Linear(10, 3)] * 2},
            r"gates\[0\]: its weights are no shares that sum to 1; end it with softmax",
        ),
        ({"gates": [GateNetwork(10, 4)] * 2}, r"gates\[0\]: it gives \[3, 4\] for 3 rows, not .* \[3, 3\]"),
        ({"gates": [GateNetwork(10, 3)]}, r"gates: they are 1, and num_tasks is 2; give num_tasks=1"),
    ],
)
def test_what_does_not_fit_is_told_when_the_model_is_made(fields, says):
    with pytest.raises(ConfigError, match=says) as caught:
        MMoEModel(10, **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", every_form())
def test_saved_and_loaded_it_predicts_the_same(form, tmp_path):
    model, x = every_form()[form], torch.randn(9, 10)
    model.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"config.json", "model.safetensors"}
    fresh = {}
    if form == "own":
        gate = AttentionGateConfig().build(10, 3)
        fresh = {"experts": [nn.Linear(10, 6), ExpertNetwork(10, [6]), nn.Linear(10, 6)], "gates": [gate, gate]}
    loaded = MMoEModel.from_pretrained(tmp_path / "model", **fresh)
    assert loaded.config == model.config
    assert not loaded.training
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    with pytest.raises(
        CheckpointError, match="saved with own experts; give experts=" if fresh else "leave experts= out"
    ):
        MMoEModel.from_pretrained(tmp_path / "model", experts=None if fresh else [nn.Linear(10, 6)] * 3)


def test_a_saved_model_whose_kind_of_expert_cannot_be_imported(tmp_path):
    small(experts=MLPExpertConfig(width=5)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"kind": "mlp"', '"kind": "gone:OwnConfig"'))
    with pytest.raises(CheckpointError, match=rf"{tmp_path}: experts.kind: 'gone:OwnConfig' cannot be imported"):
        MMoEModel.from_pretrained(tmp_path)
