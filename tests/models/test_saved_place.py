"""Saving a model: it takes the place of a model of its own kind, and destroys nothing else."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from moerec import RankingModel, Recommender
from moerec.batches.example_builder import ExampleBuilder
from moerec.config import validate
from moerec.dataset.schema import FIRST_ITEM
from moerec.errors import CheckpointError
from moerec.models.mmoe.model import MMoEModel
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.sasrec import SASRecConfig
from tests.batches.small_examples import SPLIT, small_dataset
from tests.models.rankers.random_examples import TASKS, example_table, statistics_of

Saver = Recommender | RankingModel | MMoEModel
KINDS = ("recommender", "two stages", "ranker", "mixture")


@pytest.fixture(scope="module")
def models() -> dict[str, Saver]:
    """A model of each kind that can be saved."""
    dataset = small_dataset()
    builder = ExampleBuilder.fit(dataset, SPLIT, causal_features={}, specs=(), vectors={}, history_length=4)
    rule = validate(MMoEConfig, {"width": 4, "experts": 2})
    ranker = RankingModel.of(
        rule.build(builder.schema, TASKS[:2], statistics_of(example_table(50), TASKS[:2])), builder, dataset
    )
    trained = torch.ones(dataset.num_indices, dtype=torch.bool)
    trained[:FIRST_ITEM] = False
    retriever = SASRecConfig(width=4, blocks=1, feed_forward=4, max_length=4).build(trained)
    recommender = Recommender.from_dataset(retriever, dataset)
    two = Recommender(recommender.model, recommender.items, recommender.histories, ranking=ranker)
    mixture = MMoEModel(3, expert_hidden_dims=(4,), tower_hidden_dims=())
    return {"recommender": recommender, "two stages": two, "ranker": ranker, "mixture": mixture}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def notes(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def another_library(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(b"weights")


def damaged(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("there", [notes, another_library, damaged])
def test_what_is_no_model_of_ours_stays(
    models: dict[str, Saver], kind: str, there: Callable[[Path], None], tmp_path: Path
) -> None:
    there(tmp_path / "mine")
    before = content(tmp_path)
    with pytest.raises(CheckpointError, match=r"is not empty and holds no .*; choose another folder") as caught:
        models[kind].save_pretrained(tmp_path / "mine")
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_only_a_model_of_the_same_kind_is_replaced(
    models: dict[str, Saver], kind: str, other: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    models[other].save_pretrained(folder)
    before = content(folder)
    if kind == other or (other, kind) == ("recommender", "two stages"):  # the latter only adds to it
        models[kind].save_pretrained(folder)
        assert content(folder).keys() >= before.keys()
        return
    with pytest.raises(CheckpointError, match="choose another folder"):
        models[kind].save_pretrained(folder)
    assert content(folder) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_stranger_among_the_files_of_a_model_is_not_lost(models: dict[str, Saver], kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    models[kind].save_pretrained(folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"also holds 'notes.txt'"):
        models[kind].save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "notes.txt").rename(folder / "README.md")
    models[kind].save_pretrained(folder)  # a card is written anew


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_the_way_is_told(models: dict[str, Saver], kind: str, tmp_path: Path) -> None:
    (tmp_path / "good.csv").write_text("x")
    with pytest.raises(CheckpointError, match=r"good.csv: a file stands there; choose a folder"):
        models[kind].save_pretrained(tmp_path / "good.csv")
    assert (tmp_path / "good.csv").read_text() == "x"


@pytest.mark.parametrize("kind", KINDS)
def test_a_link_to_a_folder_is_followed(models: dict[str, Saver], kind: str, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk", target_is_directory=True)
    models[kind].save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert any((tmp_path / "disk").iterdir())


def test_the_ranker_of_two_stages_does_not_replace_both(models: dict[str, Saver], tmp_path: Path) -> None:
    models["two stages"].save_pretrained(tmp_path / "model")
    before = content(tmp_path)
    with pytest.raises(CheckpointError, match="holds a saved retriever, which would be lost"):
        RankingModel.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "model")
    assert content(tmp_path) == before
    Recommender.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "model")
    assert content(tmp_path).keys() == before.keys()
