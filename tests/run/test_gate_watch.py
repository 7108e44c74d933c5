"""Gates watched while validation rows are predicted: what is recorded is what they do, whatever the blocks."""

import numpy as np
import pytest
import torch

from moerec.models import predict
from moerec.models.predict import gate_weights, predict_rows
from moerec.models.rankers.ple import PLEConfig
from moerec.models.rankers.shared_bottom import SharedBottomConfig
from moerec.nn.gates import utilisation
from moerec.run import gate_watch
from moerec.run.gate_watch import GateWatch
from tests.models.rankers.random_examples import SCHEMA, TASKS, example_table, labels_of, statistics_of

ROWS = 90
TABLE = example_table(ROWS)
MASKS = {name: torch.from_numpy(target.mask) for name, target in labels_of(TABLE).items()}


def model_of(config):
    torch.manual_seed(0)
    model = config.build(SCHEMA, TASKS, statistics_of(TABLE))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model.train()


@pytest.mark.parametrize("block", [7, 32, ROWS])
@pytest.mark.parametrize("most", [10, 40, 4096])
def test_the_summary_is_the_utilisation_of_evenly_spaced_rows(monkeypatch, block, most):
    monkeypatch.setattr(predict, "ROWS_AT_ONCE", block)
    monkeypatch.setattr(gate_watch, "MOST_ROWS", most)
    model, watch = model_of(PLEConfig(width=4)), GateWatch(MASKS)
    places = np.arange(0, ROWS, -(-ROWS // most))
    assert len(places) <= most
    for _ in range(2):  # the second validation forgets the first
        predict_rows(model, TABLE, watch=watch)
    found = watch.summary()
    weights = gate_weights(model, TABLE, places)
    assert found.keys() == weights.keys() == model.expert_names().keys()
    for gate, of_gate in weights.items():
        own = of_gate[MASKS[gate][places]] if gate in MASKS else of_gate
        use = utilisation(torch.from_numpy(own))
        assert found[gate] == pytest.approx(
            {"entropy": use.entropy, "max_over_mean_load": use.max_over_mean_load, "dead": use.dead}, abs=1e-5
        )


def test_watching_changes_no_prediction():
    model = model_of(PLEConfig(width=4))
    watched = predict_rows(model, TABLE, watch=GateWatch(MASKS))
    for name, scores in predict_rows(model, TABLE).items():
        np.testing.assert_array_equal(watched[name], scores)
    assert model.training


def test_a_model_without_gates_and_a_task_without_rows_leave_nothing():
    watch = GateWatch(MASKS)
    predict_rows(model_of(SharedBottomConfig(width=4)), TABLE, watch=watch)
    assert watch.summary() == {}
    watch = GateWatch(MASKS | {"like": torch.zeros(ROWS, dtype=torch.bool)})
    predict_rows(model_of(PLEConfig(width=4, levels=1)), TABLE, watch=watch)
    assert set(watch.summary()) == {task.name for task in TASKS} - {"like"}
