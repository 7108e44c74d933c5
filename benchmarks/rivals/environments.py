"""Environments of the rivals: each in a virtual environment of its own, with fixed versions.

    python benchmarks/rivals/environments.py torch-rechub

makes `local/rivals/torch-rechub` (or finds it) and prints its interpreter. Torch is the version that this project pins.
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
PACKAGES = {"torch-rechub": ("torch-rechub==0.9.0",)}
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
        subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([*pip, *constraints, "torch"], check=True, stderr=subprocess.DEVNULL)
        subprocess.run([*pip, *PACKAGES[rival]], check=True, stderr=subprocess.DEVNULL)
        made.rename(home)  # its scripts name the old folder, its interpreter works from the new one
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rival", choices=sorted(PACKAGES))
    print(python_of(parser.parse_args().rival))


if __name__ == "__main__":
    main()
