"""The folder of a run: made when the work begins, found again, resumed only by the recipe that began it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moerec.errors import CheckpointError, MoerecError
from moerec.recipe import load_recipe, plain_recipe
from moerec.run.folder import environment, find_run, first_difference, new_run, recipe_of
from moerec.run.inspect import latest_run
from tests.small_run import do, small_recipe


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run."""
    folder = tmp_path_factory.mktemp("place")
    do(folder)
    return folder


def times(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


def test_a_run_lies_under_its_name_and_is_the_latest(place: Path) -> None:
    latest = place / "runs/small/latest"
    assert latest.is_symlink()
    assert not latest.readlink().is_absolute(), "runs/ can be moved"
    assert latest_run(place / "runs") == latest.resolve()
    assert find_run(place / "runs", "small", None) == latest.resolve()
    assert load_recipe(latest / "recipe.yaml") == small_recipe() == recipe_of(latest)
    written = {path.name for path in latest.iterdir()}
    assert written >= {
        "recipe.yaml",
        "environment.json",
        "history.jsonl",
        "metrics.json",
        "report.html",
        "examples.json",
        "checkpoints",
        "model",
    }
    assert not [path for path in place.rglob("*") if ".tmp-" in path.name]


def test_a_second_run_has_a_folder_of_its_own_and_is_the_latest(place: Path) -> None:
    first = (place / "runs/small/latest").resolve()
    before = times(first)
    second, said = do(place, ["training.retriever[0].epochs=1"])
    third, _ = do(place, ["training.retriever[0].epochs=1"])
    assert len({first, second.resolve(), third.resolve()}) == 3, "also within one second"
    assert times(first) == before
    assert (place / "runs/small/latest").resolve() == third.resolve()
    assert said.count("(prepared before)") == 1
    with pytest.raises(
        MoerecError, match=r"begun by another recipe \(training.retriever\[0\].epochs was 1 and is now 2"
    ):
        do(place, resume=True)


def test_out_puts_a_run_elsewhere_and_leaves_the_latest_alone(place: Path, tmp_path: Path) -> None:
    before = (place / "runs/small/latest").resolve()
    directory, _ = do(place, out=tmp_path / "deep" / "here")
    assert directory == tmp_path / "deep/here"
    assert (directory / "metrics.json").is_file()
    assert (place / "runs/small/latest").resolve() == before
    with pytest.raises(MoerecError, match="not empty; continue it with --resume, or give another --out"):
        do(place, out=directory)


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert new_run(small_recipe(), tmp_path, tmp_path / "empty") == tmp_path / "empty"


def test_runs_that_begin_at_once_never_share_a_folder(tmp_path: Path) -> None:
    found = {new_run(small_recipe(), tmp_path, None) for _ in range(5)}
    assert len(found) == 5
    assert all(directory.parent == tmp_path / "small" for directory in found)
    assert (tmp_path / "small/latest").resolve() in {directory.resolve() for directory in found}


def test_resuming_a_finished_run_does_nothing(place: Path, tmp_path: Path) -> None:
    directory, _ = do(place, out=tmp_path / "run")
    before = times(directory)
    again, said = do(place, out=directory, resume=True)
    assert again.resolve() == directory.resolve()
    assert "this run is finished; nothing is left to do" in said
    assert "stage main" not in said
    assert times(directory) == before


def test_resuming_needs_a_run(place: Path, tmp_path: Path) -> None:
    with pytest.raises(MoerecError, match="no run to resume here; start it without --resume"):
        do(tmp_path, resume=True)
    with pytest.raises(MoerecError, match="no run to resume here"):
        do(place, resume=True, out=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("seed=6", "seed was 5 and is now 6"),
        ("retriever.item_tower.experts=4", "retriever.item_tower.experts was 3 and is now 4"),
        ("features[1].transform=none", "features[1].transform was 'standardise' and is now 'none'"),
        ("dataset.users=61", "dataset.users was 60 and is now 61"),
        ("evaluation.cutoffs=[5, 10, 20]", "evaluation.cutoffs was [5, 10] and is now [5, 10, 20]"),
        ("modalities.text={kind: text, fields: [title]}", "modalities.text was None and is now {"),
    ],
)
def test_resuming_another_recipe_names_the_first_key_that_differs(place: Path, override: str, difference: str) -> None:
    out = place / "for-resuming"
    if not out.exists():
        do(place, out=out)
    with pytest.raises(MoerecError) as caught:
        do(place, [override], out=out, resume=True)
    assert difference in str(caught.value)
    assert "undo the change or start a new run" in str(caught.value)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    """The recipe is the same, but the file that it names has changed."""
    events = tmp_path / "events.csv"
    rows = [f"u{user},i{(user * 3 + place) % 17},{place}" for user in range(12) for place in range(8)]
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows, ""]))
    overrides = [f"dataset={{source: table, events: {events}}}", "features=[]"]
    directory, _ = do(tmp_path, overrides)
    (directory / "metrics.json").unlink()
    events.write_text("\n".join(["user_id,item_id,timestamp", *rows, "u1,i16,99", ""]))
    with pytest.raises(CheckpointError, match="made by another recipe, data set or seed"):
        do(tmp_path, overrides, out=directory, resume=True)


def test_a_failed_start_leaves_no_run(place: Path, tmp_path: Path) -> None:
    for wrong in (
        "dataset={source: table, events: nowhere.csv}",
        "features[0].column=nowhere",
        "training.retriever[0].trains=[nothing.*]",
        "training.device=cuda",
        "dataset.split={kind: global_date, test_from: 1970-01-01}",
    ):
        with pytest.raises(MoerecError):
            do(tmp_path, [wrong], artifacts=place / "artifacts")
    assert not (tmp_path / "runs").exists(), "so that `latest` stays a run that began"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(place: Path, tmp_path: Path) -> None:
    whole, _ = do(place, out=tmp_path / "whole")
    half = tmp_path / "half"
    half.mkdir()
    for name in ("recipe.yaml", "environment.json"):
        (half / name).write_bytes((whole / name).read_bytes())
    (half / "history.jsonl").write_text('{"stage": "main", "update": 2}\n{"stage": "ma')
    done, said = do(place, out=half, resume=True)
    assert "resuming" not in said
    assert without_time(read(done)) == without_time(read(whole))
    assert [json.loads(line)["update"] for line in (half / "history.jsonl").read_text().splitlines()][:2] == [2, 4]


def test_a_damaged_checkpoint_is_one_line(place: Path, tmp_path: Path) -> None:
    directory, _ = do(place, out=tmp_path / "run")
    (directory / "metrics.json").unlink()
    state = directory / "checkpoints/last/state.json"
    content = state.read_text()
    for damage in (content[:30], "[]", '{"identity": "x", "unheard": 1}'):
        state.write_text(damage)
        with pytest.raises(CheckpointError) as caught:
            do(place, out=directory, resume=True)
        assert "\n" not in str(caught.value)
    state.write_text(content)
    weights = directory / "checkpoints/best/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read"):
        do(place, out=directory, resume=True)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(MoerecError, match=r"no run here \(no recipe.yaml\)"):
        recipe_of(tmp_path)
    with pytest.raises(MoerecError, match="no run here yet"):
        latest_run(tmp_path)
    (tmp_path / "recipe.yaml").write_text("name: [")
    with pytest.raises(MoerecError, match="not valid YAML"):
        recipe_of(tmp_path)


def test_the_environment_says_what_numbers_depend_on() -> None:
    found = environment()
    assert {"moerec", "python", "torch", "platform", "cpu", "cores", "threads", "memory_gib", "libraries"} <= set(found)
    assert json.loads(json.dumps(found)) == found


plain = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def leaves_none(value: Any) -> Any:
    """Without keys that hold null: a missing key and null are the same here."""
    if isinstance(value, dict):
        return {key: leaves_none(inner) for key, inner in value.items() if inner is not None}
    return [leaves_none(inner) for inner in value] if isinstance(value, list) else value


@given(plain, plain)
def test_a_difference_is_found_exactly_where_there_is_one(one: Any, other: Any) -> None:
    assert first_difference(one, one) is None
    found = first_difference({"x": one}, {"x": other})
    if leaves_none({"x": one}) != leaves_none({"x": other}):
        assert found is not None
        assert found.startswith("x")


def test_equal_recipes_do_not_differ() -> None:
    assert first_difference(plain_recipe(small_recipe()), plain_recipe(small_recipe())) is None


def read(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return found


def without_time(metrics: dict[str, Any]) -> dict[str, Any]:
    """Metrics without what a clock decides."""
    plain = json.loads(json.dumps(metrics))
    plain.pop("timing")
    for details in plain["retrieval"]["baseline_details"].values():
        details.pop("seconds")
    return plain
