"""The experts of a run as a file of their own: a page, or one SVG that any viewer and drawing program reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from moerec.errors import MoerecError
from moerec.files import atomic_file
from moerec.report.content import Block, Figure
from moerec.report.item_experts import item_experts
from moerec.report.page import render_blocks, style_sheet
from moerec.report.ranking_experts import ranking_experts
from moerec.report.ranking_finding import find_ranking
from moerec.report.svg import WIDTH, text_width, words

SUFFIXES = (".svg", ".html")
_MARGIN = 16.0


def check_plot(path: Path) -> None:
    """Refuse a file that cannot be written, before any work.

    Raises:
        MoerecError: another suffix than .svg or .html.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise MoerecError(
            f"--plot {path}: the name must end in .svg or .html; a browser or a drawing program makes other pictures "
            "of the SVG"
        )


def write_expert_plot(metrics: Mapping[str, Any], path: Path) -> None:
    """Write the heat maps of a run's experts; as .html with tables and sentences, as .svg the charts alone.

    Raises:
        MoerecError: another suffix than .svg or .html.
    """
    check_plot(path)
    blocks = expert_blocks(metrics)
    if path.suffix.lower() == ".html":
        text = render_blocks(metrics, blocks, "Experts", "the metrics of this run")
    else:
        text = stacked([figure for block in blocks for figure in _figures(block)])
    with atomic_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", errors="replace"))


def expert_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """The sections on experts that the report has too: of the item tower, of the ranker."""
    finding = find_ranking(metrics)
    found = [item_experts(metrics), ranking_experts(finding, metrics) if finding is not None else None]
    stages = ("Retrieval", "Ranking") if None not in found else ("", "")
    return [replace(block, stage=stage) for block, stage in zip(found, stages, strict=True) if block is not None]


def _figures(block: Block) -> list[Figure]:
    return [*block.figures, *(figure for part in block.parts for figure in part.figures)]


def stacked(figures: Sequence[Figure]) -> str:
    """Charts one below the other as one SVG file, each under the first sentence of its caption."""
    parts, top, width = [], _MARGIN, float(WIDTH)
    for figure in figures:
        title = figure.caption.partition(". ")[0]
        across, down = (float(size) for size in re.findall(r'(?:width|height)="(\d+)"', figure.chart)[:2])
        parts.append(words(_MARGIN, top + 14, title, "strong", "start"))
        # A picture within a picture needs its place; everything else it has.
        parts.append(str(figure.chart).replace("<svg ", f'<svg x="{_MARGIN:.0f}" y="{top + 26:.0f}" ', 1))
        top, width = top + 26 + down + _MARGIN, max(width, across, text_width(title))
    width += 2 * _MARGIN
    return (
        f'<svg class="chart" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}" '
        f'width="{width:.0f}" height="{top:.0f}"><style>{_plain_style()}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )


def _plain_style() -> str:
    """The style sheet of charts in light colours and without variables, which few programs but browsers know."""
    sheet = style_sheet("chart.css")
    palette = dict(re.findall(r"--([\w-]+): ([^;]+);", sheet[: sheet.index("@media")]))
    rules = sheet[sheet.index("svg.chart") :] + "svg .paper { fill: var(--paper); }"
    return re.sub(r"var\(--([\w-]+)\)", lambda found: palette[found[1]], rules)
