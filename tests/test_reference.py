"""The reference tells the truth: what it says about types, bounds and defaults is what recipes accept."""

import contextlib
import copy
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from moerec.cli import app
from moerec.config import Config, implementations
from moerec.engines.local import LocalEngineConfig
from moerec.errors import ConfigError
from moerec.losses.retrieval import FullSoftmaxConfig
from moerec.models.baselines.base import Choice, Range
from moerec.models.ranking_baselines import MeansConfig
from moerec.recipe import apply_override, parse_recipe
from moerec.reference import RECIPE, as_markdown, as_text, inside, look_up, main, sections, told

PAGE = Path(__file__).parents[1] / "docs/reference/recipe.md"
KNOWN = sections(own=True)
KEYS = [(section, key) for section in KNOWN for key in section.keys]
IN_RECIPE = [(section, key) for section, key in KEYS if key.path]
ROLES = [
    ("source", "dataset"),
    ("feature", "causal_features"),
    ("retriever", "retriever"),
    ("baseline", "baselines"),
    ("ranker", "ranker"),
    ("ranking_baseline", "ranking_baselines"),
    ("weighting", "training.ranker.weighting"),
    ("retrieval_loss", "training.retriever.loss"),
    ("engine", "examples.engine"),
]

MODALITIES = {
    "text": {"fields": [{"column": "title"}]},
    "image": {"column": "image", "folder": "x"},
    "vectors": {"path": "x.npy", "ids": "x.csv"},
}


def base_recipe(section, key) -> dict:
    """A recipe of a section's kind, in which the key can be left out."""

    def chosen(place: str, kinds, otherwise: str) -> str:
        """The kind that the section is about, or another."""
        kind = section.name.removeprefix(f"{place}.").split(".")[0]
        return kind if section.name != kind and kind in kinds else otherwise

    source = chosen("dataset", implementations("source"), "synthetic")
    modality = chosen("modalities", MODALITIES, "text")
    # A picture is found by its column or in its folder; one of the two may be left out.
    given = {name: value for name, value in MODALITIES[modality].items() if modality != "image" or name != key.name}
    feature = chosen("causal_features", implementations("feature"), "clock")
    weighting = chosen("training.ranker.weighting", implementations("weighting"), "fixed")
    loss = chosen("training.retriever.loss", implementations("retrieval_loss"), "full_softmax")
    task = {"name": "like", "label": "rating"}
    if key.path == "ranker.tasks[*].label":
        task = {"name": "met", "population": "reviews+negatives"}
    recipe = {
        "name": "base",
        "dataset": dict.fromkeys(required(f"dataset.{source}"), "x") | {"source": source, "candidates": [{}]},
        "modalities": {"chosen": {"kind": modality} | copy.deepcopy(given)},
        "features": [{"name": "year", "kind": "dense"}],
        "causal_features": {"chosen": dict.fromkeys(required(f"causal_features.{feature}"), "chosen")},
        "retriever": {"kind": chosen("retriever", implementations("retriever"), "sasrec")},
        "ranker": {"kind": chosen("ranker", implementations("ranker"), "mmoe"), "tasks": [task]},
        "training": {
            "retriever": [{"epochs": 3, "loss": {"kind": loss}}],
            "ranker": [{"epochs": 3, "weighting": {"kind": weighting}}],
        },
    }
    if key.path.startswith("examples."):
        engine = chosen("examples.engine", implementations("engine"), "local")
        recipe["dataset"] = {"source": "amazon_reviews"}
        # What has the value null by default is there, so that its own keys can be set.
        recipe["examples"] = {"negatives": {}, "tokens": {}, "pictures": {"form": "array"}, "engine": {"kind": engine}}
        if key.path.startswith("examples.item_text.fields"):
            recipe["examples"]["item_text"] = {"fields": [{"column": "title", "marker": "[TITLE]"}]}
        if key.path == "examples.pictures.form":
            recipe["examples"]["pictures"] = {}
    recipe["causal_features"]["chosen"]["kind"] = feature
    for part, otherwise in (("expert", "mlp"), ("gate", "dense")):
        if section.name.startswith(f"ranker.{part}."):
            recipe["ranker"][part] = {"kind": chosen(f"ranker.{part}", implementations(part), otherwise)}
    tower = "retriever.item_tower.gate"
    if section.name.startswith(f"{tower}."):
        recipe["retriever"]["item_tower"] = {"gate": {"kind": chosen(tower, implementations("gate"), "dense")}}
    if section.name == "training.retriever.action_weights":
        balanced = {"column": "rating", "kind": "class_balanced"}
        fixed = {"column": "rating", "weights": {"5": 2.0}}
        recipe["training"]["retriever"][0]["action_weights"] = fixed if key.name in ("column", "kind") else balanced
    if key.path == "retriever":
        del recipe["retriever"]
    return recipe


def required(name: str) -> list[str]:
    """The keys of a section that a recipe must have."""
    return [entry.name for entry in look_up(name, KNOWN)[0].keys if entry.default is None]


def with_value(section, key, text: str) -> dict:
    values = base_recipe(section, key)
    apply_override(values, f"{key.path.replace('<name>', 'chosen')}={text}")
    return values


def names(entry) -> str:
    return entry.name


def test_the_committed_page_is_up_to_date(capsys):
    assert main(["--check", str(PAGE)]) == 0, "python -m moerec.reference > docs/reference/recipe.md"


def test_check_finds_an_old_page(tmp_path, capsys):
    old = tmp_path / "recipe.md"
    assert main(["--check", str(old)]) == 1
    old.write_text(as_markdown().replace("`42`", "`43`"))
    assert main(["--check", str(old)]) == 1
    assert str(old) in capsys.readouterr().err
    assert main([]) == 0
    old.write_text(capsys.readouterr().out)
    assert main(["--check", str(old)]) == 0


def test_every_field_of_every_configuration_of_a_recipe_is_there():
    told_of = {(section.name, key.name) for section, key in KEYS}
    for role, parent in ROLES:
        for kind, value in implementations(role).items():
            if not value.startswith("moerec."):
                continue
            (section,) = look_up(f"{parent}.{kind}")
            module, _, name = value.partition(":")
            config = getattr(__import__(module, fromlist=[name]), name)
            assert issubclass(config, Config)
            assert {(section.name, field) for field in config.model_fields} <= told_of


@pytest.mark.parametrize(("section", "key"), KEYS, ids=names)
def test_each_key_is_told_in_plain_words(section, key):
    assert len(key.meaning) > 8
    assert key.meaning.endswith((".", "..."))
    assert not re.search(r"\bclass\b|typing|Literal|Optional|None|\bint\b|\bstr\b|Config", key.type)


@pytest.mark.parametrize(
    ("section", "key"),
    [(section, key) for section, key in IN_RECIPE if key.default is not None and "section" not in key.type],
    ids=names,
)
def test_writing_a_default_changes_nothing(section, key):
    if key.name in ("epochs", "updates"):
        pytest.skip("one of the two is given in every stage")
    assert parse_recipe(with_value(section, key, key.default)) == parse_recipe(base_recipe(section, key))


@pytest.mark.parametrize(("section", "key"), [pair for pair in IN_RECIPE if pair[1].default is None], ids=names)
def test_a_required_key_cannot_be_left_out(section, key):
    values = base_recipe(section, key)
    place = values
    *above, last = key.path.replace("<name>", "chosen").replace("[*]", ".0").split(".")
    for part in above:
        place = place[int(part)] if part.isdigit() else place[part]
    del place[last]
    if key.path == "training.retriever[*].loss.kind":
        assert isinstance(parse_recipe(values).training.retriever[0].loss, FullSoftmaxConfig)
        return
    if key.path == "examples.engine.kind":
        assert isinstance(parse_recipe(values).examples.engine, LocalEngineConfig)
        return
    with pytest.raises(ConfigError, match=rf"\b{last}\b"):
        parse_recipe(values)


@pytest.mark.parametrize(
    ("section", "key"),
    [pair for pair in IN_RECIPE if re.search("at least|above|at most|below|one of", pair[1].type)],
    ids=names,
)
def test_what_lies_outside_of_the_bounds_is_refused(section, key):
    beyond = []
    for words, value in re.findall(r"(at least|above|at most|below) ([\d.,]+\d|\d)", key.type):
        limit = float(value.replace(",", ""))
        step = {"at least": -1, "above": 0, "at most": 1, "below": 0}[words]
        beyond.append(int(limit + step) if "whole" in key.type else limit + step)
    beyond += ["nothing-of-the-kind"] if "one of" in key.type else []
    assert beyond
    for value in beyond:
        written = [value] if key.type.startswith("list of") else value
        with pytest.raises(ConfigError, match=rf"\b{key.name}\b"):
            parse_recipe(with_value(section, key, yaml.safe_dump(written)))


def test_null_is_accepted_exactly_where_the_type_says_so():
    # One of epochs and updates is given, and one size of a batch; without a ranker much else must go; candidates tell
    # in words what null is.
    special = ("epochs", "updates", "batch_size", "ranker", "candidates")
    for section, key in IN_RECIPE:
        if key.name not in special and "section" not in key.type:
            says_so = pytest.raises(ConfigError, match=rf"\b{key.name}\b")
            with contextlib.nullcontext() if "null" in key.type else says_so:
                parse_recipe(with_value(section, key, "null"))


def test_what_tuning_tries_is_told(monkeypatch):
    tried = {
        "offsets": Choice(("both", "both", "items")),
        "rounds": Choice((1, 3)),
        "item_shrinkage": Range(0.5, 2000, log=True),
    }
    monkeypatch.setattr(MeansConfig, "search_space", classmethod(lambda cls: tried))
    told_of = {key.name: key.meaning for key in look_up("ranking_baselines.means")[0].keys}
    assert told_of["offsets"].endswith(" Tuning tries both (2 of 3), items (1 of 3).")
    assert told_of["rounds"].endswith(" Tuning tries 1, 3.")
    assert told_of["item_shrinkage"].endswith(" Tuning tries 0.5 to 2,000, evenly in the logarithm.")
    assert "Tuning" not in told_of["user_shrinkage"]


def test_every_section_and_key_is_found_by_name_and_by_path():
    names_of_sections = [section.name for section in KNOWN]
    for section in KNOWN:
        assert section in look_up(section.name, KNOWN)
        assert not section.path or look_up(section.path, KNOWN)
        for key in section.keys:
            name = f"{section.name}.{key.name}"
            found = look_up(name, KNOWN)
            if name in names_of_sections:
                assert [other.name for other in found] == [name]
            else:
                assert key in [other_key for other in found for other_key in other.keys]
            assert not key.path or look_up(key.path.replace("[*]", "[0]"), KNOWN)
    towers = [f"retriever.{kind}.item_tower" for kind in ("hstu", "ligr", "sasrec")]
    assert [section.name for section in look_up("retriever.item_tower", KNOWN)] == towers
    assert [key.path for section in look_up("epochs", KNOWN) for key in section.keys] == [
        "training.retriever[*].epochs",
        "training.ranker[*].epochs",
    ]


@settings(max_examples=40)
@given(st.data())
def test_a_typo_gives_near_matches(data):
    name = data.draw(st.sampled_from([section.name for section in KNOWN if len(section.name) > 7]))
    place = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:place] + "q" + name[place + 1 :]
    with pytest.raises(ConfigError, match="did you mean") as caught:
        look_up(wrong, KNOWN)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=25)
@given(st.integers(60, 140))
def test_lines_keep_to_the_width(width):
    for section in KNOWN:
        for line in as_text(section, width).split("\n")[2:]:
            # A word that is longer than its column may stick out, a sentence may not.
            assert len(line) <= width or len(line.split()[-1]) > width // 2


def test_sections_know_what_is_inside_them():
    assert inside(look_up("training")[0], KNOWN) == ["training.retriever", "training.ranker"]
    assert inside(look_up("ranker")[0], KNOWN) == [
        *(f"ranker.{kind}" for kind in implementations("ranker")),
        "ranker.expert",
        "ranker.gate",
        "ranker.tasks",
        "ranker.negatives",
    ]
    reached = {name for section in KNOWN for name in inside(section, KNOWN)}
    assert reached == {section.name for section in KNOWN} - {RECIPE}
    assert "training.retriever.loss" in told("training.retriever")
    assert "Inside" not in told("training.retriever.epochs")


def test_what_other_packages_bring_is_shown_but_not_documented(tmp_path, monkeypatch):
    package = tmp_path / "other-0.1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 0.1\n")
    roles = ("source", "feature", "ranker")
    (package / "entry_points.txt").write_text(
        "".join(f"[moerec.{role}]\nother = other_source:OtherConfig\n" for role in roles)
    )
    (tmp_path / "other_source.py").write_text(
        "from moerec.config import Config\n"
        "class OtherConfig(Config):\n"
        "    '''Another source.'''\n"
        "    where: str\n"
        "    '''Where it is.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for parent, path, selector in (
        ("dataset", "dataset", "source"),
        ("causal_features", "causal_features.<name>", "kind"),
        ("ranker", "ranker", "kind"),
    ):
        (section,) = look_up(f"{parent}.other")
        assert [(key.name, key.path, key.default) for key in section.keys] == [
            (selector, f"{path}.{selector}", None),
            ("where", f"{path}.where", None),
        ]
        assert section.name not in [other.name for other in sections(own=True)]
        if parent != "causal_features":
            assert "other" in next(key.type for key in look_up(parent)[0].keys if key.name == selector)
    assert as_markdown() == PAGE.read_text(encoding="utf-8")


def test_the_command_prints_a_part_and_refuses_a_typo():
    runner = CliRunner()
    shown = runner.invoke(app, ["keys", "evaluation"])
    assert shown.exit_code == 0
    assert "cutoffs" in shown.output
    assert "Name of the run" in runner.invoke(app, ["keys"]).output
    assert isinstance(runner.invoke(app, ["keys", "evalution"]).exception, ConfigError)
