"""ML-100K from the wheel of RecBole on the user's package index, for machines that reach nothing else.

The wheel is downloaded, checked and read as the zip archive that it is; nothing of it is installed or run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from moerec.dataset.download import cache_directory
from moerec.errors import DatasetError
from moerec.files import atomic_file, sha256_of_file

REQUIREMENT = "recbole==1.2.1"
WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
SECONDS = 300.0
"""For all ways together; a package index that does not answer must not hold the user up for long."""


def cached_wheel() -> Path | None:
    """The wheel in the cache, if it has been fetched before."""
    wheel = cache_directory() / WHEEL
    return wheel if wheel.is_file() and sha256_of_file(wheel) == WHEEL_SHA256 else None


def fetch_wheel() -> Path:
    """The wheel, from the cache or from the package index that pip is set up for.

    Tries the pip of this Python, other pips, and uv; an environment may have been made without pip.

    Raises:
        DatasetError: every way failed; the message says how each did.
    """
    wheel = cached_wheel()
    if wheel is not None:
        return wheel
    failures: dict[str, list[str]] = {}
    end = time.monotonic() + SECONDS
    with tempfile.TemporaryDirectory(prefix="moerec-") as directory:
        for command in pip_commands():
            name = " ".join(Path(word).name for word in command)
            fetched = Path(directory) / WHEEL
            failure = _pip_download(command, directory, max(1.0, end - time.monotonic()))
            if failure is None and not fetched.is_file():
                failure = f"it did not bring {WHEEL}"
            if failure is None and (found := sha256_of_file(fetched)) != WHEEL_SHA256:
                failure = f"the wheel's sha256 is {found[:16]}..., expected {WHEEL_SHA256[:16]}..."
            if failure is None:
                with atomic_file(cache_directory() / WHEEL) as temporary:
                    shutil.copyfile(fetched, temporary)
                return cache_directory() / WHEEL
            failures.setdefault(failure, []).append(name)
    listed = " / ".join(f"{', '.join(names)}: {failure}" for failure, names in failures.items())
    raise DatasetError(f"{REQUIREMENT} from the package index: {listed or 'there is no pip and no uv'}")


def pip_commands() -> Iterator[list[str]]:
    """Ways to start pip, the likeliest first, each program once."""
    pythons = [sys.executable, str(getattr(sys, "_base_executable", "")), *map(shutil.which, ("python3", "python"))]
    commands = [[python, "-m", "pip"] for python in pythons if python]
    commands += [[pip] for pip in map(shutil.which, ("pip", "pip3")) if pip]
    uv = shutil.which("uv") or next(
        (str(path) for path in [Path(sys.executable).with_name("uv")] if path.is_file()), None
    )
    if uv:
        commands.append([uv, "tool", "run", "pip"])
    seen = set()
    for command in commands:
        if tuple(command) not in seen:
            seen.add(tuple(command))
            yield command


def _pip_download(command: list[str], directory: str, seconds: float) -> str | None:
    """Run one pip; return its complaint, or None if it went well."""
    options = ["--timeout", "30", "--retries", "1", "-d", directory]
    options += ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input", "-q"]
    try:
        outcome = subprocess.run(
            [*command, "download", *options, REQUIREMENT],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no end after {seconds:.0f} s"
    except OSError as error:
        return str(error.strerror)
    if outcome.returncode == 0:
        return None
    lines = [line.strip() for line in outcome.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "error"))]
    reason = (errors or lines or [f"exit code {outcome.returncode}"])[-1][:200]
    # Without a connection pip complains in the end that there is no such package.
    return f"the index cannot be reached ({reason})" if "connection broken by" in outcome.stderr else reason
