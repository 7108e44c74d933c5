"""The joined loss: its formula, its optimum, unknown targets, weights that an optimizer sees, what is refused."""

import warnings

import pytest
import torch
from torch import nn, optim
from torch.nn import functional as F

from moerec.errors import ConfigError, DatasetError
from moerec.models.mmoe import MultiTaskLoss
from tests.models.mmoe.examples import TASKS, planted, small


def test_the_loss_is_that_of_the_formula():
    torch.manual_seed(0)
    criterion = MultiTaskLoss(3, ["classification", "regression", "classification"])
    with torch.no_grad():
        criterion.log_vars.copy_(torch.tensor([0.3, -0.5, 1.0]))
    yes, number, choice = torch.randn(6, 1), torch.randn(6, 1), torch.randn(6, 4)
    labels, numbers, classes = torch.tensor([0.0, 1, 1, 0, 1, 0]), torch.randn(6), torch.tensor([0, 1, 2, 3, 0, 1])
    s = criterion.log_vars.detach()
    p = torch.sigmoid(yes[:, 0])
    cross = -(labels * p.log() + (1 - labels) * (1 - p).log()).mean()
    square = (number[:, 0] - numbers).square().mean()
    several = -torch.log_softmax(choice, 1)[range(6), classes].mean()
    expected = (
        torch.exp(-s[0]) * cross
        + torch.exp(-s[1]) * square / 2
        + torch.exp(-s[2]) * several
        + s.sum() / 2
    )  # fmt: skip
    predictions = [yes, number, choice]
    for targets in (
        [labels, numbers, classes],
        [labels.long(), numbers[:, None], classes.float()],
        {"task_0": labels, "task_1": numbers, "task_2": classes},
        torch.stack([labels, numbers, classes.float()], dim=1),
    ):
        torch.testing.assert_close(criterion(predictions, targets), expected)
    named = MultiTaskLoss(2, {"like": "classification", "stars": "regression"})
    mixed_up = {"stars": numbers, "like": labels}
    torch.testing.assert_close(named([yes, number], mixed_up), cross + square / 2)


def test_the_weights_reach_the_analytic_optimum_of_constant_losses():
    criterion = MultiTaskLoss(2, TASKS)
    optimizer = optim.Adam(criterion.parameters(), lr=0.05)
    losses = torch.tensor([0.4, 9.0])
    for _ in range(400):
        optimizer.zero_grad()
        criterion.combine(losses).backward()
        optimizer.step()
    # d/ds (exp(-s) L + s / 2) = 0 at s = log 2L; d/ds (exp(-s) L / 2 + s / 2) = 0 at s = log L.
    torch.testing.assert_close(criterion.log_vars.detach(), torch.log(torch.tensor([2 * 0.4, 9.0])), atol=1e-3, rtol=0)
    assert criterion.weights == pytest.approx({"task_0": 1 / 0.8, "task_1": 0.5 / 9}, rel=1e-2)


def test_unknown_targets_count_nowhere():
    model, criterion, (x, targets) = small(input_dim=8), MultiTaskLoss(2, TASKS), planted(40)
    known = ~targets.isnan()
    expected = [
        F.binary_cross_entropy_with_logits(model(x)[0][known[:, 0], 0], targets[known[:, 0], 0]),
        F.mse_loss(model(x)[1][known[:, 1], 0], targets[known[:, 1], 1]),
    ]
    torch.testing.assert_close(criterion.task_losses(model(x), targets)[0], torch.stack(expected))
    # A prediction that is not finite does no harm where nothing is known.
    predictions = [prediction.detach().clone().requires_grad_() for prediction in model(x)]
    with torch.no_grad():
        predictions[1][~known[:, 1]] = torch.inf
    criterion(predictions, targets).backward()
    assert all(torch.isfinite(prediction.grad).all() for prediction in predictions)
    assert not predictions[1].grad[~known[:, 1]].any()


@pytest.mark.parametrize("targets", [torch.full((5,), torch.nan), torch.full((5,), -100)])
def test_a_task_without_any_known_target_moves_neither_model_nor_weight(targets):
    criterion, predictions = MultiTaskLoss(2, TASKS), [torch.randn(5, 1, requires_grad=True) for _ in range(2)]
    loss = criterion(predictions, [targets, torch.zeros(5)])
    loss.backward()
    torch.testing.assert_close(loss, predictions[1].square().mean() / 2)
    assert not predictions[0].grad.any()
    assert criterion.log_vars.grad[0] == 0
    assert criterion.log_vars.grad[1] != 0


@pytest.mark.parametrize("seen", [True, False])
def test_weights_that_no_optimizer_sees_are_told_of(seen):
    model, criterion, (x, targets) = nn.Linear(8, 1), MultiTaskLoss(1, ["regression"]), planted(4)
    groups = criterion.parameter_groups(model)
    assert groups[1] == {"params": [criterion.log_vars], "weight_decay": 0.0}
    optimizer = optim.AdamW(groups if seen else model.parameters(), lr=1e-3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(210):
            criterion([model(x)], targets[:, 1:]).backward()
            optimizer.step()
    told = [str(warning.message) for warning in caught if "have not moved" in str(warning.message)]
    assert len(told) == (not seen)
    assert seen or "make the optimizer with criterion.parameter_groups(model)" in told[0]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MultiTaskLoss(2), r"say it, for instance MultiTaskLoss\(2, \['classification', 'regression'\]\)"),
        (lambda: MultiTaskLoss(3, TASKS), "num_tasks is 3, and 2 kinds of tasks are given"),
        (lambda: MultiTaskLoss(1, ["binary"]), "task_0: unknown kind of task 'binary'; write 'classification' or"),
        (lambda: MultiTaskLoss(2, TASKS)([torch.zeros(3, 1)], torch.zeros(3, 2)), "they are of 1 tasks"),
        (lambda: MultiTaskLoss(2, TASKS)([torch.zeros(3, 1)] * 2, torch.zeros(3, 1)), r"give \[rows, 2\]"),
        (
            lambda: MultiTaskLoss(1, ["regression"])([torch.zeros(3, 2)], [torch.zeros(3)]),
            r"\[3, 2\] and targets \[3\]",
        ),
        (lambda: MultiTaskLoss(1, ["classification"])([torch.zeros(3, 1)], [torch.zeros(4)]), "do not fit"),
        (lambda: MultiTaskLoss(1, {"a": "regression"})([torch.zeros(3)], {"b": torch.zeros(3)}), "there is none of a"),
        (
            lambda: MultiTaskLoss(1, ["classification"])([torch.zeros(3, 1)], [torch.arange(3)]),
            "labels 0 and 1, got nu",
        ),
        (
            lambda: MultiTaskLoss(1, ["classification"])([torch.zeros(3, 2)], [torch.arange(3)]),
            "classes are 0 to 1, got",
        ),
    ],
)
def test_a_loss_that_cannot_be_told_is_refused_with_one_line(make, says):
    with pytest.raises((ConfigError, DatasetError), match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_accumulated_batches_of_one_size_are_one_large_batch():
    model, (x, targets) = small(input_dim=8), planted(64)
    targets = targets.nan_to_num()
    criterion = MultiTaskLoss(2, TASKS)
    gradients = []
    for parts in (1, 4):
        model.zero_grad()
        criterion.zero_grad()
        for inputs, known in zip(x.chunk(parts), targets.chunk(parts), strict=True):
            (criterion(model(inputs), known) / parts).backward()
        gradients.append([p.grad.clone() for p in (*model.parameters(), *criterion.parameters())])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)
