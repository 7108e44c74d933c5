"""Experts and gates from a user's own file: found, saved, loaded again, and one line where they do not fit."""

import sys
from pathlib import Path

import polars as pl
import pytest
import torch

from moerec import RankingModel
from moerec.batches.example_builder import ExampleBuilder
from moerec.config import validate
from moerec.errors import CheckpointError, ConfigError
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.rankers.saved import load_ranker, save_ranker
from tests.batches.small_examples import SPLIT, small_dataset
from tests.models.rankers.random_examples import SCHEMA, TASKS, batch_of, example_table, statistics_of

OWN = '''
from torch import nn
from moerec.nn.experts import ExpertConfig, ExpertList
from moerec.nn.gates import TopKGateConfig


class TwinConfig(ExpertConfig):
    """Experts with a first layer in common."""

    hidden: int = 8
    """Width of the layer."""

    def build(self, experts, width_in, dropout):
        first = nn.Linear(width_in, self.hidden)
        return ExpertList([nn.Sequential(first, nn.ReLU(), nn.Linear(self.hidden, 6)) for _ in range(experts)], 6)


class AbsoluteGateConfig(TopKGateConfig):
    """Top-K on the size of the scores."""

    def scores(self, width_in, experts):
        return Absolute(super().scores(width_in, experts))


class Absolute(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).abs()
'''
RECIPE = {
    "width": 4,
    "expert": {"kind": "own_file:TwinConfig", "hidden": 5},
    "gate": {"kind": "own_file:AbsoluteGateConfig"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The current folder; modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_file.py").write_text(OWN)
    yield tmp_path
    forget(tmp_path)


def forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
            del sys.modules[name]


def test_a_saved_model_with_own_classes_loads_where_they_can_be_imported_and_only_there(folder, monkeypatch):
    torch.manual_seed(0)
    dataset = small_dataset()
    builder = ExampleBuilder.fit(dataset, SPLIT, causal_features={}, specs=(), vectors={}, history_length=4)
    statistics = statistics_of(example_table(50), TASKS[:2])
    ranker = validate(MMoEConfig, RECIPE).build(builder.schema, TASKS[:2], statistics)
    model = RankingModel.of(ranker, builder, dataset)
    pairs = pl.DataFrame({"user_id": ["0", "1", "2"], "item_id": [dataset.items["item_id"][0]] * 3})
    expected = model.predict(pairs)
    model.save_pretrained(folder / "saved")

    forget(folder)  # as in another process
    loaded = RankingModel.from_pretrained("saved")
    assert loaded.predict(pairs).equals(expected)
    assert type(loaded.ranker.config.expert).__name__ == "TwinConfig"
    assert loaded.ranker.config.expert.hidden == 5

    forget(folder)
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    with pytest.raises(CheckpointError) as caught:
        RankingModel.from_pretrained(folder / "saved")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{folder / 'saved' / 'ranker'}: ranker.expert.kind: 'own_file:TwinConfig' cannot be")
    assert message.endswith("have the module in the current folder, on PYTHONPATH or installed")


def test_a_layer_that_experts_share_is_saved_and_comes_back(folder):
    torch.manual_seed(0)
    model = validate(MMoEConfig, RECIPE).build(SCHEMA, TASKS, statistics_of(example_table(50))).eval()
    assert model.experts.experts[0][0] is model.experts.experts[1][0]
    save_ranker(folder, model)
    loaded, batch = load_ranker(folder), batch_of(example_table(20))
    assert loaded.experts.experts[0][0] is loaded.experts.experts[1][0]
    torch.testing.assert_close(loaded(batch), model(batch), rtol=0, atol=0)


EXPERT = "from torch import nn\nfrom moerec.nn.experts import ExpertConfig\nclass Own(ExpertConfig):\n    '''Own.'''\n"

GATE = "from moerec.nn.gates import GateConfig\nclass Own(GateConfig):\n    pass\n"


@pytest.mark.parametrize(
    ("code", "kind", "says"),
    [
        (None, "expert", "'broken:Own' cannot be imported (No module named 'broken'); write MODULE:CLASS, and have"),
        ("", "expert", "'broken:Own' cannot be imported (module 'broken' has no attribute 'Own'); write MODULE:CLASS"),
        (
            "\nx = no\n",
            "expert",
            "raises NameError when it is imported: name 'no' is not defined (broken.py, line 2); m",
        ),
        ("def f(:\n", "expert", "raises SyntaxError when it is imported: invalid syntax (broken.py, line 1); mend it"),
        ("import not_there\n", "gate", "raises ModuleNotFoundError when it is imported: No module named 'not_there' ("),
        ("raise SystemExit(3)\n", "expert", "raises SystemExit when it is imported: 3 (broken.py, line 1); mend it"),
        ("class Own: pass\n", "expert", "'broken:Own' is no expert; derive it from moerec.nn.experts.ExpertConfig"),
        ("def Own(): pass\n", "gate", "'broken:Own' is no gate; derive it from moerec.nn.gates.GateConfig"),
        (EXPERT, "gate", "'broken:Own' is no gate; derive it from moerec.nn.gates.GateConfig"),
        (EXPERT, "expert", "Own lacks build_one(width_in, dropout) -> (module, width); write it"),
        (GATE, "gate", "'broken:Own' lacks scores; write it"),
    ],
)
def test_an_own_class_that_does_not_fit_is_told_with_one_line(folder, code, kind, says):
    if code is not None:
        (folder / "broken.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        validate(MMoEConfig, {kind: {"kind": "broken:Own"}}, "own.yaml: ranker")
    assert str(caught.value).startswith(f"ranker.{kind}")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("nn.Linear(width_in, 4)", "Own.build_one gives no pair; return the module and its output width"),
        ("(nn.Linear(width_in, 4), 5)", r"expert Own: it gives \[3, 4\] for 3 rows, not \[3, 5\]; .* must name it"),
        (
            "(nn.Linear(width_in + 1, 4), 4)",
            r"expert Own: it cannot read rows \[3, 6\] \(mat1 and mat2 shapes.*\); it m",
        ),
        ("(nn.LSTM(width_in, 4), 4)", r"expert Own: it gives tuple for 3 rows, not \[3, 4\]"),
        (
            "(nn.Linearr(width_in, 4), 4)",
            r"Own.build_one raises AttributeError: .*Linearr.* \(broken.py, line 6\); mend",
        ),
    ],
)
def test_an_own_expert_that_is_not_what_it_says(folder, result, says):
    """Told when the model is made, before anything is trained."""
    (folder / "broken.py").write_text(f"{EXPERT}    def build_one(self, width_in, dropout):\n        return {result}\n")
    config = validate(MMoEConfig, {"expert": {"kind": "broken:Own"}}).expert
    with pytest.raises(ConfigError, match=says) as caught:
        config.build(3, 6, 0.0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            "nn.Linear(width_in, experts + 1)",
            r"Own.scores: it gives \[3, 5\] for 3 rows, not one logit for each expert",
        ),
        ("nn.Linear(1, experts)", r"Own.scores: it cannot read rows \[3, 6\] \(mat1 and mat2 shapes"),
        ("nn.Linear(width_in, few)", r"Own.scores raises NameError: name 'few' is not defined \(broken.py, line 4\)"),
    ],
)
def test_an_own_gate_that_is_not_what_it_should_be(folder, result, says):
    gate = GATE.replace("pass", f"def scores(self, width_in, experts):\n        return nn.Linear(1, 1) and {result}")
    (folder / "broken.py").write_text(f"from torch import nn; {gate}")
    config = validate(MMoEConfig, {"gate": {"kind": "broken:Own"}}).gate
    with pytest.raises(ConfigError, match=says) as caught:
        config.build(6, 4)
    assert "\n" not in str(caught.value)


def test_an_own_expert_whose_rows_see_each_other_is_told_of(folder):
    code = "(nn.Sequential(nn.Linear(width_in, 4), nn.TransformerEncoderLayer(4, 1)), 4)"
    (folder / "broken.py").write_text(f"{EXPERT}    def build_one(self, width_in, dropout):\n        return {code}\n")
    config = validate(MMoEConfig, {"expert": {"kind": "broken:Own"}}).expert
    with pytest.warns(UserWarning, match="expert Own lets the rows of a batch see each other"):
        config.build(1, 6, 0.0)
