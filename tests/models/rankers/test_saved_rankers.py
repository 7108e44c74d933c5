"""What a saved ranker refuses: damaged files, other roles, weights of another model."""

import json

import pytest
import torch

from moerec.errors import CheckpointError
from moerec.models.rankers.mmoe import MMoEConfig
from moerec.models.rankers.saved import load_ranker, save_ranker
from moerec.models.saved import load_retriever
from tests.models.rankers.random_examples import SCHEMA, TASKS, example_table, statistics_of


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_ranker(tmp_path, MMoEConfig(width=4).build(SCHEMA, TASKS, statistics_of(example_table(50))))
    return tmp_path


def rewrite(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_but_json_and_safetensors_is_written(folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(CheckpointError, match="no saved model here"):
        load_ranker(tmp_path)


def test_a_ranker_is_no_retriever(folder):
    with pytest.raises(CheckpointError, match="holds a ranker, not a retriever"):
        load_retriever(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "model format 99"),
        ({"statistics": {}}, "describes no whole ranker"),
        ({"schema": {"specs": []}}, "describes no whole ranker"),
        ({"tasks": []}, "describes no whole ranker"),
        ({"config": {"width": 5}}, "the weights do not fit"),
    ],
)
def test_a_description_that_does_not_fit(folder, changes, message):
    rewrite(folder, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_ranker(folder)


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_ranker(folder)
