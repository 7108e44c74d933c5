"""The run report: everything that a run wrote down as one self-contained page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from moerec import __version__
from moerec.files import atomic_file
from moerec.report.content import Block
from moerec.report.examples import example_blocks, example_sentences
from moerec.report.finding import find, part, sentence
from moerec.report.item_experts import item_experts
from moerec.report.learning import learning, ranker_learning
from moerec.report.people import people
from moerec.report.protocol import protocol
from moerec.report.provenance import data, facts, reproduce
from moerec.report.ranking_curves import ranking_curves
from moerec.report.ranking_examples import ranking_examples
from moerec.report.ranking_experts import ranking_experts
from moerec.report.ranking_finding import find_ranking
from moerec.report.ranking_importance import ranking_importance
from moerec.report.ranking_protocol import ranking_protocol
from moerec.report.ranking_results import ranking_results
from moerec.report.ranking_sentences import task_sentences
from moerec.report.ranking_slices import ranking_slices
from moerec.report.results import beyond, results, slices
from moerec.report.run_files import RunFiles, read_run
from moerec.report.two_stages import find_two_stages, stages_sentence, two_stages

_BOTH, _RETRIEVAL, _RANKING, _EXAMPLES, _RUN = "Both stages", "Retrieval", "Ranking", "Examples", "The run"


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
    source = "the files of this run, beside this page"
    return render_blocks(
        run.metrics, blocks(run), "Run report", source, findings(run), facts(run.metrics, run.environment)
    )


def render_blocks(
    metrics: Mapping[str, Any],
    shown: Sequence[Block],
    kind: str,
    source: str,
    sentences: Sequence[tuple[str, Sequence[str]]] = (),
    stated: Sequence[str] = (),
) -> str:
    """A page of some sections.

    Args:
        metrics: of the run that it is about.
        shown: the sections in reading order.
        kind: what the page is.
        source: what it was made from.
        sentences: what was found, by stage.
        stated: facts in one line.
    """
    return _template().render(
        kind=kind,
        name=str(metrics.get("name") or "unnamed run"),
        dataset=str(part(metrics, "dataset").get("name") or ""),
        findings=sentences,
        facts=stated,
        groups=[(stage, list(members)) for stage, members in groupby(shown, key=lambda block: block.stage)],
        css=Markup(style_sheet("chart.css") + style_sheet("report.css")),
        version=__version__,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        source=source,
    )


def findings(run: RunFiles) -> list[tuple[str, list[str]]]:
    """What was found, in plain sentences: pairs of the stage, empty where there is only one, and its sentences."""
    retrieval, ranking, both = find(run.metrics), find_ranking(run.metrics), find_two_stages(run.metrics)
    found: list[tuple[str, list[str]]] = []
    if both is not None:
        found.append((_BOTH, [stages_sentence(both)]))
    if retrieval is not None:
        found.append((_RETRIEVAL, [sentence(retrieval)]))
    if ranking is not None:
        found.append((_RANKING, task_sentences(ranking)))
    if examples := example_sentences(run.metrics):
        found.append((_EXAMPLES, examples))
    if not found:
        return [("", ["This run recorded no retrieval metric and no ranking metric on the test split."])]
    return found if len(found) > 1 else [("", found[0][1])]


def blocks(run: RunFiles) -> list[Block]:
    """The sections for which the run has data, in reading order."""
    ranking, both, examples = _ranking(run), find_two_stages(run.metrics), example_blocks(run.metrics)
    about_run = _present([data(run.metrics), reproduce(run.metrics, run.environment, run.recipe)])
    if not ranking and both is None:
        return [*_retrieval(run), *examples, *about_run]
    stages = [
        (_BOTH, [two_stages(both)] if both is not None else []),
        (_RETRIEVAL, _retrieval(run)),
        (_RANKING, ranking),
        (_EXAMPLES, examples),
        (_RUN, about_run),
    ]
    return [replace(block, stage=stage) for stage, members in stages for block in members]


def _retrieval(run: RunFiles) -> list[Block]:
    finding = find(run.metrics)
    return _present(
        [
            results(finding) if finding is not None else None,
            protocol(run.metrics, finding),
            learning(run.history, run.unreadable_history_lines, finding),
            item_experts(run.metrics),
            slices(finding) if finding is not None else None,
            beyond(finding) if finding is not None else None,
            people(run.examples),
        ]
    )


def _ranking(run: RunFiles) -> list[Block]:
    finding = find_ranking(run.metrics)
    training = ranker_learning(run.ranker_history, run.unreadable_ranker_lines, finding)
    if finding is None:
        return _present([training])
    return _present(
        [
            ranking_results(finding),
            ranking_protocol(finding, run.metrics),
            ranking_curves(finding, run.ranking_curves),
            ranking_importance(finding, run.metrics),
            ranking_experts(finding, run.metrics),
            ranking_slices(finding, run.metrics),
            ranking_examples(finding, run.ranking_examples, run.metrics),
            training,
        ]
    )


def _present(sections: Sequence[Block | None]) -> list[Block]:
    return [section for section in sections if section is not None]


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_file("report.html.j2"))


def style_sheet(name: str) -> str:
    """A style sheet of the report: that of the charts, or that of the page."""
    return _file(name)


def _file(name: str) -> str:
    return resources.files("moerec.report").joinpath(name).read_text(encoding="utf-8")
