from importlib.metadata import EntryPoint
from typing import Annotated, Any

import pytest
from pydantic import Field, SerializeAsAny, ValidationError, field_validator, model_validator

from moerec import config as module
from moerec.config import Config, Discovered, discover, gathered, implementations, kind_of, validate
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


class SectionConfig(Config):
    model: Annotated[SerializeAsAny[Config], Discovered("model", "section", beside="kind")]
    """The model, its keys beside those of the section."""
    trials: int = 1
    """The section's own."""

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, values: Any) -> Any:
        return gathered(cls, values)


class HolderConfig(Config):
    one: Annotated[SerializeAsAny[Config] | None, Discovered("model", "one")] = None
    """One model, or none."""
    several: Annotated[dict[str, SerializeAsAny[Config]], Discovered("model", "several")] = Field(default={})
    """Several with names."""
    section: SectionConfig | None = None
    """A section."""


def refusal(values: dict[str, Any], where: str = "", config_type: type[Config] = ModelConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(config_type, values, where)
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


@pytest.mark.usefixtures("points")
def test_a_marked_field_holds_the_kind_that_is_named() -> None:
    small, large = {"kind": "small", "epochs": 3}, {"kind": "large", "width": 5}
    made = validate(HolderConfig, {"one": small, "several": {"a": large, "b": small}})
    assert made.one == StageConfig(epochs=3)
    assert made.several == {"a": ModelConfig(width=5), "b": StageConfig(epochs=3)}
    assert validate(HolderConfig, {"one": None}) == HolderConfig()
    # A configuration is kept as it is, and dumped with its kind and all its keys.
    assert HolderConfig(one=made.one, several=made.several) == made
    assert made.model_dump()["several"]["b"] == {"kind": "small", "epochs": 3, "rate": 0.1}
    assert validate(HolderConfig, made.model_dump()) == made
    assert kind_of("model", made.several["a"]) == "large"


@pytest.mark.usefixtures("points")
def test_keys_of_the_kind_are_told_from_those_of_the_section() -> None:
    flat = {"kind": "small", "epochs": 3, "trials": 2}
    made = validate(SectionConfig, flat)
    assert (made.trials, made.model) == (2, StageConfig(epochs=3))
    assert validate(SectionConfig, {"model": {"kind": "small", "epochs": 3}, "trials": 2}) == made
    assert SectionConfig(model=StageConfig(epochs=3), trials=2) == made
    assert flat == {"kind": "small", "epochs": 3, "trials": 2}, "what was given stays as it was"


@pytest.mark.usefixtures("points")
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"one": {"epochs": 3}}, "one.kind: this key is required; known kinds: large, small"),
        ({"one": {"kind": "small", "epoch": 3}}, "one.epoch: unknown key; did you mean 'epochs'?"),
        ({"one": 3}, "one: expected keys and values, got 3"),
        ({"several": [3]}, "several: expected keys and values, got [3]"),
        ({"several": {"a": 3}}, "several.a: expected keys and values, got 3"),
        ({"several": {"a": {"kind": "smal"}}}, "several.a.kind: unknown model 'smal'; did you mean 'small'?"),
        ({"several": {"a": {"kind": "small", "epoch": 3}}}, "several.a.epoch: unknown key; did you mean 'epochs'?"),
        ({"section": 3}, "section: expected keys and values, got 3"),
        ({"section": {}}, "section.kind: this key is required; known kinds: large, small"),
        ({"section": {"knd": "small"}}, "section.knd: unknown key; did you mean 'kind'?"),
        ({"section": {"kind": "small", "epoch": 3}}, "section.epoch: unknown key; did you mean 'epochs'?"),
        ({"section": {"kind": "small", "trails": 3}}, "section.trails: unknown key; did you mean 'trials'?"),
        ({"section": {"kind": "small", "width": 3}}, "section.width: unknown key; known keys: epochs, rate, trials"),
        ({"section": {"kind": "small", "model": 3}}, "section.model: unknown key; known keys: epochs, rate, trials"),
        ({"section": {"kind": "small", "epochs": 0}}, "section.epochs: epochs must be at least 1"),
        ({"section": {"model": {"kind": "small"}, "epochs": 3}}, "section.epochs: unknown key; "),
    ],
)
def test_a_mistake_in_a_marked_field_is_told_with_its_path(values: dict[str, Any], says: str) -> None:
    assert refusal(values, config_type=HolderConfig).startswith(says)


def test_the_package_offers_its_own_implementations() -> None:
    assert implementations("retriever")["sasrec"] == "moerec.models.sasrec:SASRecConfig"
