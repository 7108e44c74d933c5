import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from moerec.files import atomic_directory, atomic_file, fingerprint, sha256_of_file, write_json


def crash_in_the_middle(context: Any, write: Callable[[Path], Any]) -> None:
    with context as temporary:
        write(temporary)
        raise KeyboardInterrupt


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "target.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent, "a rename is atomic only within one file system"
        assert temporary.suffix == ".txt", "writers choose the format by the suffix"
    assert target.read_text() == "whole"
    assert names(target.parent) == {"target.txt"}


@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, before: str | None) -> None:
    target = tmp_path / "target"
    if before is not None:
        target.write_text(before)
    with pytest.raises(KeyboardInterrupt):
        crash_in_the_middle(atomic_file(target), lambda temporary: temporary.write_text("half"))
    assert (target.read_text() if target.exists() else None) == before
    assert names(tmp_path) == ({"target"} if before else set())


@pytest.mark.parametrize("before", [None, "old"])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path, before: str | None) -> None:
    target = tmp_path / "target"
    if before is not None:
        target.mkdir()
        (target / "file").write_text(before)
    with pytest.raises(KeyboardInterrupt):
        crash_in_the_middle(atomic_directory(target), lambda temporary: (temporary / "file").write_text("half"))
    assert names(tmp_path) == ({"target"} if before else set())
    if before:
        assert (target / "file").read_text() == before


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for content in ("first", "second"):
        with atomic_directory(target) as temporary:
            (temporary / content).write_text(content)
        assert names(target) == {content}, "no file of the former folder is left among the new ones"
    assert names(tmp_path) == {"target"}


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_directory"])
def test_a_killed_process_leaves_nothing_that_looks_whole(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    program = (
        "import os, sys, pathlib, moerec.files as files\n"
        f"with files.{kind}(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'x' if temporary.is_dir() else temporary).write_text('half')\n"
        "    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(target)], check=False).returncode == 9
    assert not target.exists()
    assert all(".tmp-" in name and name.startswith(".") for name in names(tmp_path)), (
        "what is left is hidden and ignored"
    )


def test_written_files_obey_the_umask(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        with atomic_file(tmp_path / "file") as temporary:
            temporary.write_text("x")
        with atomic_directory(tmp_path / "folder") as temporary:
            (temporary / "inner").mkdir(mode=0o700)
            save_file({"x": torch.zeros(1)}, temporary / "inner" / "private")
            (temporary / "link").symlink_to("nowhere")
    finally:
        os.umask(former)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    for folder in ("folder", "folder/inner"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "folder" / "inner" / "private").stat().st_mode & 0o777 == 0o640


def test_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    assert sha256_of_file(tmp_path / "file") == sha256(content).hexdigest()


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
@settings(max_examples=50)
def test_a_fingerprint_ignores_the_order_of_keys(value: object) -> None:
    def backwards(node: object) -> object:
        if isinstance(node, dict):
            return {key: backwards(node[key]) for key in reversed(node)}
        return [backwards(part) for part in node] if isinstance(node, list) else node

    assert fingerprint(backwards(value)) == fingerprint(value)


@given(plain, plain)
@settings(max_examples=50)
def test_different_values_have_different_fingerprints(first: object, second: object) -> None:
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (fingerprint(first) == fingerprint(second)) == same


def test_write_json_keeps_text_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "value.json", {"title": "Amélie", "n": [1, 2]})
    text = (tmp_path / "value.json").read_text(encoding="utf-8")
    assert "Amélie" in text
    assert json.loads(text) == {"title": "Amélie", "n": [1, 2]}
