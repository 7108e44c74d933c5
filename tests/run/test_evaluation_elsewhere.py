"""A run is judged again from any folder: paths of its recipe start where it began, and what was prepared is enough."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.commands import Finished, Moerec, assert_one_line

RECIPE = {
    "name": "shop",
    "dataset": {"source": "table", "events": "events.csv"},
    "retriever": {"kind": "sasrec", "width": 8, "blocks": 1, "max_length": 8, "feed_forward": 8},
    "baselines": {"kinds": []},
    "training": {"threads": 1, "retriever": [{"epochs": 1, "batch_size": 16, "learning_rate": 0.01}]},
    "evaluation": {"resamples": 100, "examples": 0},
}


def write_events(path: Path, step: int) -> None:
    rows = [f"u{user},i{(user + step * place) % 20},{place}" for user in range(20) for place in range(6)]
    path.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))


Judge = Callable[[], Finished]


@pytest.fixture
def shop(moerec: Moerec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of a relative source; the working directory is another one."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "shop")
    write_events(Path("events.csv"), 3)
    Path("shop.yaml").write_text(yaml.safe_dump(RECIPE))
    assert moerec("run", "shop.yaml").status == 0
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "shop"


@pytest.fixture
def judge(moerec: Moerec, shop: Path) -> Judge:
    return lambda: moerec("evaluate", "--run", shop / "runs/shop/latest", "--artifacts", "../shop/artifacts", "--json")


def test_from_any_folder_the_numbers_are_those_of_the_run(judge: Judge, shop: Path) -> None:
    metrics = json.loads((shop / "runs/shop/latest/metrics.json").read_text())
    write_events(Path("events.csv"), 7)  # of the same name, and not what the run was made of
    assert judge().json["test"] == metrics["retrieval"]["test"]
    assert Path.cwd().name == "elsewhere"
    shutil.rmtree(shop / "artifacts")
    assert judge().json["test"] == metrics["retrieval"]["test"], "prepared again, of the run's own source"
    assert [path.name for path in Path().iterdir()] == ["events.csv"]
    (shop / "events.csv").unlink()
    done = judge()
    assert done.json["test"] == metrics["retrieval"]["test"]
    assert "this is the data set prepared for the run" in done.err


def test_changed_events_are_refused_though_an_old_data_set_is_there(judge: Judge, shop: Path) -> None:
    write_events(shop / "events.csv", 7)
    done = judge()
    assert done.status == 2
    assert "the data have changed since this model was trained" in done.err


def test_without_source_and_data_set_it_is_told_where_the_run_began(judge: Judge, shop: Path) -> None:
    (shop / "events.csv").unlink()
    shutil.rmtree(shop / "artifacts")
    assert_one_line(judge(), f"events.csv (key `events`): there is no such file in {shop}; the run began in {shop};")
    origin = shop / "runs/shop/latest/origin.json"
    origin.unlink()  # as earlier versions left it
    assert_one_line(judge(), f"there is no such file in {Path.cwd()}; give the command where the run began\n")
    origin.write_text('{"folder": ')
    assert_one_line(judge(), "origin.json: damaged")


def test_a_run_whose_folder_was_moved_is_judged_by_its_data_set(moerec: Moerec, shop: Path, tmp_path: Path) -> None:
    moved = shop.rename(tmp_path / "moved")
    run = moved / "runs/shop/latest"
    done = moerec("evaluate", "--run", run, "--artifacts", moved / "artifacts", "--json")
    assert done.json["test"] == json.loads((run / "metrics.json").read_text())["retrieval"]["test"]
