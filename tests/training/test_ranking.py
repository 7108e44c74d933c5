"""The ranking objective: which rows come, in which order, and what they cost."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from moerec.models.rankers.shared_bottom import SharedBottomConfig
from moerec.tasks import TaskConfig
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import SCHEMA, TASKS, example_table, labels_of, statistics_of

STAGE = RankerStageConfig(epochs=1, batch_size=16)


def make(tasks: tuple[TaskConfig, ...] = TASKS, rows: np.ndarray | None = None, seed: int = 3) -> RankingObjective:
    torch.manual_seed(0)
    table = example_table(150)
    model = SharedBottomConfig(width=4, hidden=(8,)).build(SCHEMA, tasks, statistics_of(table, tasks)).eval()
    return RankingObjective(model, table, np.arange(150) if rows is None else rows, labels_of(table, tasks), seed)


def rows_of(objective: RankingObjective, batches) -> list[int]:
    """The rows of the table, known by their price."""
    prices = objective.table.columns["price"]
    return [int(np.flatnonzero(prices == price)[0]) for batch in batches for price in batch.columns["price"].numpy()]


def test_every_train_row_that_counts_comes_once_an_epoch():
    chosen = np.arange(0, 150, 2)
    objective = make(rows=chosen)
    counts = np.any([target.mask for target in objective.labels.values()], axis=0)
    batches = list(objective.epoch(STAGE, 0, 0))
    assert sorted(rows_of(objective, batches)) == [row for row in chosen if counts[row]]
    assert 0 < counts[chosen].sum() < len(chosen)
    assert len(batches) == objective.batches_per_epoch(STAGE, 0)
    assert [len(batch) for batch in batches[:-1]] == [16] * (len(batches) - 1)
    assert sum(map(objective.targets, batches)) == counts[chosen].sum()


def test_a_task_of_weight_0_brings_no_rows():
    both = (TASKS[0], TASKS[2].model_copy(update={"weight": 0.0}))
    objective = make(both)
    assert set(rows_of(objective, objective.epoch(STAGE, 0, 0))) == set(np.flatnonzero(objective.labels["like"].mask))


def test_the_order_is_a_function_of_seed_and_epoch():
    first = rows_of(make(), make().epoch(STAGE, 0, 0))
    assert rows_of(make(), make().epoch(STAGE, 0, 0)) == first
    assert rows_of(make(), make().epoch(STAGE, 1, 0)) != first
    assert rows_of(make(), make(seed=4).epoch(STAGE, 0, 0)) != first
    assert first != sorted(first)


@pytest.mark.parametrize("start", [1, 4, 99])
def test_a_later_start_goes_on_exactly(start):
    objective = make()
    rest = list(objective.epoch(STAGE, 2, 0))[start:]
    again = list(objective.epoch(STAGE, 2, start))
    assert len(rest) == len(again)
    for one, other in zip(rest, again, strict=True):
        for part in ("columns", "present", "labels", "masks"):
            torch.testing.assert_close(dict(getattr(one, part)), dict(getattr(other, part)), rtol=0, atol=0)


def test_the_loss_is_summed_over_rows_and_weighted_by_tasks():
    objective = make()
    table, statistics = objective.table, statistics_of(example_table(150))
    expected, found = torch.zeros(()), torch.zeros(())
    with torch.no_grad():
        for batch in objective.epoch(STAGE, 0, 0):
            found = found + objective.loss(STAGE, batch)
        outputs = objective.model(table.batch(np.arange(150)))
    for task in TASKS:
        target = objective.labels[task.name]
        output, label = outputs[task.name][target.mask], torch.from_numpy(target.values[target.mask])
        scale = statistics[task.name].deviation
        if task.type == "binary":
            loss = F.binary_cross_entropy_with_logits(output, label, reduction="sum")
        elif task.loss == "huber":
            loss = F.huber_loss(output / scale, label / scale, reduction="sum")
        else:
            loss = F.mse_loss(output, label, reduction="sum") / scale**2
        expected = expected + task.weight * loss
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_batches_of_any_size_cost_the_same():
    objective = make()
    with torch.no_grad():
        totals = [
            sum(float(objective.loss(stage, batch)) for batch in objective.epoch(stage, 0, 0))
            for stage in (RankerStageConfig(epochs=1, batch_size=size) for size in (7, 64, 1000))
        ]
    assert totals[1:] == pytest.approx([totals[0]] * 2, rel=1e-5)
