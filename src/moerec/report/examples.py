"""Sections on shards of examples: what was made, what was refused, how much is missing, what the audit found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block, Cell, Column, Row, Table
from moerec.report.finding import part
from moerec.report.labels import as_number, count, listed, percent, plain, plural

_SHOWN_GROUPS = 60


def example_sentences(metrics: Mapping[str, Any]) -> list[str]:
    """What a run that made shards found, in plain sentences; none if it made none."""
    made = part(metrics, "examples")
    if not made:
        return []
    shards = {name: found for name, found in part(made, "shards").items() if isinstance(found, Mapping)}
    words = [f"{count(found.get('examples'))} {name}" for name, found in shards.items()]
    refused = sum(as_number(number) or 0 for number in part(made, "refused").values())
    warnings = [finding["name"] for finding in made.get("audit") or [] if finding.get("level") == "warning"]
    sentences = [f"Shards hold {listed(words) or 'no'} examples; {plural(refused, 'row')} of the source were refused."]
    if warnings:
        sentences.append(f"The audit warns of: {listed(warnings)}.")
    return sentences


def example_blocks(metrics: Mapping[str, Any]) -> list[Block]:
    """The sections in reading order; none if the run made no shards."""
    made = part(metrics, "examples")
    if not made:
        return []
    found = [_shards(made), _refused(made), _audit(made), _pictures(made)]
    return [block for block in found if block is not None]


def _shards(made: Mapping[str, Any]) -> Block:
    shards = {name: found for name, found in part(made, "shards").items() if isinstance(found, Mapping)}
    rows = []
    for name, found in shards.items():
        counted = part(made, "rows", name)
        size = (as_number(found.get("bytes")) or 0) / 2**20
        cells = [
            count(counted.get("reviews")),
            count(counted.get("negatives")),
            count(found.get("shards")),
            f"{size:,.1f}",
        ]
        rows.append(Row(plain(name), [Cell(text) for text in cells]))
    columns = [Column("Reviews"), Column("Negatives"), Column("Shards"), Column("MiB")]
    caption = (
        "Examples of each part. Reviews are real rows; negatives are drawn items at the time of a review, and figures "
        "over both are another population."
    )
    tables = [Table(caption, "Part", columns, rows)]
    tokens = part(made, "tokens")
    if tokens:
        names = ("texts", "tokens", "sentences", "dropped_sentences")
        of_kinds = [
            Row(plain(kind), [Cell(count(found.get(name))) for name in names]) for kind, found in tokens.items()
        ]
        headings = [Column("Texts"), Column("Tokens"), Column("Sentences"), Column("Sentences without room")]
        tables.append(Table("Token ids that were made of texts.", "Kind", headings, of_kinds))
    texts = [f"{str(made['rule'])[:1].upper()}{str(made['rule'])[1:]}."] if made.get("rule") else []
    return Block("shards", "Shards", texts=texts, tables=tables)


def _refused(made: Mapping[str, Any]) -> Block:
    reasons = part(made, "refused")
    if not reasons:
        return Block("refused", "What was refused", texts=["No row of the source was refused."])
    ordered = sorted(reasons.items(), key=lambda pair: (-(as_number(pair[1]) or 0.0), pair[0]))
    rows = [Row(plain(reason), [Cell(count(times))]) for reason, times in ordered]
    return Block(
        "refused",
        "What was refused",
        texts=["Each refused row stands in the rejects beside the rows, with its file, line and content."],
        tables=[Table("Refused rows of the source, by reason.", "Reason", [Column("Rows")], rows)],
    )


def _audit(made: Mapping[str, Any]) -> Block | None:
    findings = made.get("audit") or []
    if not findings:
        return None
    rows = [
        Row(plain(str(finding["name"])), [Cell(str(finding["level"])), Cell(str(finding["sentence"]))])
        for finding in findings
    ]
    columns = [Column("Level", is_text=True), Column("Finding", is_text=True)]
    return Block("audit", "Audit", tables=[Table("What was looked at.", "Subject", columns, rows)])


def _pictures(made: Mapping[str, Any]) -> Block | None:
    pictures = part(made, "pictures")
    if not pictures:
        return None
    fetch = part(pictures, "fetch")
    rows = []
    for group in (pictures.get("missing") or [])[:_SHOWN_GROUPS]:
        name = " / ".join(str(group[key]) for key in ("part", "category") if group.get(key) is not None) or "all"
        why = ", ".join(f"{reason} {count(times)}" for reason, times in part(group, "reasons").items())
        cells = [count(group.get("examples")), count(group.get("missing")), percent(group.get("rate")), why]
        rows.append(Row(plain(name), [Cell(text) for text in cells]))
    columns = [Column("Examples"), Column("Without"), Column("Rate"), Column("Why", is_text=True)]
    told = (
        f"{plural(fetch.get('addresses'), 'address')} were settled: {count(fetch.get('ok'))} with a picture, "
        f"{count(sum(part(fetch, 'reasons').values()))} without. An example without a picture is masked, never a "
        "black picture."
    ).replace("addresss", "addresses")
    left_out = len(pictures.get("missing") or []) - len(rows)
    caption = "Examples without a picture, by part and category."
    caption += f" {left_out} more groups stand in metrics.json." if left_out > 0 else ""
    table = Table(caption, "Group", columns, rows)
    return Block("pictures", "Pictures", texts=[told], tables=[table])
