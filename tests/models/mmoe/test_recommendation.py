"""The model of users and items: unknown ids, what is refused, export, saving."""

import pytest
import torch

from moerec.errors import CheckpointError
from moerec.models.mmoe import MMoEModel, MMoERecommendationModel
from tests.models.mmoe.examples import small_recommender


def test_unknown_ids_share_one_learned_row_and_nobody_elses():
    model = small_recommender()
    known = model(torch.tensor([3]), torch.tensor([4]))
    unknown = [model(torch.tensor([user]), torch.tensor([4])) for user in (-1, -7, 20, 10**12)]
    for other in unknown[1:]:
        torch.testing.assert_close(other, unknown[0], rtol=0, atol=0)
    assert all((a - b).abs() > 1e-4 for a, b in zip(known, unknown[0], strict=True))
    unknown_item = model(torch.tensor([3]), torch.tensor([30]))
    assert all((a - b).abs() > 1e-4 for a, b in zip(unknown_item, known, strict=True))
    assert torch.equal(model(torch.tensor([20]), torch.tensor([4]))[0], unknown[0][0])
    users = torch.arange(20, dtype=torch.uint8)
    torch.testing.assert_close(model(users, users), model(users.long(), users.long()), rtol=0, atol=0)


def test_the_unknown_row_learns_from_unknown_ids_and_from_dropped_ones():
    asked = torch.arange(20), torch.arange(20)
    for id_dropout, users in ((0.5, asked[0]), (0.0, asked[0] - 1), (0.0, asked[0])):
        model = small_recommender(id_dropout=id_dropout).train()
        torch.manual_seed(1)
        sum(prediction.sum() for prediction in model(users, asked[1])).backward()
        learned = bool(model.user_embedding.weight.grad[20].any())
        assert learned == (id_dropout > 0 or bool((users < 0).any()))


@pytest.mark.parametrize(
    ("fields", "inputs", "says"),
    [
        ({}, (torch.zeros(3), torch.zeros(3).long()), "user_ids: ids must be whole numbers, got torch.float32"),
        ({}, (torch.zeros(3, 2).long(), torch.zeros(3).long()), r"user_ids: got \[3, 2\], give \[rows\] or"),
        ({"num_dense_features": 2}, (torch.arange(3), torch.arange(3)), r"dense_features: .* needs \[rows, 2\]"),
        ({}, (torch.arange(3), torch.arange(3), torch.ones(3, 2)), "num_dense_features is 0; leave them out"),
        ({"num_dense_features": 2}, (torch.arange(3), torch.arange(3), torch.ones(3, 1)), r"give \[rows, 2\]"),
    ],
)
def test_inputs_that_do_not_fit(fields, inputs, says):
    with pytest.raises(ValueError, match=says):
        small_recommender(**fields)(*inputs)


def test_the_recommendation_model_exports():
    model, rows = small_recommender(num_dense_features=3), torch.export.Dim("rows", min=2, max=4096)
    inputs = (torch.arange(8), torch.arange(8), torch.randn(8, 3))
    exported = torch.export.export(model, inputs, dynamic_shapes=({0: rows},) * 3).module()
    other = (torch.arange(-2, 25), torch.arange(9, 36), torch.randn(27, 3))
    torch.testing.assert_close(exported(*other), model(*other), atol=1e-5, rtol=1e-5)


def test_a_saved_recommendation_model(tmp_path):
    model = small_recommender(num_dense_features=2, id_dropout=0.3)
    model.save_pretrained(tmp_path)
    loaded = MMoERecommendationModel.from_pretrained(tmp_path)
    inputs = torch.arange(-1, 22), torch.arange(-1, 22), torch.randn(23, 2)
    torch.testing.assert_close(loaded(*inputs), model(*inputs), rtol=0, atol=0)
    assert loaded.config == model.config
    with pytest.raises(CheckpointError, match="holds a mmoe_recommendation_model, not a mmoe_model"):
        MMoEModel.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="cannot be read"):
        MMoERecommendationModel.from_pretrained(tmp_path)
