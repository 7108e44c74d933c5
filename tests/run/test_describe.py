"""What is told of the item tower: the use of experts or of inputs by kind of item, as the model itself gives it."""

import numpy as np
import pytest
import torch

from moerec.evaluation.slices import head_items
from moerec.run.describe import describe_experts
from tests.models.test_item_tower import FUSIONS, retriever
from tests.models.test_registered import NUM_INDICES

COUNTS = np.array([0, 0, 9, 8, 1, 0, *[1] * (NUM_INDICES - 6)])
"""Train events of each item; item 5 is new."""


@pytest.mark.parametrize("name", FUSIONS)
def test_the_gate_is_told_as_the_model_weighs(name):
    model = retriever(name)
    told = describe_experts(model, COUNTS)
    experts, inputs = model.item_tower.gate_weights(), model.item_tower.input_weights()
    if experts is None and inputs is None:
        assert name in ("sum", "concat")
        assert told is None
        return
    weights = (inputs if experts is None else experts).detach()[2:]
    section = told["inputs"] if experts is None else told
    if experts is None:
        assert set(told) == {"inputs"}
        assert section["names"] == ["id", "maker", "genres", "year", "text", "picture"]
    else:
        assert told["gate"] == FUSIONS[name]["gate"]["kind"]
        assert told["selected"] == (model.config.item_tower.gate.kept or 4)
    torch.testing.assert_close(torch.tensor(section["mean_weight"]), weights.mean(0))
    head = head_items(COUNTS)[2:]
    groups = {"all": [True] * len(weights), "head": head, "tail": ~head & (COUNTS[2:] > 0), "new": COUNTS[2:] == 0}
    assert section["by_group"]["columns"] == list(groups)
    for place, chosen in enumerate(groups.values()):
        column = [row[place] for row in section["by_group"]["rows"]]
        torch.testing.assert_close(torch.tensor(column), weights[torch.tensor(np.asarray(chosen))].mean(0))
