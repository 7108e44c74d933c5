"""The recommender: raw ids in and out, in all forms, and never anything that a user has seen."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from moerec import Dataset, Recommender
from moerec.dataset.schema import FIRST_ITEM, Part
from moerec.dataset.splits import SplitConfig
from moerec.errors import CheckpointError, MoerecError
from moerec.models.hstu import HSTUConfig
from moerec.models.sasrec import SASRecConfig
from tests.small_run import do

ITEMS = [f"i{number}" for number in range(30)]
USERS = [f"u{number}" for number in range(12)]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """Twelve users; u0 has a single event, u11 has met all items but two."""
    generator = np.random.default_rng(3)
    rows = []
    for number, user in enumerate(USERS):
        count = 1 if number == 0 else 28 if number == 11 else int(generator.integers(2, 15))
        rows += [(user, str(item), place * 1000) for place, item in enumerate(generator.permutation(ITEMS)[:count])]
    events = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    items = pl.DataFrame({"item_id": ITEMS, "title": [f"[bold]Title of {item}" for item in ITEMS]})
    return Dataset.from_frames(events, items=items, name="by hand")


@pytest.fixture(scope="module")
def recommender(dataset: Dataset) -> Recommender:
    """A model with random weights large enough that every user's list is another."""
    torch.manual_seed(1)
    trained = torch.ones(dataset.num_indices, dtype=torch.bool)
    trained[:FIRST_ITEM] = False
    model = SASRecConfig(width=12, blocks=1, feed_forward=12, max_length=6).build(trained)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.6)
        model.empty_history.normal_()
    return Recommender.from_dataset(model, dataset)


@pytest.fixture(scope="module")
def seen(dataset: Dataset) -> dict[str, list[str]]:
    """Each user's items, oldest first."""
    ids = dataset.item_ids(dataset.event_items)
    frame = pl.DataFrame({"user": dataset.user_ids(dataset.event_users), "item": ids})
    return {str(user): items for user, items in frame.group_by("user", maintain_order=True).all().iter_rows()}


def refusal(call: Any, *arguments: Any, **keys: Any) -> str:
    with pytest.raises(MoerecError) as caught:
        call(*arguments, **keys)
    assert "\n" not in str(caught.value), "one line"
    return str(caught.value)


# --- what comes out


def test_lists_have_raw_ids_ranks_from_one_and_falling_scores(recommender: Recommender) -> None:
    frame = recommender.recommend(users=USERS, k=5)
    assert frame.schema == {"user_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.Int32}
    assert frame["user_id"].unique(maintain_order=True).to_list() == USERS
    assert set(frame["item_id"]) <= set(ITEMS)
    for user, rows in frame.group_by("user_id", maintain_order=True):
        assert rows["rank"].to_list() == list(range(1, len(rows) + 1))
        assert rows["score"].is_sorted(descending=True)
        assert rows["item_id"].is_unique().all()
        assert len(rows) == (2 if user == ("u11",) else 5), "u11 has two unseen items left"


def test_scores_are_the_dot_products_of_the_model(recommender: Recommender, seen: dict[str, list[str]]) -> None:
    # Items are sorted by id in the index, so places are looked up and not assumed.
    places = {item: place + FIRST_ITEM for place, item in enumerate(recommender.items["item_id"])}
    history = torch.tensor([[places[item] for item in seen["u5"][-6:]]])
    with torch.no_grad():
        vectors = recommender.model.encode_items()
        user = recommender.model.encode_padded(history, torch.tensor([history.shape[1]]))
    frame = recommender.recommend(users=["u5"], k=40, filter_seen=False)
    assert len(frame) == 30
    for item, score in frame.select("item_id", "score").iter_rows():
        assert score == pytest.approx(float(user[0] @ vectors[places[item]]), abs=1e-4)


@given(order=st.permutations(USERS), k=st.integers(1, 40), filter_seen=st.booleans(), size=st.integers(1, 5))
@settings(max_examples=30)
def test_never_seen_items_any_order_any_batch_size(
    recommender: Recommender,
    seen: dict[str, list[str]],
    order: list[str],
    k: int,
    filter_seen: bool,
    size: int,
) -> None:
    asked = order[:7]
    small = Recommender(recommender.model, recommender.items, recommender.histories, users_per_batch=size)
    frame = small.recommend(users=asked, k=k, filter_seen=filter_seen)
    assert frame["user_id"].unique(maintain_order=True).to_list() == asked, "nobody is left without a list"
    for (user,), rows in frame.group_by("user_id", maintain_order=True):
        left = len(ITEMS) - (len(seen[str(user)]) if filter_seen else 0)
        assert len(rows) == min(k, left)
        if filter_seen:
            assert not set(rows["item_id"]) & set(seen[str(user)])
    whole = recommender.recommend(users=asked, k=k, filter_seen=filter_seen)
    assert_frame_equal(frame, whole, rel_tol=1e-5, abs_tol=1e-5)


@given(
    histories=st.lists(st.lists(st.sampled_from(ITEMS), max_size=12), max_size=5),
    k=st.integers(1, 35),
    filter_seen=st.booleans(),
)
@settings(max_examples=40)
def test_any_histories(recommender: Recommender, histories: list[list[str]], k: int, filter_seen: bool) -> None:
    frame = recommender.recommend(histories=histories, k=k, filter_seen=filter_seen)
    for number, history in enumerate(histories):
        rows = frame.filter(pl.col("user_id") == str(number))
        assert len(rows) == min(k, len(ITEMS) - (len(set(history)) if filter_seen else 0))
        assert not (filter_seen and set(rows["item_id"]) & set(history))
    assert len(frame) == sum(len(rows) for _, rows in frame.group_by("user_id"))


def test_a_user_is_the_same_as_the_users_history(recommender: Recommender, seen: dict[str, list[str]]) -> None:
    known = recommender.recommend(users=USERS, k=30)
    given_as = recommender.recommend(histories={user: seen[user] for user in USERS}, k=30)
    assert_frame_equal(known, given_as, rel_tol=1e-5, abs_tol=1e-5)


def test_all_candidates_seen_gives_an_empty_list(recommender: Recommender) -> None:
    frame = recommender.recommend(histories={"all": ITEMS, "none": []}, k=3)
    assert frame["user_id"].unique().to_list() == ["none"]


# --- what goes in


def ids_of(frame: pl.DataFrame) -> list[tuple[Any, ...]]:
    return frame.select("user_id", "item_id", "rank").rows()


def test_histories_in_every_form_give_the_same_lists(recommender: Recommender) -> None:
    rows = [("a", "i3", 1), ("b", "i9", 5), ("a", "i7", 2), ("b", "i1", 6), ("a", "i5", 3), ("b", "i9", 7)]
    shuffled = [rows[place] for place in (5, 4, 1, 0, 3, 2)]
    lists = [["i3", "i7", "i5"], ["i9", "i1", "i9"]]
    expected = recommender.recommend(histories={"a": lists[0], "b": lists[1]}, k=4)
    polars = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    mixed = pl.DataFrame(shuffled, schema=["user_id", "item_id", "timestamp"], orient="row")
    dated = mixed.with_columns(pl.from_epoch("timestamp"))
    forms: list[Any] = [
        polars,
        polars.drop("timestamp"),
        polars.lazy(),
        polars.to_arrow(),
        pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]),
        {"a": tuple(lists[0]), "b": np.array(lists[1])},
        {"a": pl.Series(lists[0]), "b": pa.array(lists[1])},
    ]
    for histories in forms:
        assert ids_of(recommender.recommend(histories=histories, k=4)) == ids_of(expected)
    # Rows in disorder are put in order by time; users come in the order in which they first appear.
    swapped = sorted(ids_of(expected), key=lambda row: row[0] == "a")
    for histories in (mixed, dated, pd.DataFrame(shuffled, columns=["user_id", "item_id", "timestamp"])):
        assert ids_of(recommender.recommend(histories=histories, k=4)) == swapped
    numbered = [(str("ab".index(user)), item, rank) for user, item, rank in ids_of(expected)]
    for listed in (lists, tuple(map(tuple, lists)), np.array(lists), pd.Series(lists), (one for one in lists)):
        assert ids_of(recommender.recommend(histories=listed, k=4)) == numbered


def test_ids_may_be_numbers_of_any_type() -> None:
    events = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [10, 20, 20, 30]})
    dataset = Dataset.from_frames(events, name="numbers")
    torch.manual_seed(0)
    model = SASRecConfig(width=4, heads=1, blocks=1, max_length=3).build(torch.tensor([False, False, True, True, True]))
    recommender = Recommender.from_dataset(model, dataset)
    expected = ids_of(recommender.recommend(users=["2", "1"], k=2, filter_seen=False))
    for users in (
        [2, 1],
        np.array([2, 1]),
        np.array([2.0, 1.0]),
        pl.Series([2, 1]),
        pd.Series([2, 1]),
        pa.array([2, 1]),
        (2.0, "1"),
    ):
        assert ids_of(recommender.recommend(users=users, k=2, filter_seen=False)) == expected
    assert recommender.recommend(histories=[[10, np.int32(20)]], k=2)["item_id"].to_list() == ["30"]
    assert recommender.recommend(users=[1], candidates=[10, 30], k=5)["item_id"].to_list() == ["30"]
    assert set(recommender.similar([10], k=9)["similar_item_id"]) == {"20", "30"}


def test_no_users_give_an_empty_frame(recommender: Recommender) -> None:
    empty = recommender.recommend(users=USERS[:1], k=1).clear()
    empty_frame = pl.DataFrame(schema={"user_id": pl.String, "item_id": pl.String})
    for frame in (
        recommender.recommend(users=[]),
        recommender.recommend(histories=[]),
        recommender.recommend(histories={}),
        recommender.recommend(histories=empty_frame),
    ):
        assert_frame_equal(frame, empty)
    assert recommender.similar([]).is_empty()


def test_an_empty_history_gets_the_list_of_nobody(recommender: Recommender) -> None:
    frame = recommender.recommend(histories=[[], ["i1"], []], k=30)
    lists = {user: rows["item_id"].to_list() for (user,), rows in frame.group_by("user_id")}
    assert lists["0"] == lists["2"]
    assert len(lists["0"]) == 30
    with torch.no_grad():
        scores = recommender.model.encode_items() @ recommender.model.empty_history
    best = recommender.items["item_id"][int(scores[FIRST_ITEM:].argmax())]
    assert lists["0"][0] == best


@pytest.mark.parametrize("chosen", [["i4"], ["i4", "i9", "i2"], ITEMS])
def test_candidates_restrict_the_choice(recommender: Recommender, chosen: list[str]) -> None:
    whole = recommender.recommend(users=["u3"], k=30, filter_seen=False)
    frame = recommender.recommend(users=["u3"], k=30, filter_seen=False, candidates=chosen)
    assert frame["item_id"].to_list() == [item for item in whole["item_id"] if item in chosen]
    assert frame["rank"].to_list() == list(range(1, len(chosen) + 1))


def test_no_candidate_no_list(recommender: Recommender) -> None:
    assert recommender.recommend(users=["u3"], candidates=[]).is_empty()


def test_unknown_items_of_a_history_are_told_and_count_as_unknown(
    recommender: Recommender, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "moerec"):
        frame = recommender.recommend(histories=[["i1", "nowhere"], ["nowhere", "never"]], k=3)
    assert caplog.messages == [
        "3 of 4 events in the histories are of items that the catalogue does not know, such as 'nowhere'"
    ]
    assert frame["user_id"].to_list() == ["0"] * 3 + ["1"] * 3
    caplog.clear()
    recommender.recommend(histories=[["i1"]], k=3)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "recommend: give either users=[...] or histories=[...]"),
        ({"users": ["u1"], "histories": [["i1"]]}, "recommend: give either users=[...] or histories=[...]"),
        ({"users": ["u1", "x", "y"]}, "recommend: the model knows no user 'x', 'y'; give their events as histories"),
        (
            {"users": [str(n) for n in range(9)]},
            "recommend: the model knows no user '0', '1', '2', '3', '4' and 4 more",
        ),
        ({"users": "u1"}, "users: 'u1' is one id; give a list of ids"),
        ({"users": 5}, "users: 5 is one id; give a list of ids"),
        ({"users": [None]}, "recommend: the model knows no user None"),
        ({"users": [["u1"]]}, "users: ['u1'] is no id; give an integer or a string"),
        ({"users": ["u1"], "k": 0}, "recommend: k must be a whole number of at least 1, got 0"),
        ({"users": ["u1"], "k": 2.5}, "recommend: k must be a whole number of at least 1, got 2.5"),
        ({"users": ["u1"], "k": "3"}, "recommend: k must be a whole number of at least 1, got '3'"),
        ({"users": ["u1"], "candidates": ["i1", "x"]}, "recommend: candidates: the catalogue has no item 'x'"),
        ({"users": ["u1"], "candidates": "i1"}, "candidates: 'i1' is one id; give a list of ids"),
        ({"histories": "i1"}, "recommend: histories must be a list of lists of item ids, a mapping or a frame"),
        ({"histories": 3}, "recommend: histories must be a list of lists of item ids, a mapping or a frame"),
        ({"histories": ["i1", "i2"]}, "histories: 'i1' is one id; give a list of ids"),
        ({"histories": [["i1", None]]}, "recommend: 1 item ids of the histories are missing; leave them out"),
        ({"histories": pl.DataFrame({"user": ["a"]})}, "histories: no column 'user_id' among user"),
        (
            {"histories": pl.DataFrame({"user_id": ["a", None], "item_id": ["i1", "i2"]})},
            "recommend: 1 rows of the histories have no user_id",
        ),
        (
            {"histories": pl.DataFrame({"user_id": ["a"], "item_id": [None]}, schema_overrides={"item_id": pl.String})},
            "recommend: 1 item ids of the histories are missing",
        ),
        (
            {"histories": pl.DataFrame({"user_id": ["a", "a"], "item_id": ["i1", "i2"], "timestamp": [3, None]})},
            "recommend: 1 rows of the histories have no timestamp",
        ),
        (
            {"histories": pl.DataFrame({"user_id": ["a"], "item_id": ["i1"], "timestamp": ["10"]})},
            "recommend: histories: timestamps of type String do not sort by time",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_one_line(recommender: Recommender, arguments: dict[str, Any], says: str) -> None:
    assert refusal(recommender.recommend, **arguments).startswith(says)


# --- similar items


def test_similar_items_by_cosine_without_the_item_itself(recommender: Recommender) -> None:
    frame = recommender.similar(ITEMS, k=40)
    vectors = torch.nn.functional.normalize(recommender.model.encode_items(), dim=-1).detach()
    places = {item: place + FIRST_ITEM for place, item in enumerate(recommender.items["item_id"])}
    assert frame.columns == ["item_id", "similar_item_id", "score", "rank"]
    for (item,), rows in frame.group_by("item_id", maintain_order=True):
        assert set(rows["similar_item_id"]) == set(ITEMS) - {item}
        assert rows["score"].is_sorted(descending=True)
        for other, score in rows.select("similar_item_id", "score").iter_rows():
            assert score == pytest.approx(float(vectors[places[str(item)]] @ vectors[places[other]]), abs=1e-5)


def test_a_wrong_request_for_similar_items_is_refused(recommender: Recommender) -> None:
    assert refusal(recommender.similar, ["i1", "x"]) == "similar: the catalogue has no item 'x'"
    assert refusal(recommender.similar, "i1").startswith("items: 'i1' is one id")
    assert refusal(recommender.similar, ["i1"], k=0).startswith("similar: k must be a whole number")


def test_the_history_of_a_user_is_in_order(recommender: Recommender, seen: dict[str, list[str]]) -> None:
    assert recommender.history("u5")["item_id"].to_list() == seen["u5"]
    assert "title" in recommender.history("u5").columns
    assert refusal(recommender.history, "nobody").startswith("recommend: the model knows no user 'nobody'")


# --- on disk


@pytest.fixture(scope="module")
def saved(recommender: Recommender, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    recommender.save_pretrained(folder, card="# A card\n")
    return folder


def test_what_is_read_back_answers_the_same(recommender: Recommender, saved: Path) -> None:
    again = Recommender.from_pretrained(saved)
    assert_frame_equal(again.recommend(users=USERS, k=7), recommender.recommend(users=USERS, k=7), check_exact=True)
    assert_frame_equal(again.similar(ITEMS[:4]), recommender.similar(ITEMS[:4]), check_exact=True)
    assert again.items.equals(recommender.items)
    assert (saved / "README.md").read_text() == "# A card\n"
    assert not list(saved.parent.glob(".*")), "nothing half written beside it"
    assert not list(saved.rglob("*.p*kl")), "nothing pickled"


def test_a_run_folder_stands_for_its_model(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save_pretrained(tmp_path / "model")
    assert Recommender.from_pretrained(tmp_path).items.equals(recommender.items)
    assert Recommender.from_pretrained(str(tmp_path / "model")).items.equals(recommender.items)


def test_without_histories_only_new_users_can_be_asked_for(recommender: Recommender, tmp_path: Path) -> None:
    recommender.save_pretrained(tmp_path, histories=False)
    again = Recommender.from_pretrained(tmp_path)
    assert refusal(again.recommend, users=["u1"]).startswith("recommend: this model was saved without histories")
    assert_frame_equal(again.recommend(histories=[["i1"]]), recommender.recommend(histories=[["i1"]]))
    recommender.save_pretrained(tmp_path)
    assert Recommender.from_pretrained(tmp_path).recommend(users=["u1"]).height == 10, "replaced as a whole"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def other_width(path: Path) -> None:
    described = json.loads(path.read_text())
    described["config"]["width"] = 24
    path.write_text(json.dumps(described))


def newer(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def fewer_rows(path: Path) -> None:
    pl.read_parquet(path).head(5).write_parquet(path)


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("config.json", Path.unlink, "no saved model here (no config.json)"),
        ("config.json", cut, "not valid JSON"),
        ("config.json", lambda path: path.write_text("[]"), "describes no model"),
        ("config.json", lambda path: path.write_text('{"format": 1}'), "do not fit"),
        ("config.json", newer, "model format 99, this moerec reads 1"),
        ("config.json", other_width, "the weights do not fit the model that config.json describes"),
        ("model.safetensors", Path.unlink, "cannot be read"),
        ("model.safetensors", cut, "cannot be read"),
        ("item_features.safetensors", cut, "cannot be read"),
        ("item_features.safetensors", Path.unlink, "cannot be read"),
        ("items.parquet", Path.unlink, "items.parquet is missing"),
        ("items.parquet", cut, "cannot be read"),
        ("items.parquet", fewer_rows, "items.parquet has 5 items and the model 30"),
        ("histories.parquet", cut, "cannot be read"),
    ],
)
def test_a_damaged_model_is_refused_in_one_line(saved: Path, tmp_path: Path, file: str, damage: Any, says: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    damage(folder / file)
    message = refusal(Recommender.from_pretrained, folder)
    assert says in message
    assert str(folder) in message


def test_weights_of_another_model_are_refused(saved: Path, recommender: Recommender, tmp_path: Path) -> None:
    deeper = SASRecConfig(width=12, blocks=2, feed_forward=12, max_length=6).build(recommender.model.item_tower.trained)
    Recommender(deeper, recommender.items, recommender.histories).save_pretrained(tmp_path / "deeper")
    shutil.copytree(saved, tmp_path / "model")
    shutil.copy(tmp_path / "deeper" / "model.safetensors", tmp_path / "model" / "model.safetensors")
    assert "encoder.blocks.1." in refusal(Recommender.from_pretrained, tmp_path / "model")


def test_a_device_that_is_not_there_is_refused(saved: Path) -> None:
    assert "device 'warp' cannot be used" in refusal(Recommender.from_pretrained, saved, device="warp")


def test_no_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no saved model here"):
        Recommender.from_pretrained(tmp_path / "nowhere")


# --- cold items


@pytest.fixture(scope="module")
def by_taste(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    """Trained on users who draw from two genres and follow nothing; some items occur in no train event."""
    directory, _ = do(
        tmp_path_factory.mktemp("taste"),
        [
            "dataset.follow=0",
            "dataset.cold_items=0.15",
            "dataset.users=150",
            "features=[{name: genres, kind: multi}]",
            "retriever.item_tower.id_dropout=0.3",
            "training.retriever[0].epochs=12",
            "baselines.kinds=[]",
        ],
    )
    return Recommender.from_pretrained(directory)


def test_a_cold_item_of_the_users_taste_outranks_one_of_another(by_taste: Recommender) -> None:
    trained = by_taste.model.item_tower.trained[FIRST_ITEM:].numpy()
    genre = dict(by_taste.items.select("item_id", "genres").iter_rows())
    cold = by_taste.items["item_id"].filter(pl.Series(~trained)).to_list()
    assert len(cold) >= 6
    users = by_taste.histories["user_id"].to_list()
    frame = by_taste.recommend(users=users, candidates=cold, k=len(cold))
    right = asked = 0
    for user, rows in zip(users, frame.partition_by("user_id", maintain_order=True), strict=True):
        # Tastes by the events that were trained on: a cold one may be of no genre of the user's.
        met = [genre[item] for item in by_taste.history(user)["item_id"]]
        liked = {name for name in met if met.count(name) > 2}
        fits = [genre[item] in liked for item in rows["item_id"]]
        pairs = [(one, two) for place, one in enumerate(fits) for two in fits[place + 1 :] if one != two]
        right, asked = right + sum(one for one, _ in pairs), asked + len(pairs)
    assert asked > 1000
    assert right / asked > 0.85, "of all pairs of a fitting and a foreign cold item"


def test_the_id_row_of_a_cold_item_is_never_read(by_taste: Recommender) -> None:
    cold = FIRST_ITEM + np.flatnonzero(~by_taste.model.item_tower.trained[FIRST_ITEM:].numpy())
    users = by_taste.histories["user_id"].to_list()
    expected = by_taste.recommend(users=users, k=72, filter_seen=False)
    table = by_taste.model.item_tower.id_embedding.weight
    before = table.detach().clone()
    try:
        with torch.no_grad():
            table[cold] = torch.nan
        fresh = Recommender(by_taste.model, by_taste.items, by_taste.histories)
        assert_frame_equal(fresh.recommend(users=users, k=72, filter_seen=False), expected, check_exact=True)
    finally:
        with torch.no_grad():
            table.copy_(before)


def test_the_gate_is_shown_for_each_item(by_taste: Recommender, recommender: Recommender) -> None:
    weights = np.array(by_taste.expert_weights(by_taste.items["item_id"]))
    assert weights.shape == (72, 3)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert recommender.expert_weights(["i1", "i2"]) == [[], []], "ids alone need no mixture"


# --- models that read times


@pytest.fixture(scope="module")
def timed(dataset: Dataset) -> Recommender:
    """A model with a time bias that matters."""
    torch.manual_seed(1)
    trained = torch.arange(dataset.num_indices) >= FIRST_ITEM
    model = HSTUConfig(width=12, blocks=1, max_length=6, time_bias=True).build(trained)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    return Recommender.from_dataset(model, dataset)


def test_times_of_histories_reach_the_model(timed: Recommender, dataset: Dataset, tmp_path: Path) -> None:
    """Known users, a saved model, and new users with the same events get one list; other times change it."""
    timed.save_pretrained(tmp_path / "model")
    saved = Recommender.from_pretrained(tmp_path / "model")
    ids = {"user_id": dataset.user_ids(dataset.event_users), "item_id": dataset.item_ids(dataset.event_items)}
    table = pl.DataFrame(ids).with_columns(timestamp=pl.Series(dataset.timestamps))
    whole = {"k": 30, "filter_seen": False}
    known = timed.recommend(users=USERS, **whole).select("user_id", "item_id", "score")
    for same in (
        saved.recommend(users=USERS, **whole),
        timed.recommend(histories=table, **whole),
        timed.recommend(histories=table.reverse(), **whole),
        timed.recommend(histories=table.with_columns(pl.col("timestamp").cast(pl.Datetime("ms"))), **whole),
    ):
        joined = known.join(same, on=["user_id", "item_id"])
        assert len(joined) == len(known) == len(same)
        assert (joined["score"] - joined["score_right"]).abs().max() < 1e-4
    slower = timed.recommend(histories=table.with_columns(pl.col("timestamp") * 10_000), **whole)
    joined = known.join(slower, on=["user_id", "item_id"])
    assert (joined["score"] - joined["score_right"]).abs().max() > 1e-2


def test_histories_without_times_are_refused_where_the_model_reads_times(
    timed: Recommender, recommender: Recommender
) -> None:
    says = "recommend: this model reads when things happened (time_bias); give histories as a table with user_id"
    table = pl.DataFrame({"user_id": ["a", "a"], "item_id": ["i1", "i2"]})
    for histories in ([["i1", "i2"]], {"a": ["i1"]}, table):
        assert refusal(timed.recommend, histories=histories).startswith(says)
        assert len(recommender.recommend(histories=histories, k=2)) == 2
    missing = table.with_columns(timestamp=pl.Series([3, None]))
    assert "1 rows have no timestamp; leave them out" in refusal(timed.recommend, histories=missing)
    assert len(timed.recommend(histories=[[]], k=2)) == 2, "nobody has met nothing at some time"


def test_a_data_set_without_times_cannot_serve_a_model_that_reads_them(timed: Recommender, dataset: Dataset) -> None:
    ids = {"user_id": dataset.user_ids(dataset.event_users), "item_id": dataset.item_ids(dataset.event_items)}
    timeless = Dataset.from_frames(pl.DataFrame(ids), items=dataset.items.drop("item"), name="timeless")
    says = refusal(Recommender.from_dataset, timed.model, timeless)
    assert says.startswith("retriever.time_bias: this model reads when events happened")
    old = Recommender(timed.model, timed.items, timed.histories.drop("timestamps"))
    assert refusal(old.recommend, users=["u1"]).startswith("retriever.time_bias")


def test_a_user_of_whom_everything_is_left_out_has_an_empty_history() -> None:
    events = pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "z"], "timestamp": [1, 2, 3]})
    dataset = Dataset.from_frames(events)
    dataset.add_split("main", SplitConfig(kind="ratio", valid=0, test=0.4, seed=0))
    dataset._splits["main"] = np.array([Part.TRAIN, Part.TEST, Part.UNUSED], dtype=np.int8)
    model = SASRecConfig(width=8, max_length=3).build(torch.ones(dataset.num_indices, dtype=torch.bool))
    with_split = Recommender.from_dataset(model, dataset, split="main")
    assert with_split.histories.to_dicts() == [{"user_id": "a", "items": [2, 3]}, {"user_id": "b", "items": []}]
    assert Recommender.from_dataset(model, dataset).histories["items"].to_list() == [[2, 3], [4]]
    assert len(with_split.recommend(["b"], k=3)) == 3


@pytest.mark.parametrize("k", [True, 0, 1.5])
def test_the_length_of_a_list_is_a_whole_number(recommender: Recommender, k: Any) -> None:
    with pytest.raises(MoerecError, match="k must be a whole number"):
        recommender.recommend(histories=[[]], k=k)
