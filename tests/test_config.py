from importlib.metadata import EntryPoint
from typing import Any

import pytest
from pydantic import Field, ValidationError, field_validator

from moerec import config as module
from moerec.config import Config, discover, implementations, validate
from moerec.errors import ConfigError, MoerecError


class StageConfig(Config):
    epochs: int = 1
    """How often."""
    rate: float = 0.1
    """How fast."""

    @field_validator("epochs")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("epochs must be at least 1")
        return value


class ModelConfig(Config):
    width: int
    """How wide."""
    main: StageConfig = StageConfig()
    """The main stage."""
    extra: StageConfig | None = None
    """An optional one."""
    stages: list[StageConfig] = Field(default_factory=list)
    """Several."""
    named: dict[str, StageConfig] = Field(default_factory=dict)
    """Several with names."""


def refusal(values: dict[str, Any], where: str = "") -> str:
    with pytest.raises(ConfigError) as caught:
        validate(ModelConfig, values, where)
    assert "\n" not in str(caught.value), "one line"
    assert isinstance(caught.value, MoerecError)
    return str(caught.value)


def test_good_values_become_a_configuration() -> None:
    made = validate(ModelConfig, {"width": 3, "stages": [{"epochs": 2}]})
    assert made.width == 3
    assert made.stages[0] == StageConfig(epochs=2)


def test_a_configuration_cannot_be_changed() -> None:
    made = ModelConfig(width=3)
    with pytest.raises(ValidationError, match="frozen"):
        made.width = 4  # type: ignore[misc]


def test_field_docstrings_are_descriptions() -> None:
    assert ModelConfig.model_fields["width"].description == "How wide."


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"width": 3, "mian": {}}, "mian"),
        ({"width": 3, "main": {"epoch": 2}}, "main.epoch"),
        ({"width": 3, "extra": {"epoch": 2}}, "extra.epoch"),
        ({"width": 3, "stages": [{}, {"epoch": 2}]}, "stages[1].epoch"),
        ({"width": 3, "named": {"first": {"epoch": 2}}}, "named.first.epoch"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path_and_the_nearest_key(values: dict[str, Any], path: str) -> None:
    message = refusal(values, "recipe.yaml: model")
    assert message.startswith(f"recipe.yaml: model.{path}: unknown key")
    assert f"did you mean '{'main' if path == 'mian' else 'epochs'}'?" in message


def test_a_key_like_no_other_gets_the_list() -> None:
    assert refusal({"width": 3, "main": {"zzz": 2}}) == "main.zzz: unknown key; known keys: epochs, rate"


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({}, ["width: this key is required"]),
        ({"width": "wide"}, ["width: ", "got 'wide'"]),
        ({"width": 3, "main": {"epochs": 0}}, ["main.epochs: epochs must be at least 1"]),
        ({"width": 3, "main": {"rate": float("nan")}}, ["main.rate: "]),
        ({"width": "wide", "main": {"epochs": 0}}, ["width: ", "(and 1 more)"]),
    ],
)
def test_wrong_values_are_told_in_one_line(values: dict[str, Any], parts: list[str]) -> None:
    message = refusal(values)
    assert message.startswith(parts[0])
    assert all(part in message for part in parts)


def test_a_printed_configuration_shows_what_differs_from_the_defaults() -> None:
    assert repr(ModelConfig(width=3, main=StageConfig(epochs=2))) == "ModelConfig(width=3, main=StageConfig(epochs=2))"


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "moerec.model": [
            EntryPoint("small", f"{__name__}:StageConfig", "moerec.model"),
            EntryPoint("large", f"{__name__}:ModelConfig", "moerec.model"),
        ]
    }
    monkeypatch.setattr(module, "entry_points", lambda group: known.get(group, []))


@pytest.mark.usefixtures("points")
def test_kind_selects_the_implementation() -> None:
    assert type(discover("model", {"kind": "small", "epochs": 3})).__name__ == "StageConfig"
    assert set(implementations("model")) == {"small", "large"}
    assert implementations("loss") == {}


@pytest.mark.usefixtures("points")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "recipe.model.kind: this key is required; known kinds: large, small"),
        ({"kind": "smal"}, "recipe.model.kind: unknown model 'smal'; did you mean 'small'?"),
        ({"kind": 7}, "recipe.model.kind: unknown model '7'; known kinds: large, small"),
        ({"kind": "small", "epoch": 1}, "recipe.model.epoch: unknown key; did you mean 'epochs'?"),
    ],
)
def test_a_wrong_kind_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        discover("model", values, "recipe.model")
    assert str(caught.value) == message


def test_the_package_offers_its_own_implementations() -> None:
    assert implementations("retriever")["sasrec"] == "moerec.models.sasrec:SASRecConfig"
