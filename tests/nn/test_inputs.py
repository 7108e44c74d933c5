"""The input layer: every kind of feature, missing values, own widths."""

import pytest
import torch

from moerec.features.spec import FeatureSpec
from moerec.nn.inputs import FeatureInputs, FeatureTable

SPECS = (
    FeatureSpec(name="decade", kind="categorical"),
    FeatureSpec(name="genres", kind="multi", dim=3),
    FeatureSpec(name="price", kind="dense"),
    FeatureSpec(name="text", kind="vector"),
)
SIZES = {"decade": 5, "genres": 7, "price": 1, "text": 6}


def columns() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    return (
        {
            "decade": torch.tensor([2, 0, 4]),
            "genres": torch.tensor([[2, 5, 0], [0, 0, 0], [6, 0, 0]]),
            "price": torch.tensor([0.5, 9.0, -1.0]),
            "text": torch.randn(3, 6),
        },
        {"price": torch.tensor([True, False, True]), "text": torch.tensor([True, False, True])},
    )


@pytest.fixture
def layer() -> FeatureInputs:
    torch.manual_seed(1)
    return FeatureInputs(SPECS, SIZES, width=4)


def test_shape_and_gradient_to_every_parameter(layer):
    out = layer(*columns())
    assert out.shape == (3, 4, 4)
    out.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_a_missing_value_does_not_look_at_what_stands_in_its_cell(layer):
    values, present = columns()
    before = layer(values, present)
    values["price"][1], values["text"][1] = 1e6, torch.full((6,), 1e6)
    torch.testing.assert_close(layer(values, present), before)


def test_a_missing_value_is_not_a_vector_of_zeros(layer):
    out = layer(*columns())
    assert (out[1].abs().sum(-1) > 1e-4).all()


def test_several_values_are_averaged_in_any_order_and_number_of_empty_cells(layer):
    values, present = columns()
    before = layer(values, present)
    values["genres"] = torch.tensor([[0, 5, 0, 2], [0, 0, 0, 0], [0, 0, 6, 0]])
    torch.testing.assert_close(layer(values, present), before)
    single = layer.embed["feature_genres"].inner.table.weight
    expected = layer.embed["feature_genres"].out((single[2] + single[5]) / 2)
    torch.testing.assert_close(before[0, 1], expected)


@pytest.mark.parametrize("name", ["type", "items", "keys", "values", "training", "forward", "feature"])
def test_any_name_is_a_good_name(name):
    spec = FeatureSpec(name=name, kind="categorical")
    layer = FeatureInputs([spec], {name: 4}, width=4)
    assert layer({name: torch.tensor([1, 2])}, {}).shape == (2, 1, 4)


def test_select_keeps_the_order_asked_for():
    values, present = columns()
    table = FeatureTable(SPECS, SIZES, values, present).select(["text", "decade"])
    assert [spec.name for spec in table.specs] == ["text", "decade"]
    with pytest.raises(KeyError):
        table.select(["colour"])
