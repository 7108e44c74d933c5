"""Cold start from end to end: new users by their history alone, new items by their content alone.

The planted signal: a user likes the items of one genre. Some users begin after the train part, some items come up in
the test part alone, and one item of each genre is added to the saved model.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from moerec import Recommender
from moerec.dataset.schema import FIRST_ITEM
from moerec.models.item_tower import ItemTower
from moerec.recipe import parse_recipe
from moerec.run import RunOptions, run_recipe
from moerec.training.id_dropout import AnnealedIdDropout

GENRES = ("sea", "moon", "bread", "moss", "clue", "tent")
DAY = 86_400
OLD_USERS, NEW_USERS, ITEMS_OF_A_GENRE = 120, 60, 12
FIRST_DAY = 18_000  # days since 1970: 2019-04-14

RECIPE = """
name: cold-start
dataset:
  source: table
  events: {folder}/events.csv
  items: {folder}/items.csv
  split: {{kind: global_date, valid_from: 2019-04-24, test_from: 2019-04-26}}
  candidates: null
features: [{{name: genres, kind: multi}}]
retriever:
  kind: sasrec
  width: 16
  blocks: 1
  max_length: 8
  feed_forward: 16
  dropout: 0.1
  item_tower:
    experts: 3
    expert_hidden: 8
    gate: {{kind: top_k, k: 2, balance: {{kind: loss_free, rate: 0.01}}}}
    id_dropout: 0.4
    id_dropout_anneal: true
baselines: {{kinds: [popularity, item_knn], trials: 2}}
training: {{threads: 1, retriever: [{{epochs: 10, batch_size: 16, learning_rate: 0.01}}]}}
evaluation: {{cutoffs: [5, 10], resamples: 100, examples: 2}}
"""


def write_data(folder: Path) -> None:
    """Ten days of train events, two of validation, two of test; the last two items of a genre are of the test part."""
    generator = np.random.default_rng(0)
    items = [(f"{genre}{number}", genre) for genre in GENRES for number in range(ITEMS_OF_A_GENRE)]
    pl.DataFrame(items, schema=["item_id", "genres"], orient="row").write_csv(folder / "items.csv")
    rows = []
    for user in range(OLD_USERS + NEW_USERS):
        genre = GENRES[user % len(GENRES)]
        known = [f"{genre}{number}" for number in generator.permutation(ITEMS_OF_A_GENRE - 2)]
        is_new = user >= OLD_USERS
        days = [10] * 3 if is_new else [*sorted(generator.integers(0, 10, 6).tolist()), 10]
        rows += [(f"u{user}", item, day) for item, day in zip(known, days, strict=False)]
        late = known[len(days)] if user % 4 < 2 else f"{genre}{ITEMS_OF_A_GENRE - 1 - user % 2}"
        rows.append((f"u{user}", late, 12))
    # Somebody of whom nothing is known but what is to be found.
    rows.append(("nobody", "sea3", 13))
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "day"], orient="row").with_row_index("place")
    frame.select(
        "user_id", "item_id", ((pl.col("day") + FIRST_DAY) * DAY + pl.col("place")).alias("timestamp")
    ).write_csv(folder / "events.csv")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The run, and the share of hidden ids before each update."""
    folder = tmp_path_factory.mktemp("cold")
    write_data(folder)
    recipe = parse_recipe(yaml.safe_load(RECIPE.format(folder=folder)))
    shares: list[float] = []
    before_step = AnnealedIdDropout.before_step

    def watched(hook: AnnealedIdDropout, moment: Any) -> None:
        before_step(hook, moment)
        tower: ItemTower = moment.model.item_tower
        shares.append(float(tower.id_dropout))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AnnealedIdDropout, "before_step", watched)
        directory = run_recipe(recipe, RunOptions(folder / "runs", folder / "artifacts"), Console(quiet=True))
    return directory, shares


@pytest.fixture(scope="module")
def recommender(run: tuple[Path, list[float]]) -> Recommender:
    return Recommender.from_pretrained(run[0])


def metrics_of(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return found


def genre_of(item: str) -> str:
    return item.rstrip("0123456789")


def test_new_users_and_new_items_have_slices_for_the_model_and_the_baselines(run: tuple[Path, list[float]]) -> None:
    retrieval = metrics_of(run[0])["retrieval"]
    slices = retrieval["slices"]
    assert slices["known users"]["cases"] == OLD_USERS
    assert slices["new users"]["cases"] == NEW_USERS
    assert slices["users without history"]["cases"] == 1
    assert slices["new items"]["cases"] == (OLD_USERS + NEW_USERS) // 2
    for details in retrieval["baseline_details"].values():
        assert {name: values["cases"] for name, values in details["slices"].items()} == {
            name: values["cases"] for name, values in slices.items()
        }
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    for name in slices:
        assert name in page.lower()


def test_what_is_new_is_found_far_above_chance(run: tuple[Path, list[float]]) -> None:
    retrieval = metrics_of(run[0])["retrieval"]
    chance = 10 / (len(GENRES) * ITEMS_OF_A_GENRE)
    for name in ("new users", "new items"):
        assert retrieval["slices"][name]["hr@10"] > 5 * chance
        assert retrieval["slices"][name]["hr@10"] > 0.9 * retrieval["slices"]["known users"]["hr@10"]
    for details in retrieval["baseline_details"].values():
        assert details["slices"]["new items"]["hr@10"] < 2 * chance, "ids alone know nothing of a new item"


def test_lists_hold_items_without_a_train_event(recommender: Recommender) -> None:
    untrained = set(recommender.items["item_id"].filter(pl.Series(~recommender.model.item_tower.trained[2:].numpy())))
    assert untrained == {f"{genre}{number}" for genre in GENRES for number in (10, 11)}
    users = recommender.histories["user_id"].to_list()
    lists = recommender.recommend(users=users, k=10)
    assert set(lists["item_id"]) >= untrained
    histories = {genre: [f"{genre}{number}" for number in (0, 1, 2)] for genre in GENRES}
    for (genre,), rows in recommender.recommend(histories=histories, k=8).group_by("user_id"):
        assert sum(genre_of(item) == genre for item in rows["item_id"]) >= 7, "a new user is known by a history"


def test_an_item_added_by_content_alone_is_recommended_to_whom_it_suits(
    recommender: Recommender, tmp_path: Path
) -> None:
    added = pl.DataFrame({"item_id": [f"{genre}99" for genre in GENRES], "genres": GENRES})
    recommender.add_items(added).save_pretrained(tmp_path)
    larger = Recommender.from_pretrained(tmp_path)
    users = [user for user in larger.histories["user_id"] if user != "nobody"]
    ranks: dict[bool, list[int]] = {True: [], False: []}
    listed = 0
    for (user,), rows in larger.recommend(users=users, k=100).group_by("user_id"):
        genre = GENRES[int(str(user)[1:]) % len(GENRES)]
        for item, rank in (
            rows.filter(pl.col("item_id").is_in(added["item_id"].implode())).select("item_id", "rank").iter_rows()
        ):
            ranks[genre_of(item) == genre].append(rank)
            listed += genre_of(item) == genre and rank <= 10
    assert len(ranks[True]) == len(users)
    assert np.mean(ranks[True]) < 8
    assert np.mean(ranks[False]) > 25
    assert listed > 0.6 * len(users)
    # As an event it counts, too.
    after = larger.recommend(histories=[["moss99", "moss99"]], k=6)["item_id"]
    assert sum(genre_of(item) == "moss" for item in after) >= 5


def test_the_run_anneals_id_dropout_and_balances_the_gate(
    run: tuple[Path, list[float]], recommender: Recommender
) -> None:
    directory, shares = run
    assert len(shares) == metrics_of(directory)["model"]["updates"]
    np.testing.assert_allclose(shares, 0.4 * (1 - np.arange(len(shares)) / len(shares)), atol=1e-6)
    gate = recommender.model.item_tower.fusion.gate
    assert gate.bias.any(), "the bias moved, and was saved"
    experts = metrics_of(directory)["experts"]
    assert (experts["gate"], experts["selected"], len(experts["names"])) == ("top_k", 2, 3)
    weights = np.array(recommender.expert_weights(recommender.items["item_id"]))
    assert ((weights > 0).sum(1) == 2).all()
    np.testing.assert_allclose(weights.mean(0), experts["mean_weight"], atol=1e-5)
    assert FIRST_ITEM == 2
