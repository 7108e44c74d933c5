"""The input layer of rankers: what each kind of feature becomes, what is missing, what meets in pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.features.spec import FeatureSpec
from moerec.nn.example_inputs import ExampleInputs, ExampleInputsConfig, VectorProjection
from tests.models.rankers.random_examples import SCHEMA, batch_of, example_table


def make(**fields) -> ExampleInputs:
    torch.manual_seed(0)
    layer = ExampleInputs(SCHEMA, ExampleInputsConfig(**{"width": 4, "id_dropout": 0.0, **fields}))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


@pytest.fixture
def batch() -> ExampleBatch:
    return batch_of(example_table(30))


def changed(batch: ExampleBatch, name: str, values: torch.Tensor) -> ExampleBatch:
    return replace(batch, columns={**batch.columns, name: values})


@pytest.mark.parametrize("interactions", [True, False])
def test_the_width_is_what_it_says(batch, interactions):
    layer = make(interactions=interactions)
    # 5 fields 4 wide (user, item, genres, text, history) and their pairs, 2 of 3 and 1 of 2 wide, 2 numbers and flags.
    assert layer.output_width == 5 * 4 + (10 if interactions else 0) + 2 * 3 + 2 + 4
    assert layer(batch).shape == (30, layer.output_width)


def test_pairs_are_the_dot_products_of_all_fields(batch):
    layer, plain = make(), make(interactions=False)
    plain.load_state_dict(layer.state_dict())
    without = plain(batch)
    start = next(
        place for place in range(8) if torch.equal(without[:, place : place + 20], layer(batch)[:, place : place + 20])
    )
    fields = without[:, start : start + 20].view(30, 5, 4)
    products = [(fields[:, a] * fields[:, b]).sum(1) for a in range(5) for b in range(a + 1, 5)]
    found = layer(batch)[:, start + 20 : start + 30]
    torch.testing.assert_close(found, torch.stack(products, dim=1))


@pytest.mark.parametrize(("name", "junk"), [("price", 1e6), ("price", float("nan")), ("text", 1e6), ("mood", 1e6)])
def test_a_missing_value_does_not_look_at_what_stands_in_its_cell(batch, name, junk):
    layer = make()
    before = layer(batch)
    values, present = batch.columns[name], batch.present[name]
    mask = present if values.dim() == 1 else present[:, None]
    out = layer(changed(batch, name, torch.where(mask, values, junk)))
    torch.testing.assert_close(out, before, rtol=0, atol=0)
    out.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in layer.parameters())


def test_a_missing_vector_is_a_learned_one_and_a_missing_number_raises_a_flag(batch):
    layer = make(interactions=False)
    gone = replace(batch, present={name: torch.zeros_like(here) for name, here in batch.present.items()})
    before = layer(gone)
    with torch.no_grad():
        layer.project["feature_text"].missing.add_(1.0)
    torch.testing.assert_close((layer(gone) - before).sum(1), torch.full((30,), 4.0))
    there = replace(batch, present={name: torch.ones_like(here) for name, here in batch.present.items()})
    values, flags = before[:, -4:-2], before[:, -2:]
    assert torch.equal(flags, torch.tensor([[1.0, 0.0]]).expand(30, -1))
    assert values[:, 0].eq(0).all()
    assert layer(there)[:, -2:].eq(0).all()


def test_a_number_without_a_mask_is_present(batch):
    layer = make()
    there = replace(batch, present={**batch.present, "count": torch.ones(30, dtype=torch.bool)})
    assert "count" not in batch.present
    torch.testing.assert_close(layer(batch), layer(there))


def test_numbers_keep_their_order_and_far_ones_stay_near(batch):
    layer = make()
    numbers = torch.linspace(-1e4, 1e4, 30)
    place = layer.output_width - 3  # count
    out = layer(changed(batch, "count", numbers))[:, place]
    assert (out.diff() > 0).all()
    assert out.abs().max() < 10


@pytest.mark.parametrize("extra", [1, 5])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_more_padding_of_history_and_multi_values_changes_nothing(batch, extra, pooling):
    layer = make(history_pooling=pooling)
    before = layer(batch)
    empty = torch.zeros(30, extra, dtype=torch.int64)
    wide = changed(batch, "history", torch.cat([empty, batch.columns["history"]], dim=1))
    wide = changed(wide, "genres", torch.cat([batch.columns["genres"], empty], dim=1))
    torch.testing.assert_close(layer(wide), before)


def test_history_and_candidate_share_their_embeddings(batch):
    layer = make(history_pooling="mean", interactions=False)
    one = changed(batch, "history", batch.columns["item"].clamp(min=1).unsqueeze(1))
    one = changed(one, "item", batch.columns["item"].clamp(min=1))
    fields = layer(one)
    found = [fields[:, place : place + 4] for place in range(fields.shape[1] - 4)]
    item = layer.embed["width_4"]({**one.columns})["item"][:, 0]
    assert sum(torch.equal(part, item) for part in found) == 2


def test_without_an_item_the_history_has_embeddings_of_its_own(batch):
    specs = tuple(spec for spec in SCHEMA.specs if spec.name != "item")
    layer = ExampleInputs(ExampleSchema(specs, SCHEMA.sizes), ExampleInputsConfig(width=4))
    layer(batch).sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())


def test_another_number_of_codes_than_the_item_is_refused():
    schema = ExampleSchema(SCHEMA.specs, {**SCHEMA.sizes, "history": 99})
    with pytest.raises(ValueError, match="feature 'history': 99 codes, but 'item' has 15"):
        ExampleInputs(schema, ExampleInputsConfig())


def test_a_kind_that_is_not_read_is_refused():
    schema = ExampleSchema((FeatureSpec(name="words", kind="tokens"),), {"words": 5})
    with pytest.raises(ValueError, match="feature 'words': kind 'tokens'"):
        ExampleInputs(schema, ExampleInputsConfig())


def test_hidden_ids_are_the_unknown_ones_in_training_alone(batch):
    layer = make(id_dropout=0.5)
    layer.train()
    torch.manual_seed(0)
    plain = layer.eval()(batch)
    unknown = {name: changed(batch, name, torch.ones_like(batch.columns[name])) for name in ("user", "item")}
    hidden = {name: layer(one) for name, one in unknown.items()}
    neither = layer(changed(unknown["user"], "item", torch.ones_like(batch.columns["item"])))
    seen = torch.zeros(4)
    layer.train()
    for _ in range(20):
        out = layer(batch)
        choices = torch.stack([plain, hidden["user"], hidden["item"], neither], dim=1)  # each row is one of these
        gaps, which = (choices - out[:, None]).abs().amax(2).min(1)
        assert gaps.max() < 1e-5
        seen += torch.bincount(which, minlength=4)
    assert (seen > 60).all()


def test_an_unknown_user_starts_as_nothing():
    torch.manual_seed(0)
    layer = ExampleInputs(SCHEMA, ExampleInputsConfig(width=4))
    table = layer.embed["width_4"]
    for name in ("user", "item"):
        assert table.weight[table.first_rows[name] + 1].eq(0).all()
        assert table.weight[table.first_rows[name] + 2].ne(0).any()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_any_scale_of_a_vector_starts_alike(unit):
    torch.manual_seed(0)
    projection, values = VectorProjection(5, 3), torch.randn(4, 5)
    scaled = values / values.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(projection(values * unit, None), projection.out(scaled))


def test_a_vector_of_zeros_stays_finite():
    projection = VectorProjection(5, 3)
    torch.testing.assert_close(projection(torch.zeros(1, 5), None), projection.out.bias[None])


def test_a_batch_of_codes_alone_and_one_of_numbers_alone():
    categorical = ExampleSchema((FeatureSpec(name="user", kind="categorical"),), {"user": 5})
    dense = ExampleSchema((FeatureSpec(name="price", kind="dense"),), {"price": 1})
    codes = ExampleBatch({"user": torch.tensor([0, 4])})
    numbers = ExampleBatch({"price": torch.tensor(np.array([0.5, -1.0], np.float32))})
    assert ExampleInputs(categorical, ExampleInputsConfig(width=4))(codes).shape == (2, 4)
    assert ExampleInputs(dense, ExampleInputsConfig(width=4))(numbers).shape == (2, 2)


def test_a_number_that_is_not_squashed_arrives_as_it_is(batch):
    plain = replace(
        SCHEMA,
        specs=tuple(
            spec.model_copy(update={"squash": False}) if spec.name == "price" else spec for spec in SCHEMA.specs
        ),
    )
    layers = [ExampleInputs(schema, ExampleInputsConfig(width=4)).eval() for schema in (SCHEMA, plain)]
    layers[1].load_state_dict(layers[0].state_dict())
    far = changed(batch, "price", torch.linspace(-1e4, 1e4, 30))
    squashed, linear = (layer(far)[:, -4:] for layer in layers)  # price, count, and what is missing of them
    present = batch.present["price"]
    values = torch.where(present, far.columns["price"], 0.0)
    torch.testing.assert_close(linear[:, 0], values)
    torch.testing.assert_close(squashed[:, 0], values.sign() * values.abs().log1p())
    torch.testing.assert_close(linear[:, 1:], squashed[:, 1:])


def test_codes_alone_equal_those_that_are_taken_apart():
    """Without a history the embeddings of a width stay one tensor; the order is that of the features."""
    names = ("user", "item", "shop", "town")
    specs = tuple(FeatureSpec(name=name, kind="categorical", dim=2 if name == "shop" else None) for name in names)
    schema = ExampleSchema(specs, dict(zip(names, (9, 8, 7, 6), strict=True)))
    torch.manual_seed(0)
    layer = ExampleInputs(schema, ExampleInputsConfig(width=4, interactions=False)).eval()
    codes = {name: torch.randint(0, 6, (5,)) for name in names}
    found = {}
    for embedding in layer.embed.values():
        found |= embedding(codes)
    expected = torch.cat([found[name].flatten(1) for name in ("user", "item", "town", "shop")], dim=1)
    assert torch.equal(layer(ExampleBatch(codes)), expected)
