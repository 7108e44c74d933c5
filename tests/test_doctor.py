"""The doctor: what is there is ok, what is missing is named with its remedy."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from moerec import doctor
from moerec.doctor import Check, examine


def levels() -> dict[str, Check]:
    return {check.name: check for check in examine()}


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MOEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOEREC_MIRROR", raising=False)


def test_every_check_is_a_level_and_a_sentence_of_one_line() -> None:
    checks = examine()
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.level in ("ok", "note", "problem")
        assert check.sentence
        assert "\n" not in check.sentence
    assert not [check for check in checks if check.level == "problem"], "this installation works"


def test_a_missing_extra_is_a_note_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "tensorboard" else found(name))
    check = levels()["extra track"]
    assert check.level == "note"
    assert check.sentence == "tensorboard not installed; pip install 'moerec[track]'"


def test_nothing_registered_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "implementations", lambda role: {})
    assert levels()["retrievers"].level == "problem"
    assert "install moerec again" in levels()["retrievers"].sentence


def test_the_mirror_is_shown_or_named_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert levels()["mirror"].level == "ok"
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path))
    assert levels()["mirror"].sentence == str(tmp_path)
    monkeypatch.setenv("MOEREC_MIRROR", str(tmp_path / "nowhere"))
    assert levels()["mirror"].level == "problem"


def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels()["cache"].level == "ok"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert levels()["cache"].level == "problem"
    assert "MOEREC_CACHE" in levels()["cache"].sentence


def test_little_room_on_the_disk_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**30))
    assert levels()["disk"].level == "note"
    assert levels()["disk"].sentence.startswith("1.0 GiB free here")


def test_more_threads_than_cores_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 4096)
    assert levels()["torch"].level == "note"
    assert "OMP_NUM_THREADS" in levels()["torch"].sentence
