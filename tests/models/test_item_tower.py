"""The item tower: cold items by content, id dropout, one vector wherever an item appears."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from moerec.batches.sequences import sequence_batch
from moerec.config import validate
from moerec.errors import ConfigError
from moerec.features.spec import FeatureSpec
from moerec.models.item_tower import ItemTower, ItemTowerConfig
from moerec.models.sasrec import SASRec, SASRecConfig
from moerec.models.saved import load_retriever, save_retriever
from moerec.nn.inputs import FeatureTable
from tests.models.test_registered import NUM_INDICES, feature_table
from tests.order_of_sums import sums_in_any_order

LOSS_FREE = {"kind": "loss_free", "rate": 0.1}
FUSIONS: dict[str, dict[str, Any]] = {
    "sum": {"fusion": "sum"},
    "concat": {"fusion": "concat"},
    "senet": {"fusion": "senet"},
    "sigmoid gates": {"fusion": "gated"},
    "softmax gates": {"fusion": "gated", "input_gate": "softmax"},
    "dense mixture": {"fusion": "mixture", "gate": {"kind": "dense", "hidden": [5], "temperature": 0.7}},
    "top-k mixture": {"fusion": "mixture", "gate": {"kind": "top_k", "k": 2, "balance": LOSS_FREE}},
    "noisy mixture": {"fusion": "mixture", "gate": {"kind": "noisy_top_k", "k": 2, "balance": LOSS_FREE}},
    "attention mixture": {"fusion": "mixture", "gate": {"kind": "attention", "k": 3, "balance": {"kind": "auxiliary"}}},
    "sleepy mixture": {"fusion": "mixture", "gate": {"kind": "dense", "expert_dropout": 0.4}},
}
RANDOM = ("noisy mixture", "sleepy mixture")
"""Those that draw in training."""
every_fusion = pytest.mark.parametrize("name", FUSIONS)


def trained_but(*cold: int) -> torch.Tensor:
    trained = torch.ones(NUM_INDICES, dtype=torch.bool)
    trained[[0, 1, *cold]] = False
    return trained


def tower(trained: torch.Tensor, **settings: object) -> ItemTower:
    torch.manual_seed(0)
    made = ItemTower(ItemTowerConfig(**settings), 8, trained, feature_table())
    torch.nn.init.normal_(made.id_embedding.weight) if made.config.use_id else None
    return made.eval()


def full_table() -> FeatureTable:
    """Every kind of input that an item may have."""
    table, generator = feature_table(), torch.Generator().manual_seed(4)
    specs = (
        FeatureSpec(name="maker", kind="categorical"),
        *table.specs,
        FeatureSpec(name="picture", kind="vector", dim=3),
    )
    maker = torch.randint(0, 5, (NUM_INDICES,), generator=generator)
    picture = torch.randn(NUM_INDICES, 6, generator=generator)
    there = torch.arange(NUM_INDICES) % 3 > 0
    return FeatureTable(
        specs,
        {**table.sizes, "maker": 5, "picture": 6},
        {**table.columns, "maker": maker, "picture": picture},
        {**table.present, "picture": there},
    )


def retriever(name: str, **settings: object) -> SASRec:
    """A model with one of the fusions, away from its start: gates lean, and biases of a balance have moved."""
    torch.manual_seed(0)
    tower = validate(ItemTowerConfig, {"id_dropout": 0.0, **FUSIONS[name], **settings})
    model = SASRecConfig(width=8, blocks=1, feed_forward=8, dropout=0.0, item_tower=tower).build(
        trained_but(5), full_table()
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        for key, buffer in model.named_buffers():
            if key.endswith("gate.bias"):
                buffer.copy_(torch.tensor([0.3, -0.3, 0.1, 0.0]))
    return model.eval()


CLOSE = {"rtol": 0.0, "atol": 1e-5}


@every_fusion
def test_training_evaluation_and_a_saved_model_give_one_vector(name: str, tmp_path: Path) -> None:
    model = retriever(name)
    batch, items = sequence_batch([[3, 4, 5], [9], []]), torch.tensor([5, 2, 7, 29])
    users, vectors = model.encode_users(batch), model.encode_items()
    if name not in RANDOM:
        model.train()
        torch.testing.assert_close(model.encode_items(), vectors, **CLOSE)
        torch.testing.assert_close(model.encode_items_with_gate()[0], vectors, **CLOSE)
        torch.testing.assert_close(model.encode_users(batch), users, **CLOSE)
        model.eval()
    torch.testing.assert_close(model.encode_items(items), vectors[items], **CLOSE)
    save_retriever(tmp_path, model)
    loaded = load_retriever(tmp_path)
    torch.testing.assert_close(loaded.encode_items(), vectors, rtol=0, atol=0)
    torch.testing.assert_close(loaded.encode_users(batch), users, rtol=0, atol=0)


@every_fusion
def test_gradients_add_up_in_a_fixed_order(name: str) -> None:
    model = retriever(name).train()
    with sums_in_any_order() as unordered:
        model.encode_items(torch.tensor([5, 2, 2, 7, 29, 7])).square().sum().backward()
    assert not unordered


class Catalogue(torch.nn.Module):
    """The vectors of items by each fusion."""

    def __init__(self, models: list[SASRec]) -> None:
        super().__init__()
        self.models = torch.nn.ModuleList(models)

    def forward(self, items: torch.Tensor) -> list[torch.Tensor]:
        return [model.encode_items(items) for model in self.models]


def test_export_gives_the_vectors_of_training() -> None:
    """Loss-free biases among them: a gate that is left out, or two blocks in another order, would show."""
    names = ("sum", "concat", "senet", "sigmoid gates", "softmax gates", "top-k mixture")
    catalogue = Catalogue([retriever(name) for name in names])
    some = {0: torch.export.Dim("items", min=2, max=4096)}
    exported = torch.export.export(catalogue, (torch.tensor([5, 2, 7]),), dynamic_shapes=(some,)).module()
    every = torch.arange(NUM_INDICES)
    for found, expected in zip(exported(every), catalogue.train()(every), strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


@every_fusion
def test_no_part_of_a_fusion_is_skipped(name: str) -> None:
    """Every weight, and the bias of a balance, moves the vectors: what training learns is what is exported."""
    model = retriever(name)
    before = model.encode_items()
    state = {key: value for key, value in model.item_tower.fusion.state_dict().items() if "scores.noise" not in key}
    assert state or name == "sum"
    for key, value in state.items():
        kept = value.clone()
        value.add_(torch.randn_like(value))
        assert (model.encode_items() - before).abs().max() > 1e-4, key
        value.copy_(kept)
    torch.testing.assert_close(model.encode_items(), before, rtol=0, atol=0)


@every_fusion
def test_noise_and_dropout_are_for_training_alone(name: str) -> None:
    model = retriever(name, dropout=0.3, id_dropout=0.4)
    torch.manual_seed(3)
    plain = model.encode_items()
    torch.testing.assert_close(model.encode_items(), plain, rtol=0, atol=0)
    model.train()
    assert (model.encode_items() - model.encode_items()).abs().max() > 1e-3
    torch.testing.assert_close(model.eval().encode_items(), plain, rtol=0, atol=0)
    quiet = retriever(name).train()
    drawn = (quiet.encode_items() - quiet.encode_items()).abs().max()
    assert (drawn > 1e-3) == (name in RANDOM)


@every_fusion
@pytest.mark.parametrize("spec", full_table().specs, ids=lambda spec: f"{spec.kind}:{spec.name}")
def test_each_kind_of_input_moves_its_items_score_and_no_other(name: str, spec: FeatureSpec) -> None:
    model, batch, item = retriever(name), sequence_batch([[3, 9]]), 7
    before = model.score(batch)[0]
    column = getattr(model.item_tower, f"column_{spec.name}")
    with torch.no_grad():
        column[item] = (column[item] + 1) % 5 if spec.kind in ("categorical", "multi") else column[item] + 2
    moved = (model.score(batch)[0] - before).abs() > 1e-5
    assert moved.nonzero().flatten().tolist() == [item]


@pytest.mark.parametrize("missing", ["year", "text", "picture"])
def test_a_missing_value_is_not_read_and_has_a_vector_of_its_own(missing: str) -> None:
    model, item = retriever("dense mixture"), 12
    tower = model.item_tower
    assert not getattr(tower, f"present_{missing}")[item]
    before = tower(torch.tensor([item]))
    with torch.no_grad():
        getattr(tower, f"column_{missing}")[item] += 5
        torch.testing.assert_close(tower(torch.tensor([item])), before, rtol=0, atol=0)
        getattr(tower, f"present_{missing}")[item] = True
        assert (tower(torch.tensor([item])) - before).abs().max() > 1e-3


def test_several_values_are_a_set_however_many_places_there_are() -> None:
    table = full_table()
    genres = table.columns["genres"].clone()
    genres[9] = torch.tensor([4, 2, 0])
    wider = torch.nn.functional.pad(genres, (0, 4))
    wider[9] = torch.tensor([0, 2, 0, 0, 4, 0, 0])
    made = retriever("senet").item_tower
    vectors = []
    for values in (genres, wider):
        changed = ItemTower(made.config, 8, made.trained, replace(table, columns={**table.columns, "genres": values}))
        changed.load_state_dict(made.state_dict())
        vectors.append(changed.eval()())
    torch.testing.assert_close(vectors[0], vectors[1])


def test_the_temperature_of_the_first_form_is_that_of_the_gate() -> None:
    old = validate(ItemTowerConfig, {"temperature": 0.5})
    assert old == validate(ItemTowerConfig, {"gate": {"kind": "dense", "temperature": 0.5}})
    with pytest.raises(ConfigError, match="temperature: the gate has its own; write gate"):
        validate(ItemTowerConfig, {"temperature": 0.5, "gate": {"kind": "top_k"}})


def test_a_model_that_was_saved_in_the_first_form_is_read(tmp_path: Path) -> None:
    model = retriever("dense mixture", gate={"kind": "dense", "temperature": 0.6})
    save_retriever(tmp_path, model)
    saved = json.loads((tmp_path / "config.json").read_text())
    first = ("use_id", "features", "fusion", "experts", "expert_hidden", "dropout", "id_dropout")
    tower = {name: value for name, value in saved["config"]["item_tower"].items() if name in first}
    saved["config"]["item_tower"] = tower | {"temperature": 0.6}
    (tmp_path / "config.json").write_text(json.dumps(saved))
    torch.testing.assert_close(load_retriever(tmp_path).encode_items(), model.encode_items(), rtol=0, atol=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="only 2 experts; lower k"):
        validate(ItemTowerConfig, {"experts": 2, "gate": {"kind": "top_k", "k": 3}})
    with pytest.raises(ConfigError, match="no id dropout to anneal"):
        validate(ItemTowerConfig, {"id_dropout": 0, "id_dropout_anneal": True})


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


@pytest.mark.parametrize("fusion", ["senet", "gated"])
def test_fusions_that_weigh_inputs_report_a_weight_for_each(fusion: str) -> None:
    made = tower(trained_but(), fusion=fusion)
    assert made.gate_weights() is None
    torch.testing.assert_close(made.input_weights(), torch.ones(NUM_INDICES, len(made.input_names)))
    assert tower(trained_but()).input_weights() is None


def test_content_that_starts_at_zero_is_silent_first_and_learns() -> None:
    trained = trained_but()
    torch.manual_seed(0)
    made = ItemTower(ItemTowerConfig(fusion="sum", content_start="zero", id_dropout=0.0), 8, trained, feature_table())
    items = torch.arange(2, NUM_INDICES)
    torch.testing.assert_close(made(items), made.id_embedding(items), rtol=0, atol=0)
    made(items).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in made.inputs.named_parameters()}
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_content_of_two_layers_that_starts_at_zero_learns_too() -> None:
    table = feature_table()
    specs = tuple(spec.model_copy(update={"dim": 3}) for spec in table.specs)
    torch.manual_seed(0)
    config = ItemTowerConfig(fusion="sum", content_start="zero", id_dropout=0.0)
    made = ItemTower(config, 8, trained_but(), replace(table, specs=specs))
    items = torch.arange(2, NUM_INDICES)
    before = {name: parameter.clone() for name, parameter in made.inputs.named_parameters()}
    torch.testing.assert_close(made(items), made.id_embedding(items), rtol=0, atol=0)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(2):  # the first layer has a gradient as soon as the second one is no longer zero
        optimizer.zero_grad()
        made(items).square().sum().backward()
        optimizer.step()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in made.inputs.named_parameters())


def test_a_vector_of_length_one_that_starts_at_zero_has_a_usual_gradient() -> None:
    config = ItemTowerConfig(fusion="sum", content_start="zero", normalize=True, id_dropout=0.5)
    torch.manual_seed(0)
    made = ItemTower(config, 8, trained_but(), feature_table()).train()
    vectors = made(torch.arange(2, NUM_INDICES))
    lengths = vectors.norm(dim=1)
    assert ((lengths - 1).abs() < 1e-5).any()
    assert (lengths == 0).any(), "hidden ids without content yet"
    (vectors @ torch.randn(8)).sum().backward()
    largest = max(float(parameter.grad.abs().max()) for parameter in made.parameters() if parameter.grad is not None)
    assert largest < 1e4


def test_the_scale_of_vectors_scales_what_is_made_of_them() -> None:
    towers = []
    for scale in (1.0, 0.5):
        torch.manual_seed(0)
        towers.append(ItemTower(ItemTowerConfig(vector_scale=scale, id_dropout=0.0), 8, trained_but(), feature_table()))
    vectors = [made.embed(torch.arange(2, NUM_INDICES)) for made in towers]  # [N, F, D]
    names = towers[0].input_names
    bias = towers[0].inputs.embed["feature_text"].out.bias
    present = towers[0].present_text[2:]
    text = names.index("text")
    torch.testing.assert_close(2 * (vectors[1][present, text] - bias), vectors[0][present, text] - bias)
    others = [place for place in range(len(names)) if place != text]
    torch.testing.assert_close(vectors[1][:, others], vectors[0][:, others], rtol=0, atol=0)


def test_content_cannot_start_at_zero_without_ids() -> None:
    with pytest.raises(ConfigError, match="leaves nothing of an item without an id"):
        validate(ItemTowerConfig, {"use_id": False, "content_start": "zero"})
