"""Environments of the rivals: each in a virtual environment of its own, with fixed versions.

    python benchmarks/rivals/environments.py torch-rechub

makes `local/rivals/torch-rechub` (or finds it) and prints its interpreter. Torch is the version that this project pins.
What a rival needs beside it is fixed by `<rival>.txt`, where there is one. An environment takes up to 1.6 GB.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "local" / "rivals"
HERE = Path(__file__).parent
PACKAGES = {
    "torch-rechub": ("torch-rechub==0.9.0",),
    "rectools": ("rectools[torch]==0.19.0",),
    "recbole": ("recbole==1.2.1",),
    "replay": ("replay-rec[torch]==0.22.0",),
}
"""What each rival installs beside torch."""


def python_of(rival: str) -> Path:
    """The interpreter of a rival's environment, which is made if it is not there yet."""
    home = FOLDER / rival
    python = home / "bin" / "python"
    if python.is_file():
        return python
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{rival}-", dir=FOLDER))
    print(f"making {home}", file=sys.stderr, flush=True)
    try:
        _run([sys.executable, "-m", "venv", str(made)])
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        fixed = HERE / f"{rival}.txt"
        constraints = ["-c", str(fixed)] if fixed.is_file() else []
        _run([*pip, "-c", str(ROOT / "constraints.txt"), "torch"])
        _run([*pip, *constraints, *PACKAGES[rival]])
        made.rename(home)  # its scripts name the old folder, its interpreter works from the new one
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


def _run(command: list[str]) -> None:
    """Run a step; where it fails its own words say why."""
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} ended with {done.returncode}: {done.stderr[-1500:].strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rival", choices=sorted(PACKAGES))
    print(python_of(parser.parse_args().rival))


if __name__ == "__main__":
    main()
