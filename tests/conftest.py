"""Shared by all tests: one torch thread, examples without a time limit, Ctrl-C that works, and commands."""

import signal
import sys
from pathlib import Path

import click
import pytest
import torch
from hypothesis import settings

from tests.commands import Finished, Moerec

# Numbers and times then do not depend on what else runs.
torch.set_num_threads(1)

# How long an example takes on a busy machine says nothing about the code.
settings.register_profile("moerec", deadline=None)
settings.load_profile("moerec")

# A shell starts what it puts in the background deaf to Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def moerec(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Moerec:
    """Calls a command through `main`, as the terminal does."""
    from moerec.cli import main

    def call(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["moerec", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "80")
        for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name, raising=False)
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        # Typer colours its help where it thinks that a build server shows it.
        return Finished(int(stopped.value.code or 0), click.unstyle(out), err)

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, its artifacts and one finished run."""
    from tests.small_run import do, write_recipe

    folder = tmp_path_factory.mktemp("place")
    write_recipe(folder / "small.yaml")
    do(folder)
    return folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the working directory: defaults find the run."""
    monkeypatch.chdir(place)
    return place
