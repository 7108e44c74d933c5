"""The audit of examples finds each fault that is planted, and finds none in what the engine makes."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.schema import Part
from moerec.dataset.sources.amazon_files import find_files
from moerec.engines.example_folder import ExampleFolder
from moerec.engines.examples_audit import audit_examples
from moerec.engines.local import LocalEngineConfig
from moerec.errors import DatasetError
from moerec.features.reviews import ReviewExamplesConfig

RULE = ReviewExamplesConfig.model_validate({"train_until": "2022-08-31", "valid_until": "2022-12-31"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    generate_amazon_reviews(folder / "raw", GeneratedReviews(users=60, items=40, dirt=0.02, compressed=False))
    files = find_files(2023, (), str(folder / "raw"), None, "required")
    LocalEngineConfig(processes=1, partitions=2).make(files, 2023, RULE, folder / "made", 1)
    return folder / "made"


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def changed(folder: Path, kind: str, *expressions: pl.Expr) -> None:
    """Change columns of every file of a kind."""
    for file in (folder / kind).glob("*.parquet"):
        pl.read_parquet(file).with_columns(*expressions).write_parquet(file)


def levels(folder: Path) -> dict[str, str]:
    report = audit_examples(ExampleFolder.open(folder), "test", RULE)
    return {finding.name: finding.level for finding in report.findings}


def test_what_the_engine_makes_has_no_warning(made: Path) -> None:
    found = levels(made)
    assert "warning" not in found.values()
    assert found["rejects"] == "note"
    report = audit_examples(ExampleFolder.open(made), "test", RULE)
    assert report["profile"].values["sampled"] > 200
    assert report["rows"].values["test"]["negatives"] == 5 * report["rows"].values["test"]["reviews"]


IS_REVIEW = pl.col("negative") == 0
FAULTS = {
    "profile": pl.when(IS_REVIEW).then(pl.col("review_count") + 1).otherwise("review_count").alias("review_count"),
    "bounds of the parts": pl.when(~IS_REVIEW).then(pl.lit(Part.TEST, pl.Int8)).otherwise("part").alias("part"),
    "populations": pl.when(~IS_REVIEW).then(1).otherwise("good").cast(pl.Int8).alias("good"),
    "label best": pl.lit(0, pl.Int8).alias("best"),
    "duplicates": pl.lit("0" * 32).alias("key"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_a_warning(name: str, copy: Path) -> None:
    changed(copy, "examples", FAULTS[name])
    assert levels(copy)[name] == "warning"


def test_a_review_in_its_own_history_is_found(copy: Path) -> None:
    own = pl.concat_list(pl.col("positive"), pl.col("history")).list.head(3)
    changed(copy, "examples", own.alias("history"))
    assert levels(copy)["profile"] == "warning"


def test_prices_of_later_reviews_in_the_mean_are_found(copy: Path) -> None:
    changed(copy, "examples", pl.col("price_mean").mean().over("user_id").fill_null(1.0).alias("price_mean"))
    assert levels(copy)["profile"] == "warning"


def test_a_negative_that_the_user_reviews_is_counted(copy: Path) -> None:
    item = pl.col("item_id").first().over("user_id")
    changed(copy, "examples", pl.when(~IS_REVIEW).then(item).otherwise("item_id").alias("item_id"))
    assert levels(copy)["negatives"] == "warning"


def test_a_part_without_rows_is_a_warning(copy: Path) -> None:
    changed(copy, "examples", pl.lit(Part.TRAIN, pl.Int8).alias("part"))
    assert levels(copy)["rows"] == "warning"


def test_a_blank_id_is_a_warning(copy: Path) -> None:
    changed(copy, "events", pl.lit(" ").alias("user_id"))
    assert levels(copy)["ids"] == "warning"


def test_an_unfinished_folder_is_refused(copy: Path) -> None:
    (copy / "manifest.json").unlink()
    with pytest.raises(DatasetError, match="no finished examples"):
        ExampleFolder.open(copy)
