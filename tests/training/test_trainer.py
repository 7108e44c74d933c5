"""The trainer: exact resume, accumulation, frozen parameters, early stop, averaging, schedules."""

import io
import json
import math
import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from moerec.batches.histories import TrainHistories
from moerec.errors import CheckpointError, ConfigError, MoerecError
from moerec.models.sasrec import SASRec, SASRecConfig
from moerec.training.hooks import Hook, Moment
from moerec.training.logs import TrainingLog
from moerec.training.objective import RetrievalObjective
from moerec.training.schedule import ScheduleConfig
from moerec.training.stages import RetrieverStageConfig
from moerec.training.trainer import Trainer, TrainerConfig

CYCLE = 12


def histories(users: int = 30, length: int = 25) -> TrainHistories:
    """Everybody walks round the same circle of items, each from an own start."""
    items = np.concatenate([(np.arange(length) + start) % CYCLE + 2 for start in range(users)])
    return TrainHistories(items, np.arange(users + 1) * length, None, CYCLE + 2)


def make_trainer(directory: Path, stages: list[RetrieverStageConfig], **changes: object) -> Trainer:
    torch.manual_seed(0)
    trained = torch.ones(CYCLE + 2, dtype=torch.bool)
    trained[:2] = False
    config = SASRecConfig(width=16, blocks=1, feed_forward=16, max_length=8, dropout=changes.pop("dropout", 0.3))
    model = config.build(trained)
    data = histories()

    def validate() -> dict[str, float]:
        model.eval()
        with torch.no_grad():
            windows = torch.from_numpy(data.items).view(30, 25)
            scores = model.encode_padded(windows[:, 16:24], torch.full((30,), 8)) @ model.encode_items().T
            return {"ndcg@10": float((scores[:, 2:].argmax(1) + 2 == windows[:, 24]).float().mean())}

    return Trainer(
        objective=RetrievalObjective(model, data, trained, seed=0),
        stages=stages,
        validate=changes.pop("validate", validate),
        directory=directory,
        identity=changes.pop("identity", "one"),
        seed=0,
        config=TrainerConfig(checkpoint_every=5, log_every=3),
        log=lambda kept, _: TrainingLog(directory / "history.jsonl", Console(quiet=True), keep_bytes=kept),
        device=torch.device("cpu"),
        **changes,
    )


def stage(**changes: object) -> RetrieverStageConfig:
    # Seen items are negatives here: on a short circle everything has been seen.
    settings = {"epochs": 3, "batch_size": 8, "learning_rate": 0.01, "loss": {"exclude_seen": False}} | changes
    return RetrieverStageConfig.model_validate(settings)


def parameters(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.objective.model.named_parameters()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=name)


def test_it_learns_the_circle(tmp_path):
    trainer = make_trainer(tmp_path, [stage(epochs=8)])
    state = trainer.run()
    assert state.finished
    assert trainer.validate()["ndcg@10"] > 0.95


def test_what_stands_beside_the_metrics_is_recorded_and_selects_nothing(tmp_path):
    plain = make_trainer(tmp_path / "plain", [stage()])
    plain.run()
    counted = iter(range(100))
    trainer = make_trainer(tmp_path / "more", [stage()], beside=lambda: {"gates": {"like": {"dead": next(counted)}}})
    trainer.run()
    assert_same(parameters(plain), parameters(trainer))
    records = [json.loads(line) for line in (tmp_path / "more/history.jsonl").read_text().splitlines()]
    validations = [record for record in records if "valid" in record]
    assert [record["gates"]["like"]["dead"] for record in validations] == list(range(len(validations)))
    assert all(set(record["valid"]) == {"ndcg@10"} for record in validations)
    assert not any("gates" in record for record in records if "valid" not in record)


class KilledError(Exception):
    """Stands for the end of the process."""


class KillAt(Hook):
    def __init__(self, update: int) -> None:
        self.update = update

    def after_backward(self, moment: Moment) -> None:
        if moment.update == self.update:
            raise KilledError


TWO_STAGES = [
    {"name": "one", "average": 0.9, "accumulation": 2},
    {"name": "two", "trains": ("encoder.*",), "updates": 13, "epochs": None},
]


@pytest.mark.parametrize("update", [0, 3, 7, 12, 19])
@pytest.mark.parametrize("which_stage", [0, 1])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, update, which_stage):
    stages = [stage(**settings) for settings in TWO_STAGES]
    whole = make_trainer(tmp_path / "whole", stages)
    whole.run()

    class KillInStage(KillAt):
        def after_backward(self, moment: Moment) -> None:
            if moment.stage.name == stages[which_stage].name:
                super().after_backward(moment)

    killed = make_trainer(tmp_path / "killed", stages, hooks=[KillInStage(update)])
    try:
        killed.run()
    except KilledError:
        resumed = make_trainer(tmp_path / "killed", stages)
        resumed.run(resume=True)
        assert_same(parameters(whole), parameters(resumed))
        lines = [
            [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in path.open()]
            for path in (tmp_path / "whole/history.jsonl", tmp_path / "killed/history.jsonl")
        ]
        assert lines[0] == lines[1]
    else:
        assert which_stage == 1
        assert update >= 13


@pytest.mark.slow
def test_workers_change_no_number_and_end_when_the_training_breaks_off(tmp_path):
    stages = [stage(**settings) for settings in TWO_STAGES]
    whole = make_trainer(tmp_path / "whole", stages)
    whole.run()
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        with pytest.raises(KilledError):
            make_trainer(folder, stages, workers=workers, hooks=[KillAt(7)]).run()
        assert not multiprocessing.active_children()
        resumed = make_trainer(folder, stages, workers=workers)
        resumed.run(resume=True)
        assert not multiprocessing.active_children()
        assert_same(parameters(whole), parameters(resumed))


def test_drawn_negatives_are_the_same_after_a_resumption(tmp_path):
    negatives = {"kind": "mixed", "count": 4, "power": 0.5}
    stages = [stage(loss={"kind": "info_nce", "negatives": negatives, "exclude_seen": False})]
    whole = make_trainer(tmp_path / "whole", stages)
    whole.run()
    with pytest.raises(KilledError):
        make_trainer(tmp_path / "killed", stages, hooks=[KillAt(12)]).run()
    resumed = make_trainer(tmp_path / "killed", stages)
    resumed.run(resume=True)
    assert_same(parameters(whole), parameters(resumed))


def test_weights_of_events_divide_the_loss(tmp_path):
    trainer = make_trainer(tmp_path, [stage(action_weights={"column": "rating", "weights": {0: 0.5, 1: 0.0}})])
    data = trainer.objective.histories
    labels = {"rating": (data.items % 3).astype(float)}
    trainer.objective = replace(trainer.objective, histories=replace(data, labels=labels))
    state = trainer.run()
    counted = labels["rating"]
    assert state.targets == 3 * ((counted == 2).sum() + 0.5 * (counted == 0).sum())


def test_a_resumed_finished_training_does_nothing_more_and_says_so(tmp_path):
    trainer = make_trainer(tmp_path, [stage()])
    updates = trainer.run().total_updates
    again = make_trainer(tmp_path, [stage()], hooks=[KillAt(0)])
    said = io.StringIO()
    again.log = lambda kept, _: TrainingLog(tmp_path / "history.jsonl", Console(file=said), keep_bytes=kept)
    again.run(resume=True)
    assert said.getvalue() == f"resuming at update {updates}, training is finished\n"
    assert_same(parameters(trainer), parameters(again))


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path):
    make_trainer(tmp_path, [stage()]).run()
    with pytest.raises(CheckpointError, match="another recipe"):
        make_trainer(tmp_path, [stage()], identity="two").run(resume=True)


def test_a_damaged_checkpoint_is_one_line(tmp_path):
    make_trainer(tmp_path, [stage()], hooks=[KillAt(7)])
    with pytest.raises(KilledError):
        make_trainer(tmp_path, [stage()], hooks=[KillAt(7)]).run()
    (tmp_path / "checkpoints/last/model.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="cannot be read"):
        make_trainer(tmp_path, [stage()]).run(resume=True)


def test_gradient_of_accumulated_batches_is_that_of_all_their_targets(tmp_path):
    """Micro-batches of unequal numbers of targets must not be averaged as if they were equal."""
    gradients = []

    class Keep(Hook):
        def after_backward(self, moment: Moment) -> None:
            gradients.append(moment.model.encoder.positions.grad.clone())

    first = stage(updates=1, epochs=None, batch_size=200, clip_norm=None)
    pieces = stage(updates=1, epochs=None, batch_size=7, accumulation=100, clip_norm=None)
    for number, settings in enumerate((first, pieces)):
        make_trainer(tmp_path / str(number), [settings], dropout=0.0, hooks=[Keep()]).run()
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-4)


def test_frozen_means_frozen_and_the_log_says_what_changed(tmp_path):
    trainer = make_trainer(tmp_path, [stage(trains=("encoder.blocks.*",), weight_decay=0.1)])
    before = parameters(trainer)
    trainer.run()
    changed = {name for name, value in parameters(trainer).items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("encoder.blocks.")}
    (record,) = [r for r in map(json.loads, (tmp_path / "history.jsonl").open()) if "changed" in r]
    assert set(record["changed"]) == changed


def test_a_frozen_parameter_that_moves_is_an_error(tmp_path):
    class Meddle(Hook):
        def after_step(self, moment: Moment) -> None:
            moment.model.empty_history.data += 1

    trainer = make_trainer(tmp_path, [stage(trains=("encoder.*",))], hooks=[Meddle()])
    with pytest.raises(MoerecError, match="frozen parameters changed: empty_history"):
        trainer.run()


def test_a_pattern_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'encodr\.\*' matches no parameter"):
        make_trainer(tmp_path, [stage(trains=("encodr.*",))]).run()


def test_patience_stops_and_the_best_model_is_kept(tmp_path):
    values = iter([0.1, 0.5, 0.4, 0.3, 0.9, 0.9])
    kept = {}

    def validate() -> dict[str, float]:
        value = next(values)
        kept[value] = parameters(trainer)
        return {"ndcg@10": value}

    trainer = make_trainer(tmp_path, [stage(epochs=6, patience=2)], validate=validate)
    state = trainer.run()
    assert state.total_updates < 6 * 15
    assert next(values) == 0.9
    assert_same(parameters(trainer), kept[0.5])


def test_averaged_parameters_are_validated_and_kept(tmp_path):
    seen: list[dict[str, torch.Tensor]] = []

    def validate() -> dict[str, float]:
        seen.append(parameters(trainer))
        return {"ndcg@10": float(len(seen))}

    current: list[dict[str, torch.Tensor]] = []

    class Keep(Hook):
        def after_step(self, moment: Moment) -> None:
            current.append({name: value.detach().clone() for name, value in moment.model.named_parameters()})

    trainer = make_trainer(tmp_path, [stage(epochs=2, average=0.5)], validate=validate, hooks=[Keep()])
    start = parameters(trainer)
    trainer.run()
    average = start
    for update, values in enumerate(current):
        decay = min(0.5, (2 + update) / (11 + update))
        average = {name: decay * average[name] + (1 - decay) * values[name] for name in average}
    for name, value in parameters(trainer).items():
        torch.testing.assert_close(value, average[name], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(value, seen[-1][name], rtol=0, atol=0)


def test_clipping_bounds_the_gradient(tmp_path):
    norms = []

    class Keep(Hook):
        def after_step(self, moment: Moment) -> None:
            gradients = [p.grad for p in moment.model.parameters() if p.grad is not None]
            norms.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    make_trainer(tmp_path, [stage(epochs=1, clip_norm=0.01)], hooks=[Keep()]).run()
    assert max(norms) <= 0.0101


def test_bfloat16_trains_and_keeps_parameters_in_float32(tmp_path):
    trainer = make_trainer(tmp_path, [stage(epochs=8)])
    trainer.config = TrainerConfig(precision="bf16")
    trainer.run()
    assert all(value.dtype == torch.float32 for value in parameters(trainer).values())
    assert trainer.validate()["ndcg@10"] > 0.9


def test_a_diverged_training_is_one_line(tmp_path):
    trainer = make_trainer(tmp_path, [stage()])
    trainer.objective.model.encoder.positions.data[0, 0] = math.nan
    with pytest.raises(MoerecError, match="not finite at update 1"):
        trainer.run()


def test_the_metric_must_exist(tmp_path):
    trainer = make_trainer(tmp_path, [stage()], validate=lambda: {"hr@10": 1.0})
    with pytest.raises(MoerecError, match=r"gives no 'ndcg@10'; it gives: hr@10"):
        trainer.run()


def test_nothing_to_learn_from_is_one_line(tmp_path):
    trainer = make_trainer(tmp_path, [stage()])
    trainer.objective = RetrievalObjective(
        trainer.objective.model,
        TrainHistories(np.zeros(0, np.int64), np.array([0, 0, 0]), None, 14),
        torch.ones(14, dtype=torch.bool),
        0,
    )
    with pytest.raises(MoerecError, match="nothing to learn"):
        trainer.run()


def test_model_is_the_sasrec_of_the_recipe(tmp_path):
    assert isinstance(make_trainer(tmp_path, [stage()]).objective.model, SASRec)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ScheduleConfig(kind="constant"), [1, 1, 1, 1, 1]),
        (ScheduleConfig(kind="linear"), [1, 0.75, 0.5, 0.25, 0]),
        (ScheduleConfig(kind="linear", final=0.5), [1, 0.875, 0.75, 0.625, 0.5]),
        (ScheduleConfig(kind="cosine"), [1, 0.853553, 0.5, 0.146447, 0]),
        (ScheduleConfig(kind="step", every=2, factor=0.5), [1, 1, 0.5, 0.5, 0.25]),
        (ScheduleConfig(kind="constant", warmup=3), [0.25, 0.5, 0.75, 1, 1]),
    ],
)
def test_schedules(config, expected):
    assert [config.at(update, 4) for update in range(5)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("wrong", [{}, {"epochs": 1, "updates": 1}, {"epochs": 1, "trains": ()}])
def test_contradictions_are_refused(wrong):
    with pytest.raises(ValueError, match=r"exactly one|at least one pattern"):
        RetrieverStageConfig(**wrong)
