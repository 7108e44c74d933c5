"""MMoE in plain torch as the guide to it uses it: its calls, its way to train, and where its snippets go wrong.

Shape letters: B rows, I input width, E experts, T tasks.
"""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from moerec.models.mmoe import (
    ExpertNetwork,
    GateNetwork,
    MMoEModel,
    MMoERecommendationModel,
    MultiTaskLoss,
    TowerNetwork,
    analyze_expert_weights,
    evaluate_multitask_model,
)
from moerec.nn.gates import AttentionGateConfig
from tests.models.mmoe.examples import TASKS, BatchAttentionGate, planted, shaken, small

# How it is used


def test_the_guides_usage():
    """Positional and keyword arguments, shapes, lists, as the guide has them."""
    model = MMoEModel(
        input_dim=128, num_experts=3, num_tasks=2, expert_hidden_dims=[64, 32], tower_hidden_dims=[32, 16]
    )
    x = torch.randn(32, 128)
    predictions = model(x)
    assert isinstance(predictions, list)
    assert [tuple(p.shape) for p in predictions] == [(32, 1), (32, 1)]
    predictions, weights = model(x, return_expert_weights=True)
    assert [tuple(w.shape) for w in weights] == [(32, 3), (32, 3)]
    assert all(torch.allclose(w.sum(1), torch.ones(32)) for w in weights)

    several = MMoEModel(128, num_tasks=3, gate_hidden_dims=[32], task_output_dims=[1, 5, 2], dropout_rate=0.3)
    assert [p.shape[1] for p in several(x)] == [1, 5, 2]

    recommender = MMoERecommendationModel(
        user_cardinality=100, item_cardinality=500, embedding_dim=64, num_dense_features=8, num_experts=4, num_tasks=2
    )
    users, items, dense = torch.randint(0, 100, (32,)), torch.randint(0, 500, (32,)), torch.randn(32, 8)
    predictions, weights = recommender.eval()(users, items, dense, return_expert_weights=True)
    assert [tuple(p.shape) for p in predictions] == [(32, 1), (32, 1)]
    assert [tuple(w.shape) for w in weights] == [(32, 4), (32, 4)]
    column = recommender(users[:, None], items[:, None], dense)
    torch.testing.assert_close(column, predictions, rtol=0, atol=0)
    assert isinstance(recommender, MMoEModel)


def test_the_blocks_stand_alone():
    x = torch.randn(7, 10)
    assert ExpertNetwork(10, [16, 8])(x).shape == (7, 8)
    assert ExpertNetwork(10).output_width == 64
    assert TowerNetwork(10, [16, 8], output_dim=3)(x).shape == (7, 3)
    assert TowerNetwork(10, [])(x).shape == (7, 1)
    weights = shaken(GateNetwork(10, 4, hidden_dims=[6]))(x)
    assert weights.shape == (7, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(7))


@pytest.mark.slow
def test_the_import_brings_torch_and_nothing_heavy():
    code = (
        "import sys, moerec.models.mmoe\n"
        "print([m for m in ('polars', 'pyarrow', 'pandas', 'scipy', 'sklearn', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# Training


class Half(nn.Module):
    """An expert that reads four of eight inputs."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start, self.network = start, ExpertNetwork(4, [24, 12], dropout_rate=0.0)

    def forward(self, x):
        return self.network(x[:, self.start : self.start + 4])


def trained(model: MMoEModel, epochs: int) -> tuple[MultiTaskLoss, list[float], list[float]]:
    """The guide's practices together: StepLR, clipping, bf16 autocast, accumulation over two batches."""
    loader = DataLoader(TensorDataset(*planted()), batch_size=64, shuffle=True)
    criterion = MultiTaskLoss(2, TASKS)
    optimizer = optim.AdamW(criterion.parameter_groups(model), lr=0.02, weight_decay=0.01)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=4, gamma=0.8)
    losses, rates = [], []
    for _ in range(epochs):
        model.train()
        total = 0.0
        for number, (x, targets) in enumerate(loader):
            with torch.autocast("cpu", torch.bfloat16):
                predictions = model(x)
            assert predictions[0].dtype == torch.bfloat16
            loss = criterion(predictions, targets) / 2
            loss.backward()
            total += float(loss.detach())
            if number % 2:
                norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
                assert torch.isfinite(norm)
                optimizer.step()
                optimizer.zero_grad()
        losses.append(total)
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    return criterion, losses, rates


def test_tasks_that_need_different_experts_end_with_different_gates():
    torch.manual_seed(0)
    model = MMoEModel(8, num_experts=2, tower_hidden_dims=[8], experts=[Half(0), Half(4)], dropout_rate=0.0)
    loader = DataLoader(TensorDataset(*planted()), batch_size=100)
    before = analyze_expert_weights(model, loader)
    assert before[0].mean_weight == pytest.approx([0.5, 0.5])
    criterion, losses, rates = trained(model, epochs=12)
    assert rates == pytest.approx([0.02 * 0.8 ** (epoch // 4) for epoch in range(12)])
    assert losses[-1] < losses[0] - 4
    assert criterion.log_vars.max() < -0.2, "as the losses fell, both weights rose"
    after = analyze_expert_weights(model, loader)
    assert after[0].mean_weight[0] > 0.65
    assert after[1].mean_weight[1] > 0.65
    assert after[0].entropy < before[0].entropy - 0.1
    metrics = evaluate_multitask_model(model, loader, TASKS)
    assert metrics["task_0_auc"] > 0.9
    assert metrics["task_1_rmse"] < 0.7 * float(planted()[1][:, 1].nan_to_num().std())


# The guide's snippets that go wrong, and what is right


def guide_joins_weights(model, batches):
    """Mean weight of each expert as the guide's analysis makes it: batches stand where tasks should."""
    said = [model(x, return_expert_weights=True)[1] for x in batches]
    return [torch.cat(weights).mean(0) for weights in said]


def guide_keeps_the_last(model, batches):
    """Accuracy as the guide's evaluation makes it: each batch overwrites the one before."""
    kept = {}
    for x, target in batches:
        kept["task_0_acc"] = float(((model(x)[0][:, 0] >= 0) == (target[:, 0] == 1)).float().mean())
    return kept


def guide_compares_all_with_all(prediction, target):
    return (prediction - target).square().mean()


def guide_weighs(losses, log_vars):
    return (torch.exp(-log_vars) * losses + log_vars).sum()


def wrong_and_right_analysis():
    model, batches = small(), list(torch.randn(30, 10).split(10))
    ours = analyze_expert_weights(model, batches)
    by_task = [torch.cat([model(x, return_expert_weights=True)[1][task] for x in batches]).mean(0) for task in (0, 1)]
    return guide_joins_weights(model, batches), [torch.tensor(use.mean_weight) for use in ours], by_task


def wrong_and_right_metrics():
    x, targets = planted(100)
    model, targets = small(input_dim=8), targets.nan_to_num()
    batches = list(zip(x.split(64), targets.split(64), strict=True))
    ours = evaluate_multitask_model(model, batches, TASKS)["task_0_acc"]
    everything = float(((model(x)[0][:, 0] >= 0) == (targets[:, 0] == 1)).double().mean())
    return guide_keeps_the_last(model, batches)["task_0_acc"], ours, everything


def wrong_and_right_shapes():
    prediction, target = torch.randn(8, 1), torch.randn(8)
    ours = MultiTaskLoss(1, ["regression"]).task_losses([prediction], [target])[0][0]
    return guide_compares_all_with_all(prediction, target), ours, (prediction[:, 0] - target).square().mean()


def wrong_and_right_weights():
    """The loss of two labels as independent likelihoods, a normal one and a softmax with a temperature."""
    losses, s = torch.tensor([0.4, 9.0]), torch.tensor([0.2, 1.5])
    criterion = MultiTaskLoss(2, TASKS)
    with torch.no_grad():
        criterion.log_vars.copy_(s)
    normal = torch.distributions.Normal(0.0, torch.exp(s[1] / 2))
    # Without the constant log(2 pi) / 2, which no weight changes.
    likelihood = -normal.log_prob(torch.tensor(3.0)) - np.log(2 * np.pi) / 2
    return guide_weighs(losses, s), criterion.combine(losses), 0.4 * torch.exp(-s[0]) + s[0] / 2 + likelihood


@pytest.mark.parametrize(
    "both", [wrong_and_right_analysis, wrong_and_right_metrics, wrong_and_right_shapes, wrong_and_right_weights]
)
def test_where_the_guide_goes_wrong_this_is_right(both):
    wrong, ours, right = both()
    torch.testing.assert_close(ours, right, check_dtype=False)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(wrong, right, check_dtype=False)


def test_the_guides_attention_gate_mixes_users_and_ours_does_not():
    torch.manual_seed(0)
    x = torch.randn(6, 16)
    theirs, ours = BatchAttentionGate(16, 3).eval(), shaken(AttentionGateConfig().build(16, 3))
    assert not torch.allclose(theirs(x)[:1], theirs(x[:1]), atol=1e-3)
    torch.testing.assert_close(ours(x).weights[:1], ours(x[:1]).weights)
