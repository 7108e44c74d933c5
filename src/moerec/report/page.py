"""The run report: everything that a run wrote down as one self-contained page that needs no network and no script."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from moerec import __version__
from moerec.files import atomic_file
from moerec.report.content import Block
from moerec.report.finding import find, part, sentence
from moerec.report.learning import learning
from moerec.report.mixture import experts
from moerec.report.people import people
from moerec.report.protocol import protocol
from moerec.report.provenance import data, facts, reproduce
from moerec.report.results import beyond, results, slices
from moerec.report.run_files import RunFiles, read_run


def write_report(run_directory: Path) -> Path:
    """Write `report.html` into a run folder, from its metrics, history, examples, environment and recipe.

    Only `metrics.json` must be there; a section whose data are absent is left out. All text from data is escaped, and
    the page forbids itself scripts and network.

    Returns:
        The path of the page.

    Raises:
        ReportError: `metrics.json` is absent, or a file of the run is damaged.
    """
    page = render(read_run(run_directory))
    target = run_directory / "report.html"
    with atomic_file(target) as temporary:
        # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark.
        temporary.write_bytes(page.encode("utf-8", errors="replace"))
    return target


def render(run: RunFiles) -> str:
    """The page as text."""
    finding = find(run.metrics)
    dataset = part(run.metrics, "dataset")
    if finding is None:
        found = "This run recorded no retrieval metric on the test split."
    else:
        found = sentence(finding)
    return _template().render(
        name=str(run.metrics.get("name") or "unnamed run"),
        dataset=str(dataset.get("name") or ""),
        finding=found,
        facts=facts(run.metrics, run.environment),
        blocks=blocks(run),
        css=Markup(_file("report.css")),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def blocks(run: RunFiles) -> list[Block]:
    """The sections for which the run has data, in reading order."""
    finding = find(run.metrics)
    sections = [
        results(finding) if finding is not None else None,
        protocol(run.metrics, finding),
        learning(run.history, run.unreadable_history_lines, finding),
        experts(run.metrics),
        slices(finding) if finding is not None else None,
        beyond(finding) if finding is not None else None,
        people(run.examples),
        data(run.metrics),
        reproduce(run.metrics, run.environment, run.recipe),
    ]
    return [section for section in sections if section is not None]


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("report.html.j2"))


def _file(name: str) -> str:
    return resources.files("moerec.report").joinpath(name).read_text(encoding="utf-8")
