"""The wheel is fetched by whichever pip works, checked, and kept."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from pathlib import Path

import pytest

from moerec.dataset.sources import recbole_wheel
from moerec.errors import DatasetError

CONTENT = b"a wheel"


def fake_pip(folder: Path, name: str, script: str) -> list[str]:
    """A program that behaves like pip; it finds the folder to download to in `$folder`."""
    path = folder / name
    find = 'while [ "$1" != "-d" ]; do shift; done; folder="$2"'
    path.write_text(f"#!/bin/sh\n{find}\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return [str(path)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOEREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(recbole_wheel, "WHEEL_SHA256", hashlib.sha256(CONTENT).hexdigest())


def use(monkeypatch: pytest.MonkeyPatch, *commands: list[str]) -> None:
    monkeypatch.setattr(recbole_wheel, "pip_commands", lambda: iter(commands))


def test_the_first_pip_that_works_is_used_and_the_wheel_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = [str(tmp_path / "no-such-pip")]
    broken = fake_pip(tmp_path, "broken", 'echo "No module named pip" >&2; exit 1')
    wrong = fake_pip(tmp_path, "wrong", f'printf other > "$folder/{recbole_wheel.WHEEL}"')
    works = fake_pip(tmp_path, "works", f'printf "a wheel" > "$folder/{recbole_wheel.WHEEL}"')
    use(monkeypatch, none, broken, wrong, works)
    assert recbole_wheel.cached_wheel() is None
    wheel = recbole_wheel.fetch_wheel()
    assert wheel.read_bytes() == CONTENT
    assert wheel == recbole_wheel.cached_wheel()
    use(monkeypatch, none)
    assert recbole_wheel.fetch_wheel() == wheel


def test_every_failure_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recbole_wheel, "SECONDS", 2.0)
    use(
        monkeypatch,
        [str(tmp_path / "no-such-pip")],
        fake_pip(tmp_path, "broken", 'echo "ERROR: no index" >&2; echo "a notice" >&2; exit 1'),
        fake_pip(tmp_path, "second", 'echo "ERROR: no index" >&2; exit 1'),
        fake_pip(tmp_path, "lazy", "exit 0"),
        fake_pip(tmp_path, "wrong", f'printf other > "$folder/{recbole_wheel.WHEEL}"'),
    )
    with pytest.raises(DatasetError) as caught:
        recbole_wheel.fetch_wheel()
    message = str(caught.value)
    for words in ("no-such-pip: No such file", "broken, second: ERROR: no index", "lazy: it did not bring", "sha256"):
        assert words in message
    assert "\n" not in message
    assert recbole_wheel.cached_wheel() is None


def test_a_damaged_wheel_in_the_cache_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache" / "downloads").mkdir(parents=True)
    (tmp_path / "cache" / "downloads" / recbole_wheel.WHEEL).write_bytes(CONTENT[:3])
    assert recbole_wheel.cached_wheel() is None


def test_pips_beside_this_python_and_uv_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pip", "uv"):
        fake_pip(tmp_path, name, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + "/nowhere")
    commands = list(recbole_wheel.pip_commands())
    assert commands[0] == [sys.executable, "-m", "pip"]
    assert commands[-2:] == [[str(tmp_path / "pip")], [str(tmp_path / "uv"), "tool", "run", "pip"]]
    assert len({tuple(command) for command in commands}) == len(commands)
