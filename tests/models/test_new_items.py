"""A retriever with further items: for every kind, known items stay and new ones are their content."""

import pytest
import torch

from moerec.errors import ConfigError
from moerec.models.new_items import with_new_items
from tests.models.test_registered import NUM_INDICES, build, every_retriever, padded_times, timed_batch

COPIED = [5, 9, 12]
"""An item without train events, and two with; one of them lacks year and text."""


def grown(model):
    table = model.item_tower.table
    columns = {name: values[COPIED] for name, values in table.columns.items()}
    return with_new_items(model, len(COPIED), columns, {name: there[COPIED] for name, there in table.present.items()})


@every_retriever
def test_known_items_stay_and_new_ones_are_their_content(kind):
    model = build(kind).eval()
    larger, batch = grown(model), timed_batch([[3, 4, 5], [], [7]])
    assert larger.num_indices == NUM_INDICES + 3
    assert not larger.training
    scores = larger.score(batch)
    torch.testing.assert_close(scores[:, :NUM_INDICES], model.score(batch), rtol=0, atol=1e-5)
    model.item_tower.trained.zero_()
    torch.testing.assert_close(scores[:, NUM_INDICES:], larger.encode_users(batch) @ model.encode_items()[COPIED].T)
    ends = timed_batch([[4, NUM_INDICES], [4, 5]])
    one, other = larger.encode_padded(ends.padded_items(), ends.lengths, None, *padded_times(larger, ends))
    torch.testing.assert_close(one, other, msg="a copy of an item is the same event")


@every_retriever
def test_the_given_model_shares_nothing_with_the_larger_one(kind):
    model = build(kind).eval()
    before = model.encode_items()
    with torch.no_grad():
        for parameter in grown(model).parameters():
            parameter.add_(1)
    torch.testing.assert_close(model.encode_items(), before, rtol=0, atol=0)


def test_what_belongs_to_each_item_cannot_grow():
    model = build("sasrec").eval()
    config = type(model.config)

    class Tied(config):
        def build(self, trained, table=None):
            made = super().build(trained, table)
            made.item_bias = torch.nn.Parameter(torch.zeros(len(trained)))
            return made

    tied = Tied.model_validate(model.config.model_dump()).build(model.item_tower.trained, model.item_tower.table)
    with pytest.raises(ConfigError, match=r"'item_bias' belongs to the items it was trained on; train again"):
        grown(tied)
