"""Recipes: strict YAML, one-line refusals with the path of the key, overrides, and plain data that gives them back."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from moerec.errors import ConfigError
from moerec.ranking_recipe import MOST_FORMULAS, TwoStageConfig
from moerec.recipe import Recipe, apply_override, load_recipe, parse_recipe, plain_recipe
from moerec.tasks import TaskConfig
from moerec.training.stages import RetrieverStageConfig

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))

BASE = """
name: base
dataset:
  source: synthetic
  users: 60
modalities:
  text: {kind: text, fields: [title]}
features:
  - {name: genres, kind: multi}
  - {name: year, kind: dense}
retriever:
  kind: sasrec
  item_tower: {experts: 3}
training:
  retriever:
    - {name: first, epochs: 2, schedule: {kind: cosine}}
    - {name: second, updates: 5}
"""


RANKED = (
    BASE
    + """
  ranker:
    - {epochs: 2, learning_rate: 2e-3}
causal_features:
  users: {kind: user_statistics, labels: [rating]}
  texts: {kind: similarity, modality: text}
ranker:
  kind: mmoe
  experts: 3
  history: 5
  tasks:
    - {name: like, label: rating, at_least: 4}
    - {name: rating, type: regression, label: rating}
"""
)


def base(text: str = BASE) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def changed(*overrides: str, text: str = BASE) -> Recipe:
    values = base(text)
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, "base.yaml")


def refusal(*overrides: str, text: str = BASE) -> str:
    with pytest.raises(ConfigError) as caught:
        changed(*overrides, text=text)
    message = str(caught.value)
    assert "\n" not in message, "one line"
    return message


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "own.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused_file(tmp_path: Path, text: str | bytes) -> str:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message, "one line"
    return message.removeprefix(str(path))


# --- files


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nseed: 1\nname: b\n", ", line 3: not valid YAML: the key 'name' is there twice"),
        ("name: a\ndataset:\n  users: 1\n  users: 2\n", ", line 4: not valid YAML: the key 'users' is there twice"),
        ("name: a\ndataset: [1, 2\nretriever: x\n", ", line 3: not valid YAML: "),
        ("name: a\n\tseed: 1\n", ", line 2: not valid YAML: "),
        ("name: a\ndataset: x: y\n", ", line 2: not valid YAML: mapping values are not allowed here"),
        ("name: a\nseed: *nobody\n", ", line 2: not valid YAML: found undefined alias"),
        ("name: a\n? [1, 2]\n: 3\n", ", line 2: not valid YAML: a key must be a plain word"),
        ("name: a\nseed: !!python/object:os.system {}\n", ", line 2: not valid YAML: could not determine"),
        ("name: a\ndataset: &loop {x: *loop}\n", ": a part of it contains itself"),
        ("name: a\nseed: \x00\n", ", line 2: the character '\\x00' cannot be in YAML"),
        ("name: a\nvalid: 2020-13-45\n", ": a value is not what it looks like (month must be in 1..12)"),
        ("", ": a recipe is a mapping of keys"),
        ("- a\n- b\n", ": a recipe is a mapping of keys"),
        ("just words", ": a recipe is a mapping of keys"),
        (b"name: caf\xe9\n", ": not a UTF-8 text file (invalid continuation byte at byte 9)"),
        (b"\xff\xfe\x00n", ": not a UTF-8 text file"),
        ("name: a\n", ": dataset: this key is required"),
        ("seed: 1\n", ": name: this key is required (and 1 more)"),
        ("name: a\ndataset: {source: synthetic}\n", ": the recipe has no model; add retriever: or ranker:"),
        ("1: 2\n", ": "),
        ("[" * 3000, ": a part of it contains itself, or is nested too deeply"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(tmp_path: Path, text: str | bytes, says: str) -> None:
    assert refused_file(tmp_path, text).startswith(says)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_recipe_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    refused_file(tmp_path_factory.mktemp("bytes"), content)


def test_a_missing_file_and_a_folder_name_the_recipes_nearby(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(BASE)
    (tmp_path / ".hidden.yaml").write_text(BASE)
    for path, problem in ((tmp_path / "own.yaml", "no such recipe"), (tmp_path, "a folder, not a recipe")):
        with pytest.raises(ConfigError) as caught:
            load_recipe(path)
        assert str(caught.value) == f"{path}: {problem}; recipes there: {tmp_path / 'other.yaml'}"
    with pytest.raises(ConfigError, match=r"no such recipe$"):
        load_recipe(tmp_path / "nowhere" / "own.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert load_recipe(written(tmp_path, b"\xef\xbb\xbf" + BASE.strip().encode())).name == "base"


def test_a_merge_may_write_keys_again(tmp_path: Path) -> None:
    text = BASE[: BASE.index("training:")] + (
        "training:\n"
        "  retriever:\n"
        "    - &first {name: first, epochs: 2, learning_rate: 1e-3}\n"
        "    - &second {<<: *first, name: second}\n"
        "    - {<<: *second, name: third, epochs: 4}\n"
    )
    stages = load_recipe(written(tmp_path, text)).training.retriever
    assert [(stage.name, stage.epochs, stage.learning_rate) for stage in stages] == [
        ("first", 2, 0.001),
        ("second", 2, 0.001),
        ("third", 4, 0.001),
    ]


def test_an_override_changes_one_of_two_parts_that_share_an_anchor(tmp_path: Path) -> None:
    text = BASE[: BASE.index("training:")] + (
        "training:\n"
        "  retriever:\n"
        "    - {name: first, epochs: 2, schedule: &shared {kind: cosine, warmup: 3}}\n"
        "    - {name: second, epochs: 2, schedule: *shared}\n"
    )
    stages = load_recipe(written(tmp_path, text), ["training.retriever[0].schedule.warmup=9"]).training.retriever
    assert [stage.schedule.warmup for stage in stages] == [9, 3]


# --- unknown keys, wrong types, contradictions


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("sede=1", "sede: unknown key; did you mean 'seed'?"),
        ("dataset.user=3", "dataset.user: unknown key; did you mean 'users'?"),
        ("dataset.spilt=3", "dataset.spilt: unknown key; did you mean 'split'?"),
        ("dataset.split.knd=ratio", "dataset.split.knd: unknown key; did you mean 'kind'?"),
        ("modalities.text.encodr=x", "modalities.text.encodr: unknown key; did you mean 'encoder'?"),
        ("modalities.text.encoder.nmae=x", "modalities.text.encoder.nmae: unknown key; did you mean 'name'?"),
        (
            "modalities.text.fields[0]={colum: x}",
            "modalities.text.fields[0].colum: unknown key; did you mean 'column'?",
        ),
        ("features[1].knd=dense", "features[1].knd: unknown key; did you mean 'kind'?"),
        ("retriever.widht=3", "retriever.widht: unknown key; did you mean 'width'?"),
        ("retriever.item_tower.expert=3", "retriever.item_tower.expert: unknown key; did you mean 'experts'?"),
        ("baselines.trails=3", "baselines.trails: unknown key; did you mean 'trials'?"),
        ("training.devcie=cpu", "training.devcie: unknown key; did you mean 'device'?"),
        ("training.retriever[1].epoch=3", "training.retriever[1].epoch: unknown key; did you mean 'epochs'?"),
        (
            "training.retriever[0].schedule.warmpu=3",
            "training.retriever[0].schedule.warmpu: unknown key; did you mean 'warmup'?",
        ),
        ("training.retriever[0].loss.exclude=3", "training.retriever[*].loss.exclude: unknown key; "),
        ("evaluation.cutofs=[5]", "evaluation.cutofs: unknown key; did you mean 'cutoffs'?"),
        ("evaluation.zzz=1", "evaluation.zzz: unknown key; known keys: cutoffs, examples, filter_seen, "),
    ],
)
def test_an_unknown_key_at_any_depth_is_refused_with_its_path(override: str, says: str) -> None:
    assert refusal(override).startswith(f"base.yaml: {says}")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed=many", "seed: Input should be a valid integer, unable to parse string as an integer, got 'many'"),
        ("seed=-1", "seed: Input should be greater than or equal to 0, got -1"),
        ("seed=", "seed: Input should be a valid integer, got None"),
        ("name=", "name: Input should be a valid string, got None"),
        ("name=a/b", "name: String should match pattern"),
        ("name=2024", "name: Input should be a valid string, got 2024"),
        ("dataset=3", "dataset: expected keys and values, got 3"),
        ("dataset.source=movielnes", "dataset.source: unknown source 'movielnes'; did you mean 'movielens'?"),
        ("dataset.source=[1]", "dataset.source: unknown source '[1]'; known kinds: amazon_reviews, "),
        ("dataset={users: 3}", "dataset.source: this key is required; known kinds: amazon_reviews, "),
        ("dataset={sorce: movielens}", "dataset.sorce: unknown key; did you mean 'source'?"),
        ("dataset.users=1", "dataset.users: Input should be greater than or equal to 2, got 1"),
        ("dataset.split.kind=leave_lst_out", "dataset.split.kind: Input should be 'leave_last_out', "),
        ("modalities=[1]", "modalities: expected keys and values, got [1]"),
        ("modalities.text.kind=txt", "modalities.text.kind: unknown kind 'txt'; did you mean 'text'?"),
        ("modalities.text.encoder=5", "modalities.text.encoder: expected keys and values, got 5"),
        ("modalities.poster={folder: x}", "modalities.poster.kind: this key is required; known kinds: image, text"),
        ("features=genres", "features: expected a list, got 'genres'"),
        ("features[0]=genres", "features[0]: expected keys and values, got 'genres'"),
        ("features[0].kind=bag", "features[0].kind: Input should be 'categorical', "),
        ("features[0]={kind: dense}", "features[0].name: this key is required"),
        ("retriever.kind=sasrc", "retriever.kind: unknown retriever 'sasrc'; did you mean 'sasrec'?"),
        ("retriever={width: 3}", "retriever.kind: this key is required; known kinds: "),
        ("retriever.width=wide", "retriever.width: Input should be a valid integer"),
        ("baselines.kinds=[eaes]", "baselines.kinds: unknown baseline 'eaes'; did you mean 'ease'?"),
        ("baselines.kinds=[ease, ease]", "baselines.kinds: the baseline 'ease' is named twice"),
        ("training.retriever=3", "training.retriever: expected a list, got 3"),
        ("training.retriever=[]", "training: retriever needs at least one stage"),
        ("training.retriever[0].learning_rate=.nan", "training.retriever[0].learning_rate: Input should be a finite"),
        ("training.retriever[0].betas=[0.9]", "training.retriever[0].betas[1]: this key is required"),
        ("training.device=gpu", "training.device: Input should be 'auto', 'cpu', "),
        ("evaluation.cutoffs=[10, 5]", "evaluation.cutoffs: cutoffs must be ascending positive numbers"),
        ("evaluation.cutoffs=[]", "evaluation.cutoffs: cutoffs must be ascending positive numbers"),
        ("evaluation.cutoffs=[0]", "evaluation.cutoffs: cutoffs must be ascending positive numbers"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(override: str, says: str) -> None:
    assert refusal(override).startswith(f"base.yaml: {says}")


def test_a_long_wrong_value_is_cut() -> None:
    assert len(refusal(f"seed={'x' * 5000}")) < 250


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["features[0].name=text"], "features and modalities share the name 'text'; rename one"),
        (["features[0].name=id"], "'id' is the name of the item's own embedding"),
        (["features[0].name=a.b"], "features[0]: 'a.b' cannot name a feature or a modality"),
        (["modalities.text=", "modalities={'': {kind: text, fields: [title]}}"], "'' cannot name a feature"),
        (["features[0].side=user"], "feature 'genres': only a ranker reads columns of users, and there is none"),
        (["features[0].side=context"], "feature 'genres': categorical, multi and dense columns of items and users"),
        (["features[0].kind=vector"], "feature 'genres': categorical, multi and dense columns of items and users"),
        (["retriever=null"], "the recipe has no model; add retriever: or ranker:"),
        (["causal_features.a={kind: clock}"], "causal_features: only a ranker uses this, and the recipe has none"),
        (["two_stage.use=never"], "two_stage: only a ranker uses this, and the recipe has none; add ranker:"),
        (["ranking_baselines.kinds=[]"], "ranking_baselines: only a ranker uses this, and the recipe has none"),
        (["retriever.item_tower.features=[gnres]"], "retriever.item_tower.features: no item feature 'gnres'; did you"),
        (["retriever.item_tower={use_id: false, features: []}"], "retriever.item_tower: an item needs an id or a"),
        (["retriever.item_tower.use_id=false", "features=[]", "modalities={}"], "retriever.item_tower.use_id: false"),
        (["retriever.width=30", "retriever.heads=4"], "retriever: heads (4) must divide width (30)"),
        (["training.retriever[1].name=first"], "training: stages need different names, got first, first"),
        (["training.retriever[0].updates=3"], "training.retriever[0]: give exactly one of epochs and updates"),
        (
            ["training.retriever[0].batch_events=400", "training.retriever[0].batch_size=8"],
            "training.retriever[0]: give exactly one of batch_size and batch_events",
        ),
        (
            ["training.retriever[0].batch_size=null"],
            "training.retriever[0]: give exactly one of batch_size and batch_events",
        ),
        (
            ["training.metric=ndgc@10"],
            "training.metric: validation gives no 'ndgc@10' to maximise; did you mean 'ndcg@",
        ),
        (["training.metric=mean_rank"], "training.metric: validation gives no 'mean_rank' to maximise; "),
        (["evaluation.cutoffs=[5]"], "training.metric: validation gives no 'ndcg@10' to maximise; did you mean 'ndcg@"),
        (
            ["dataset.split.kind=ratio", "evaluation.history=strict"],
            "evaluation.history: strict needs a split in time and this one is random",
        ),
        (["dataset.split={kind: leave_last_out, test: 0.2}"], "dataset.split: leave_last_out takes no shares"),
        (["dataset.events_per_user=1000"], "dataset: events_per_user is too high"),
    ],
)
def test_a_contradiction_is_refused_before_any_work(overrides: list[str], says: str) -> None:
    assert refusal(*overrides).startswith(f"base.yaml: {says}")


# --- the ranker


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("ranker.expert=3", "ranker.expert: expected keys and values, got 3"),
        ("ranker.expertz=3", "ranker.expertz: unknown key; did you mean 'expert"),
        ("ranker.histroy=3", "ranker.histroy: unknown key; did you mean 'history'?"),
        ("ranker.zzz=3", "ranker.zzz: unknown key; known keys: dropout, embedding_dropout, "),
        ("ranker.hidden=[8]", "ranker.hidden: unknown key; "),
        ("ranker.kind=mmeo", "ranker.kind: unknown ranker 'mmeo'; did you mean 'mmoe'?"),
        ("ranker={tasks: []}", "ranker.kind: this key is required; known kinds: cgc, esmm, "),
        ("ranker={knd: mmoe, tasks: []}", "ranker.knd: unknown key; did you mean 'kind'?"),
        ("ranker=mmoe", "ranker: expected keys and values, got 'mmoe'"),
        ("ranker={kind: mmoe}", "ranker.tasks: this key is required"),
        ("ranker.experts=0", "ranker.experts: Input should be greater than or equal to 1, got 0"),
        ("ranker.head_hidden=[8, 0]", "ranker.head_hidden[1]: Input should be greater than 0, got 0"),
        ("ranker.negatives.cuont=3", "ranker.negatives.cuont: unknown key; did you mean 'count'?"),
        ("ranker.tasks=[]", "ranker: name at least one task"),
        ("ranker.tasks[0].nmae=x", "ranker.tasks[0].nmae: unknown key; did you mean 'name'?"),
        ("ranker.tasks[1].name=like", "ranker: tasks need different names, got like, like"),
        ("ranker.tasks[0].label=null", "ranker.tasks[0]: without a label a task is whether the user met the item"),
        ("ranker.tasks[*].weight=0", "ranker: every task has the weight 0"),
        ("ranker.tasks[0].type=ordnal", "ranker.tasks[0].type: Input should be 'binary', 'regression', 'multiclass' "),
        ("ranker.tasks[1].type=ordinal", "ranker.tasks[1]: type: ordinal needs every value that its label can have"),
        ("ranker.tasks[1].values=[1, x]", "ranker.tasks[1].values[1]: Input should be a valid number, "),
        ("ranker.tasks[1].values=[1, 2]", "ranker.tasks[1]: values are the classes of a multiclass or ordinal task"),
        ("causal_features=[clock]", "causal_features: expected keys and values, got ['clock']"),
        ("causal_features.users=clock", "causal_features.users: expected keys and values, got 'clock'"),
        (
            "causal_features.users.kind=clok",
            "causal_features.users.kind: unknown feature 'clok'; did you mean 'clock'?",
        ),
        ("causal_features.x={top: 3}", "causal_features.x.kind: this key is required; known kinds: category_shares, "),
        ("causal_features.users.lables=[a]", "causal_features.users.lables: unknown key; did you mean 'labels'?"),
        ("causal_features.users.recent_events=0", "causal_features.users.recent_events: Input should be greater than"),
        ("causal_features.a.b={kind: clock}", "causal_features.a.kind: this key is required"),
        ("causal_features={a b: {kind: clock}}", "'a b' cannot name a feature"),
        ("ranking_baselines.kinds=[maens]", "ranking_baselines.kinds: unknown ranking baseline 'maens'; did you mean"),
        ("ranking_baselines.kinds=[means, means]", "ranking_baselines.kinds: 'means' is named twice"),
        ("ranking_baselines.siblings=[singletask]", "ranking_baselines.siblings: unknown ranker 'singletask'; did you"),
        ("two_stage.fromula={}", "two_stage.fromula: unknown key; did you mean 'formula'?"),
        ("two_stage.formula=[1]", "two_stage.formula: expected keys and values, got [1]"),
        ("two_stage.formula={like: many}", "two_stage.formula.like: expected a list, got 'many'"),
        ("two_stage.formula={like: []}", "two_stage: formula: each part needs at least one weight"),
        ("training.ranker=[]", "training: ranker needs at least one stage"),
        ("training.ranker[0].loss={}", "training.ranker[0].loss: unknown key; "),
        (
            "training.ranker[0].weighting={kind: gradnom}",
            "training.ranker[*].weighting.kind: unknown weighting 'gradnom'; did you mean 'gradnorm'?",
        ),
        (
            "training.ranker[0].weighting={kind: cagrad, c: 1}",
            "training.ranker[*].weighting.c: Input should be less than 1, got 1",
        ),
    ],
)
def test_a_mistake_in_the_ranker_is_refused_with_its_path(override: str, says: str) -> None:
    assert refusal(override, text=RANKED).startswith(f"base.yaml: {says}")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["two_stage.formula={lkie: 1}"], "two_stage.formula: no task 'lkie'; did you mean 'like'?"),
        (["two_stage.formula={zzz: 1}"], "two_stage.formula: no task 'zzz'; known: like, rating, retrieval"),
        (
            [
                "ranker.tasks[1]={name: kind, label: rating, type: multiclass, values: [1, 2]}",
                "two_stage.formula.kind=1",
            ],
            "two_stage.formula: task 'kind' is multiclass: its values have no order, so none of them is more",
        ),
        (["training.ranker_metric=like/acu"], "training.ranker_metric: validation gives no 'like/acu'; did you mean "),
        (["training.ranker_metric=like/rmse"], "training.ranker_metric: validation gives no 'like/rmse'; did you mean"),
        (["training.ranker_metric=zzz"], "training.ranker_metric: validation gives no 'zzz'; known: like/"),
        (["dataset.split.kind=ratio"], "dataset.split: kind: ratio mixes earlier and later events, and the past is lo"),
        (["features[0].name=user_count"], "two inputs of the ranker have the name 'user_count'; rename one"),
        (["modalities.user_count={kind: image, folder: x}"], "two inputs of the ranker have the name 'user_count'"),
        (["causal_features.more={kind: user_statistics}"], "two inputs of the ranker have the name 'user_count'"),
        (["features[0].name=history"], "two inputs of the ranker have the name 'history'; rename one"),
        (["causal_features.texts.modality=txt"], "causal_features.texts.modality: no modality 'txt'; did you mean"),
        (["modalities={}"], "causal_features.texts.modality: no modality 'text'; the recipe has none"),
    ],
)
def test_a_contradiction_with_the_ranker_is_refused_before_any_work(overrides: list[str], says: str) -> None:
    assert refusal(*overrides, text=RANKED).startswith(f"base.yaml: {says}")


def test_the_keys_of_the_ranker_stand_beside_its_kind_or_inside() -> None:
    flat, nested = base(RANKED), base(RANKED)
    nested["ranker"]["model"] = {key: nested["ranker"].pop(key) for key in ("kind", "experts")}
    assert parse_recipe(flat) == parse_recipe(nested)
    assert parse_recipe(flat).ranker.model.experts == 3
    nested["ranker"]["experts"] = 3
    with pytest.raises(ConfigError, match=r"ranker\.experts: unknown key"):
        parse_recipe(nested)


def test_a_recipe_may_rank_without_retrieving() -> None:
    recipe = changed("retriever=null", "features[1]={name: age, kind: dense, side: user}", text=RANKED)
    assert recipe.retriever is None
    assert [spec.side for spec in recipe.features] == ["item", "user"]
    # What only judges a retriever is not read.
    assert changed("retriever=", "training.metric=x", text=RANKED).ranker is not None


TABLE = [
    "dataset.split.kind=ratio", "retriever=null", "causal_features={}", "ranker.history=0", "two_stage={}",
    "features=[{name: age, kind: dense, side: user}]", "ranker.tasks=[{name: like, label: rating, at_least: 4}]",
]  # fmt: skip


def test_a_random_split_is_for_rankers_that_do_not_look_back() -> None:
    assert changed(*TABLE, text=RANKED).looks_back == ()
    for override, left_out in [
        ("causal_features.times={kind: clock}", "causal_features"),
        ("ranker.history=1", "ranker.history (write 0)"),
        ("ranker.tasks[0]={name: met, population: reviews+negatives}", "the population reviews+negatives"),
        ("retriever={kind: sasrec}", "retriever"),
    ]:
        says = refusal(*TABLE, override, text=RANKED)
        assert says.startswith("base.yaml: dataset.split: kind: ratio mixes")
        assert says.endswith(f"leave out {left_out}")


def test_one_entry_with_names_stands_for_several_features() -> None:
    entry = "{names: [age, weeks], kind: dense, side: user, transform: quantile}"
    recipe = changed(f"features=[{{name: genres, kind: multi}}, {entry}]", text=RANKED)
    alone = [f"{{name: {name}, kind: dense, side: user, transform: quantile}}" for name in ("age", "weeks")]
    assert recipe == changed(f"features=[{{name: genres, kind: multi}}, {', '.join(alone)}]", text=RANKED)
    assert parse_recipe(plain_recipe(recipe)) == recipe


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{names: age, kind: dense}", "features[1].names: expected a list of names of columns, got 'age'"),
        ("{names: [], kind: dense}", "features[1].names: expected a list of names of columns, got []"),
        ("{names: [1], kind: dense}", "features[1].names: expected a list of names of columns, got [1]"),
        ("{names: [age], name: age, kind: dense}", "features[1].name: names: gives each feature its name and its co"),
        ("{names: [age], column: age, kind: dense}", "features[1].column: names: gives each feature its name and"),
        ("{names: [age, b], knid: dense}", "features[1].knid: unknown key; did you mean 'kind'?"),
        ("{names: [age, '2b'], kind: dense}", "features[1]: '2b' cannot name a feature"),
        ("{names: [age, age], kind: dense}", "features and modalities share the name 'age'; rename one"),
    ],
)
def test_a_mistake_in_an_entry_with_names_is_refused_with_its_place(entry: str, says: str) -> None:
    overrides = [f"features=[{{names: [x, y], kind: dense}}, {entry}]"]
    assert refusal(*overrides, text=RANKED).startswith(f"base.yaml: {says}")


def test_the_place_of_a_mistake_beside_an_entry_with_names_is_that_of_the_recipe() -> None:
    overrides = ["features=[{names: [x, y], kind: dense}, {name: z, kind: dense, knid: 1}]"]
    assert refusal(*overrides, text=RANKED).startswith("base.yaml: features[1].knid: unknown key")


def test_the_default_size_of_batches_steps_back_and_what_is_written_down_is_read_again() -> None:
    stage = RetrieverStageConfig(epochs=1, batch_events=400)
    assert (stage.batch_size, stage.batch_events) == (None, 400)
    assert RetrieverStageConfig.model_validate(stage.model_dump()) == stage
    recipe = changed("training.retriever[*].batch_size=null", "training.retriever[*].batch_events=400")
    assert recipe.training.retriever[1].batch_events == 400
    assert parse_recipe(plain_recipe(recipe)) == recipe


def test_an_item_tower_cannot_read_a_column_of_users() -> None:
    overrides = ["features[1].side=user", "retriever.item_tower.features=[year]"]
    says = "base.yaml: retriever.item_tower.features: no item feature 'year'; known: "
    assert refusal(*overrides, text=RANKED).startswith(says)


def test_one_weight_equals_a_list_of_one() -> None:
    listed = changed("two_stage.formula={retrieval: [1], like: [0, 0.5]}", text=RANKED)
    assert changed("two_stage.formula={retrieval: 1, like: [0, 0.5]}", text=RANKED) == listed
    assert listed.two_stage.formulas(()) == [{"retrieval": 1.0, "like": weight} for weight in (0.0, 0.5)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_too_many_formulas_are_refused_without_making_them(lengths: list[int]) -> None:
    formula = {f"task{number}": tuple(range(length)) for number, length in enumerate(lengths)}
    count = math.prod(lengths)
    if count <= MOST_FORMULAS:
        assert len(TwoStageConfig(formula=formula).formulas(())) == count
    else:
        with pytest.raises(ValueError, match=f"{count:,} combinations of weights are too many; name at most"):
            TwoStageConfig(formula=formula)


@given(st.lists(st.sampled_from(["binary", "regression", "multiclass", "ordinal"]), max_size=40))
def test_the_formulas_by_default_are_few_and_about_binary_tasks(types: list[str]) -> None:
    classes = {"multiclass": (2, 1), "ordinal": (1, 2)}
    tasks = tuple(
        TaskConfig(name=f"task{n}", type=each, label="x", values=classes.get(each, ())) for n, each in enumerate(types)
    )
    formulas = TwoStageConfig().formulas(tasks)
    assert 1 <= len(formulas) <= MOST_FORMULAS
    binary = [task.name for task in tasks if task.type == "binary"]
    assert all(set(formula) == {"retrieval", *binary} for formula in formulas)
    if binary:
        assert any(all(formula.values()) for formula in formulas), "one formula hears every task"


# --- overrides


def test_overrides_reach_keys_places_and_all_places() -> None:
    recipe = changed(
        "seed=7",
        "dataset.split.kind=ratio",
        "dataset.split.seed=3",
        "features[1].name=age",
        "features[1].column=year",
        "training.retriever[*].batch_size=8",
        "training.retriever[0].learning_rate=1e-3",
        "training.retriever[1].schedule.warmup=4",
        "evaluation.examples=2",
        "modalities.cover={kind: image, folder: covers}",
    )
    assert (recipe.seed, recipe.dataset.split.seed) == (7, 3)
    assert (recipe.features[1].name, recipe.features[1].source_column) == ("age", "year")
    assert [stage.batch_size for stage in recipe.training.retriever] == [8, 8]
    assert [stage.learning_rate for stage in recipe.training.retriever] == [0.001, 0.001]
    assert [stage.schedule.warmup for stage in recipe.training.retriever] == [0, 4]
    assert recipe.evaluation.examples == 2
    assert list(recipe.modalities) == ["text", "cover"]


def test_a_value_that_all_places_get_is_not_shared() -> None:
    values = base()
    apply_override(values, "training.retriever[*].schedule={kind: cosine, warmup: 1}")
    apply_override(values, "training.retriever[0].schedule.warmup=5")
    assert [stage["schedule"]["warmup"] for stage in values["training"]["retriever"]] == [5, 1]


def test_an_override_can_write_what_the_file_leaves_out() -> None:
    assert changed("baselines.trials=2").baselines.trials == 2
    values = base()
    values["training"] = None
    apply_override(values, "training.retriever=[{epochs: 9}]")
    assert parse_recipe(values).training.retriever[0].epochs == 9


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("seed", "write it as key.path=value"),
        ("=3", "write it as key.path=value"),
        (".=3", "write it as key.path=value"),
        ("training..seed=3", "write it as key.path=value"),
        ("training.=3", "write it as key.path=value"),
        ("[0]=3", "write it as key.path=value"),
        ("training.retriever[-1].epochs=3", "write it as key.path=value"),
        ("training.retriever[x].epochs=3", "write it as key.path=value"),
        ("training.retriever[0=3", "write it as key.path=value"),
        ("training retriever=3", "write it as key.path=value"),
        ("training.retriever[2].epochs=3", "[2] is not a place in a list of 2; places count from 0"),
        ("training.retriever[2]={epochs: 3}", "[2] is not a place in a list of 2; places count from 0"),
        ("training.retriever.epochs=3", "before 'epochs' stands a list; write [0].epochs or [*].epochs"),
        ("name.first=3", "before 'first' stands 'base', which has no keys; write another path"),
        ("seed[0]=3", "[0] needs a list in the recipe"),
        ("baselines.kinds[0]=ease", "[0] needs a list in the recipe"),
        ("seed=[1, 2", "not valid YAML: "),
        ("seed={a: 1, a: 2}", "not valid YAML: the key 'a' is there twice"),
        ("seed={a: b: c}", "not valid YAML: "),
    ],
)
def test_a_nonsense_override_is_refused_and_named(override: str, says: str) -> None:
    assert refusal(override).startswith(f"--set {override}: {says}")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.retreiver[0].epochs=3", "training.retreiver: unknown key; did you mean 'retriever'?"),
        ("trainnig.retriever[0].epochs=3", "trainnig: unknown key; did you mean 'training'?"),
        ("evaluation.cutofs[*]=3", "evaluation.cutofs: unknown key; did you mean 'cutoffs'?"),
    ],
)
def test_a_misspelt_key_before_a_place_is_told_as_such(tmp_path: Path, override: str, says: str) -> None:
    path = written(tmp_path, BASE)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, [override])
    assert str(caught.value) == f"{path}: {says}"
    with pytest.raises(ConfigError, match=r"\[0\] needs a list in the recipe"):
        load_recipe(path, ["evaluation.cutoffs[0]=3"])  # the key is right, its list is not written


def test_all_places_of_an_empty_list_is_a_mistake() -> None:
    assert "[*] is not a place in a list of 0" in refusal("features=[]", "features[*].dim=3")


@given(st.text(max_size=25))
def test_any_override_works_or_is_one_line(override: str) -> None:
    values = base()
    try:
        apply_override(values, override)
        parse_recipe(values)
    except ConfigError as error:
        assert len(str(error).replace(override, "").splitlines()) == 1  # noqa: PT017  either outcome is right


# --- numbers, the source's flat keys, and the way back


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1E-3", 1e-3), ("0.001", 1e-3), ("2", 2.0), ("5e-04", 5e-4)]
)
def test_numbers_are_read_as_people_write_them(tmp_path: Path, text: str, value: float) -> None:
    path = written(tmp_path, BASE.replace("updates: 5}", f"updates: 5, learning_rate: {text}}}"))
    assert load_recipe(path).training.retriever[1].learning_rate == value
    assert changed(f"training.retriever[1].learning_rate={text}").training.retriever[1].learning_rate == value


def test_the_keys_of_the_source_stand_beside_it_or_inside() -> None:
    flat, nested = base(), base()
    nested["dataset"] = {"source": {"kind": "synthetic", "users": 60}}
    assert parse_recipe(flat) == parse_recipe(nested)
    nested["dataset"]["users"] = 3
    with pytest.raises(ConfigError, match=r"dataset\.users: unknown key"):
        parse_recipe(nested)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_package_are_valid_and_come_back_from_plain_data(path: Path) -> None:
    recipe = load_recipe(path)
    plain = plain_recipe(recipe)
    assert parse_recipe(plain) == recipe
    assert parse_recipe(json.loads(json.dumps(plain))) == recipe
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(plain))) == recipe
    assert plain_recipe(parse_recipe(plain)) == plain
    assert path.stem.removesuffix("-debug") in recipe.name
    assert (path.with_stem(f"{path.stem}-debug") in RECIPES) or path.stem.endswith("-debug"), "a twin for debugging"


stages = st.lists(
    st.fixed_dictionaries(
        {"epochs": st.integers(1, 9)},
        optional={
            "learning_rate": st.floats(1e-6, 1.0),
            "average": st.none() | st.floats(0.01, 0.99),
            "clip_norm": st.none() | st.floats(0.1, 9.0),
            "patience": st.none() | st.integers(1, 5),
            "schedule": st.fixed_dictionaries({"kind": st.sampled_from(["constant", "cosine"])}),
            "trains": st.lists(st.sampled_from(["*", "encoder.*"]), min_size=1, max_size=2),
            "starts_from": st.sampled_from(["previous", "best"]),
        },
    ),
    min_size=1,
    max_size=3,
)
splits = st.one_of(
    st.just({"kind": "leave_last_out"}),
    st.fixed_dictionaries({"kind": st.just("ratio"), "seed": st.integers(0, 9), "test": st.floats(0.1, 0.4)}),
    st.fixed_dictionaries({"kind": st.just("global_date"), "test_from": st.dates().map(str)}),
)
modalities = st.dictionaries(
    st.sampled_from(["text", "cover", "given"]),
    st.one_of(
        st.just({"kind": "text", "fields": ["title", {"column": "genres", "separator": "|"}]}),
        st.just({"kind": "image", "folder": "posters", "encoder": "efficientnet-lite0"}),
        st.just({"kind": "vectors", "path": "v.npy", "ids": "ids.csv", "zero_rows": "present"}),
    ),
)


@settings(max_examples=30)
@given(stages, splits, modalities, st.integers(0, 2**40), st.lists(st.integers(1, 50), unique=True, min_size=1))
def test_any_recipe_comes_back_from_plain_data(
    stages: list[dict[str, Any]],
    split: dict[str, Any],
    modalities: dict[str, Any],
    seed: int,
    cutoffs: list[int],
) -> None:
    named = [stage | {"name": f"stage {number}"} for number, stage in enumerate(stages)]
    values = base() | {"seed": seed, "modalities": modalities}
    values["dataset"] |= {"split": split}
    values["training"] = {"retriever": named, "metric": f"hr@{cutoffs[0]}"}
    values["evaluation"] = {"cutoffs": sorted(cutoffs)}
    recipe = parse_recipe(values)
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(plain_recipe(recipe))))
    assert again == recipe
    assert plain_recipe(again) == plain_recipe(recipe)


causal_features = st.dictionaries(
    st.sampled_from(["first", "second"]),
    st.one_of(
        st.just({"kind": "user_statistics", "labels": ["rating"], "recent_days": [3]}),
        st.just({"kind": "clock", "time_zone": "Europe/Berlin"}),
        st.just({"kind": "similarity", "modality": "text", "label": "rating", "at_least": 4}),
        st.just({"kind": "category_shares", "column": "genres", "separator": None}),
    ),
    # The outputs of two of a kind have the same names.
).filter(lambda features: len({feature["kind"] for feature in features.values()}) == len(features))
gates = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["dense", "attention"])}, optional={"temperature": st.floats(0.1, 9.0)}
    ),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["top_k", "noisy_top_k"])},
        optional={"k": st.integers(1, 4), "balance": st.just({"kind": "loss_free", "rate": 0.01})},
    ),
)
experts = st.one_of(
    st.fixed_dictionaries({"kind": st.just("mlp")}, optional={"hidden": st.lists(st.integers(1, 9), max_size=2)}),
    st.fixed_dictionaries({"kind": st.just("convolution")}, optional={"channels": st.integers(1, 9)}),
)
rankers = st.one_of(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["mmoe", "home", "ple"])}, optional={"gate": gates, "expert": experts}
    ),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["shared_bottom", "single_task"])},
        optional={"hidden": st.lists(st.integers(1, 64), max_size=2), "history_pooling": st.just("mean")},
    ),
)
tasks = st.lists(
    st.sampled_from(
        [
            {"name": "like", "label": "rating", "at_least": 4},
            {"name": "rating", "type": "regression", "label": "rating", "loss": "huber", "weight": 0.5},
            {"name": "met", "population": "reviews+negatives"},
            {"name": "stars", "type": "ordinal", "label": "rating", "values": [1, 2, 3.5], "mask": "known"},
            {"name": "kind", "type": "multiclass", "label": "rating", "values": [3, 1, -2]},
        ]
    ),
    unique_by=lambda task: task["name"],
    min_size=1,
)
weightings = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["fixed", "uncertainty", "dwa", "pcgrad", "mgda"])}),
    st.fixed_dictionaries({"kind": st.just("gradnorm"), "alpha": st.floats(0, 9)}),
    st.just({"kind": "fixed", "log_cosines": True}),
)
weights = st.one_of(st.floats(0, 9), st.lists(st.floats(0, 9), min_size=1, max_size=4))


@settings(max_examples=40)
@given(st.data(), rankers, tasks, causal_features, st.booleans())
def test_any_recipe_with_a_ranker_comes_back_from_plain_data(
    data: st.DataObject,
    ranker: dict[str, Any],
    tasks: list[dict[str, Any]],
    features: dict[str, Any],
    retrieves: bool,
) -> None:
    names = st.sampled_from(["retrieval", *(task["name"] for task in tasks if task["name"] != "kind")])
    settings_of_ranker = {"use_user_id": st.booleans(), "history": st.integers(0, 9), "trials": st.integers(1, 9)}
    negatives = st.fixed_dictionaries({"count": st.integers(1, 9), "sampling": st.just("popularity")})
    values = base() | {
        "ranker": ranker
        | {"tasks": tasks}
        | data.draw(st.fixed_dictionaries({}, optional=settings_of_ranker | {"negatives": negatives})),
        "causal_features": features,
        "two_stage": {"formula": data.draw(st.dictionaries(names, weights)), "use": "always"},
        "ranking_baselines": {"kinds": ["means"], "siblings": ["single_task"], "trials": 2},
    }
    values["features"].append({"name": "age", "kind": "dense", "side": "user", "transform": "quantile"})
    stage = {"updates": 5} | data.draw(st.fixed_dictionaries({}, optional={"weighting": weightings}))
    values["training"] |= {"ranker": [stage], "ranker_metric": "selection"}
    if not retrieves:
        values["retriever"] = None
        if "two_stage" in values:
            with pytest.raises(ConfigError, match="no candidates to rank without a retriever"):
                parse_recipe(values | {"two_stage": {"candidates": 7}})
            del values["two_stage"]
    recipe = parse_recipe(values)
    again = parse_recipe(yaml.safe_load(yaml.safe_dump(plain_recipe(recipe))))
    assert again == recipe
    assert plain_recipe(again) == plain_recipe(recipe)
    assert set(ranker) <= set(plain_recipe(recipe)["ranker"]), "the model's keys stand beside its kind"
    kind = stage.get("weighting", {"kind": "fixed"})["kind"]
    assert plain_recipe(recipe)["training"]["ranker"][0]["weighting"]["kind"] == kind
