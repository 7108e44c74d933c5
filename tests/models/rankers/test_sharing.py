"""Which parameters tasks share, and that each ranker names the last layer of them."""

import pytest
import torch

from moerec.config import discover, implementations
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.rankers.shared_bottom import SharedBottomConfig
from moerec.models.rankers.sharing import tasks_reaching
from tests.models.rankers.random_examples import SCHEMA, TASKS, batch_of, example_table, statistics_of

NAMES = frozenset(task.name for task in TASKS)


def build(config):
    torch.manual_seed(0)
    return config.build(SCHEMA, TASKS, statistics_of(example_table(50)))


def test_what_a_frozen_model_reaches():
    model = build(SharedBottomConfig(width=2)).train()
    model.bottom.requires_grad_(False)
    model.inputs.requires_grad_(False)
    reached = tasks_reaching(model, batch_of(example_table(4)))
    assert {name.split(".")[0] for name in reached} == {"heads"}
    assert set(reached.values()) == {frozenset({name}) for name in NAMES}
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", sorted(implementations("ranker")))
def test_a_model_that_shares_names_a_layer_that_all_tasks_reach(kind):
    funnel = {"click": "like", "purchase": "adore"} if kind == "esmm" else {}
    model = build(discover("ranker", {"kind": kind, "width": 2, **funnel}))
    reached = tasks_reaching(model, batch_of(example_table(20)))
    names = [name for name, parameter in model.named_parameters() if any(parameter is p for p in model.shared_layer())]
    assert bool(names) == any(len(tasks) > 1 for tasks in reached.values())
    assert all(reached[name] == NAMES for name in names)


def heads_read(model, batch) -> torch.Tensor:
    """What the heads of all tasks read."""
    seen = []
    hooks = [head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])) for head in model.heads.values()]
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()
    return torch.stack(seen)


def test_mmoe_names_the_output_of_the_experts():
    """It is the last: what the heads read hangs on it by a straight line, so no activation lies between."""
    model, batch = build(MMoEConfig(width=2, experts=3)).eval(), batch_of(example_table(20))
    (layer,) = model.shared_layer()
    start, read = layer.detach().clone(), []
    for factor in (0.0, 1.0, 2.0):
        layer.data = factor * start
        read.append(heads_read(model, batch))
    assert (read[1] - read[0]).abs().max() > 0.01
    torch.testing.assert_close(read[2] - read[1], read[1] - read[0], rtol=1e-4, atol=1e-5)


def test_shared_bottom_names_its_last_matrix():
    model = build(SharedBottomConfig(hidden=(8, 5)))
    (layer,) = model.shared_layer()
    assert layer.shape == (5, 8)
    assert any(layer is parameter for parameter in model.bottom.parameters())


def test_without_layers_in_the_bottom_all_of_the_inputs_are_the_shared_layer():
    model = build(SharedBottomConfig(hidden=()))
    found = {id(parameter) for parameter in model.shared_layer()}
    assert found <= {id(parameter) for parameter in model.inputs.parameters()}
    assert found
