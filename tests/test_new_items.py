"""Items added to a saved recommender: the copy of a known item has that item's vector, and what is wrong is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal

from moerec import Recommender
from moerec.dataset.schema import FIRST_ITEM, UNKNOWN
from moerec.errors import MoerecError
from tests.modalities.conftest import bert_folder, sentence_folder  # noqa: F401  a tiny encoder
from tests.small_run import do

GIVEN = 6


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, sentence_folder: Path) -> Path:  # noqa: F811
    """A run with every kind of input: values, numbers, encoded texts and given vectors, which some items lack."""
    folder = tmp_path_factory.mktemp("run")
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(60, GIVEN)).astype(np.float32))
    (folder / "ids.json").write_text(json.dumps([str(1000 + number) for number in range(60)]))
    given = f"given: {{kind: vectors, path: {folder}/vectors.npy, ids: {folder}/ids.json}}"
    text = f"text: {{kind: text, fields: [title, genres], encoder: {sentence_folder}}}"
    directory, _ = do(
        folder,
        [
            f"modalities={{{text}, {given}}}",
            "features=[{name: genres, kind: multi}, {name: year, kind: dense}, {name: first, kind: categorical,"
            " column: genres}]",
            "dataset.cold_items=0.1",
            "baselines.kinds=[]",
            "training.retriever[0].epochs=1",
        ],
    )
    return directory


@pytest.fixture(scope="module")
def recommender(run: Path) -> Recommender:
    return Recommender.from_pretrained(run)


def vectors_of(recommender: Recommender, ids: list[str]) -> torch.Tensor:
    places = [recommender.items["item_id"].to_list().index(name) + FIRST_ITEM for name in ids]
    with torch.no_grad():
        return recommender.model.encode_items(torch.tensor(places))


def given_vectors(recommender: Recommender, ids: list[str]) -> np.ndarray[Any, Any]:
    """The given vectors of known items, NaN where there is none."""
    tower = recommender.model.item_tower
    places = [recommender.items["item_id"].to_list().index(name) + FIRST_ITEM for name in ids]
    return np.where(tower.present_given[places, None], tower.column_given[places], np.nan)


def copies(recommender: Recommender, ids: list[str]) -> pl.DataFrame:
    """The rows of known items under new ids."""
    names = pl.DataFrame({"item_id": ids})
    rows = names.join(recommender.items, on="item_id", maintain_order="left")
    return rows.with_columns(pl.concat_str(pl.lit("copy of "), "item_id").alias("item_id"))


def grown(recommender: Recommender, ids: list[str]) -> Recommender:
    return recommender.add_items(copies(recommender, ids), vectors={"given": given_vectors(recommender, ids)})


def test_a_copy_has_the_vector_of_its_content(recommender: Recommender) -> None:
    """A cold item's copy has the cold item's vector, a trained item's that of the item without its id."""
    trained = recommender.model.item_tower.trained[FIRST_ITEM:].tolist()
    cold, warm = (recommender.items["item_id"].filter(pl.Series(trained) == kind).to_list() for kind in (False, True))
    assert len(cold) > 4
    ids = cold + warm[:3] + warm[-2:]
    larger = grown(recommender, ids)
    found = vectors_of(larger, [f"copy of {name}" for name in ids])
    assert (vectors_of(larger, ids)[-5:] - found[-5:]).abs().amax(1).min() > 1e-4, "a trained item has its id beside"
    larger.model.item_tower.trained.zero_()
    torch.testing.assert_close(found, vectors_of(larger, ids), rtol=0, atol=1e-5)
    assert recommender.model.item_tower.trained.any(), "the model that was given is left alone"


def test_known_items_keep_their_vectors_and_every_answer_is_as_before(recommender: Recommender) -> None:
    users, known = recommender.histories["user_id"].to_list(), recommender.items["item_id"].to_list()
    larger = grown(recommender, known[3:9])
    assert larger.items["item_id"].to_list() == known + [f"copy of {name}" for name in known[3:9]]
    torch.testing.assert_close(vectors_of(larger, known), vectors_of(recommender, known), rtol=0, atol=1e-6)
    asked = {"users": users, "k": 9, "candidates": known}
    assert_frame_equal(larger.recommend(**asked), recommender.recommend(**asked), rel_tol=1e-5, abs_tol=1e-5)
    assert len(recommender.items) == len(known) == recommender.model.num_indices - FIRST_ITEM


def test_a_new_item_is_listed_is_similar_and_counts_in_histories(recommender: Recommender) -> None:
    larger = grown(recommender, recommender.items["item_id"].to_list())
    listed = larger.recommend(histories=[[]], k=10_000)["item_id"]
    assert sorted(listed) == sorted(larger.items["item_id"])
    cold = larger.items["item_id"].filter(pl.Series(~larger.model.item_tower.trained[FIRST_ITEM:].numpy()))[0]
    assert larger.similar([cold], k=1)["similar_item_id"].to_list() == [f"copy of {cold}"]
    lists = larger.recommend(histories={"new": [f"copy of {cold}"], "old": [cold], "none": ["nowhere"]}, k=10_000)
    scores = {name: dict(rows.select("item_id", "score").iter_rows()) for (name,), rows in lists.group_by("user_id")}
    assert f"copy of {cold}" not in scores["new"], "what is in the history is no candidate"
    for item in larger.items["item_id"][:5]:
        assert scores["new"][item] == pytest.approx(scores["old"][item], abs=1e-4)
    assert scores["new"] != scores["none"]


def test_the_larger_recommender_is_saved_and_can_grow_again(recommender: Recommender, tmp_path: Path) -> None:
    known = recommender.items["item_id"].to_list()
    larger = grown(recommender, known[:2])
    larger.save_pretrained(tmp_path)
    again = Recommender.from_pretrained(tmp_path)
    asked = {"users": again.histories["user_id"].to_list(), "k": 20}
    assert_frame_equal(again.recommend(**asked), larger.recommend(**asked), check_exact=True)
    twice = grown(again, known[5:6])
    torch.testing.assert_close(
        vectors_of(twice, [f"copy of {known[0]}", f"copy of {known[5]}"]),
        vectors_of(grown(recommender, [known[0], known[5]]), [f"copy of {known[0]}", f"copy of {known[5]}"]),
        rtol=0,
        atol=1e-6,
    )


def test_ids_tables_and_missing_values_may_come_in_any_form(recommender: Recommender) -> None:
    """Numbers as ids, pandas, text that is a number, nothing at all, further columns, more values than any before."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "item_id": [1, 2.0],
            "title": ["The Comet", None],
            "genres": ["Space|Forest|Circus", None],
            "year": ["1999", None],
            "shelf": ["a", "b"],
        }
    )
    larger = recommender.add_items(frame, vectors={"given": np.full((2, GIVEN), np.nan)})
    rows = larger.items.tail(2)
    assert rows["item_id"].to_list() == ["1", "2"]
    assert rows["year"].to_list() == [1999, None]
    assert rows["shelf"].to_list() == ["a", "b"]
    assert larger.items["shelf"].null_count() == len(recommender.items)
    tower = larger.model.item_tower
    assert tower.column_genres.shape[1] == 3
    assert (tower.column_genres[:-2, 1:] == 0).all(), "items of one genre have none beside it"
    for name in ("year", "text", "given"):
        assert getattr(tower, f"present_{name}")[-2:].tolist() == [name != "given", False]
    assert int(tower.column_first[-1]) == 0
    nothing = vectors_of(larger, ["2"])
    torch.testing.assert_close(nothing, tower(torch.tensor([UNKNOWN])).detach(), rtol=0, atol=1e-6)


ROW = {"item_id": "x", "title": "The Comet", "genres": "Space", "year": 1999}
HERE = {"given": np.zeros((1, GIVEN))}


@pytest.mark.parametrize(
    ("rows", "vectors", "says"),
    [
        ([ROW | {"item_id": "1000"}], HERE, "items: item '1000' is in the catalogue already; leave it out"),
        ([ROW, ROW], HERE, "items: item 'x' stands twice; keep one row of it"),
        ([ROW, ROW | {"item_id": None}], HERE, "items: 1 rows have no item_id"),
        ([{"title": "The Comet"}], HERE, "items: no column 'item_id' among title"),
        ([ROW | {"item": 3}], HERE, "items: a column cannot be called 'item'"),
        ([ROW | {"year": "soon"}], HERE, "items: column 'year' is String, that of the catalogue Int64"),
        ([{"item_id": "x", "title": "T", "year": 3}], HERE, "'genres'"),
        ([{"item_id": "x", "genres": "Space", "year": 3}], HERE, "'title'"),
        ([ROW], {}, "items: the vectors of 'given' come from a file, no encoder makes new ones; give vectors={'given'"),
        (
            [ROW],
            HERE | {"poster": HERE["given"]},
            "vectors: the model reads no modality 'poster'; it reads text, given",
        ),
        ([ROW], {"given": np.zeros((2, GIVEN))}, "vectors: 'given' must be [1, 6], a row for each item, got [2, 6]"),
        ([ROW], {"given": [[np.nan, 1, 1, 1, 1, 1]]}, "vectors: 'given' holds NaN or infinity"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(
    recommender: Recommender, rows: list[dict[str, Any]], vectors: dict[str, Any], says: str
) -> None:
    with pytest.raises(MoerecError) as caught:
        recommender.add_items(pl.DataFrame(rows), vectors=vectors)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_encoder_whose_files_have_changed_is_refused(
    run: Path,
    sentence_folder: Path,  # noqa: F811
) -> None:
    recommender, path = Recommender.from_pretrained(run), sentence_folder / "1_Pooling/config.json"
    kept = path.read_text()
    try:
        path.write_text(kept.replace("true", "null"))
        with pytest.raises(MoerecError, match=r"is not the one that the model was trained with; bring its files back"):
            recommender.add_items(pl.DataFrame([ROW]), vectors=HERE)
    finally:
        path.write_text(kept)


def test_a_model_that_knows_ids_alone_or_has_no_state_or_ranks_again_says_so(recommender: Recommender) -> None:
    from dataclasses import replace

    from moerec.models.sasrec import SASRecConfig

    blind = SASRecConfig(width=8).build(recommender.model.item_tower.trained)
    row = pl.DataFrame([ROW])
    with pytest.raises(MoerecError, match="the model knows items by their ids alone"):
        replace(recommender, model=blind).add_items(row)
    with pytest.raises(MoerecError, match="does not know how 'genres' was encoded"):
        replace(recommender, feature_state={}).add_items(row, vectors=HERE)
    with pytest.raises(MoerecError, match="does not say how the vectors of 'text' were made"):
        replace(recommender, modalities={}).add_items(row, vectors=HERE)
    assert recommender.add_items(row.clear()) is recommender


def test_adding_draws_nothing_from_the_callers_random_numbers(recommender: Recommender) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    grown(recommender, ["1000"])
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
