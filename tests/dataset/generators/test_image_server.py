"""The server of generated pictures: right pictures, faults by share and by path, and an account of what was asked."""

import json
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import pytest

from moerec.dataset.generators.image_server import FAULTS, PASSING, ImageServer, ImageServerConfig
from moerec.dataset.generators.odd_pictures import BOMB_SIDE, ODD_PICTURES, odd_picture
from moerec.errors import DatasetError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    (place / "images/I").mkdir(parents=True)
    (place / "images/I/B01.jpg").write_bytes(b"\xff\xd8\xffpicture")
    (place / "secret.jpg").write_bytes(b"secret")
    return place


def ask(server: ImageServer, *paths: str) -> list[tuple[int, bytes]]:
    """Status and body of each path, over one connection."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    answers = []
    for path in paths:
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append((answer.status, answer.read()))
    connection.close()
    return answers


def test_sizes_in_an_address_do_not_matter_and_connections_are_kept(folder: Path) -> None:
    with ImageServer(folder) as server:
        answers = ask(
            server, "/I/B01.jpg", "/I/B01._AC_SL1500_.jpg", "/I/B02.jpg", "/I/../../secret.jpg", "/secret.jpg"
        )
        assert [status for status, _ in answers] == [200, 200, 404, 404, 404]
        assert answers[0] == answers[1] == (200, b"\xff\xd8\xffpicture")
        ((_, body),) = ask(server, "/asked")
    assert server.connections == 2
    assert json.loads(body) == dict(server.asked) == Counter(dict.fromkeys(server.asked, 1))


def test_a_share_of_addresses_fails_and_the_seed_says_which() -> None:
    paths = [f"/I/B{i}.jpg" for i in range(8000)]
    drawn = [ImageServer(Path(), ImageServerConfig(faults=0.05, seed=seed)) for seed in (1, 1, 2)]
    faults = [[server.fault_of(path) for path in paths] for server in drawn]
    assert faults[0] == faults[1] != faults[2]
    counts = Counter(faults[0])
    assert 300 < len(paths) - counts.pop(None) < 500
    assert set(counts) == set(FAULTS)
    assert max(counts.values()) < 3 * min(counts.values())
    few = ImageServer(Path(), ImageServerConfig(faults=0.5, kinds=("missing", "cmyk")))
    assert {few.fault_of(path) for path in paths} == {None, "missing", "cmyk"}


def test_a_fault_that_may_pass_passes(folder: Path) -> None:
    config = ImageServerConfig(faults=1, kinds=("busy",), recover_after=2, retry_after=7)
    with ImageServer(folder, config) as server:
        assert [status for status, _ in ask(server, *["/I/B01.jpg"] * 3)] == [503, 503, 200]
    with ImageServer(folder) as server:
        assert [status for status, _ in ask(server, *["/once/error/I/B01.jpg"] * 2)] == [500, 200]


def test_an_open_stall_does_not_keep_the_server_from_ending(folder: Path) -> None:
    began = time.monotonic()
    with ImageServer(folder) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", "/fault/stall/x")
    assert time.monotonic() - began < 2
    connection.close()


def test_the_bomb_is_small_and_huge() -> None:
    bomb = odd_picture("bomb")
    assert len(bomb) < 100_000
    assert int.from_bytes(bomb[16:20], "big") == int.from_bytes(bomb[20:24], "big") == BOMB_SIDE


def test_wrong_settings_are_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no fault 'fire'"):
        ImageServerConfig(kinds=("fire",))
    with pytest.raises(DatasetError, match="share"):
        ImageServerConfig(faults=2)
    with pytest.raises(DatasetError, match="--images"), ImageServer(folder / "none"):
        pass
    with (
        ImageServer(folder) as server,
        pytest.raises(DatasetError, match="take another"),
        ImageServer(folder, port=server.port),
    ):
        pass
    assert set(FAULTS) > PASSING
    assert "bomb" in ODD_PICTURES
