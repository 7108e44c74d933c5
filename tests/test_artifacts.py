import json
from pathlib import Path

import pytest

from moerec import artifacts
from moerec.artifacts import MANIFEST, ArtifactCache


class Maker:
    """Writes the same two files each time and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "a.txt").write_text("content")
        (folder / "sub").mkdir()
        (folder / "sub" / "b.txt").write_text("more")


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(tmp_path / "artifacts")


def test_an_artifact_is_made_once_and_found_again(cache: ArtifactCache) -> None:
    make = Maker()
    first, made = cache.get("prepare", {"x": 1, "y": 2}, make)
    again, made_again = cache.get("prepare", {"y": 2, "x": 1}, make)
    assert (made, made_again, make.calls) == (True, False, 1)
    assert first == again == cache.path("prepare", {"x": 1, "y": 2})
    assert cache.exists("prepare", {"x": 1, "y": 2})


def test_the_manifest_lists_inputs_and_files(cache: ArtifactCache) -> None:
    folder, _ = cache.get("prepare", {"x": 1}, Maker())
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["inputs"] == {"x": 1}
    assert {name: entry["bytes"] for name, entry in manifest["files"].items()} == {"a.txt": 7, "sub/b.txt": 4}


def test_other_inputs_stages_and_versions_have_other_places(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {cache.path("prepare", {"x": 1}), cache.path("prepare", {"x": 2}), cache.path("encode", {"x": 1})}
    monkeypatch.setattr(artifacts, "__version__", "99.0")
    places.add(cache.path("prepare", {"x": 1}))
    assert len(places) == 4


def truncate(folder: Path) -> None:
    (folder / "a.txt").write_text("con")


def remove(folder: Path) -> None:
    (folder / "sub" / "b.txt").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def empty_manifest(folder: Path) -> None:
    (folder / MANIFEST).write_text("")


def same_size(folder: Path) -> None:
    (folder / "a.txt").write_text("CONTENT")


@pytest.mark.parametrize("damage", [truncate, remove, same_size, remove_manifest, empty_manifest])
def test_a_damaged_artifact_is_made_again(cache: ArtifactCache, damage) -> None:
    make = Maker()
    folder, _ = cache.get("prepare", {}, make)
    damage(folder)
    assert not cache.exists("prepare", {})
    folder, made = cache.get("prepare", {}, make)
    assert (made, make.calls) == (True, 2)
    assert (folder / "a.txt").read_text() == "content"
    assert (folder / "sub" / "b.txt").read_text() == "more"


def test_an_error_while_making_leaves_nothing(cache: ArtifactCache) -> None:
    def fail(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("prepare", {}, fail)
    assert not cache.exists("prepare", {})
    assert list((cache.root / "prepare").iterdir()) == []
