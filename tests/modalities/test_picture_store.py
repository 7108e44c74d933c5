"""From addresses to pictures: every fault of the server ends with its reason, and nothing is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews, draw_products
from moerec.dataset.generators.image_server import FAULTS, PASSING, ImageServer, ImageServerConfig
from moerec.dataset.generators.odd_pictures import ODD_PICTURES, odd_picture
from moerec.dataset.generators.product_pictures import write_pictures
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.missing import missing_rates
from moerec.modalities.picture_store import PictureStore, fetch_pictures
from moerec.modalities.pictures import PictureConfig, from_bytes, make_picture

ITEMS = 30
REASONS = {
    "error": "http 500",
    "busy": "http 503",
    "slow-down": "http 429",
    "stall": "timeout",
    "drip": "timeout",
    "truncated": "cut short",
    "hang-up": "no connection",
    "nonsense": "not an HTTP answer",
    "missing": "http 404",
    "endless": "larger than 100000 bytes",
    "redirect-loop": "more than 5 redirects",
    "redirect-private": "address of a private network",
    "redirect-link-local": "address of a private network",
    "redirect-file": "not an http or https address",
    "html": "not an image",
    "svg": "not an image",
    "empty": "not an image",
    "one-pixel": "smaller than 16 pixels",
    "bomb": "more than 50000000 pixels",
    "half-a-file": "damaged image",
}
PICTURE = PictureConfig(form="array", size=32, short_side=32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    odd_picture("bomb")  # takes longer to make than a request may take here
    shape = GeneratedReviews(users=1, items=ITEMS)
    write_pictures(folder, shape, draw_products(shape), [f"B{item}" for item in range(ITEMS)])
    return folder


def settings(**changes) -> FetchConfig:
    quick = {"timeout_seconds": 0.8, "backoff_seconds": 0.01, "attempts": 2, "maximum_bytes": 100_000}
    return FetchConfig(**{**quick, "allow_networks": ("127.0.0.0/8",), **changes})


def reasons_of(folder, urls, picture=PICTURE):
    with PictureStore(folder, picture) as store:
        return [store.find(url).reason for url in urls]


def test_each_fault_ends_with_its_reason_and_the_run_goes_on(made, tmp_path):
    kinds = [*FAULTS, *(kind for kind in ODD_PICTURES if kind not in FAULTS)]
    assert {kind for kind in kinds if kind in FAULTS or kind in REASONS} == set(REASONS)
    with ImageServer(made, ImageServerConfig(retry_after=0)) as server:
        # The picture of an item after each fault: none of them ends the run.
        pairs = [(f"{server.address}/fault/{kind}/x", f"{server.address}/I/B{i}.jpg") for i, kind in enumerate(kinds)]
        urls = [url for pair in pairs for url in pair]
        first = fetch_pictures(urls, tmp_path, settings(), PICTURE)
        asked = Counter(server.asked)
        second = fetch_pictures(urls, tmp_path, settings(attempts=1), PICTURE)
        again = server.asked - asked
    expected = [reason for kind in kinds for reason in (REASONS.get(kind), None)]
    assert reasons_of(tmp_path, urls) == expected
    assert first.addresses == second.addresses == len(urls)
    counts = Counter(reason for reason in expected if reason is not None)
    assert first.reasons == second.reasons == counts
    assert first.ok == second.ok == len(urls) - counts.total()
    assert all(asked[f"/fault/{kind}/x"] >= 2 for kind in PASSING), "what may pass is tried again"
    settled_later = {"redirect-private", "redirect-link-local", "redirect-file", "endless"}
    assert set(again) == {f"/fault/{kind}/x" for kind in PASSING | settled_later}, "and the rest never again"


def test_the_pictures_are_those_of_the_files(made, tmp_path):
    with ImageServer(made) as server:
        urls = [f"{server.address}/I/B{i}._AC_SL1500_.jpg" for i in range(ITEMS)]
        summary = fetch_pictures([*urls, None, "", "  ", *urls], tmp_path, settings(), PICTURE)
        assert server.asked.total() == ITEMS
    assert (summary.addresses, summary.ok, summary.reasons, summary.requests) == (ITEMS, ITEMS, {}, ITEMS)
    with PictureStore(tmp_path, PICTURE) as store:
        for i, url in enumerate(urls):
            found = store.find(url)
            content = (made / f"images/I/B{i}.jpg").read_bytes()
            expected = make_picture(content, PICTURE)
            assert np.array_equal(from_bytes(found.path.read_bytes(), PICTURE), expected)
            assert expected.std() > 5
        items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "image": [urls[0], None, " ", "http://x/never"]})
        outcomes = store.outcomes(items)
    assert outcomes["reason"].to_list() == [None, "no image named", "no image named", "not fetched"]
    assert outcomes["path"].is_not_null().to_list() == [True, False, False, False]


def test_equal_contents_are_made_once_and_other_settings_need_no_web(made, tmp_path):
    with ImageServer(made) as server:
        urls = [f"{server.address}/fault/cmyk/{i}" for i in range(5)] + [f"{server.address}/fault/one-pixel/x"]
        fetch_pictures(urls, tmp_path, settings(), PICTURE)
        asked = server.asked.total()
        other = PictureConfig(size=16, short_side=20, minimum_side=1)
        assert reasons_of(tmp_path, urls, other) == ["not fetched"] * 6
        summary = fetch_pictures(urls, tmp_path, settings(), other)
        assert server.asked.total() == asked
    assert (summary.ok, summary.kept) == (6, 6)
    files = [path.suffix for path in (tmp_path / "pictures").rglob("*") if path.is_file()]
    assert Counter(files) == {".u8": 1, ".reason": 1, ".jpg": 2}
    assert reasons_of(tmp_path, urls) == [None] * 5 + ["smaller than 16 pixels"]
    assert reasons_of(tmp_path, urls, other) == [None] * 6


def test_a_run_that_is_killed_goes_on_where_it_was(made, tmp_path):
    count, workers = 500, 8
    limits = FetchConfig(allow_private=True, workers=workers, attempts=1)
    script = (
        "import sys; from pathlib import Path\n"
        "from moerec.modalities.fetch import FetchConfig\n"
        "from moerec.modalities.picture_store import fetch_pictures\n"
        "from moerec.modalities.pictures import PictureConfig\n"
        "limits = FetchConfig.model_validate_json(sys.argv[2])\n"
        "picture = PictureConfig.model_validate_json(sys.argv[3])\n"
        "fetch_pictures(sys.stdin.read().split(), Path(sys.argv[1]), limits, picture)\n"
    )
    given = [str(tmp_path), limits.model_dump_json(), PICTURE.model_dump_json()]
    with ImageServer(made) as server:
        kinds = ["error" if i % 7 == 0 else "grey" for i in range(count)]
        urls = [f"{server.address}/once/{kind}/I/B{i % ITEMS}.jpg?{i}" for i, kind in enumerate(kinds)]
        process = subprocess.Popen([sys.executable, "-c", script, *given], stdin=subprocess.PIPE)
        process.stdin.write("\n".join(urls).encode())
        process.stdin.close()
        deadline = time.monotonic() + 60
        while server.asked.total() < 60 and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        before = Counter(server.asked)
        assert 60 <= before.total() < count, "it was killed in the middle"
        fetch_pictures(urls, tmp_path, limits, PICTURE)
        asked = Counter(server.asked)
    assert len(asked) == count
    once_more = {path for path, times in asked.items() if times > 1}
    failed = {path for path in before if "/error/" in path}
    assert len(once_more - failed) <= workers, "only what was under way is asked for again"
    assert max(asked.values()) <= 2
    left = {path for path in asked.keys() - before.keys() if "/error/" in path}
    with PictureStore(tmp_path, PICTURE) as store:
        for path in asked:
            found = store.find(f"{server.address}{path}")
            assert found.reason == ("http 500" if path in left else None)
            assert found.path is None or found.path.stat().st_size == 32 * 32 * 3


def test_from_the_files_of_a_shop_to_missing_rates(tmp_path):
    """Products as published, their addresses, their pictures, and how many examples of each category have none."""
    shape = GeneratedReviews(users=20, items=24, compressed=False, image_address="http://shop.invalid")
    generate_amazon_reviews(tmp_path / "shop", shape)
    tables = AmazonReviewsConfig(path=str(tmp_path / "shop")).read()
    config = ImageServerConfig(faults=0.3, kinds=("missing", "html", "half-a-file"))
    with ImageServer(tmp_path / "shop", config) as server:
        image = pl.col("image").str.replace("http://shop.invalid", server.address, literal=True)
        items = tables.items.with_columns(image)
        summary = fetch_pictures(items["image"], tmp_path / "cache", settings(), PICTURE)
    with PictureStore(tmp_path / "cache", PICTURE) as store:
        outcomes = store.outcomes(items)
    named = items["image"].drop_nulls()
    assert 0 < len(named) < items.height
    assert summary.addresses == named.n_unique()
    assert summary.ok == outcomes.filter(pl.col("reason").is_null())["url"].n_unique() > 5
    assert set(summary.reasons) & {"http 404", "not an image", "damaged image"} == set(summary.reasons) > set()
    category = pl.DataFrame({"item_id": items["item_id"], "category": items["item_id"].str.slice(9)})
    examples = tables.events.select("item_id").join(category, on="item_id").with_columns(part=pl.lit(0))
    rates = missing_rates(outcomes, examples)
    (total,) = rates.filter(pl.col("level") == 0).to_dicts()
    without = outcomes.filter(pl.col("reason").is_not_null())["item_id"]
    assert total["examples"] == tables.events.height
    assert total["missing"] == tables.events["item_id"].is_in(without.to_list()).sum() > 0
    assert {entry["reason"] for entry in total["reasons"]} == {*summary.reasons, "no image named"}
