"""Losses of several tasks: equal to a loop over rows, blind to masked rows, on one scale."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.batches.examples import ExampleBatch
from moerec.losses.multitask import task_losses, weighted_total
from moerec.tasks import TaskConfig, TaskStatistics

TASKS = (
    TaskConfig(name="like", label="like", weight=2.0),
    TaskConfig(name="rating", label="rating", type="regression", weight=0.5),
    TaskConfig(name="hours", label="hours", type="regression", loss="huber"),
    TaskConfig(name="device", label="device", type="multiclass", values=[1, 2, 3, 4]),
    TaskConfig(name="stars", label="stars", type="ordinal", values=[1, 2, 3, 4]),
)
STATISTICS = {
    "like": TaskStatistics(0.5, 0.5),
    "rating": TaskStatistics(3.0, 2.0),
    "hours": TaskStatistics(9.0, 4.0),
    "device": TaskStatistics(2.0, 1.0, (0.25,) * 4),
    "stars": TaskStatistics(2.0, 1.0, (0.25,) * 4),
}


def batch(seed: int, rows: int = 12, share: float = 0.6) -> tuple[dict[str, torch.Tensor], ExampleBatch]:
    generator = torch.Generator().manual_seed(seed)
    masks = {task.name: torch.rand(rows, generator=generator) < share for task in TASKS}
    labels = {
        task.name: torch.randint(0, task.num_classes or 2, (rows,), generator=generator).float() for task in TASKS
    }
    labels = {name: torch.where(masks[name], values, 0.0) for name, values in labels.items()}
    outputs = {}
    for task in TASKS:
        outputs[task.name] = 3 * torch.randn(rows, max(task.num_classes, 1), generator=generator)
        if task.type == "ordinal":
            outputs[task.name] = outputs[task.name][:, 1:].sort(dim=1, descending=True).values
        elif not task.num_classes:
            outputs[task.name] = outputs[task.name].squeeze(1)
        outputs[task.name].requires_grad_()
    return outputs, ExampleBatch({"x": torch.zeros(rows)}, labels=labels, masks=masks)


def loss_of_row(task: TaskConfig, output, label: float) -> float:
    if task.type == "multiclass":
        return math.log(sum(math.exp(logit - output[int(label)]) for logit in output))
    if task.type == "ordinal":
        above = [1.0, *(1 / (1 + math.exp(-logit)) for logit in output), 0.0]
        return -math.log(above[int(label)] - above[int(label) + 1])
    if task.type == "binary":
        probability = 1 / (1 + math.exp(-output))
        return -math.log(probability if label else 1 - probability)
    error = abs(output - label) / STATISTICS[task.name].deviation
    if task.loss == "huber" and error > 1:
        return error - 0.5
    return error**2 / (2 if task.loss == "huber" else 1)


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=20)
def test_equal_to_a_loop_over_the_rows_that_count(seed, share):
    outputs, examples = batch(seed, share=share)
    losses = task_losses(outputs, examples, TASKS, STATISTICS)
    for task in TASKS:
        rows = zip(outputs[task.name].tolist(), examples.labels[task.name], examples.masks[task.name], strict=True)
        expected = sum(loss_of_row(task, output, float(label)) for output, label, counts in rows if counts)
        assert float(losses[task.name].detach()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    total = weighted_total(losses, TASKS)
    rest = losses["hours"] + losses["device"] + losses["stars"]
    torch.testing.assert_close(total, 2 * losses["like"] + 0.5 * losses["rating"] + rest)


def rows_of(mask: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The mask in the shape of an output."""
    return mask.reshape(-1, *(1 for _ in output.shape[1:])).expand_as(output)


@pytest.mark.parametrize("junk", [0.0, 1e30, float("inf"), float("nan")])
def test_a_masked_row_gives_exactly_no_gradient(junk):
    outputs, examples = batch(0)
    outputs = {
        name: torch.where(rows_of(examples.masks[name], output), output, junk).detach().requires_grad_()
        for name, output in outputs.items()
    }
    weighted_total(task_losses(outputs, examples, TASKS, STATISTICS), TASKS).backward()
    for name, output in outputs.items():
        assert torch.count_nonzero(output.grad[~examples.masks[name]]) == 0
        assert (output.grad[examples.masks[name]].reshape(int(examples.masks[name].sum()), -1) != 0).any(1).all()


def test_a_task_without_any_label_is_zero_and_finite():
    outputs, examples = batch(0, share=0.0)
    losses = task_losses(outputs, examples, TASKS, STATISTICS)
    assert all(float(loss.detach()) == 0 for loss in losses.values())
    weighted_total(losses, TASKS).backward()
    assert all(torch.count_nonzero(output.grad) == 0 for output in outputs.values())


@pytest.mark.parametrize("name", ["device", "stars"])
def test_predicting_the_train_shares_costs_their_entropy(name):
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4])
    labels = torch.arange(4.0).repeat_interleave((1000 * shares).int())
    above = 1 - shares.cumsum(0)[:-1]
    output = torch.log(shares) if name == "device" else torch.logit(above)
    examples = ExampleBatch({"x": labels}, labels={name: labels}, masks={name: torch.ones(1000, dtype=torch.bool)})
    task = [task for task in TASKS if task.name == name]
    loss = task_losses({name: output.expand(1000, -1)}, examples, task, STATISTICS)[name]
    assert float(loss) / 1000 == pytest.approx(float(torch.special.entr(shares).sum()), rel=1e-5)


def test_predicting_the_mean_costs_one_for_a_row_whatever_the_unit():
    generator = torch.Generator().manual_seed(0)
    for unit in (1e-3, 1.0, 1e4):
        labels = unit * (5 + torch.randn(1000, generator=generator))
        statistics = {"rating": TaskStatistics(float(labels.mean()), float(labels.std(correction=0)))}
        examples = ExampleBatch(
            {"x": labels}, labels={"rating": labels}, masks={"rating": torch.ones(1000, dtype=torch.bool)}
        )
        output = {"rating": torch.full((1000,), statistics["rating"].mean)}
        loss = task_losses(output, examples, TASKS[1:2], statistics)["rating"]
        assert float(loss) / 1000 == pytest.approx(1, rel=1e-3)
