"""What a run writes down, what it makes once and finds again, and what it never looks at."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from moerec import Recommender
from moerec.errors import ConfigError
from moerec.features.columns import ColumnState
from moerec.models.saved import load_retriever
from moerec.run.prepare import item_details
from tests.small_run import do

ALL_BASELINES = "baselines.kinds=[popularity, recent_popularity, item_knn, ease, ease_recency, item_transitions]"


def read(directory: Path) -> dict[str, Any]:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} in metrics.json is no JSON")

    text = (directory / "metrics.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every baseline and given vectors, which some items lack."""
    folder = tmp_path_factory.mktemp("whole")
    vectors = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    (folder / "ids.json").write_text(json.dumps([str(1000 + number) for number in range(60)]))
    modality = f"modalities.given={{kind: vectors, path: {folder}/vectors.npy, ids: {folder}/ids.json}}"
    directory, _ = do(folder, [ALL_BASELINES, modality])
    return directory


# --- metrics.json


def assert_fraction(value: float) -> None:
    assert 0 <= value <= 1


def test_metrics_name_the_run_the_model_and_the_data(whole: Path) -> None:
    metrics = read(whole)
    assert (metrics["name"], metrics["seed"]) == ("small", 5)
    model, dataset = metrics["model"], metrics["dataset"]
    assert (model["kind"], model["trials"]) == ("sasrec", 1)
    saved = load_retriever(whole / "model")
    assert model["parameters"] == sum(parameter.numel() for parameter in saved.parameters())
    assert (dataset["name"], dataset["users"], dataset["items"]) == ("synthetic", 60, 72)
    assert dataset["source"]
    assert dataset["licence"]
    assert (dataset["rejected"], dataset["reject_reasons"]) == (0, {})
    assert_fraction(dataset["tie_share"])
    assert dataset["first"] <= dataset["last"]
    activity = dataset["events_per_user"]
    assert activity["min"] <= activity["median"] <= activity["max"]
    assert activity["mean"] == pytest.approx(dataset["events"] / dataset["users"], abs=0.1)
    given = dataset["modalities"]["given"]
    assert (given["dim"], given["present"], given["missing"]) == (6, 60, 12)
    assert given["encoder"]


def test_metrics_of_the_model_have_intervals_slices_and_lists(whole: Path) -> None:
    retrieval = read(whole)["retrieval"]
    names = {f"{metric}@{cutoff}" for metric in ("hr", "recall", "ndcg", "mrr") for cutoff in (5, 10)}
    assert names <= set(retrieval["valid"])
    assert names | {f"{name}/uniform20" for name in names} <= set(retrieval["test"])
    assert set(retrieval["intervals"]) == set(retrieval["test"])
    for name, value in retrieval["test"].items():
        low, high = retrieval["intervals"][name]
        assert low <= value <= high
        if "@" in name:
            assert_fraction(value)
    assert {"coverage@10", "novelty@10", "gini@10"} <= set(retrieval["beyond"])
    assert {"head", "tail", "new items", "known users", "new users"} <= set(retrieval["slices"])
    assert sum(retrieval["slices"][name]["cases"] for name in ("head", "tail", "new items")) == 60
    for values in retrieval["slices"].values():
        assert values["cases"] >= 0
        assert {"hr@10", "ndcg@10"} <= set(values) or values["cases"] == 0


def test_metrics_of_every_baseline_stand_beside_it(whole: Path) -> None:
    retrieval = read(whole)["retrieval"]
    kinds = {"popularity", "recent_popularity", "item_knn", "ease", "ease_recency", "item_transitions"}
    assert set(retrieval["baselines"]) == set(retrieval["baseline_details"]) == kinds
    for kind, details in retrieval["baseline_details"].items():
        assert set(retrieval["baselines"][kind]) == set(retrieval["test"])
        assert details["trials"] == (1 if kind == "popularity" else 2)
        assert isinstance(details["config"], dict)
        cases = {name: values["cases"] for name, values in retrieval["slices"].items()}
        assert {name: values["cases"] for name, values in details["slices"].items()} == cases
        assert {"valid", "intervals", "slices", "beyond"} <= set(details)
        against = details["against_model"]
        assert against["metric"] == "ndcg@10"
        difference = retrieval["test"]["ndcg@10"] - retrieval["baselines"][kind]["ndcg@10"]
        assert against["difference"] == pytest.approx(difference)
        assert against["interval"][0] <= against["difference"] <= against["interval"][1]
        assert_fraction(against["p_value"])


def test_metrics_tell_the_use_of_experts_the_protocol_and_the_time(whole: Path) -> None:
    metrics = read(whole)
    experts = metrics["experts"]
    assert len(experts["names"]) == len(experts["mean_weight"]) == len(experts["load"]) == 3
    assert sum(experts["mean_weight"]) == pytest.approx(1, abs=1e-5)
    assert sum(experts["load"]) == pytest.approx(1, abs=1e-5)
    assert 0 <= experts["entropy"] <= math.log(3) + 1e-6
    assert 1 <= experts["max_over_mean_load"] <= 3
    assert experts["dead"] in range(3)
    groups = experts["by_group"]
    assert groups["columns"][0] == "all"
    assert np.shape(groups["rows"]) == (3, len(groups["columns"]))
    np.testing.assert_allclose(np.sum(groups["rows"], axis=0), 1, atol=1e-5)
    assert {"split", "ranking", "history", "ties", "sampled", "interval", "test", "selection", "cases"} <= set(
        metrics["protocol"]
    )
    wanted = {"prepare_s", "encode_s", "baselines_s", "train_s", "evaluate_s", "users_per_second", "targets_per_second"}
    assert wanted <= set(metrics["timing"])
    assert all(value >= 0 for value in metrics["timing"].values())


def test_the_other_files_of_a_run(whole: Path) -> None:
    lines = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    assert all(
        {"stage", "update", "epoch", "loss", "learning_rate", "gradient_norm", "seconds"} <= set(line)
        for line in losses
    )
    validations = [line for line in lines if "valid" in line]
    assert [line["epoch"] for line in validations] == [1, 2]
    best = max(validations, key=lambda line: line["valid"]["ndcg@10"])
    assert best["update"] == read(whole)["model"]["best_update"]
    for name, value in best["valid"].items():
        assert value == pytest.approx(read(whole)["retrieval"]["valid"][name], abs=1e-6)
    examples = json.loads((whole / "examples.json").read_text())
    assert len(examples) == 2
    for example in examples:
        assert [entry["rank"] for entry in example["list"]] == list(range(1, 11))
        seen = {entry["item_id"] for entry in example["history"]}
        assert not seen & {entry["item_id"] for entry in example["list"]}
        hits = [entry for entry in example["list"] if entry["hit"]]
        assert [entry["item_id"] for entry in hits] == [example["held_out"]["item_id"]] * len(hits)
        assert len(hits) == (example["held_out"]["rank"] <= 10)
        assert example["history"] == sorted(example["history"], key=lambda entry: entry["when"])
    card = (whole / "model/README.md").read_text()
    assert "## Data and licences" in card
    assert f"{read(whole)['retrieval']['test']['ndcg@10']:.4f}" in card


# --- made once


def artifacts(folder: Path, stage: str) -> list[Path]:
    return sorted((folder / "artifacts" / stage).iterdir())


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    do(folder)
    return folder


@pytest.fixture
def made(made_once: Path, tmp_path: Path) -> Path:
    """A folder of its own with the artifacts and the run of the small recipe."""
    return shutil.copytree(made_once, tmp_path / "made", symlinks=True)


def damage_last_bytes(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("stage", "file", "again", "kept"),
    [
        ("prepare", "dataset/events.parquet", ["data set"], ["item_knn"]),
        ("prepare", "dataset/dataset.json", ["data set"], ["item_knn"]),
        ("prepare", "dataset/splits/main.parquet", ["data set"], ["item_knn"]),
        ("prepare", "manifest.json", ["data set"], ["item_knn"]),
        ("baseline", "tuning.json", ["item_knn", "popularity"], ["data set"]),
    ],
)
@pytest.mark.parametrize("damage", [pytest.param(Path.unlink, marks=pytest.mark.slow), damage_last_bytes])
def test_a_half_artifact_is_never_taken_for_a_whole_one(
    made: Path, stage: str, file: str, again: list[str], kept: list[str], damage: Callable[[Path], None]
) -> None:
    expected = read(made / "runs/small/latest")
    for folder in artifacts(made, stage):
        damage(folder / file)
    directory, said = do(made)
    lines = {word: next(line for line in said.splitlines() if word in line) for word in [*again, *kept]}
    assert not any("before)" in lines[word] for word in again)
    assert all("before)" in lines[word] for word in kept)
    assert read(directory)["retrieval"]["test"] == expected["retrieval"]["test"]
    assert not [path for path in (made / "artifacts").rglob("*") if ".tmp-" in path.name]


def test_another_seed_of_the_model_uses_the_same_data_and_baselines(made: Path, made_once: Path) -> None:
    directory, said = do(made, ["seed=6", "training.retriever[0].learning_rate=0.02"])
    assert said.count("before)") == 3
    assert len(artifacts(made, "prepare")) == 1
    assert read(directory)["retrieval"]["test"] != read(made_once / "runs/small/latest")["retrieval"]["test"]


@pytest.mark.parametrize(
    "override",
    [
        "dataset.seed=1",
        pytest.param("dataset.candidates=9", marks=pytest.mark.slow),
        "dataset.candidates=[{negatives: 20, seed: 4}]",
        pytest.param("dataset.split={kind: ratio, seed: 2}", marks=pytest.mark.slow),
    ],
)
def test_other_data_is_made_anew(made: Path, override: str) -> None:
    _, said = do(made, [override])
    assert "before)" not in said
    assert len(artifacts(made, "prepare")) == 2


def test_a_run_is_a_function_of_its_recipe(made_once: Path, tmp_path: Path) -> None:
    one = made_once / "runs/small/latest"
    two, _ = do(tmp_path)
    assert read(one)["retrieval"]["test"] == read(two)["retrieval"]["test"]
    for name, value in load_file(one / "model/model.safetensors").items():
        assert torch.equal(value, load_file(two / "model/model.safetensors")[name]), name


# --- what decides, and what must not


def write_events(path: Path, permuted: str | None = None) -> None:
    """Events of 60 users on 25 items; the items of the test or valid part may be dealt out anew among the users."""
    generator = np.random.default_rng(1)
    walks = [generator.permutation(25)[: generator.integers(6, 12)].tolist() for _ in range(60)]
    place = {"test": -1, "valid": -2}.get(permuted or "")
    if place is not None:
        dealt = np.roll([walk[place] for walk in walks], 7).tolist()
        for walk, item in zip(walks, dealt, strict=True):
            walk[place] = item
    rows = [(f"u{user}", f"i{item}", when) for user, walk in enumerate(walks) for when, item in enumerate(walk)]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(path)
    pl.DataFrame({"item_id": [f"i{number}" for number in range(25)], "year": list(range(1980, 2005))}).write_csv(
        path.with_name("items.csv")
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return do_events(tmp_path_factory.mktemp("undisturbed"))


def do_events(folder: Path, permuted: str | None = None) -> Path:
    write_events(folder / "events.csv", permuted)
    source = f"dataset={{source: table, events: {folder}/events.csv, items: {folder}/items.csv, candidates: 8}}"
    features = "features=[{name: year, kind: dense}]"
    directory, _ = do(folder, [source, features, ALL_BASELINES, "training.retriever[0].epochs=3"])
    return directory


def losses(directory: Path) -> list[float]:
    lines = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_nothing_that_is_trained_or_chosen_depends_on_the_test_part(undisturbed: Path, tmp_path: Path) -> None:
    one, other = undisturbed, do_events(tmp_path, "test")
    assert read(one)["retrieval"]["test"] != read(other)["retrieval"]["test"], "the test part did change"
    weights, others = (load_file(directory / "model/model.safetensors") for directory in (one, other))
    assert weights.keys() == others.keys()
    for name, value in weights.items():
        assert torch.equal(value, others[name]), name
    assert read(one)["retrieval"]["valid"] == read(other)["retrieval"]["valid"]
    for kind, details in read(one)["retrieval"]["baseline_details"].items():
        again = read(other)["retrieval"]["baseline_details"][kind]
        assert (details["config"], details["valid"]) == (again["config"], again["valid"])
    first, second = (load_file(directory / "model/item_features.safetensors") for directory in (one, other))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_no_update_depends_on_the_validation_part(undisturbed: Path, tmp_path: Path) -> None:
    one, other = undisturbed, do_events(tmp_path, "valid")
    assert read(one)["retrieval"]["valid"] != read(other)["retrieval"]["valid"], "the validation part did change"
    assert losses(one) == losses(other)
    assert len(losses(one)) > 3


@pytest.mark.parametrize(
    ("override", "other_parameters"),
    [
        ("retriever.item_tower.fusion=sum", True),
        ("retriever.item_tower.use_id=false", True),
        pytest.param("retriever.item_tower.features=[genres]", True, marks=pytest.mark.slow),
        ("retriever.item_tower.id_dropout=0.5", False),
        ("training.retriever[0].loss.exclude_seen=false", False),
        ("training.retriever[0].average=0.5", False),
        pytest.param("training.retriever[0].windows=last", False, marks=pytest.mark.slow),
        pytest.param("training.retriever[0].accumulation=2", False, marks=pytest.mark.slow),
        # AdamW undoes a milder clipping: it changes the losses by 1e-5 and no rank of so few users.
        pytest.param("training.retriever[0].clip_norm=1e-7", False, marks=pytest.mark.slow),
        pytest.param("training.retriever[0].weight_decay=0.5", False, marks=pytest.mark.slow),
        pytest.param("training.retriever[0].schedule={kind: cosine, warmup: 5}", False, marks=pytest.mark.slow),
        ("training.retriever[0].trains=[encoder.*]", False),
        pytest.param("features[0].minimum_count=1000", True, marks=pytest.mark.slow),
        pytest.param("features[1].transform=log", False, marks=pytest.mark.slow),
    ],
)
def test_every_switch_switches(made_once: Path, tmp_path: Path, override: str, other_parameters: bool) -> None:
    changed, _ = do(made_once, [override], out=tmp_path / "changed")
    one, other = read(made_once / "runs/small/latest"), read(changed)
    assert (one["model"]["parameters"] != other["model"]["parameters"]) == other_parameters
    assert one["retrieval"]["test"] != other["retrieval"]["test"]


def test_the_strict_history_changes_what_is_judged_where_times_are_shared(tmp_path: Path) -> None:
    events = tmp_path / "events.csv"
    rows = [f"u{user},i{(user * 5 + place * 3) % 23},{place // 2}" for user in range(30) for place in range(8)]
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))
    overrides = [f"dataset={{source: table, events: {events}, candidates: null}}", "features=[]"]
    usual, _ = do(tmp_path, overrides)
    strict, _ = do(tmp_path, [*overrides, "evaluation.history=strict"], out=tmp_path / "strict")
    assert read(usual)["dataset"]["tie_share"] == pytest.approx(4 / 7, abs=0.01)
    assert read(usual)["retrieval"]["test"] != read(strict)["retrieval"]["test"]
    assert "sampled" not in read(usual)["protocol"]


def test_seen_items_are_candidates_only_if_asked_for(made_once: Path, tmp_path: Path) -> None:
    overrides = ["evaluation.filter_seen=false", "training.retriever[0].loss.exclude_seen=false"]
    changed, _ = do(made_once, overrides, out=tmp_path / "changed")
    protocols = [read(directory)["protocol"]["ranking"] for directory in (made_once / "runs/small/latest", changed)]
    assert ["unseen" in words for words in protocols] == [True, False]


@pytest.mark.parametrize("name", ["type", pytest.param("training", marks=pytest.mark.slow)])
def test_a_feature_may_be_called_as_its_column_is(made_once: Path, tmp_path: Path, name: str) -> None:
    """These are names of torch's own, which a table of features once tripped over."""
    directory, _ = do(made_once, [f"features=[{{name: {name}, kind: multi, column: genres}}]"], out=tmp_path / "run")
    assert Recommender.from_pretrained(directory).recommend(users=["1"], k=3).height == 3


def test_several_candidate_lists_stand_side_by_side(made_once: Path, tmp_path: Path) -> None:
    lists = "dataset.candidates=[{negatives: 7}, {negatives: 9, sampling: popularity}]"
    metrics = read(do(made_once, [lists], out=tmp_path / "run")[0])
    assert {"ndcg@10", "ndcg@10/uniform7", "ndcg@10/popularity9"} <= set(metrics["retrieval"]["test"])
    assert metrics["retrieval"]["test"]["hr@10/uniform7"] == 1, "eight candidates in all"
    assert "'uniform7'" in metrics["protocol"]["sampled"]


def test_without_an_id_there_is_no_table_of_ids(tmp_path: Path) -> None:
    directory, _ = do(tmp_path, ["retriever.item_tower.use_id=false"])
    assert not [name for name in load_file(directory / "model/model.safetensors") if "id_embedding" in name]


def test_a_baseline_too_large_for_the_catalogue_is_left_out_with_the_reason(
    made_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moerec.models.baselines.ease.MOST_ITEMS", 50)
    directory, said = do(made_once, ["baselines.kinds=null"], out=tmp_path / "run")
    metrics = read(directory)
    assert set(metrics["retrieval"]["baselines"]) == {"popularity", "recent_popularity", "item_knn", "item_transitions"}
    assert "ease: 74 items need a dense matrix" in metrics["protocol"]["baselines left out"]
    assert "left out: 74 items" in said
    with pytest.raises(ConfigError, match="'ease' cannot be fitted"):
        do(made_once, ["baselines.kinds=[ease]"], out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_run_called_like_a_baseline_and_lists_as_columns_are_no_trouble(made_once: Path, tmp_path: Path) -> None:
    directory, _ = do(made_once, ["name=popularity"], out=tmp_path / "run")
    columns = pl.read_parquet(directory / "per_case.parquet").columns
    assert "model hr@5" in columns
    assert "baseline popularity hr@5" in columns
    items = pl.DataFrame({"item_id": ["1"], "title": ["One"], "genres": [["Space", "Circus"]], "year": [1999.0]})
    assert item_details(items)["details"] == ["1999.0, Space, Circus"]


def test_the_vocabularies_are_saved_with_the_model(made_once: Path, tmp_path: Path) -> None:
    recommender = Recommender.from_pretrained(made_once / "runs/small/latest")
    state = ColumnState.model_validate(recommender.feature_state)
    assert (state.split, {entry.spec.name for entry in state.columns}) == ("main", {"genres", "year"})
    recommender.save_pretrained(tmp_path / "again")
    assert Recommender.from_pretrained(tmp_path / "again").feature_state == recommender.feature_state
