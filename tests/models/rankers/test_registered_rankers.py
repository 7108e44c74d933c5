"""One test over every registered ranker: forward, gradients, save, load, export, independence of rows."""

import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.examples import ExampleBatch
from moerec.config import discover, implementation, implementations
from moerec.models.rankers.saved import load_ranker, save_ranker
from moerec.models.roles import Ranker
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig
from moerec.training.balance import free_gates
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import SCHEMA, TASKS, batch_of, example_table, labels_of, statistics_of
from tests.order_of_sums import sums_in_any_order

every_ranker = pytest.mark.parametrize("kind", sorted(implementations("ranker")))


def mixtures() -> list[str]:
    return [
        kind for kind in sorted(implementations("ranker")) if "gate" in implementation("ranker", kind, "").model_fields
    ]


def build(kind: str, tasks: tuple[TaskConfig, ...] = TASKS, **fields) -> Ranker:
    torch.manual_seed(0)
    if kind == "esmm":
        fields = {"click": "like", "purchase": "adore", **fields}
    config = discover("ranker", {"kind": kind, "width": 4, **fields})
    return config.build(SCHEMA, tasks, statistics_of(example_table(200), tasks))


def shaken(model: Ranker) -> Ranker:
    """The model with random parameters everywhere, as after a training: nothing is hidden behind a zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@every_ranker
def test_every_parameter_gets_a_gradient(kind):
    model, table = build(kind), example_table(200)
    objective = RankingObjective(model, table, np.arange(200), labels_of(table), seed=0)
    stage = RankerStageConfig(epochs=1, batch_size=64)
    with sums_in_any_order() as unordered:
        for batch in objective.epoch(stage, 0, 0):
            objective.loss(stage, batch).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent
    assert not unordered
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@every_ranker
def test_one_output_for_each_row_and_task(kind):
    model, batch = shaken(build(kind)), batch_of(example_table(40))
    outputs = model(batch)
    assert list(outputs) == [task.name for task in TASKS]
    assert all(output.shape == (40,) and torch.isfinite(output).all() for output in outputs.values())
    predicted = model.predict(batch)
    assert ((predicted["like"] > 0) & (predicted["like"] < 1)).all()
    torch.testing.assert_close(predicted["type"], outputs["type"])


@every_ranker
def test_saved_and_loaded_model_predicts_the_same(kind, tmp_path):
    model, batch = shaken(build(kind, id_dropout=0.2)), batch_of(example_table(40))
    save_ranker(tmp_path, model)
    loaded = load_ranker(tmp_path)
    assert (loaded.config, loaded.schema, loaded.tasks) == (model.config, model.schema, model.tasks)
    assert loaded.statistics == model.statistics
    assert not loaded.training
    torch.testing.assert_close(loaded.predict(batch), model.predict(batch), rtol=0, atol=0)


@every_ranker
def test_a_row_does_not_depend_on_the_company_in_the_batch(kind):
    model, table = shaken(build(kind)), example_table(40)
    together = model(batch_of(table))
    for row in range(0, 40, 5):
        alone = model(batch_of(table, np.array([row])))
        for name, output in alone.items():
            torch.testing.assert_close(output[0], together[name][row], atol=1e-5, rtol=1e-5)


@every_ranker
def test_export_gives_the_same_outputs(kind):
    check_export(shaken(build(kind, TASKS[:3])))


def check_export(model: Ranker) -> None:
    """torch.export with any number of rows, then the same outputs."""
    table = example_table(40)

    class Plain(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, columns, present):
            return self.model(ExampleBatch(columns, present))

    first, other = batch_of(table, np.arange(8)), batch_of(table, np.arange(8, 40))
    rows = torch.export.Dim("rows", min=2, max=4096)
    shapes = tuple({name: {0: rows} for name in part} for part in (first.columns, first.present))
    exported = torch.export.export(Plain(), (first.columns, first.present), dynamic_shapes=shapes).module()
    out = exported(other.columns, other.present)
    torch.testing.assert_close(out, model(other), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@every_ranker
def test_compiled_it_gives_the_same_outputs_and_gradients_as_one_graph(kind):
    model, batch = shaken(build(kind)), batch_of(example_table(40))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    found = []
    for module in (model, compiled):
        model.zero_grad()
        outputs = module(batch)
        sum(output.square().sum() for output in outputs.values()).backward()
        found.append((outputs, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0], found[1], atol=1e-4, rtol=1e-4)


@every_ranker
def test_gate_weights_are_distributions(kind):
    model, batch = shaken(build(kind)), batch_of(example_table(40))
    for weights in model.gate_weights(batch).values():
        torch.testing.assert_close(weights.sum(1), torch.ones(40))
        assert (weights > 0).all()


@every_ranker
def test_every_gate_of_a_task_names_its_experts(kind):
    model, batch = build(kind), batch_of(example_table(40))
    weights, names = model.gate_weights(batch), model.expert_names()
    assert {gate: len(of_gate) for gate, of_gate in names.items()} == {g: w.shape[1] for g, w in weights.items()}
    assert not weights or {task.name for task in model.tasks} <= weights.keys()


@pytest.mark.parametrize("kind", mixtures())
def test_predictions_keep_nothing_of_what_the_gates_said(kind):
    """The use of experts costs nothing where nobody asks: no gate's weights outlive a forward pass."""
    model, batch = build(kind).eval(), batch_of(example_table(20))
    with torch.no_grad():
        asked = model.forward_with_gates(batch)[1]
        assert len(kept_gatings()) == len(asked) > 0
        del asked
        model(batch)
        model.predict(batch)
    assert not kept_gatings()


def kept_gatings() -> list[Gating]:
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Gating]


@pytest.mark.parametrize("gate", sorted(implementations("gate")))
def test_every_gate_exports(gate):
    model = shaken(build("mmoe", TASKS[:3], gate={"kind": gate}))
    if gate.endswith("top_k"):
        assert all(
            ((weights > 0).sum(1) == 2).all() for weights in model.gate_weights(batch_of(example_table(9))).values()
        )
    check_export(model)


@pytest.mark.parametrize("balance", ["auxiliary", "z_loss", "loss_free"])
@pytest.mark.parametrize("kind", mixtures())
def test_every_model_trains_with_every_balance(kind, balance):
    """The loss, or the load, of each of its gates counts, the loss as a mean over the rows like those of the tasks."""
    table, stage = example_table(64), RankerStageConfig(epochs=1)
    models = [
        build(kind, dropout=0.0, id_dropout=0.0, gate={"kind": "top_k", "balance": {"kind": b}})
        for b in (balance, "none")
    ]
    losses = [
        RankingObjective(model, table, np.arange(64), labels_of(table), seed=0).loss(stage, batch_of(table))
        for model in models
    ]
    if balance != "loss_free":
        gatings = models[0].forward_with_gates(batch_of(table))[1]
        expected = 64 * sum(gating.balance_loss for gating in gatings.values())
        assert expected > 1e-3
        torch.testing.assert_close(losses[0] - losses[1], expected, rtol=1e-3, atol=1e-3)
    gates = free_gates(models[0])
    assert len(gates) == (len(models[0].expert_names()) if balance == "loss_free" else 0)
    assert all(gate.load.sum() == 2 * 64 for gate in gates)


@every_ranker
def test_it_starts_near_what_the_train_rows_say(kind):
    """The loss of an untrained model is hardly above that of the best constants."""
    table = example_table(400)
    model, batch, statistics = build(kind), batch_of(example_table(400)), statistics_of(table)
    predicted = model.eval().predict(batch)
    for task in model.tasks:
        apart = (predicted[task.name] - statistics[task.name].mean).abs().mean()
        assert apart < 0.6 * statistics[task.name].deviation


@every_ranker
def test_masked_labels_give_no_gradient(kind):
    """A label that is not known changes nothing, whatever stands in its cell."""
    table, stage = example_table(64), RankerStageConfig(epochs=1)
    gradients = []
    for value in (0.0, 1e3):
        model = build(kind, dropout=0.0, id_dropout=0.0)
        objective = RankingObjective(model, table, np.arange(64), labels_of(table), seed=0)
        batch = batch_of(table)
        labels = {name: torch.where(batch.masks[name], known, value) for name, known in batch.labels.items()}
        objective.loss(stage, replace(batch, labels=labels)).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
