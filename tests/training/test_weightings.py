"""Weightings in the one trainer, over a real ranker: exact resume, mixed precision, accumulation, logs, refusals."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from moerec.config import discover
from moerec.errors import ConfigError
from moerec.losses.multitask import task_losses, weighted_total
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.rankers.saved import load_ranker, save_ranker
from moerec.models.rankers.shared_bottom import SharedBottomConfig
from moerec.models.rankers.single_task import SingleTaskConfig
from moerec.training.hooks import Hook, Moment
from moerec.training.logs import TrainingLog
from moerec.training.objective import Passes
from moerec.training.optimizer import make_optimizer
from moerec.training.ranking import RankingObjective
from moerec.training.schedule import ScheduleConfig
from moerec.training.stages import RankerStageConfig, select_trainable
from moerec.training.trainer import Trainer, TrainerConfig
from tests.losses.weighting.updates import BALANCING, EVERY
from tests.models.rankers.random_examples import SCHEMA, example_table, labels_of, statistics_of
from tests.models.rankers.random_examples import TASKS as MANY

TASKS = tuple(task for task in MANY if task.name in ("like", "type", "hours"))
ROWS = 40
LEARNED = ("uncertainty", "gradnorm")


def stage(kind: str, **changes: object) -> RankerStageConfig:
    settings = {"epochs": 4, "batch_size": 8, "accumulation": 2, "validate_every": 2}
    settings |= {"learning_rate": 0.01, "weight_decay": 0.1}
    return RankerStageConfig.model_validate(settings | {"weighting": {"kind": kind}} | changes)


def objective_of(config=None, tasks=TASKS) -> RankingObjective:
    torch.manual_seed(0)
    table = example_table(ROWS)
    model = (config or MMoEConfig(width=2, experts=2)).build(SCHEMA, tasks, statistics_of(table, tasks))
    return RankingObjective(model, table, np.arange(ROWS), labels_of(table, tasks), seed=3)


def trainer_of(directory: Path, *stages: RankerStageConfig, precision: str = "fp32", hooks=()) -> Trainer:
    return Trainer(
        objective=objective_of(),
        stages=stages,
        validate=lambda: {"metric": 1.0},
        directory=directory,
        identity="one",
        seed=0,
        config=TrainerConfig(metric="metric", log_every=2, checkpoint_every=4, precision=precision),
        log=lambda kept, _: TrainingLog(directory / "history.jsonl", Console(quiet=True), keep_bytes=kept),
        device=torch.device("cpu"),
        hooks=hooks,
    )


def lines(directory: Path) -> list[dict]:
    records = map(json.loads, (directory / "history.jsonl").open())
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


class KilledError(Exception):
    """Stands for the end of the process."""


class Call(Hook):
    """Calls a function after each backward pass."""

    def __init__(self, function: Callable[[Moment], object]) -> None:
        self.after_backward = function


def kill_at(update: int) -> Call:
    def kill(moment: Moment) -> None:
        if moment.update == update:
            raise KilledError

    return Call(kill)


def two_stages(kind: str) -> tuple[RankerStageConfig, ...]:
    """Four epochs of three updates, then two updates with a new weighting."""
    return stage(kind, average=0.9), stage(kind, name="second", updates=2, epochs=None)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> dict[str, Path]:
    """An uninterrupted training for each weighting."""
    found = {}
    for kind in EVERY:
        found[kind] = tmp_path_factory.mktemp(kind)
        trainer_of(found[kind], *two_stages(kind)).run()
    return found


# The checkpoint before update 9 falls within the third epoch: DWA has factors by then, and half an epoch in memory.
@pytest.mark.parametrize("update", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, 3, 5, 6, 8, 11))])
@pytest.mark.parametrize("kind", EVERY)
def test_killed_and_resumed_equals_uninterrupted(kind, update, wholes, tmp_path):
    with pytest.raises(KilledError):
        trainer_of(tmp_path, *two_stages(kind), hooks=[kill_at(update)]).run()
    trainer_of(tmp_path, *two_stages(kind)).run(resume=True)
    assert lines(tmp_path) == lines(wholes[kind])
    for name in ("model", "criterion", "optimizer"):
        found, expected = (
            load_file(path / f"checkpoints/last/{name}.safetensors") for path in (tmp_path, wholes[kind])
        )
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", EVERY)
def test_each_logged_update_has_losses_weights_and_what_is_known_of_cosines(kind, wholes):
    records = [record for record in lines(wholes[kind]) if "loss" in record]
    names = {task.name for task in TASKS}
    assert [record["update"] for record in records] == [2, 4, 6, 8, 10, 12, 14]
    for record in records:
        assert set(record["losses"]) <= names
        assert set(record["weights"]) <= names
        assert np.isfinite([*record["losses"].values(), *record["weights"].values()]).all()
        if kind in ("fixed", "uncertainty", "dwa"):
            assert "cosines" not in record
        else:
            assert record["cosines"]
            assert all(-1 <= cosine <= 1 for cosine in record["cosines"].values())
    shares = [record["weights"]["like"] / sum(record["weights"].values()) for record in records]
    assert (max(shares) > min(shares)) == (kind != "fixed")


@pytest.mark.parametrize("kind", LEARNED)
def test_learned_weights_move_and_each_stage_starts_anew(kind, wholes, tmp_path):
    one_update = {"updates": 1, "epochs": None}
    trainer_of(tmp_path, stage(kind, epochs=1), stage(kind, name="second", **one_update)).run()
    short = load_file(tmp_path / "checkpoints/last/criterion.safetensors")
    name = "log_variances" if kind == "uncertainty" else "log_factors"
    assert short[name].abs().max() <= 0.02  # one update of a second stage, at a rate of 0.01
    assert (short[name] != 0).any()
    assert set(load_file(wholes[kind] / "checkpoints/last/optimizer.safetensors")) > {f"criterion:{name}/exp_avg"}


def test_what_a_criterion_learns_has_its_own_rate_and_no_decay():
    objective = objective_of()
    chosen = stage("uncertainty", weight_decay=0.5, schedule=ScheduleConfig(kind="constant"))
    criterion = objective.criterion(chosen)
    optimizer = make_optimizer(select_trainable(objective.model, chosen), chosen, criterion)
    (group,) = [group for group in optimizer.param_groups if group["params"][0] is criterion.log_variances]
    assert (group["weight_decay"], group["peak"]) == (0, 0.01)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len([*objective.model.parameters()]) + 1
    assert optimizer.param_groups[0]["weight_decay"] == 0.5


@pytest.mark.parametrize("kind", LEARNED)
def test_the_saved_model_knows_nothing_of_the_weighting(kind, wholes, tmp_path):
    model = trainer_of(tmp_path, stage(kind)).objective.model
    assert set(load_file(wholes[kind] / "checkpoints/last/model.safetensors")) == set(model.state_dict())
    (tmp_path / "saved").mkdir()
    save_ranker(tmp_path / "saved", model)
    assert set(load_ranker(tmp_path / "saved").state_dict()) == set(model.state_dict())


@cache
def first_gradient(kind: str, precision: str, directory: Path) -> tuple[float, bool]:
    """The norm on the shared layer in the first of two updates, and whether all is finite after them."""
    norms: list[float] = []
    keep = Call(lambda _: norms.append(float(layer.grad.norm())))
    chosen = stage(kind, updates=2, epochs=None, clip_norm=None)
    trainer = trainer_of(directory / kind / precision, chosen, precision=precision, hooks=[keep])
    model = trainer.objective.model
    (layer,) = model.shared_layer()
    trainer.run()
    return norms[0], all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


@pytest.mark.parametrize("precision", ["fp16", pytest.param("bf16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", BALANCING)
def test_mixed_precision_gives_the_same_gradients(kind, precision, tmp_path_factory):
    """In fp16 it is scaled gradients that are compared, and the scale is gone before the step."""
    folder = tmp_path_factory.getbasetemp()
    found, is_finite = first_gradient(kind, precision, folder)
    assert is_finite
    assert found == pytest.approx(first_gradient(kind, "fp32", folder)[0], rel=0.1)


@pytest.mark.parametrize("kind", EVERY)
def test_accumulation_equals_one_large_batch(kind):
    """Micro-batches hold different numbers of known labels, one of them none of `hours`."""
    found = []
    config = MMoEConfig(width=2, experts=2, dropout=0.0, id_dropout=0.0)
    for size in (30, 7):
        objective = objective_of(config)
        chosen = stage(kind, batch_size=size)
        criterion = objective.criterion(chosen)
        rows = np.argsort(objective.labels["hours"].mask[:30], kind="stable")
        batches = [batch_of(objective, rows[start : start + size]) for start in range(0, 30, size)]
        assert size == 30 or not batches[0].masks["hours"].any()
        torch.manual_seed(1)
        objective.backward(chosen, batches, criterion, Passes())
        found.append([parameter.grad for parameter in (*objective.model.parameters(), *criterion.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-5)


def batch_of(objective: RankingObjective, rows: np.ndarray):
    labels = objective.labels
    values, masks = ({name: getattr(one, what) for name, one in labels.items()} for what in ("values", "mask"))
    return objective.table.batch(rows, values, masks)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fixed_is_the_plain_sum_bit_for_bit(precision):
    """Also with a task of weight 0, whose head the plain sum gives gradients of zero."""
    tasks = (TASKS[0], TASKS[1].model_copy(update={"weight": 0.0}), TASKS[2])
    passes = Passes(autocast=lambda: torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"))
    found, losses = [], []
    for plain in (False, True):
        objective = objective_of(tasks=tasks)
        model, chosen = objective.model, stage("fixed")
        batches = [batch_of(objective, np.arange(start, start + 8)) for start in (0, 8, 16, 24, 32)]
        torch.manual_seed(1)  # of dropout
        if plain:
            total = torch.zeros(())
            for batch in batches:
                with passes.autocast():
                    loss = weighted_total(task_losses(model(batch), batch, tasks, model.statistics), tasks)
                (loss / ROWS).backward()
                total += loss.detach()
        else:
            total = objective.backward(chosen, batches, objective.criterion(chosen), passes)
        found.append([parameter.grad for parameter in model.parameters()])
        losses.append(total)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", BALANCING)
def test_a_task_of_weight_0_trains_nothing_of_its_own(kind):
    objective = objective_of(tasks=(*TASKS[:2], TASKS[2].model_copy(update={"weight": 0.0})))
    chosen = stage(kind)
    (batch, *_) = objective.epoch(chosen, 0, 0)
    objective.backward(chosen, [batch], objective.criterion(chosen), Passes())
    moved = {name for name, p in objective.model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not {name for name in moved if "task_hours" in name}
    assert {name for name in moved if "task_like" in name}


@pytest.mark.parametrize("kind", EVERY)
def test_a_batch_without_a_label_of_a_task(kind):
    objective, chosen = objective_of(), stage(kind)
    (batch, *_) = objective.epoch(chosen, 0, 0)
    batch = replace(batch, masks=batch.masks | {"hours": torch.zeros_like(batch.masks["hours"])})
    criterion = objective.criterion(chosen)
    objective.backward(chosen, [batch], criterion, Passes(is_logged=True))
    gradients = [p.grad for p in (*objective.model.parameters(), *criterion.parameters()) if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert "hours" not in criterion.record()["losses"]


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("config", [MMoEConfig(width=2), SharedBottomConfig(width=2), SharedBottomConfig(hidden=())])
def test_every_weighting_works_with_every_model_that_shares(kind, config):
    objective, chosen = objective_of(config), stage(kind)
    criterion = objective.criterion(chosen)
    (batch, *_) = objective.epoch(chosen, 0, 0)
    assert torch.isfinite(objective.backward(chosen, [batch], criterion, Passes(is_logged=True)))


@pytest.mark.parametrize("kind", BALANCING)
def test_a_model_that_shares_nothing_is_refused(kind):
    objective = objective_of(SingleTaskConfig(width=2))
    message = rf"stage 'main': weighting {kind} needs a model .* SingleTask has none here; use .*kind: fixed"
    with pytest.raises(ConfigError, match=message):
        objective.criterion(stage(kind))
    objective.criterion(stage("fixed"))


@pytest.mark.parametrize("kind", BALANCING)
def test_a_stage_that_trains_nothing_shared_is_refused(kind):
    objective, chosen = objective_of(), stage(kind, name="heads", trains=("heads.*",))
    select_trainable(objective.model, chosen)
    with pytest.raises(ConfigError, match=rf"stage 'heads': weighting {kind} needs .* use .*fixed"):
        objective.criterion(chosen)


@pytest.mark.parametrize("kind", BALANCING)
def test_a_single_task_is_refused(kind):
    objective = objective_of(tasks=(TASKS[0], TASKS[1].model_copy(update={"weight": 0.0})))
    with pytest.raises(ConfigError, match=rf"weighting {kind} balances several tasks, and only 'like' has"):
        objective.criterion(stage(kind))


@pytest.mark.parametrize(
    "weighting", [{"kind": "gradnorm"}, *({"kind": k, "log_cosines": True} for k in ("fixed", "uncertainty", "dwa"))]
)
def test_what_looks_at_the_shared_layer_needs_one(weighting):
    objective = objective_of()
    layer = {id(parameter) for parameter in objective.model.shared_layer()}
    for parameter in objective.model.parameters():
        parameter.requires_grad_(id(parameter) not in layer)
    with pytest.raises(ConfigError, match=rf"weighting {weighting['kind']} looks at the last layer .* MMoE names none"):
        objective.criterion(stage("fixed", weighting=weighting))


def test_an_unknown_kind_or_key_is_one_line():
    with pytest.raises(ConfigError, match=r"weighting\.kind: unknown weighting 'pcgrd'; did you mean 'pcgrad'"):
        stage("pcgrd")
    with pytest.raises(ConfigError, match=r"weighting\.alpa: unknown key; did you mean 'alpha'"):
        stage("gradnorm", weighting={"kind": "gradnorm", "alpa": 1})


def test_the_default_is_fixed():
    assert RankerStageConfig(epochs=1).weighting == discover("weighting", {"kind": "fixed"})
