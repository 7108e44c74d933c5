"""Loss-free balance over updates: what moves the biases, what does not, and that processes agree.

Shape letters: N rows, E experts.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from moerec.config import discover
from moerec.nn.gates import Gate, TopKGateConfig
from moerec.training.balance import LossFreeBalance, free_gates
from moerec.training.hooks import Moment
from moerec.training.ranking import RankingObjective
from moerec.training.stages import RankerStageConfig
from tests.models.rankers.random_examples import SCHEMA, TASKS, batch_of, example_table, labels_of, statistics_of

WORLD, UPDATES, WIDTH, EXPERTS = 2, 12, 5, 6
STAGE = RankerStageConfig(epochs=1)


def after_step(model: nn.Module) -> None:
    LossFreeBalance().after_step(Moment(model=model, stage=STAGE, epoch=0, update=1, total_updates=1))


def two_gates() -> nn.ModuleList:
    """The same in every process."""
    torch.manual_seed(0)
    config = TopKGateConfig(k=2, balance={"kind": "loss_free", "rate": 0.01})
    gates = nn.ModuleList(config.build(WIDTH, EXPERTS) for _ in range(2))
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.add_(torch.randn_like(parameter))
    return gates.train()


def biases_over_updates(rank: int, world: int) -> torch.Tensor:
    """Biases [updates, gates, E] of a process that sees every `world`-th row."""
    gates, seen = two_gates(), []
    rows = torch.randn(UPDATES, 101, WIDTH, generator=torch.Generator().manual_seed(1))
    for update in range(UPDATES):
        for gate in gates:
            gate(rows[update, rank::world])
        after_step(gates)
        seen.append(torch.stack([gate.bias.clone() for gate in gates]))
    return torch.stack(seen)


def process(rank: int, folder: str) -> None:
    """One of several processes that train together."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    torch.save(biases_over_updates(rank, WORLD), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_agree_on_the_biases_of_all_rows(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(process, (str(tmp_path),), nprocs=WORLD)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]
    together = biases_over_updates(0, 1)
    assert together.any()
    for biases in found:
        torch.testing.assert_close(biases, together, rtol=0, atol=0)
    # Without each other they would have come to other biases.
    assert not all(torch.equal(biases_over_updates(rank, WORLD), together) for rank in range(WORLD))


def loss_free_model(**fields: object) -> nn.Module:
    torch.manual_seed(0)
    gate = {"kind": "top_k", "k": 1, "balance": {"kind": "loss_free", "rate": 0.01}}
    config = discover("ranker", {"kind": "mmoe", "width": 4, "gate": gate, **fields})
    return config.build(SCHEMA, TASKS, statistics_of(example_table(64)))


def test_micro_batches_of_one_update_count_together_and_evaluation_not_at_all() -> None:
    table = example_table(64)
    biases = []
    for parts in (1, 4):
        model = loss_free_model(dropout=0.0, id_dropout=0.0)
        objective = RankingObjective(model, table, np.arange(64), labels_of(table), seed=0)
        for rows in np.array_split(np.arange(64), parts):
            objective.loss(STAGE, batch_of(table, rows))
            model.eval()(batch_of(table, rows))
            model.train()
        after_step(model)
        biases.append(torch.stack([gate.bias for gate in free_gates(model)]))
    assert biases[0].any()
    torch.testing.assert_close(biases[0], biases[1], rtol=0, atol=0)


def test_the_bias_of_a_gate_that_does_not_train_stays() -> None:
    """A stage that freezes a gate freezes its bias too."""
    gates = two_gates()
    gates[0].requires_grad_(False)
    rows = torch.randn(40, WIDTH)
    for gate in gates:
        gate(rows)
    after_step(gates)
    assert [bool(gate.bias.any()) for gate in gates] == [False, True]
    assert not any(gate.load.any() for gate in gates)


def test_a_bias_evens_out_the_load_of_a_skewed_stream() -> None:
    """Without it nearly every row goes to one expert."""
    torch.manual_seed(0)
    gate: Gate = TopKGateConfig(k=1, balance={"kind": "loss_free", "rate": 0.02}).build(WIDTH, EXPERTS).train()
    with torch.no_grad():
        gate.scores[-1].weight.normal_(std=0.3)
        gate.scores[-1].bias[0] = 2.0
    rows = torch.randn(2000, WIDTH)
    largest = lambda: float((gate.eval()(rows).weights > 0).float().mean(0).max())  # noqa: E731
    before = largest()
    for _ in range(100):
        gate.train()(rows)
        after_step(gate)
    assert before > 0.8
    assert largest() < 1.6 / EXPERTS
