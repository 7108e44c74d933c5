from __future__ import annotations

import gzip
import hashlib
import zipfile
from pathlib import Path

import pytest

from moerec.dataset.sources import source_files
from moerec.dataset.sources.source_files import SourceFile, SourceFolder
from moerec.errors import DatasetError


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_content_is_the_same_from_folder_and_archive(tmp_path: Path, packed: bool, compress: bool) -> None:
    stored = gzip.compress(b"content", mtime=0) if compress else b"content"
    name = "a.txt.gz" if compress else "a.txt"
    place = tmp_path / "a.zip" if packed else tmp_path / "folder"
    if packed:
        with zipfile.ZipFile(place, "w") as archive:
            archive.writestr(f"x/deep/{name}", b"wrong")
            archive.writestr(f"x/{name}", stored)
    else:
        place.mkdir()
        (place / name).write_bytes(stored)
    file = SourceFolder(place).find("a.txt")
    assert file is not None
    with file.open() as stream:
        assert stream.read() == b"content"
    digest = hashlib.sha256(stored).hexdigest()
    assert file.identity() == {"name": name, "bytes": len(stored), "sha256": digest}
    assert SourceFolder(place).names() == [name]
    assert SourceFolder(place).find("b.txt") is None


def test_a_huge_file_is_known_by_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_files, "HASHED_BYTES", 3)
    (tmp_path / "a").write_bytes(b"abcd")
    identity = SourceFile(tmp_path / "a").identity()
    assert identity == {"name": "a", "bytes": 4, "changed_ns": (tmp_path / "a").stat().st_mtime_ns}


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", b"0123456789" * 100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"a.zip: the compressed file is damaged or cut off"):
        SourceFolder(path).find("a.txt")
    path.write_bytes(whole.replace(b"0123456789", b"012345678x", 1))
    file = SourceFolder(path).find("a.txt")
    assert file is not None
    with pytest.raises(DatasetError, match=r"a.zip: a.txt: the compressed file is damaged"), file.open() as stream:
        stream.read()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"), SourceFile(tmp_path).open():
        pass
    with pytest.raises(DatasetError, match="no such file"), SourceFile(tmp_path / "x").open():
        pass
    assert SourceFolder(tmp_path / "x").find("a") is None
