"""Annealed id dropout: falls to 0 over a stage, survives a kill, and touches no other dropout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from moerec.batches.histories import TrainHistories
from moerec.config import validate
from moerec.models.item_tower import ItemTowerConfig
from moerec.models.sasrec import SASRec, SASRecConfig
from moerec.nn.dropout import Dropout
from moerec.training.balance import LossFreeBalance, free_gates
from moerec.training.hooks import Hook, Moment
from moerec.training.id_dropout import AnnealedIdDropout
from moerec.training.logs import TrainingLog
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import RetrieverStageConfig
from moerec.training.trainer import Trainer, TrainerConfig
from tests.models.test_registered import NUM_INDICES, feature_table

UPDATES = 12
STAGE = RetrieverStageConfig(updates=UPDATES, batch_size=4, learning_rate=0.01, validate_every=9)


def make_model(anneal: bool = True) -> SASRec:
    torch.manual_seed(0)
    tower = validate(
        ItemTowerConfig,
        {
            "id_dropout": 0.6,
            "id_dropout_anneal": anneal,
            "dropout": 0.25,
            "gate": {"kind": "top_k", "k": 2, "expert_dropout": 0.2, "balance": {"kind": "loss_free", "rate": 0.05}},
        },
    )
    trained = torch.ones(NUM_INDICES, dtype=torch.bool)
    trained[:2] = False
    config = SASRecConfig(width=8, blocks=2, feed_forward=8, max_length=6, dropout=0.4, item_tower=tower)
    return config.build(trained, feature_table())


class Watch(Hook):
    """Notes the share before each update, and may end the process."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.shares: list[float] = []
        self.kill_at = kill_at

    def before_step(self, moment: Moment) -> None:
        if moment.update == self.kill_at:
            raise KeyboardInterrupt
        self.shares.append(float(moment.model.item_tower.id_dropout))


def make_trainer(folder: Path, watch: Watch, model: SASRec, stages: tuple[RetrieverStageConfig, ...]) -> Trainer:
    generator = np.random.default_rng(0)
    histories = TrainHistories(generator.integers(2, NUM_INDICES, 160), np.arange(17) * 10, None, NUM_INDICES)
    return Trainer(
        objective=RetrievalObjective(model, histories, model.item_tower.trained, seed=0),
        stages=stages,
        validate=lambda: {"ndcg@10": 0.0},
        directory=folder,
        identity="one",
        seed=0,
        config=TrainerConfig(checkpoint_every=1),
        log=lambda kept, _: TrainingLog(folder / "history.jsonl", Console(quiet=True), keep_bytes=kept),
        device=torch.device("cpu"),
        hooks=(AnnealedIdDropout(), LossFreeBalance(), watch),
    )


def test_it_falls_in_equal_steps_in_each_stage_and_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    stages = (STAGE, STAGE.model_copy(update={"name": "second", "updates": 5}))
    watch, model = Watch(), make_model()
    make_trainer(tmp_path / "whole", watch, model, stages).run()
    expected = [0.6 * (1 - update / total) for total in (UPDATES, 5) for update in range(total)]
    assert watch.shares == pytest.approx(expected)
    folder, rest, again = tmp_path / "killed", Watch(), make_model()
    with pytest.raises(KeyboardInterrupt):
        make_trainer(folder, Watch(kill_at=7), make_model(), stages).run()
    make_trainer(folder, rest, again, stages).run(resume=True)
    assert rest.shares == pytest.approx(expected[7:])
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0, msg=key)
    assert all(gate.bias.any() for gate in free_gates(model))


def other_dropout(model: SASRec) -> list[object]:
    """All that drops something but ids, as it is set."""
    shares: list[object] = [module.share for module in model.modules() if isinstance(module, Dropout)]
    shares += [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    shares += [vars(module).get(name) for module in model.modules() for name in ("dropout", "dropout_p", "kept")]
    return [*shares, model.config, model.item_tower.fusion.gate.config.expert_dropout]


def hidden_share(model: SASRec) -> float:
    """Share of trained items whose id is not read, counted."""
    plain = model.eval().item_tower.embed()[2:, 0]
    model.train()
    drawn = torch.stack([model.item_tower.embed()[2:, 0] for _ in range(200)])
    return float(((drawn - plain).abs().amax(-1) > 0).float().mean())


def what_else_is_dropped(model: SASRec) -> torch.Tensor:
    """Outputs in training that do not hang on any id: of the experts, and of the encoder for given item vectors."""
    from moerec.batches.sequences import sequence_batch

    model.train()
    torch.manual_seed(5)
    inputs = torch.randn(50, 4, 8)
    mixed = model.item_tower.fusion(inputs)
    users = model.encode_events(sequence_batch([[3, 4, 5, 6], [7, 8]]), torch.randn(NUM_INDICES, 8))
    return torch.cat([mixed, users])


def test_ids_alone_are_annealed() -> None:
    """The trap: one knob for all dropout would leave the model without regularisation at the end."""
    model, fixed = make_model(), make_model(anneal=False)
    settings, outputs = other_dropout(model), what_else_is_dropped(model)
    assert hidden_share(model) == pytest.approx(0.6, abs=0.03)
    for update, share in ((6, 0.3), (UPDATES, 0.0)):
        for each in (model, fixed):
            AnnealedIdDropout().before_step(Moment(each, STAGE, 0, update, UPDATES))
        assert hidden_share(model) == pytest.approx(share, abs=0.03)
        assert hidden_share(fixed) == pytest.approx(0.6, abs=0.03), "only where the recipe asks for it"
        assert other_dropout(model) == settings
        torch.testing.assert_close(what_else_is_dropped(model), outputs, rtol=0, atol=0)
