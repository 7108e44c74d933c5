"""One's own files, good and bad: the rest is used, what was refused is counted, or one line says what to change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console

from moerec import Recommender
from moerec.errors import MoerecError
from moerec.recipe import load_recipe
from moerec.run import RunOptions, run_recipe
from tests.modalities.conftest import bert_folder, sentence_folder  # noqa: F401  a tiny encoder
from tests.small_run import do

HEADER = "user_id,item_id,timestamp"
ROWS = [f"u{user},i{(user * 3 + place) % 17},{place}" for user in range(12) for place in range(8)]


def text_of(rows: list[str], header: str = HEADER) -> str:
    return "\n".join([header, *rows, ""])


def run_on(folder: Path, events: str | bytes, *overrides: str, **source: Any) -> dict[str, Any]:
    """Metrics of a run on these events; `source` holds further keys of the source."""
    folder.mkdir(exist_ok=True)
    path = folder / "events.csv"
    path.write_bytes(events if isinstance(events, bytes) else events.encode())
    dataset = {"source": "table", "events": str(path), "candidates": 5} | source
    flow = yaml.safe_dump(dataset, default_flow_style=True, width=10_000).strip()
    directory, said = do(folder, [f"dataset={flow}", "features=[]", "baselines.kinds=[popularity]", *overrides])
    metrics: dict[str, Any] = json.loads((directory / "metrics.json").read_text())
    return metrics | {"said": said, "directory": directory}


def refusal(folder: Path, events: str | bytes, *overrides: str, **source: Any) -> str:
    with pytest.raises(MoerecError) as caught:
        run_on(folder, events, *overrides, **source)
    assert "\n" not in str(caught.value), "one line"
    assert not (folder / "runs").exists(), "a run that never began leaves nothing"
    return str(caught.value)


def test_five_lines_of_recipe_are_enough_for_a_csv_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "clicks.csv").write_text(text_of(ROWS, "who,what,when"))
    (tmp_path / "own.yaml").write_text(
        "name: own\n"
        f"dataset: {{source: table, events: {tmp_path}/clicks.csv, user: who, item: what, timestamp: when}}\n"
        "retriever: {kind: sasrec, width: 16}\n"
        "baselines: {kinds: [popularity, item_transitions], trials: 2}\n"
        "training: {retriever: [{epochs: 3}]}\n"
    )
    recipe = load_recipe(tmp_path / "own.yaml")
    directory = run_recipe(recipe, RunOptions(tmp_path / "runs", tmp_path / "artifacts"), Console(quiet=True))
    assert (directory / "report.html").is_file()
    frame = Recommender.from_pretrained(directory).recommend(users=["u3"], k=4)
    assert frame["user_id"].to_list() == ["u3"] * 4
    assert set(frame["item_id"]) <= {f"i{number}" for number in range(17)}


# --- what can be used is used


def test_corrupt_lines_go_to_the_rejects_and_the_rest_is_used(tmp_path: Path) -> None:
    bad = ["u1", "u1,i2,3,4", ",i3,3", "u1,,4", "u1,i3,soon", "u1,i3,-5", "u1,i3,99999999999999", ROWS[0], ROWS[1]]
    mixed = [*ROWS[:40], *bad, *ROWS[40:]]
    dirty, clean = run_on(tmp_path / "a", text_of(mixed)), run_on(tmp_path / "b", text_of(ROWS))
    dataset = dirty["dataset"]
    assert dataset["events"] == clean["dataset"]["events"] == len(ROWS)
    assert dataset["rejected"] == sum(dataset["reject_reasons"].values()) == len(bad)
    assert dataset["reject_reasons"]["duplicate event"] == 2
    assert dataset["reject_reasons"]["expected 3 fields, found 1"] == 1
    assert "9 rows refused: 2 duplicate event" in dirty["said"]
    assert "refused" not in clean["said"]
    assert dirty["retrieval"]["test"] == clean["retrieval"]["test"]
    assert clean["dataset"]["reject_reasons"] == {}
    (folder,) = (tmp_path / "a/artifacts/prepare").iterdir()
    rejects = pl.read_parquet(folder / "dataset/rejects.parquet")
    assert rejects.filter(pl.col("reason") == "user_id is empty").select("source", "line").rows() == [
        ("events.csv", 44)
    ]


def test_encodings_line_ends_and_quotes_of_other_programs(tmp_path: Path) -> None:
    expected = run_on(tmp_path / "plain", text_of(ROWS))["retrieval"]["test"]
    latin = text_of(ROWS).replace("u9", "ü9")  # both are the last user
    forms: dict[str, tuple[bytes, dict[str, Any]]] = {
        "windows": (b"\xef\xbb\xbf" + text_of(ROWS).replace("\n", "\r\n").encode(), {}),
        "semicolons": (text_of(ROWS).replace(",", ";").encode(), {"separator": ";"}),
        "quoted": (text_of([",".join(f'"{cell}"' for cell in row.split(",")) for row in ROWS]).encode(), {}),
        "latin": (latin.encode("latin-1"), {"encoding": "latin-1"}),
        "blank lines": (text_of(ROWS).replace("\n", "\n\n").encode(), {}),
    }
    for name, (content, source) in forms.items():
        assert run_on(tmp_path / name, content, **source)["retrieval"]["test"] == expected, name


@pytest.mark.parametrize(
    ("events", "source", "says"),
    [
        ("", {}, "events.csv: the file is empty"),
        (HEADER + "\n", {}, "events.csv: the file has no rows"),
        (text_of(ROWS, "a,b,c"), {}, "events.csv: no column 'user_id' (key `user`)"),
        (text_of(["u1,i1"], "user_id,item_id"), {}, "no column 'timestamp' (key `timestamp`)"),
        (
            text_of(ROWS).encode() + "u1,caf\u00e9,1\n".encode("latin-1"),
            {},
            "events.csv, line 98: byte 0xe9 is not utf-8",
        ),
        (text_of(ROWS).encode("utf-16"), {}, "events.csv, line 1: byte 0xff is not utf-8"),
        (bytes(range(256)) * 9, {}, "events.csv, line 2: byte 0x80 is not utf-8"),
        (text_of(["u1,i1,soon", "u2,i2,late"]), {}, "events.csv"),
        (text_of(["u1,i1,1"]), {}, "split leave_last_out: no event falls into test; no user has 3 events"),
        (text_of([f"u{user},i1,{place}" for user in range(5) for place in range(5)]), {}, "write filter_seen: false"),
        (text_of(ROWS), {"items": "nowhere.csv"}, "nowhere.csv (key `items`): there is no such file"),
        (text_of(ROWS), {"split": {"kind": "global_date", "test_from": "1970-01-01"}}, "no event falls into train"),
        (text_of(ROWS), {"split": {"kind": "user_time", "valid": 0, "test": 0.2}}, "the split has no valid event"),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, events: str | bytes, source: dict[str, Any], says: str
) -> None:
    (tmp_path / "x").mkdir()
    assert says in refusal(tmp_path, events, **source)


def test_a_missing_file_is_named_with_what_may_be_meant(tmp_path: Path) -> None:
    (tmp_path / "event.csv").write_text(text_of(ROWS))
    with pytest.raises(MoerecError) as caught:
        do(tmp_path, [f"dataset={{source: table, events: {tmp_path}/evnt.csv}}"])
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/evnt.csv (key `events`): there is no such file")
    assert message.endswith("did you mean 'event.csv'?")
    assert not (tmp_path / "artifacts").exists()


def test_strict_histories_need_times(tmp_path: Path) -> None:
    events = text_of([row.rpartition(",")[0] for row in ROWS], "user_id,item_id")
    assert "strict needs timestamps" in refusal(tmp_path, events, "evaluation.history=strict", timestamp=None)


def test_a_time_bias_needs_times(tmp_path: Path) -> None:
    events = text_of([row.rpartition(",")[0] for row in ROWS], "user_id,item_id")
    says = refusal(tmp_path, events, "retriever.time_bias=true", timestamp=None)
    assert says.startswith("retriever.time_bias: this model reads when events happened, and these histories have no")


def test_too_little_to_learn_from_is_told(tmp_path: Path) -> None:
    events = text_of([f"u{user},i{place},{place}" for user in range(4) for place in range(3)])
    for stages in ("[{epochs: 2}]", "[{updates: 2}]"):
        says = refusal(tmp_path, events, f"training.retriever={stages}")
        assert "no user has two train events, so there is no order to learn" in says


# --- odd data that is all right


def test_users_with_few_events_train_and_are_not_judged(tmp_path: Path) -> None:
    metrics = run_on(tmp_path, text_of([*ROWS, "once,i3,5", "twice,i3,5", "twice,i4,6"]))
    assert metrics["dataset"]["users"] == 14
    assert metrics["dataset"]["events_per_user"]["min"] == 1
    assert metrics["protocol"]["cases"] == "12 users"
    frame = Recommender.from_pretrained(metrics["directory"]).recommend(users=["once", "twice"], k=3)
    assert len(frame) == 6


def test_without_times_the_order_of_the_file_is_the_order_of_events(tmp_path: Path) -> None:
    timed = run_on(tmp_path / "timed", text_of(ROWS))
    events = text_of([row.rpartition(",")[0] for row in ROWS], "user_id,item_id")
    untimed = run_on(tmp_path / "untimed", events, timestamp=None)
    assert untimed["retrieval"]["test"] == timed["retrieval"]["test"]
    assert not {"first", "last", "tie_share"} & set(untimed["dataset"])
    example = json.loads((untimed["directory"] / "examples.json").read_text())[0]
    assert "when" not in example["history"][0]
    assert (untimed["directory"] / "report.html").is_file()


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    numbers = run_on(tmp_path, text_of([row.replace("u", "").replace("i", "") for row in ROWS]))
    recommender = Recommender.from_pretrained(numbers["directory"])
    assert recommender.recommend(users=[3], k=2).equals(recommender.recommend(users=["3"], k=2))


def test_items_without_an_item_table_have_no_title(tmp_path: Path) -> None:
    metrics = run_on(tmp_path, text_of(ROWS))
    example = json.loads((metrics["directory"] / "examples.json").read_text())[0]
    assert example["history"][0]["title"] == example["history"][0]["item_id"]
    assert Recommender.from_pretrained(metrics["directory"]).items.columns == ["item_id"]


def test_items_that_only_the_events_know_join_the_catalogue(tmp_path: Path) -> None:
    items = tmp_path / "items.csv"
    items.write_text("item_id,price\n" + "".join(f"i{number},{number}.5\n" for number in range(9)) + "unsold,3\n")
    feature = "features=[{name: price, kind: dense}]"
    metrics = run_on(tmp_path, text_of(ROWS), feature, items=str(items))
    assert metrics["dataset"]["items"] == 18
    assert metrics["dataset"]["cold_items"] == 1
    assert "features.price: " in refusal_of_text_prices(tmp_path)


def refusal_of_text_prices(folder: Path) -> str:
    items = folder / "text.csv"
    items.write_text("item_id,price\ni1,cheap\n")
    return refusal(make(folder / "text"), text_of(ROWS), "features=[{name: price, kind: dense}]", items=str(items))


def make(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_an_item_without_a_text_is_masked_and_counted(
    tmp_path: Path,
    sentence_folder: Path,  # noqa: F811
) -> None:
    items = tmp_path / "items.csv"
    items.write_text(
        "item_id,title\n" + "".join(f"i{number},{'' if number == 4 else f'title {number}'}\n" for number in range(17))
    )
    modality = f"modalities={{text: {{kind: text, fields: [title], encoder: {sentence_folder}}}}}"
    metrics = run_on(tmp_path, text_of(ROWS), modality, items=str(items))
    text = metrics["dataset"]["modalities"]["text"]
    assert (text["dim"], text["present"], text["missing"]) == (16, 16, 1)
    assert "modality text: 16 vectors of width 16, 1 items without" in metrics["said"]
    recommender = Recommender.from_pretrained(metrics["directory"])
    place = recommender.items["item_id"].to_list().index("i4") + 2
    present = recommender.model.item_tower.present_text
    assert not present[place]
    assert int((~present[2:]).sum()) == 1
    before = recommender.model.encode_items().detach()
    recommender.model.item_tower.column_text[place] = float("nan")
    np.testing.assert_array_equal(before.numpy(), recommender.model.encode_items().detach().numpy())
