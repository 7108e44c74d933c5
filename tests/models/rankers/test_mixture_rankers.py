"""What is particular to PLE, ESMM, HoME and STEM: who teaches what, and what follows from the design."""

import numpy as np
import pytest
import torch

from moerec.batches.examples import ExampleSchema, ExampleTable
from moerec.config import discover
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSpec
from moerec.models.rankers.esmm import ESMMConfig, logit_of_product
from moerec.models.rankers.home import HoMEConfig
from moerec.models.rankers.ple import CGCConfig, PLEConfig
from moerec.models.rankers.stem import STEMConfig
from moerec.tasks import TaskConfig, TaskStatistics
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import SCHEMA, TASKS, batch_of, example_table, labels_of, statistics_of


def made(config, tasks: tuple[TaskConfig, ...] = TASKS):
    """A model with random parameters, so that nothing is hidden behind a zero."""
    torch.manual_seed(0)
    model = config.build(SCHEMA, tasks, statistics_of(example_table(60), tasks))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def taught_experts(model, weight: torch.nn.Parameter, task: str) -> list[bool]:
    """Which of the batched experts a task's output reaches."""
    model.zero_grad()
    model(batch_of(example_table(60)))[task].sum().backward()
    return [bool(part.any()) for part in weight.grad]


def test_a_task_teaches_its_own_and_the_shared_experts_of_cgc():
    model = made(CGCConfig(width=4, own_experts=2, shared_experts=3))
    weight = model.levels[0].experts.weights[0]
    for number, task in enumerate(TASKS):
        own = [place // 2 == number for place in range(2 * len(TASKS))]
        assert taught_experts(model, weight, task.name) == own + [True] * 3


def test_cgc_is_ple_of_one_level():
    one, other = made(CGCConfig(width=4)), made(PLEConfig(width=4, levels=1))
    batch = batch_of(example_table(30))
    torch.testing.assert_close(one(batch), other(batch))


def test_ple_learns_across_tasks_below_the_last_level():
    model = made(PLEConfig(width=4, levels=2))
    # The shared part of level 1 hands on what the experts of all tasks made.
    assert all(taught_experts(model, model.levels[0].experts.weights[0], "like"))
    last = taught_experts(model, model.levels[1].experts.weights[0], "like")
    assert last == [True] * 2 + [False] * 2 * (len(TASKS) - 1) + [True] * 2
    assert set(model.expert_names()) == {
        *(task.name for task in TASKS),
        *(f"{task.name}, level 1" for task in TASKS),
        "shared, level 1",
    }


def test_ple_equals_a_literal_reference():
    """Expert after expert, level after level, as the paper's formulas say."""
    tasks = TASKS[:3]
    model = made(PLEConfig(width=4, levels=2, own_experts=1, shared_experts=2), tasks)
    batch = batch_of(example_table(20))
    names = [task.name for task in tasks]
    inputs = dict.fromkeys([*names, "shared"], model.inputs(batch))
    for number, level in enumerate(model.levels):
        owners = [*names, "shared", "shared"]
        outputs = []
        for expert, owner in enumerate(owners):
            x = inputs[owner]
            first, second = level.experts.weights
            x = torch.nn.functional.gelu(x @ first[expert] + level.experts.biases[0][expert])
            outputs.append(x @ second[expert] + level.experts.biases[1][expert])
        above = {}
        for group in names if number == 1 else [*names, "shared"]:
            weights = level.gates[f"task_{group}"](inputs[group]).weights
            seen = [
                out
                for out, owner in zip(outputs, owners, strict=True)
                if group == "shared" or owner in (group, "shared")
            ]
            above[group] = sum(weights[:, [place]] * out for place, out in enumerate(seen))
        inputs = above
    for name in names:
        torch.testing.assert_close(model.heads[f"task_{name}"](inputs[name]), model(batch)[name])


def test_tasks_of_other_groups_do_not_reach_a_groups_experts():
    groups = {"opinion": ("like", "adore"), "amount": ("type", "hours")}
    model = made(HoMEConfig(width=4, groups=groups, own_experts=1, group_experts=1, shared_experts=1))
    # Second level: one expert of each task, then one of each group, then the shared one.
    assert taught_experts(model, model.above.experts.weights[0], "like") == [True, *[False] * 3, True, False, True]
    assert taught_experts(model, model.above.experts.weights[0], "hours") == [*[False] * 3, True, False, True, True]


def test_home_equals_a_literal_reference():
    """Expert after expert, with feature gates, both levels, and the self gate of a single expert."""
    groups = {"opinion": ("like", "adore"), "amount": ("type", "hours")}
    counts = {"own_experts": 1, "group_experts": 1, "shared_experts": 1}
    model = made(HoMEConfig(width=4, groups=groups, feature_rank=3, **counts))
    batch = batch_of(example_table(20))
    x = model.inputs(batch)

    def expert(level, number, rows):
        down, up = level.feature_gate.down[number], level.feature_gate.up[number]
        assert down.shape == (rows.shape[1], 3)
        rows = rows * 2 * torch.sigmoid(rows @ down @ up)
        layers = (level.experts.weights, level.experts.biases, level.experts.scales, level.experts.shifts)
        for weight, bias, scale, shift in zip(*layers, strict=True):
            rows = rows @ weight[number] + bias[number]
            rows = torch.nn.functional.silu(torch.layer_norm(rows, rows.shape[1:], scale[number, 0], shift[number, 0]))
        return rows

    def mixed(logits, outputs):
        weights = torch.softmax(logits, dim=-1)
        return sum(weights[:, [place]] * output for place, output in enumerate(outputs))

    below = [expert(model.below, number, x) for number in range(3)]  # opinion, amount, shared
    first = {
        key: mixed(model.group_gates[f"task_{key}"].scores(x), [below[place] for place in seen])
        for key, seen in {"group opinion": (0, 2), "group amount": (1, 2), "shared": (0, 1, 2)}.items()
    }
    for number, task in enumerate(TASKS):
        rows = first["group opinion" if number < 2 else "group amount"]
        own = expert(model.above, number, rows)
        seen = [own, expert(model.above, 4 + number // 2, rows), expert(model.above, 6, first["shared"])]
        vector = mixed(model.gates[f"task_{task.name}"].scores(rows), seen)
        vector = vector + torch.sigmoid(model.self_gates[f"task_{task.name}"].logits(rows)) * own
        torch.testing.assert_close(model.heads[f"task_{task.name}"](vector), model(batch)[task.name])


def test_the_self_gate_keeps_a_tasks_own_experts_taught_when_its_gate_ignores_them():
    batch = batch_of(example_table(30))
    taught = []
    for self_gate in (True, False):
        model = made(HoMEConfig(width=4, self_gate=self_gate, own_experts=1, shared_experts=1, feature_rank=0))
        with torch.no_grad():
            model.gates["task_like"].scores[0].bias.copy_(torch.tensor([-1e4, 0.0, 0.0]))
        model(batch)["like"].sum().backward()
        taught.append(bool(model.above.experts.weights[0].grad[0].any()))
    assert taught == [True, False]


def test_groups_that_are_no_partition_are_refused():
    with pytest.raises(ConfigError, match=r"ranker.groups: they must hold each task once.*groups hold like, like"):
        HoMEConfig(groups={"a": ("like",), "b": ("like",)}).build(SCHEMA, TASKS, statistics_of(example_table(60)))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ("like", "adore", "type", "hours"), "b": ()}, "ranker.groups.b: it holds no task; remove it"),
        ({"a.b": ("like", "adore", "type", "hours")}, "groups.a.b"),
    ],
)
def test_groups_that_are_empty_or_no_names_are_refused(groups, message):
    statistics = statistics_of(example_table(60))
    with pytest.raises(ConfigError, match=message):
        discover("ranker", {"kind": "home", "groups": groups}).build(SCHEMA, TASKS, statistics)


@pytest.mark.parametrize("kind", ["cgc", "ple", "home", "stem"])
def test_a_task_cannot_be_called_as_the_shared_experts_are(kind):
    tasks = (TASKS[0], TASKS[1].model_copy(update={"name": "shared"}))
    with pytest.raises(ConfigError, match=r"ranker.tasks: 'shared' is what .*; give the task .*name"):
        discover("ranker", {"kind": kind, "width": 4}).build(SCHEMA, tasks, statistics_of(example_table(60), tasks))


def test_a_task_reads_all_experts_of_stem_and_teaches_its_own_and_shared_ones():
    model = made(STEMConfig(width=4, own_experts=1, shared_experts=1))
    weight = model.experts.weights[0]
    for number, task in enumerate(TASKS):
        assert taught_experts(model, weight, task.name) == [place == number for place in range(len(TASKS))] + [True]
        embeddings = model.own_inputs[f"task_{TASKS[number - 1].name}"]
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in embeddings.parameters())
    batch = batch_of(example_table(30))
    before = model(batch)["like"]
    with torch.no_grad():
        weight[1].add_(1.0)  # an expert of another task
    assert (model(batch)["like"] - before).abs().max() > 1e-4


FUNNEL = (TaskConfig(name="click", label="click"), TaskConfig(name="buy", label="buy"))
CONVERSION = TaskConfig(name="conversion", label="buy", mask="click", weight=0)


def test_esmm_multiplies_click_and_conversion():
    tasks = (
        *TASKS[:2],
        TaskConfig(name="convert", label="rating", at_least=5, mask="known", weight=0),
    )
    model = made(ESMMConfig(width=4, click="like", purchase="adore", conversion="convert"), tasks)
    said = model.predict(batch_of(example_table(40)))
    torch.testing.assert_close(said["adore"], said["like"] * said["convert"])
    assert (said["adore"] <= said["like"]).all()


def test_esmm_starts_at_the_share_of_purchases_and_not_at_its_product_with_that_of_clicks():
    table = example_table(400)
    statistics = statistics_of(table, TASKS[:2])
    torch.manual_seed(0)
    config = ESMMConfig(width=4, click="like", purchase="adore", dropout=0.0, id_dropout=0.0)
    said = config.build(SCHEMA, TASKS[:2], statistics).eval().predict(batch_of(table))
    for name, share in statistics.items():
        assert said[name].mean().item() == pytest.approx(share.mean, rel=0.15)


def test_the_logit_of_a_product_is_exact_and_finite_with_a_finite_gradient():
    one, other = torch.tensor([0.0, -30.0, 3.0, 80.0, -200.0]), torch.tensor([1.0, 5.0, -8.0, 90.0, 40.0])
    one.requires_grad_()
    logits = logit_of_product(one, other)
    p = torch.sigmoid(one.double()) * torch.sigmoid(other.double())
    torch.testing.assert_close(logits[:3].double(), torch.logit(p[:3]), rtol=1e-5, atol=1e-5)
    logits.sum().backward()
    assert torch.isfinite(logits).all()
    assert torch.isfinite(one.grad).all()


@pytest.mark.parametrize(
    ("fields", "tasks", "message"),
    [
        (
            {"purchase": "pay"},
            FUNNEL,
            "purchase: it is 'pay', and there is no such task; name one of click, buy",
        ),
        ({"purchase": "buy"}, (FUNNEL[0], TaskConfig(name="buy", label="buy", type="regression")), "must be binary"),
        (
            {"purchase": "buy", "conversion": "conversion"},
            (*FUNNEL, CONVERSION.model_copy(update={"weight": 1.0})),
            "must have weight: 0",
        ),
        ({"purchase": "click"}, FUNNEL, "click and purchase are both the task 'click'; a funnel has two steps"),
        ({"purchase": "buy"}, (FUNNEL[0].model_copy(update={"weight": 0.0}), FUNNEL[1]), "a weight above 0"),
        ({"click": "buy", "purchase": "click"}, FUNNEL, r"'click' is 1 in 0.3 of the train rows, 'buy' in 0.1; .*swap"),
    ],
)
def test_a_funnel_that_is_none_is_refused(fields, tasks, message):
    statistics = {"click": TaskStatistics(0.3, 0.5), "buy": TaskStatistics(0.1, 0.3)}
    with pytest.raises(ConfigError, match=message):
        ESMMConfig(**fields).build(SCHEMA, tasks, statistics)


def funnel(rows: int, seed: int) -> ExampleTable:
    """Clicks select: among those who click at x = 1, nearly all convert; of all others nearly nobody would.

    `x` raises click and conversion together, and only a few of the rows with x = 0 are clicked.
    """
    generator = np.random.default_rng(seed)
    x, z = generator.integers(0, 2, rows), generator.integers(0, 2, rows)
    click = generator.random(rows) < np.where(x == 1, 0.6, 0.05)
    converts = generator.random(rows) < conversion_rate(x, z)
    return ExampleTable(
        schema=ExampleSchema(
            (FeatureSpec(name="x", kind="categorical"), FeatureSpec(name="z", kind="categorical")), {"x": 2, "z": 2}
        ),
        users=np.arange(rows),
        items=np.zeros(rows, np.int64),
        timestamps=np.arange(rows),
        negative=np.zeros(rows, np.bool_),
        labels={"click": click.astype(np.float64), "buy": (click & converts).astype(np.float64)},
        columns={"x": x, "z": z},
        present={},
    )


def conversion_rate(x, z):
    return np.where(x == 1, 0.5, 0.1) * np.where(z == 1, 1.0, 0.4)


def test_esmm_finds_the_conversion_of_all_impressions():
    """Learned through the product, although conversion itself has no loss; near the truth also where few click."""
    tasks, table = (*FUNNEL, CONVERSION), funnel(20_000, 0)
    torch.manual_seed(0)
    config = ESMMConfig(
        width=4, hidden=(16,), head_hidden=(), dropout=0.0, id_dropout=0.0, purchase="buy", conversion="conversion"
    )
    model = config.build(table.schema, tasks, statistics_of(table, tasks))
    objective = RankingObjective(model, table, np.arange(20_000), labels_of(table, tasks), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(4):
        for batch in objective.epoch(RankerStageConfig(epochs=1, batch_size=500), epoch, 0):
            optimizer.zero_grad()
            (objective.loss(RankerStageConfig(epochs=1), batch) / len(batch)).backward()
            optimizer.step()
    x, z = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    few = ExampleTable(table.schema, x, x, x, x > 1, {}, {"x": x, "z": z}, {})
    with torch.no_grad():
        said = model.eval().predict(few.batch(np.arange(4)))
    np.testing.assert_allclose(said["conversion"].numpy(), conversion_rate(x, z), atol=0.07)
