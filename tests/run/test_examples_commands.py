"""The other commands, given a run or a recipe of shards alone: each says what there is, or refuses in one line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from moerec.cli import main
from moerec.recipe import parse_recipe
from moerec.run import RunOptions, run_recipe

RECIPE: dict[str, Any] = {
    "name": "shards",
    "seed": 3,
    "dataset": {"source": "amazon_reviews", "variant": "generated", "users": 20, "items": 12, "dirt": 0.05},
    "examples": {
        "train_until": "2022-08-31",
        "valid_until": "2022-12-31",
        "engine": {"kind": "local", "processes": 1, "partitions": 1},
    },
}

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    options = RunOptions(artifacts=folder / "artifacts", out=folder / "run")
    return run_recipe(parse_recipe(RECIPE), options, Console(quiet=True))


@pytest.fixture
def moerec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["moerec", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call


def assert_refused(finished: tuple[int, str, str], message: str) -> None:
    status, out, err = finished
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_inspect_run_prints_what_the_run_has(done: Path, moerec: Command) -> None:
    status, out, _ = moerec("inspect", "run", done)
    assert status == 0
    shown, metrics = json.loads(out), json.loads((done / "metrics.json").read_text())
    made = metrics["examples"]
    assert shown.keys() == {"run", "name", "examples", "timing"}
    assert shown["examples"] == {name: made[name] for name in ("rows", "refused", "shards", "audit")}
    assert ("profile", "ok") in [(finding["name"], finding["level"]) for finding in shown["examples"]["audit"]]


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "command",
    [
        ["evaluate"],
        ["recommend", "--users", "1"],
        ["inspect", "user", "1"],
        ["inspect", "item", "1"],
        ["inspect", "experts"],
    ],
    ids=" ".join,
)
def test_what_needs_a_model_is_refused(
    command: list[str],
    finished: bool,
    done: Path,
    moerec: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    run = done
    if not finished:
        run = tmp_path / "run"
        run.mkdir()
        (run / "recipe.yaml").write_bytes((done / "recipe.yaml").read_bytes())
    before = set(tmp_path.rglob("*"))
    assert_refused(moerec(*command, "--run", run), "this run makes shards alone and has no model")
    assert set(tmp_path.rglob("*")) == before  # no data set was made on the way


def test_prepare_makes_no_data_set(moerec: Command, tmp_path: Path) -> None:
    path, artifacts = tmp_path / "recipe.yaml", tmp_path / "artifacts"
    path.write_text(yaml.safe_dump(RECIPE))
    assert_refused(moerec("prepare", path, "--artifacts", artifacts), "its rows are made by moerec run or moerec audit")
    assert not artifacts.exists()


def test_a_dry_run_names_what_it_makes(done: Path, moerec: Command, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    status, out, _ = moerec("run", path, "--artifacts", done.parent / "artifacts", "--dry-run", "--json")
    plan = json.loads(out)
    assert (status, plan["artifacts"], plan["makes"]) == (0, {"rows": "there"}, ["shards"])
