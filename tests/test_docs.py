"""The documentation is true: its code runs and prints what it says, its recipes are accepted, its commands exist.

Comments before a fenced block say what it is:
`<!-- setup ... -->` code that a page needs and does not show; `<!-- file: NAME -->` the block is that file;
`<!-- output -->` what the Python block before it prints; `<!-- output of one run -->` the same, but from a trained
model, so it differs from machine to machine; `<!-- file: NAME, runs -->` a recipe that is also run, in small;
`<!-- refused -->` a recipe that is refused.
"""

import contextlib
import io
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
import polars as pl
import pytest
import torch
import typer
import yaml
from rich.console import Console

from moerec.cli import app
from moerec.dataset.candidates import CandidateConfig
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import EVENT_COLUMNS, REJECT_COLUMNS, Part
from moerec.errors import ConfigError
from moerec.models.sasrec import SASRecConfig
from moerec.recipe import apply_override, load_recipe, parse_recipe
from moerec.recommender import Recommender
from moerec.run import RunOptions, run_recipe

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(path for path in ROOT.glob("*.md"))])
BLOCK = re.compile(
    r"^<!-- setup\n(?P<setup>.*?)^-->$|(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#([^)]*))?\)")
SMALL = ("baselines.kinds=[popularity]", "evaluation.resamples=100", "training.retriever=[{updates: 3}]")
FRAGMENT_BASE = {"name": "page", "dataset": {"source": "synthetic"}, "retriever": {"kind": "sasrec"}}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    mark: str = ""

    @property
    def file(self) -> str | None:
        found = re.match(r"file: ([^,\s]+)", self.mark)
        return found[1] if found else None


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block("setup", found["setup"])
        if found["setup"]
        else Block(found["language"], found["text"], found["mark"] or "")
        for found in BLOCK.finditer(text)
    ]


def pages_with(*languages: str) -> list[Path]:
    return [page for page in PAGES if any(block.language in languages for block in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_no_fence_is_left_open():
    for page in PAGES:
        fences = re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)
        shown = [block for block in blocks_of(page) if block.language != "setup"]
        assert len(fences) == 2 * len(shown), f"{name_of(page)}: each block needs a language and an end"


@pytest.mark.parametrize("page", pages_with("python", "setup"), ids=name_of)
def test_python_runs_and_prints_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    if page.name == "README.md":
        save_a_model(tmp_path / "runs/quickstart/latest/model")
    names: dict = {"__name__": "page"}
    printed = None
    for block in blocks_of(page):
        if block.file is not None:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
            if block.mark.endswith("runs"):
                recipe = load_recipe(Path(block.file), [*SMALL, "dataset.candidates=null"])
                run_recipe(recipe, RunOptions(), Console(quiet=True))
        elif block.language == "toml" and "project.entry-points" in block.text:
            register(tmp_path, block.text)
        elif block.language in ("python", "setup"):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.text, f"{name_of(page)}: {block.text[:60]!r}", "exec"), names)
            printed = out.getvalue()
        elif block.mark.startswith("output"):
            assert printed, "an output needs code before it that prints"
            if block.mark == "output":
                assert printed.rstrip() == block.text.rstrip()


def save_a_model(folder: Path) -> None:
    """An untrained model that knows the ids which the README asks for."""
    items = ["1", "2", "3", "50", "172", "181"]
    events = pl.DataFrame({"user_id": ["196", "186"] * 2, "item_id": items[:4], "timestamp": [1, 2, 3, 4]})
    dataset = Dataset.from_frames(events, items=pl.DataFrame({"item_id": items}))
    model = SASRecConfig(width=8).build(torch.ones(dataset.num_indices, dtype=torch.bool))
    Recommender.from_dataset(model, dataset).save_pretrained(folder)


def register(folder: Path, text: str) -> None:
    """Make the entry points of a pyproject.toml known, as if the package was installed."""
    groups = tomllib.loads(text)["project"]["entry-points"]
    lines = [
        line for group, points in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))
    ]
    installed = folder / "my_package-0.1.dist-info"
    installed.mkdir(exist_ok=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 0.1\n")
    with (installed / "entry_points.txt").open("a") as stream:
        stream.write("\n".join(lines) + "\n")


@pytest.mark.parametrize("page", pages_with("yaml"), ids=name_of)
def test_recipes_and_parts_of_recipes_are_accepted(page):
    for block in blocks_of(page):
        if block.language == "yaml" and not block.mark.startswith("not a recipe"):
            values = yaml.safe_load(block.text)
            values = values if {"name", "dataset"} <= values.keys() else FRAGMENT_BASE | values
            with pytest.raises(ConfigError) if block.mark == "refused" else contextlib.nullcontext():
                parse_recipe(values, name_of(page))


@pytest.mark.parametrize("page", pages_with("sh", "bash"), ids=name_of)
def test_commands_exist(page):
    group = typer.main.get_command(app)
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for block in blocks_of(page):
        for line in block.text.splitlines() if block.language in ("sh", "bash") else ():
            words = shlex.split(line.removeprefix("$ ").removeprefix(".venv/bin/"), comments=True)
            if words[:1] == ["make"]:
                assert words[1] in targets, line
            if words[:1] == ["moerec"]:
                parse_command(group, words)
                for number, word in enumerate(words):
                    if word == "--set":
                        apply_override({"training": {"retriever": [{}]}}, words[number + 1])


def parse_command(command: click.Command, words: list[str]) -> None:
    """Parse a command line without doing it; a wrong option or argument is an error."""
    arguments = words[1:]
    if isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        assert arguments[0] in command.commands, " ".join(words)
        parse_command(command.commands[arguments[0]], arguments)
    elif not isinstance(command, click.Group):
        command.make_context(words[0], arguments)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve()
        assert path.is_file(), f"{name_of(page)}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in slugs, f"{name_of(page)}: {target}#{anchor}"


@pytest.fixture(scope="module")
def architecture() -> str:
    return (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_the_layers_are_those_that_are_enforced(architecture):
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ][0]
    section = architecture.partition("## Layers")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w.]+)`", section, re.MULTILINE) == [
        layer.removeprefix("moerec.") for layer in contract["layers"]
    ]


def test_the_format_on_disk_is_as_described(architecture, tmp_path):
    events = pl.DataFrame(
        {"user_id": ["a"] * 4, "item_id": list("wxyz"), "timestamp": [1, 2, 3, 4], "rating": [1, 2, 3, 4]}
    )
    recipe = parse_recipe(FRAGMENT_BASE)
    dataset = Dataset.from_frames(
        events, users=pl.DataFrame({"user_id": ["a"]}), items=pl.DataFrame({"item_id": ["v"]})
    )
    dataset.add_split("main", recipe.dataset.split)
    dataset.add_candidates("lists", CandidateConfig(split="main", negatives=1))
    dataset.save(tmp_path / "tiny")
    described = {}
    for name, table in re.findall(r"^### `([\w./<>]+\.parquet)`$(.*?)(?=^##)", architecture, re.MULTILINE | re.DOTALL):
        described[name.replace("<name>", "*")] = dict(re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", table, re.MULTILINE))
    written = sorted(path.relative_to(tmp_path / "tiny").as_posix() for path in (tmp_path / "tiny").rglob("*.parquet"))
    assert sorted(described) == sorted(re.sub(r"/\w+\.", "/*.", name) for name in written)
    words = {
        pl.Int32: "int32",
        pl.Int64: "int64",
        pl.Int8: "int8",
        pl.String: "string",
        pl.List(pl.Int32): "list of int32",
    }
    for name in written:
        schema = pl.read_parquet_schema(tmp_path / "tiny" / name)
        fixed = {column: words[dtype] for column, dtype in schema.items() if column != "rating"}
        assert described[re.sub(r"/\w+\.", "/*.", name)] == fixed, name
    assert list(described["events.parquet"]) == list(EVENT_COLUMNS)
    assert list(described["rejects.parquet"]) == list(REJECT_COLUMNS)
    for part in Part:
        assert f"{part.value} {part.name.lower()}" in architecture
    told = set(
        re.findall(
            r"^\| `([a-z_]+)` \|", architecture.partition("### `dataset.json`")[2].partition("###")[0], re.MULTILINE
        )
    )
    assert told == set(type(dataset.info).model_fields)
