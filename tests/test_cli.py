"""The commands, through `main` as the terminal calls it: what is printed where, and with which exit status."""

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
import torch
import typer.main
import yaml
from rich.console import Console

from moerec import __version__
from moerec.artifacts import ArtifactCache
from moerec.cli import app, main
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.models.predict import gate_weights
from moerec.nn.gates import utilisation
from moerec.ranking_model import RankingModel
from moerec.recipe import load_recipe
from moerec.run.prepare import prepare
from moerec.run.ranker import ranking_data
from tests.commands import Moerec, assert_one_line


@pytest.fixture
def metrics(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "runs/small/latest/metrics.json").read_text())
    return found


# --- help, versions, typing errors


def commands() -> list[tuple[str, click.Command]]:
    found, queue = [], [("", typer.main.get_command(app))]
    while queue:
        name, command = queue.pop()
        found.append((name, command))
        if isinstance(command, click.Group):
            queue += [(f"{name} {sub}".strip(), inner) for sub, inner in command.commands.items()]
    return found


@pytest.mark.parametrize(("name", "command"), commands(), ids=[name or "moerec" for name, _ in commands()])
def test_every_command_and_option_is_told_in_a_sentence(name: str, command: click.Command, moerec: Moerec) -> None:
    shown = moerec(*name.split(), "--help")
    assert shown.status == 0
    assert shown.err == ""
    assert f"Usage: moerec {name}".strip() in shown.out
    assert command.help is not None
    assert command.help.endswith(".")
    # click 8.5 takes the help of arguments from the typer of its time.
    broken = tuple(map(int, version("click").split(".")[:2])) >= (8, 5)
    for parameter in command.params:
        if broken and isinstance(parameter, click.Argument):
            continue
        told = getattr(parameter, "help", None)
        assert told, f"{name} {parameter.name} is not told of"
        assert len(told) > 10
        assert told.endswith("."), told
    assert all(len(line) <= 80 for line in shown.out.splitlines())


def test_the_version(moerec: Moerec) -> None:
    shown = moerec("--version")
    assert (shown.status, shown.out, shown.err) == (0, f"{__version__}\n", "")


def test_without_arguments_the_help_is_shown(moerec: Moerec) -> None:
    for group in ((), ("inspect",)):
        shown = moerec(*group)
        assert shown.status == 2
        assert "Commands" in shown.out
        assert shown.err == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'? (see moerec --help)"),
        (["inspect", "usr"], "No such command 'usr'. Did you mean 'user'? (see moerec inspect --help)"),
        (["run"], "Missing argument 'RECIPE'. (see moerec run --help)"),
        (["run", "x.yaml", "--dry"], "No such option '--dry'."),
        (["recommend", "-k", "0"], "Invalid value for '-k' / '--k': 0 is not in the range x>=1."),
        (["recommend", "-k", "many"], "Invalid value for '-k' / '--k': 'many' is not a valid int"),
        (["evaluate", "--part", "train"], "Invalid value for '--part': 'train' is not one of 'valid', 'test'."),
        (["run", "x.yaml", "--set"], "Option '--set' requires an argument."),
    ],
)
def test_a_typing_error_is_one_line(moerec: Moerec, arguments: list[str], says: str) -> None:
    assert_one_line(moerec(*arguments), says)


def test_help_and_typing_errors_load_no_heavy_library() -> None:
    """What makes them quick: 0.2 s instead of 2 s."""
    script = (
        "import sys\nfrom moerec.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'polars', 'pydantic', 'numpy', 'transformers'} & set(sys.modules)), file=sys.stderr)\n"
    )
    for arguments in (["--help"], ["rnu"], ["--version"], ["run", "--help"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "[]"


# --- mistakes


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "nope.yaml"], "nope.yaml: no such recipe; recipes there: small.yaml"),
        (["run", "runs"], "runs: a folder, not a recipe"),
        (["run", "small.yaml", "--set", "retriever.widht=3"], "small.yaml: retriever.widht: unknown key; did you mean"),
        (["prepare", "small.yaml", "--set", "seed"], "--set seed: write it as key.path=value"),
        (["run", "small.yaml", "--out", "runs"], "runs: this folder is not empty; continue it with --resume"),
        (["run", "small.yaml", "--out", "small.yaml"], "small.yaml: this is a file; give another --out"),
        (["run", "small.yaml", "--resume", "--set", "seed=9"], "was begun by another recipe (seed was 5 and is now 9)"),
        (["run", "small.yaml", "--resume", "--runs", "else"], "else/small/latest: no run to resume here; start it"),
        (["train", "small.yaml", "--resume", "--out", "x"], "x: no run to resume here; start it without --resume"),
        (["run", "small.yaml", "--runs", "small.yaml/x"], "small.yaml/x/small/"),
        (["evaluate", "--run", "nowhere"], "nowhere: no such folder"),
        (["evaluate", "--runs", "nowhere"], "nowhere: no run here yet; start one with: moerec run RECIPE"),
        (["recommend", "--users", "1", "--run", "nowhere"], "nowhere: no such folder"),
        (["recommend"], "recommend: give one of --users 1,2,3, --users-file FILE, --all-users, --history ID,ID,..."),
        (["recommend", "--users", "1", "--history", "1"], "recommend: give one of --users"),
        (["recommend", "--all-users", "--users-file", "small.yaml"], "recommend: give one of --users"),
        (["recommend", "--users", " , "], "recommend: --users names nobody"),
        (["recommend", "--users", '1,"2'], '--users 1,"2: not a row of CSV (unexpected end of data); put an id that'),
        (["recommend", "--history", '"1"2'], '--history "1"2: not a row of CSV'),
        (
            ["recommend", "--users", "1,nobody"],
            "error: the model knows no user 'nobody'; give their events with --history or --histories\n",
        ),
        (["recommend", "--users-file", "nope.txt"], "nope.txt: no such file"),
        (["recommend", "--users-file", "runs"], "runs: a folder; name a file in it"),
        (["recommend", "--histories", "."], ".: a folder; name a file in it"),
        (["recommend", "--users", "1", "--output", "x.txt"], "--output x.txt: the name must end in .csv or .parquet"),
        (["recommend", "--users", "1", "--output", "small.yaml/x.csv"], "small.yaml"),
        (["recommend", "--histories", "nope.csv"], "nope.csv: no such file"),
        (["recommend", "--histories", "small.yaml"], "small.yaml"),
        (
            ["inspect", "user", "nobody"],
            "error: the model knows no user 'nobody'; give an id of the source, or events of a new user to recommend",
        ),
        (["inspect", "item", "nothing"], "the catalogue has no item 'nothing'"),
        (["inspect", "run", "--run", "nowhere"], "nowhere: no such folder"),
        *(
            ([*command, "--run", folder], f"{folder}: {hint}")
            for command in (["recommend", "--users", "1"], ["evaluate"], ["inspect", "user", "1"], ["inspect", "run"])
            for folder, hint in (
                ("runs", "it holds several runs; name one of them, such as runs/small/latest"),
                ("runs/small", "it holds several runs; name one of them, such as runs/small/latest"),
                ("small.yaml", "a file, not the folder of a run"),
            )
        ),
        (["recommend", "--users", "1", "--run", "artifacts"], "no saved model here"),
        (["evaluate", "--run", "artifacts"], "artifacts: no run here (no recipe.yaml)"),
        (["keys", "retriever.widht"], "did you mean"),
    ],
)
def test_a_mistake_is_one_line_and_status_two(moerec: Moerec, arguments: list[str], says: str) -> None:
    done = moerec(*arguments)
    done.err = done.err[done.err.index("error: ") :] if "error: " in done.err else done.err  # progress comes before
    assert_one_line(done, says)


@pytest.mark.usefixtures("here")
def test_what_would_move_the_cursor_is_shown_as_an_escape(moerec: Moerec) -> None:
    done = moerec("recommend", "--users", "\x1b[31mred\x07")
    assert_one_line(done, "\\x1b[31mred\\x07")
    assert "\x1b" not in done.err


@pytest.mark.usefixtures("here")
def test_ctrl_c_is_130_and_one_line(moerec: Moerec, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moerec.recipe.load_recipe", interrupted)
    done = moerec("run", "small.yaml")
    assert (done.status, done.out) == (130, "")
    assert done.err.startswith("interrupted; ")
    assert done.err.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_a_defect_is_no_mistake_of_the_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("moerec.recipe.load_recipe", broken)
    monkeypatch.setattr(sys, "argv", ["moerec", "run", "small.yaml"])
    with pytest.raises(ZeroDivisionError):
        main()


@pytest.mark.usefixtures("here")
def test_warnings_of_the_package_are_notes_on_standard_error(moerec: Moerec) -> None:
    done = moerec("recommend", "--history", "1001,nowhere", "--json")
    assert done.status == 0
    assert done.err == (
        "note: 1 of 2 events in the histories are of items that the catalogue does not know, such as 'nowhere'\n"
    )
    assert len(done.json) == 10
    assert len([h for h in logging.getLogger("moerec").handlers if type(h).__name__ == "_NoteHandler"]) == 1


# --- run, prepare, train


def test_a_finished_run_is_found_and_shown_again(moerec: Moerec, here: Path, metrics: dict[str, Any]) -> None:
    done = moerec("run", "small.yaml", "--resume", "--json")
    assert done.status == 0
    assert done.json == {"run": str((here / "runs/small/latest").resolve())} | metrics
    assert "this run is finished; nothing is left to do" in done.err
    shown = moerec("run", "small.yaml", "--resume")
    assert "small" in shown.out
    assert "report.html" in shown.out
    assert f"{metrics['retrieval']['test']['ndcg@10']:.4f}" in shown.out


def test_a_run_tells_its_stages_on_standard_error_alone(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    done = moerec("run", "small.yaml", "--out", tmp_path / "run", "--json")
    assert done.status == 0
    assert done.json["run"] == str(tmp_path / "run")
    for words in ("data set synthetic", "(prepared before)", "baselines", "(tuned before)", "stage main", "epoch   2"):
        assert words in done.err
    assert "Warning" not in done.err
    assert not os.path.lexists(tmp_path / "latest")
    assert (here / "runs/small/latest").resolve() != tmp_path / "run"


def test_training_alone_makes_a_model_and_no_metrics(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    done = moerec("train", "small.yaml", "--out", tmp_path / "run")
    assert done.status == 0
    assert done.out == f"model: {tmp_path / 'run/model'}\n"
    assert not (tmp_path / "run/metrics.json").exists()
    assert moerec("recommend", "--run", tmp_path / "run", "--users", "1", "-k", "2").status == 0
    assert_one_line(moerec("inspect", "run", "--run", tmp_path / "run"), "not finished; continue it with --resume")
    judged = moerec("run", "small.yaml", "--out", tmp_path / "run", "--resume", "--json")
    assert judged.status == 0
    assert judged.json["model"]["updates"] == 14


def test_a_dry_run_before_and_after_preparing(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    before = moerec("run", "small.yaml", "--dry-run", "--artifacts", tmp_path, "--json").json
    assert before["prepared"] is False
    assert set(before["artifacts"].values()) == {"to be made"}
    assert "parameters" not in before
    assert not any(tmp_path.iterdir()), "nothing is made"
    runs = sorted(here.glob("runs/*/*"))
    prepared = moerec("prepare", "small.yaml", "--artifacts", tmp_path, "--json").json
    assert (prepared["users"], prepared["items"]) == (60, 72)
    assert Path(prepared["directory"], "dataset.json").is_file()
    after = moerec("run", "small.yaml", "--dry-run", "--artifacts", tmp_path, "--json").json
    assert after["artifacts"]["data set"] == "there"
    assert after["artifacts"]["baseline item_knn"] == "to be made"
    assert after["stages"][0]["updates"] == 14
    assert after["parameters"]["all"] == 5083
    assert after["memory_mib"] > 0
    longer = moerec("run", "small.yaml", "--dry-run", "--set", "training.retriever[0]={updates: 100000}", "--json").json
    assert longer["stages"][0]["updates"] == 100000
    assert longer["training_seconds"] > 10
    assert sorted(here.glob("runs/*/*")) == runs
    assert "parameters:" in moerec("run", "small.yaml", "--dry-run").out


def test_a_dry_run_names_what_cannot_work(moerec: Moerec, here: Path) -> None:
    done = moerec("run", "small.yaml", "--dry-run", "--set", "training.retriever[0].trains=[nothing.*]")
    assert done.status == 2
    assert "trains pattern 'nothing.*' matches no parameter" in done.err


# --- evaluate, recommend, audit, inspect


@pytest.mark.parametrize("part", ["valid", "test"])
def test_judging_a_saved_model_gives_the_numbers_of_its_run(
    moerec: Moerec, here: Path, metrics: dict[str, Any], part: str
) -> None:
    judged = moerec("evaluate", "--part", part, "--json").json
    assert judged[part] == metrics["retrieval"][part]
    if part == "test":
        for key in ("intervals", "slices", "beyond"):
            assert judged[key] == metrics["retrieval"][key]
        assert judged["protocol"] == metrics["protocol"]
    strict = moerec("evaluate", "--part", part, "--history", "strict", "--json").json
    assert "share its timestamp" in strict["protocol"]["history"]
    assert f"small, {part} part" in moerec("evaluate", "--part", part).out


def test_judging_another_data_set_is_refused(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    shutil.copytree((here / "runs/small/latest").resolve(), tmp_path / "run")
    recipe = tmp_path / "run/recipe.yaml"
    recipe.write_text(recipe.read_text().replace("items: 72", "items: 84"))
    done = moerec("evaluate", "--run", tmp_path / "run")
    assert done.status == 2
    assert "the data have changed since this model was trained" in done.err


def test_recommending_to_users_in_every_form(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    rows = moerec("recommend", "--users", "7, 3", "-k", "3", "--json").json
    assert [row["user_id"] for row in rows] == ["7"] * 3 + ["3"] * 3
    assert [row["rank"] for row in rows] == [1, 2, 3] * 2
    assert all(row["title"].startswith("The ") for row in rows)
    table = moerec("recommend", "--users", "7,3", "-k", "3").out
    assert all(f" {row['item_id']} " in table and row["title"] in table for row in rows)
    for name, read in (("x.csv", lambda path: pl.read_csv(path, infer_schema=False)), ("x.parquet", pl.read_parquet)):
        done = moerec("recommend", "--users", "7,3", "-k", "3", "--output", tmp_path / "deep" / name)
        assert (done.status, done.out) == (0, "")
        assert done.err == f"6 rows written to {tmp_path / 'deep' / name}\n"
        written = read(tmp_path / "deep" / name)
        assert written["item_id"].to_list() == [row["item_id"] for row in rows]
        assert written.columns == ["user_id", "item_id", "score", "rank", "title"]
    both = moerec("recommend", "--users", "7,3", "-k", "3", "--output", tmp_path / "y.csv", "--json")
    assert both.json == rows


def test_recommending_to_new_users_by_their_histories(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    history = ["1005", "1011", "1017"]
    one = moerec("recommend", "--history", ",".join(history), "-k", "4", "--json").json
    assert not {row["item_id"] for row in one} & set(history)
    kept = moerec("recommend", "--history", ",".join(history), "-k", "72", "--keep-seen", "--json").json
    assert {row["item_id"] for row in kept} > set(history)
    two = moerec("recommend", "--history", ",".join(history), "--history", "", "-k", "4", "--json").json
    assert [row["item_id"] for row in two[:4]] == [row["item_id"] for row in one]
    assert [row["user_id"] for row in two[4:]] == ["1"] * 4, "a user without events has a list too"
    files = {
        "plain.csv": "user_id,item_id\n" + "".join(f"0,{item}\n" for item in history),
        "timed.csv": "item_id,timestamp,user_id\n1017,30,0\n1005,4,0\n1011,20,0\n",
        "dated.csv": "user_id,item_id,timestamp\n0,1017,2020-01-03\n0,1005,2019-01-01\n0,1011,2020-01-02\n",
        "tabs.tsv": "user_id\titem_id\n" + "".join(f"0\t{item}\n" for item in history),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        assert moerec("recommend", "--histories", tmp_path / name, "-k", "4", "--json").json == one
    pl.DataFrame({"user_id": [0] * 3, "item_id": [int(item) for item in history]}).write_parquet(tmp_path / "p.parquet")
    assert moerec("recommend", "--histories", tmp_path / "p.parquet", "-k", "4", "--json").json == one


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b"user,item_id\n1,1001\n", "no column 'user_id' among user, item_id"),
        ("a.csv", b"user_id,item_id\n1,1001,4\n", "cannot be read"),
        ("a.csv", b"", "cannot be read (empty CSV)"),
        ("a.csv", b"\xff\xfe\x00", "a.csv"),
        ("a.csv", b"user_id,item_id\n1,caf\xe9\n", "cannot be read"),
        ("a.parquet", b"not parquet", "cannot be read"),
        ("a.csv", b"user_id,item_id,timestamp\n1,1001,soon\n", "timestamps must be all numbers or all ISO dates"),
        ("a.csv", b"user_id,item_id,timestamp\n1,1001,\n", "have no timestamp"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_damaged_file_of_histories_is_one_line(
    moerec: Moerec, tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert_one_line(moerec("recommend", "--histories", tmp_path / name), says)


@pytest.mark.usefixtures("here")
def test_ids_of_a_file_are_read_as_they_are_written(moerec: Moerec, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("user_id,item_id\n007,01001\n")
    done = moerec("recommend", "--histories", tmp_path / "h.csv", "-k", "1", "--json")
    assert done.json[0]["user_id"] == "007"
    assert "such as '01001'" in done.err


@pytest.mark.usefixtures("here")
def test_the_audit(moerec: Moerec) -> None:
    done = moerec("audit", "small.yaml", "--json")
    assert done.status == 0
    assert isinstance(done.json, dict)
    shown = moerec("audit", "small.yaml")
    assert shown.status == 0
    assert "cold items" in shown.out


@pytest.mark.usefixtures("here")
def test_inspecting_users_items_runs_and_experts(moerec: Moerec, metrics: dict[str, Any]) -> None:
    user = moerec("inspect", "user", "7", "-k", "2").json
    assert user["user_id"] == "7"
    assert len(user["history"]) == user["events"] > 5
    assert user["recommended"] == moerec("recommend", "--users", "7", "-k", "2", "--json").json
    item = moerec("inspect", "item", "1003", "-k", "2").json
    assert item["item"]["item_id"] == "1003"
    assert len(item["experts"]) == 3
    assert len(item["similar"]) == 2
    assert "1003" not in {row["item_id"] for row in item["similar"]}
    run = moerec("inspect", "run").json
    assert run["retrieval"].keys() == {"test", "baselines"}
    assert_part_of(run, {"run": run["run"]} | metrics)
    assert moerec("inspect", "experts", "--json").json == metrics["experts"]
    shown = moerec("inspect", "experts").out
    assert shown.startswith("item tower, over all items and by group: 3 experts")
    assert run == moerec("inspect", "run", "runs/small/latest").json | {"run": run["run"]}


def test_a_run_without_a_mixture_has_no_experts(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    done = moerec("run", "small.yaml", "--set", "retriever.item_tower.fusion=sum", "--out", tmp_path / "sum")
    assert done.status == 0
    assert_one_line(
        moerec("inspect", "experts", tmp_path / "sum"),
        "this model has no mixture; set retriever.item_tower.fusion: mixture\n",
    )
    assert moerec("inspect", "item", "1003", "--run", tmp_path / "sum").json["experts"] == []


def assert_part_of(part: Any, whole: Any) -> None:
    """Each value stands in the whole under the same keys, so that one program reads both."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert_part_of(value, whole[key])
    else:
        assert part == whole


PLE = """
name: tasks
dataset:
  {source: synthetic, users: 60, items: 72, events_per_user: 16, split: {kind: user_time, valid: 0.2, test: 0.2},
   candidates: null}
features: [{name: genres, kind: multi}]
causal_features: {users: {kind: user_statistics, labels: [rating]}}
ranker:
  kind: ple
  width: 4
  tasks:
    - {name: like, label: rating, at_least: 4}
    - {name: rating, type: regression, label: rating}
    - {name: met, population: reviews+negatives}
  negatives: {count: 1}
ranking_baselines: {kinds: []}
training: {threads: 1, ranker: [{epochs: 2, batch_size: 64, learning_rate: 0.01}]}
evaluation: {resamples: 100, examples: 2}
"""


def test_the_experts_of_a_ranker_from_run_to_plot(
    moerec: Moerec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks.yaml").write_text(PLE)
    assert moerec("run", "tasks.yaml").status == 0
    run = moerec("inspect", "run").json
    metrics = json.loads(Path("runs/tasks/latest/metrics.json").read_text())
    assert run.keys() == {"run", "name", "dataset", "ranking", "timing"}
    assert_part_of(run, {"run": run["run"]} | metrics)
    experts = moerec("inspect", "experts", "runs/tasks/latest", "--json").json["ranker"]
    assert experts["tasks"].keys() == {"like", "rating", "met"}
    assert experts["inner"].keys() == {"like, level 1", "rating, level 1", "met, level 1", "shared, level 1"}
    assert_experts_are_those_of_the_model(experts)
    shown = moerec("inspect", "experts", "--plot", "deep/experts.svg")
    assert "heat maps written to deep/experts.svg" in shown.err
    assert "task met: 4 experts" in shown.out
    assert "Population: reviews+negatives" in shown.out
    cells = re.findall(r"<title>([^<]*)</title>", Path("deep/experts.svg").read_text())
    expected = [f"like, {name}: {weight:.2f}" for name, weight in zip_gate(experts["tasks"]["like"])]
    assert [cell for cell in cells if cell.startswith("like, ")][:4] == expected
    records = [json.loads(line) for line in Path("runs/tasks/latest/ranker/history.jsonl").read_text().splitlines()]
    validations = [record for record in records if "valid" in record]
    assert len(validations) == 2
    for record in validations:
        assert record["gates"].keys() == experts["tasks"].keys() | experts["inner"].keys()
        assert not any("gate" in name for name in record["valid"])
    assert_one_line(moerec("inspect", "experts", "--plot", "experts.png"), "the name must end in .svg or .html")
    assert_one_line(moerec("inspect", "experts", "runs/tasks"), "such as runs/tasks/latest")
    assert_one_line(moerec("inspect", "experts", "a", "--run", "b"), "the run is named twice")


def zip_gate(gate: dict[str, Any]) -> list[tuple[str, float]]:
    return list(zip(gate["names"], gate["mean_weight"], strict=True))


def assert_experts_are_those_of_the_model(experts: dict[str, Any]) -> None:
    """The numbers are the utilisation of the saved model's gates, made anew from the recipe's data."""
    recipe, console = load_recipe(Path("tasks.yaml")), Console(quiet=True)
    data = ranking_data(recipe, prepare(recipe, ArtifactCache(Path("artifacts")), console), console)
    model = RankingModel.from_pretrained("runs/tasks/latest").ranker
    rows = data.rows["test"]
    for gate, recorded in (experts["tasks"] | experts["inner"]).items():
        own = rows[data.targets[gate].mask[rows]] if gate in data.targets else rows
        use = utilisation(torch.from_numpy(gate_weights(model, data.table, own)[gate]))
        assert tuple(recorded["names"]) == model.expert_names()[gate]
        assert recorded["mean_weight"] == pytest.approx(use.mean_weight, abs=1e-5)
        assert recorded["load"] == pytest.approx(use.load, abs=1e-5)
        assert recorded["entropy"] == pytest.approx(use.entropy, abs=1e-5)
        assert (recorded["dead"], recorded["selected"]) == (use.dead, len(recorded["names"]))


def test_an_unfinished_run_is_told_as_such(moerec: Moerec, here: Path, tmp_path: Path) -> None:
    shutil.copytree((here / "runs/small/latest").resolve(), tmp_path / "run")
    (tmp_path / "run/metrics.json").write_text('{"name": ')
    assert_one_line(moerec("inspect", "run", "--run", tmp_path / "run"), "metrics.json: not valid JSON")
    (tmp_path / "run/metrics.json").unlink()
    assert_one_line(
        moerec("inspect", "run", "--run", tmp_path / "run"), "it is not finished; continue it with --resume"
    )
    shutil.rmtree(tmp_path / "run/model")
    models = (["recommend", "--users", "1"], ["inspect", "user", "1"], ["inspect", "item", "1003"], ["evaluate"])
    shutil.rmtree(tmp_path / "run/checkpoints")  # it may have been killed before the first
    for command in models:
        assert_one_line(
            moerec(*command, "--run", tmp_path / "run"), "this run has no model yet; finish it with --resume"
        )


@pytest.mark.usefixtures("here")
def test_a_missing_report_of_a_finished_run_is_written_again(moerec: Moerec) -> None:
    report = Path("runs/small/latest/report.html").resolve()
    report.unlink()
    assert moerec("run", "small.yaml", "--resume").status == 0
    assert report.stat().st_size > 1000


@pytest.mark.usefixtures("here")
def test_the_doctor_and_the_keys(moerec: Moerec) -> None:
    checks = moerec("doctor", "--json").json
    assert {"python", "torch", "retrievers"} <= {check["name"] for check in checks}
    assert len(moerec("doctor").out.splitlines()) == len(checks)
    assert "cutoffs" in moerec("keys", "evaluation").out


# --- in a real pipe


@pytest.mark.parametrize(
    "command", [["--version"], pytest.param(["recommend", "--users", "1,2,3"], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_reader_who_leaves_is_no_error(place: Path, command: list[str]) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "moerec", *command], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 1


def test_lines_in_a_pipe_are_whole(moerec: Moerec, here: Path) -> None:
    """A table or a path that is broken at column 80 is of no use to grep."""
    out = moerec("recommend", "--users", "7", "-k", "2").out
    assert len([line for line in out.splitlines() if line.strip()]) == 4, "header, rule and two rows"
    assert all(line.endswith(".") for line in moerec("audit", "small.yaml").out.splitlines()[2:] if line.strip())


def test_generating_reviews_and_reading_them_back(moerec: Moerec, tmp_path: Path) -> None:
    out = tmp_path / "reviews"
    made = moerec("generate", "amazon-reviews", out, "--users", 30, "--items", 12, "--dirt", 0.1, "--json")
    assert (made.status, made.err) == (0, "")
    assert made.json["reviews"] == pl.read_parquet(out / "truth.parquet").height
    assert made.json["broken_lines"] > 0
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == set(made.json["files"])
    assert_one_line(
        moerec("generate", "amazon-reviews", out), f"{out}: there is something already; choose a new folder"
    )
    told = moerec("generate", "amazon-reviews", tmp_path / "more", "--users", 30, "--items", 12, "--plain")
    source = yaml.safe_load(told.out.splitlines()[-1])["dataset"]
    assert (
        AmazonReviewsConfig(**{key: value for key, value in source.items() if key != "source"}).read().events.height > 0
    )
    assert "reviews in " in told.out
