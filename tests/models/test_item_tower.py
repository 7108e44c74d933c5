"""The item tower: cold items by content, id dropout, one vector wherever an item appears."""

import pytest
import torch

from moerec.batches.sequences import sequence_batch
from moerec.errors import ConfigError
from moerec.models.item_tower import ItemTower, ItemTowerConfig
from moerec.models.sasrec import SASRecConfig
from tests.models.test_registered import NUM_INDICES, feature_table


def trained_but(*cold: int) -> torch.Tensor:
    trained = torch.ones(NUM_INDICES, dtype=torch.bool)
    trained[[0, 1, *cold]] = False
    return trained


def tower(trained: torch.Tensor, **settings: object) -> ItemTower:
    torch.manual_seed(0)
    made = ItemTower(ItemTowerConfig(**settings), 8, trained, feature_table())
    torch.nn.init.normal_(made.id_embedding.weight) if made.config.use_id else None
    return made.eval()


def test_a_cold_items_id_is_never_read_and_a_trained_ones_is():
    made = tower(trained_but(5))
    before = made(torch.tensor([5, 6]))
    with torch.no_grad():
        made.id_embedding.weight[5] += 10
        made.id_embedding.weight[6] += 10
    after = made(torch.tensor([5, 6]))
    torch.testing.assert_close(after[0], before[0])
    assert (after[1] - before[1]).abs().max() > 1


def test_two_cold_items_differ_by_content_and_are_equal_without_it():
    vectors = tower(trained_but(5, 6))(torch.tensor([5, 6]))
    assert (vectors[0] - vectors[1]).abs().max() > 1e-3
    vectors = tower(trained_but(5, 6), features=())(torch.tensor([5, 6]))
    torch.testing.assert_close(vectors[0], vectors[1])


def test_id_dropout_is_for_training_alone_and_hides_the_stated_share():
    made = tower(trained_but(), id_dropout=0.4, features=("text",), fusion="sum")
    plain = made()
    torch.testing.assert_close(made(), plain)
    made.train()
    torch.manual_seed(1)
    hidden = torch.stack([(made() - plain).abs().sum(1) > 0 for _ in range(50)])[:, 2:]
    assert float(hidden.float().mean()) == pytest.approx(0.4, abs=0.05)


def test_a_subset_of_items_has_the_vectors_of_the_whole():
    made = tower(trained_but(5))
    torch.testing.assert_close(made(torch.tensor([7, 2, 5])), made()[[7, 2, 5]])


def test_history_and_target_share_one_vector():
    """Changing an item's features must move it both as a candidate and as an event of a history."""
    torch.manual_seed(0)
    model = SASRecConfig(item_tower=ItemTowerConfig(use_id=False)).build(trained_but(), feature_table()).eval()
    batch = sequence_batch([[3, 6]])
    users, items = model.encode_users(batch), model.encode_items()
    with torch.no_grad():
        model.item_tower.column_text[6] += 3
    assert (model.encode_users(batch) - users).abs().max() > 1e-4
    changed = (model.encode_items() - items).abs().sum(1) > 1e-4
    assert changed.nonzero().flatten().tolist() == [6]


def test_an_unknown_feature_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"no item feature 'colour'.*genres, year, text"):
        tower(trained_but(), features=("colour",))


def test_an_item_needs_an_id_or_a_feature():
    with pytest.raises(ValueError, match="needs an id or a feature"):
        ItemTowerConfig(use_id=False, features=())
    with pytest.raises(ConfigError, match="neither an id nor a feature"):
        ItemTower(ItemTowerConfig(use_id=False), 8, trained_but(), None)


def test_mixture_reports_its_gate_and_a_sum_has_none():
    weights = tower(trained_but()).gate_weights()
    assert weights.shape == (NUM_INDICES, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(NUM_INDICES))
    assert tower(trained_but(), fusion="sum").gate_weights() is None
