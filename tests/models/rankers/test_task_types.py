"""Every type of task in every registered ranker, alone and with the others; and that planted classes are found."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.examples import ExampleSchema, ExampleTable
from moerec.config import discover, implementations
from moerec.features.spec import FeatureSpec
from moerec.models.predict import predict_rows
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.rankers.saved import load_ranker, save_ranker
from moerec.models.roles import Ranker
from moerec.tasks import TaskConfig
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import (
    OF_EVERY_TYPE,
    SCHEMA,
    batch_of,
    example_table,
    labels_of,
    statistics_of,
)

every_ranker = pytest.mark.parametrize("kind", sorted(set(implementations("ranker")) - {"esmm"}))  # it needs a funnel
every_type = pytest.mark.parametrize(
    "tasks", [*((task,) for task in OF_EVERY_TYPE), OF_EVERY_TYPE], ids=lambda tasks: "-".join(t.type for t in tasks)
)
STAGE = RankerStageConfig(epochs=1, batch_size=64)


def build(kind: str, tasks: tuple[TaskConfig, ...]) -> Ranker:
    torch.manual_seed(0)
    config = discover("ranker", {"kind": kind, "width": 4})
    return config.build(SCHEMA, tasks, statistics_of(example_table(200), tasks))


@every_type
@every_ranker
def test_forward_backward_save_and_load(kind, tasks, tmp_path):
    model, table = build(kind, tasks), example_table(200)
    outputs = model(batch_of(table, tasks=tasks))
    objective = RankingObjective(model, table, np.arange(200), labels_of(table, tasks), seed=0)
    for batch in objective.epoch(STAGE, 0, 0):
        objective.loss(STAGE, batch).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    with torch.no_grad():  # as after a training: nothing is hidden behind a zero
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    save_ranker(tmp_path, model.eval())
    loaded = load_ranker(tmp_path)
    assert (loaded.tasks, loaded.statistics) == (model.tasks, model.statistics)
    predicted = predict_rows(model, table)
    for task in tasks:
        shape = {"multiclass": (200, task.num_classes), "ordinal": (200, task.num_classes - 1)}.get(task.type, (200,))
        assert outputs[task.name].shape == shape
        np.testing.assert_array_equal(predict_rows(loaded, table)[task.name], predicted[task.name])
        if task.num_classes:
            assert predicted[task.name].shape == (200, task.num_classes)
            assert (predicted[task.name] > 0).all()
            np.testing.assert_allclose(predicted[task.name].sum(1), 1, atol=1e-5)
        nobody = predict_rows(model, table, np.zeros(0, np.int64))[task.name]
        assert nobody.shape == (0, *predicted[task.name].shape[1:])


@every_ranker
def test_a_masked_class_gives_no_gradient(kind):
    table, gradients = example_table(64), []
    for value in (0.0, 99.0):
        model = build(kind, OF_EVERY_TYPE).eval()
        objective = RankingObjective(model, table, np.arange(64), labels_of(table, OF_EVERY_TYPE), seed=0)
        batch = batch_of(table, tasks=OF_EVERY_TYPE)
        labels = {name: torch.where(batch.masks[name], known, value) for name, known in batch.labels.items()}
        objective.loss(STAGE, replace(batch, labels=labels)).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


DEVICE = TaskConfig(name="device", label="device", type="multiclass", values=(10, 20, 30))
STARS = TaskConfig(name="stars", label="stars", type="ordinal", values=(1, 2, 3, 4, 5))


def planted(rows: int, seed: int) -> tuple[ExampleTable, np.ndarray, np.ndarray]:
    """`device` is the habit of the user's kind in 80 %; `stars` are a score of number and item, cut at four points.

    Returns:
        the examples; of each row the likeliest device, and the likeliest place of the stars.
    """
    generator = np.random.default_rng(seed)
    users, items = generator.integers(2, 22, rows), generator.integers(2, 32, rows)
    number = generator.normal(size=rows)
    habit = np.array([10.0, 20.0, 30.0])[users % 3]
    others = np.array([10.0, 20.0, 30.0])[generator.integers(0, 3, rows)]
    score, cuts = 3 * number * np.where(items % 2, 1, -1), np.array([-3.0, -1.0, 1.0, 4.0])
    stars = 1 + np.digitize(score + generator.logistic(size=rows), cuts).astype(np.float64)
    above = 1 / (1 + np.exp(cuts - score[:, None]))
    ends = np.ones((rows, 1))
    likeliest = (-np.diff(np.concatenate([ends, above, 0 * ends], axis=1), axis=1)).argmax(1)
    table = ExampleTable(
        schema=ExampleSchema(
            (
                FeatureSpec(name="user", kind="categorical", side="user"),
                FeatureSpec(name="item", kind="categorical"),
                FeatureSpec(name="number", kind="dense"),
            ),
            {"user": 22, "item": 32, "number": 1},
        ),
        users=users,
        items=items,
        timestamps=np.arange(rows),
        negative=np.zeros(rows, np.bool_),
        labels={"device": np.where(generator.random(rows) < 0.7, habit, others), "stars": stars},
        columns={"user": users, "item": items, "number": number.astype(np.float32)},
        present={"number": np.ones(rows, np.bool_)},
    )
    return table, habit, likeliest


def test_a_ranker_is_nearly_as_often_right_as_the_planted_rule():
    (train, *_), (test, habit, likeliest) = planted(6000, 0), planted(1500, 1)
    torch.manual_seed(0)
    tasks = (DEVICE, STARS)
    model = MMoEConfig(width=8, dropout=0.0).build(train.schema, tasks, statistics_of(train, tasks))
    objective = RankingObjective(model, train, np.arange(6000), labels_of(train, tasks), seed=0)
    stage = RankerStageConfig(epochs=1, batch_size=200)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(8):
        for batch in objective.epoch(stage, epoch, 0):
            optimizer.zero_grad()
            (objective.loss(stage, batch) / objective.targets(batch)).backward()
            optimizer.step()
    predicted = predict_rows(model, test)
    said = {task.name: np.array(task.values)[predicted[task.name].argmax(1)] for task in tasks}
    best = {"device": habit, "stars": 1.0 + likeliest}
    for task in tasks:
        right, possible = ((what[task.name] == test.labels[task.name]).mean() for what in (said, best))
        assert right > possible - 0.04
        assert np.unique(test.labels[task.name], return_counts=True)[1].max() / 1500 < possible - 0.2
