"""Sections on what was measured: the table against baselines, slices, and what lies beyond accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from moerec.report.content import Block, Cell, Column, Figure, Folded, Row, Table
from moerec.report.finding import Finding, System, disagreements, setting
from moerec.report.labels import (
    MISSING,
    count,
    interval,
    listed,
    metric,
    metric_label,
    number,
    p_value,
    percent,
    plain,
    signed,
)
from moerec.report.plots import Estimate, interval_plot

_MOST_HIT_RATES = 4
_FEW_CASES = 50


def results(finding: Finding) -> Block:
    """The table of all systems with the main metric's intervals drawn beside it."""
    name = metric_label(finding.main)
    texts = []
    best = finding.best_baseline
    if best is not None:
        texts.append(
            f"The best plain baseline is the one with the highest {name} on test, here {best.name}; choosing it by its "
            "test value favours the baseline, not the model."
        )
    figures = (
        [_interval_figure(finding)] if any(system.intervals.get(finding.main) for system in finding.systems) else []
    )
    figures += [figure] if (figure := _difference_figure(finding)) is not None else []
    return Block(
        key="results",
        title="Results",
        texts=texts,
        notices=disagreements(finding),
        tables=[_results_table(finding)],
        figures=figures,
        folded=[*_settings(finding), _everything(finding)],
    )


def _results_table(finding: Finding) -> Table:
    main, systems = finding.main, finding.systems
    full, sampled = _columns(finding)
    tested = any(system.against_model is not None for system in systems)
    tuned = any(system.trials is not None for system in systems)
    columns = [Column(metric(key).label, _group(key)) for key in (*full, *sampled)]
    columns += [Column("Trials")] if tuned else []
    columns += [Column("Difference", "Paired test"), Column("p", "Paired test")] if tested else []
    rows = []
    for system in systems:
        cells = [_metric_cell(finding, system, key) for key in (*full, *sampled)]
        cells += [Cell(count(system.trials))] if tuned else []
        cells += _test_cells(finding, system) if tested else []
        rows.append(Row(system.name, cells, system.is_model))
    notes = ["Test results, best in bold." if len(systems) > 1 else "Test results."]
    if any(main in system.intervals for system in systems):
        notes.append(f"Beside {metric_label(main)} stands its 95 % interval.")
    if tested:
        notes.append(
            f"Difference is model minus baseline in {metric_label(main)}, with the p-value of the paired test."
        )
    if sampled:
        notes.append("Sampled columns rank against a sample of items: never compare them with full ranking.")
    return Table(" ".join(notes), "System", columns, rows)


def _columns(finding: Finding) -> tuple[list[str], list[str]]:
    """The metrics of the table, full ranking and sampled: the main one first, then the usual ones at its cutoff.

    Only metrics of which more is better; the rest stands under "Every recorded metric".
    """
    main = finding.main
    measured = {key: metric(key) for system in finding.systems for key in system.test}
    cutoff = metric(main).cutoff
    hit_rates = [key for key, found in measured.items() if found.measure == "hr" and not found.protocol]
    hit_rates = sorted(hit_rates, key=lambda key: metric(key).cutoff or 0)[:_MOST_HIT_RATES]
    full = [key for key in (*hit_rates, f"ndcg@{cutoff}", f"mrr@{cutoff}") if key in measured and key != main]
    protocols = sorted({found.protocol for found in measured.values() if found.protocol})
    sampled = [f"{measure}@{cutoff}/{protocol}" for protocol in protocols for measure in ("hr", "ndcg")]
    return [main, *full], [key for key in sampled if key in measured and key != main]


def _group(key: str) -> str:
    protocol = metric(key).protocol
    return f"Sampled: {protocol}" if protocol else "Full ranking"


def _metric_cell(finding: Finding, system: System, key: str) -> Cell:
    value = system.test.get(key)
    rivals = [other.test[key] for other in finding.systems if key in other.test]
    note = interval(system.intervals.get(key), finding.decimals) if key == finding.main else ""
    return Cell(number(value, finding.decimals), note, _is_best(value, rivals))


def _is_best(value: float | None, rivals: Sequence[float]) -> bool:
    """Whether a value is the highest; where all are equal none is."""
    return value is not None and value == max(rivals) > min(rivals)


def _test_cells(finding: Finding, system: System) -> list[Cell]:
    test = system.against_model
    if test is None:
        return [Cell("" if system.is_model else MISSING), Cell("" if system.is_model else MISSING)]
    other = "" if test.metric == finding.main else f"({metric_label(test.metric)})"
    return [Cell(signed(test.difference, finding.decimals), other), Cell(p_value(test.p_value))]


def _interval_figure(finding: Finding) -> Figure:
    main, name = finding.main, metric_label(finding.main)
    estimates = [
        Estimate(
            system.name,
            system.test.get(main),
            system.intervals.get(main),
            series=0 if system.is_model else 1,
            text=number(system.test.get(main), finding.decimals),
        )
        for system in finding.systems
    ]
    told = "; ".join(f"{item.label} {item.text} {interval(item.interval, finding.decimals)}" for item in estimates)
    chart = interval_plot(
        estimates,
        x_title=f"{name} on the test split",
        description=f"{name} with 95 % intervals. {told}.",
        emphasised=[finding.model.name],
    )
    return Figure(
        chart,
        f"{name} with 95 % intervals. Overlapping intervals do not decide: all systems were "
        f"scored on the same users, and the paired difference is what tells.",
    )


def _difference_figure(finding: Finding) -> Figure | None:
    """The paired differences with a line at zero; None where no test of the main metric was recorded."""
    name, estimates = metric_label(finding.main), []
    for system in finding.baselines:
        test = system.against_model
        if test is None or test.metric != finding.main or test.interval is None:
            continue
        estimates.append(
            Estimate(system.name, test.difference, test.interval, text=signed(test.difference, finding.decimals))
        )
    if not estimates:
        return None
    told = "; ".join(f"{item.label} {item.text} {interval(item.interval, finding.decimals)}" for item in estimates)
    chart = interval_plot(
        estimates,
        x_title=f"{finding.model.name} minus baseline, {name}",
        description=f"Paired difference in {name} to each baseline. {told}.",
        reference=0.0,
    )
    return Figure(
        chart,
        f"Paired difference between {finding.model.name} and each baseline, with its 95 % interval. Right of zero the "
        "model is better; where the interval crosses zero the difference is not significant.",
    )


def _settings(finding: Finding) -> list[Folded]:
    tuned = [system for system in finding.baselines if system.config or system.trials is not None]
    if not tuned:
        return []
    rows = [
        Row(
            system.name,
            [
                Cell(setting(system.config) or "nothing to choose"),
                Cell(count(system.trials)),
                Cell(number(system.valid.get(finding.main), finding.decimals)),
            ],
        )
        for system in tuned
    ]
    columns = [
        Column("Chosen settings", is_text=True),
        Column("Trials"),
        Column(f"{metric_label(finding.main)}, valid"),
    ]
    table = Table("What tuning on the validation split chose for each baseline.", "Baseline", columns, rows)
    return [Folded("Tuned settings of the baselines", [table])]


def _everything(finding: Finding) -> Folded:
    """All recorded metrics of all systems, validation and test."""
    columns = [Column(f"{finding.model.name}, valid")] + [Column(system.name) for system in finding.systems]
    columns[1] = Column(f"{finding.model.name}, test")
    keys = list(dict.fromkeys([key for system in finding.systems for key in system.test] + list(finding.model.valid)))
    rows = []
    for key in keys:
        cells = [Cell(number(finding.model.valid.get(key), 4))]
        for system in finding.systems:
            cells.append(Cell(number(system.test.get(key), 4), interval(system.intervals.get(key), 4)))
        rows.append(Row(metric_label(key), cells))
    return Folded("Every recorded metric", [Table("All metrics with 95 % intervals.", "Metric", columns, rows)])


def slices(finding: Finding) -> Block | None:
    """Popular, rare and new items, known and new users, and history lengths, for the model and the best baseline."""
    model, best = finding.model, finding.best_baseline
    rival = best if best is not None and best.slices else None
    if not model.slices:
        return None
    columns = [Column("Cases")]
    measures = [key for key in ("hr@10", "ndcg@10") if any(key in values for values in model.slices.values())]
    shown = [model, rival] if rival is not None else [model]
    columns += [Column(metric_label(key), system.name) for system in shown for key in measures]
    filled = [name for name, values in model.slices.items() if values.get("cases") != 0]
    rows = []
    for name in filled:
        cases = model.slices[name].get("cases")
        cells = [Cell(count(cases), "few" if cases is not None and cases < _FEW_CASES else "")]
        for system in shown:
            for key in measures:
                found = [value for rival in shown if (value := rival.slices.get(name, {}).get(key)) is not None]
                value = system.slices.get(name, {}).get(key)
                cells.append(Cell(number(value), best=_is_best(value, found)))
        rows.append(Row(plain(name), cells))
    table = Table("Test results by kind of case (full ranking); the better in bold.", "Slice", columns, rows)
    chart = _slice_figure(shown, measures, filled)
    empty = [plain(name) for name in model.slices if name not in filled]
    return Block(
        "slices",
        "Where it works, and where not",
        texts=[
            "Head: the held-out item is one of the most popular; new items: it has no event in training and is known "
            "by its content alone; tail: all between. New users have no event in training and are known by what they "
            "did between training and test; users without history by nothing. Short, medium and long history are the "
            f"thirds of the cases by length. Slices of fewer than {_FEW_CASES} cases are marked “few”: read them as "
            "anecdotes." + (f" This split has no case of: {listed(empty)}." if empty else "")
        ],
        tables=[table],
        figures=[chart] if chart is not None else [],
    )


def _slice_figure(shown: Sequence[System], measures: Sequence[str], names: Sequence[str]) -> Figure | None:
    if "hr@10" not in measures:
        return None
    estimates = []
    for name in names:
        for series, system in enumerate(shown):
            values = system.slices.get(name, {})
            share = values.get("hr@10")
            # A baseline's slices may leave out the number of cases: they are the same cases.
            bounds = wilson(share, values.get("cases", shown[0].slices[name].get("cases")))
            estimates.append(Estimate(plain(name), share, bounds, series, number(share)))
    told = "; ".join(f"{item.label}, {shown[item.series].name}: {item.text}" for item in estimates)
    chart = interval_plot(
        estimates,
        x_title="HR@10 on the test split",
        description=f"HR@10 by slice. {told}.",
        names=[system.name for system in shown] if len(shown) > 1 else (),
    )
    return Figure(
        chart, "HR@10 by slice, with 95 % Wilson intervals from the number of cases: few cases, wide interval."
    )


def wilson(share: float | None, cases: float | None) -> tuple[float, float] | None:
    """The 95 % score interval of a share of independent cases (Wilson 1927); None if share or cases are unknown."""
    if share is None or cases is None or cases <= 0 or not 0 <= share <= 1:
        return None
    z = 1.959964
    scale = 1 + z * z / cases
    centre = (share + z * z / (2 * cases)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / cases + z * z / (4 * cases * cases))
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))


_BEYOND = {
    "coverage": "Coverage: share of the catalogue that stands on at least one list; more is broader.",
    "novelty": "Novelty: mean self-information of a listed item in bits; more is less popular.",
    "gini": "Gini: how unevenly the lists use the catalogue; 0 is evenly, near 1 a few items take everything.",
    "popularity": "Popularity: mean number of training events of a listed item.",
}


def beyond(finding: Finding) -> Block | None:
    """Coverage, novelty and concentration of the lists."""
    keys = list(dict.fromkeys(key for system in finding.systems for key in system.beyond))
    systems = [system for system in finding.systems if system.beyond]
    if not keys:
        return None
    rows = []
    for system in systems:
        cells = []
        for key in keys:
            value = system.beyond.get(key)
            measure = metric(key).measure
            cells.append(
                Cell(percent(value) if measure == "coverage" else number(value, 1 if value and value >= 20 else 2))
            )
        rows.append(Row(system.name, cells, system.is_model))
    texts = [text for measure, text in _BEYOND.items() if any(metric(key).measure == measure for key in keys)]
    table = Table(
        "What the lists of all users are made of.", "System", [Column(metric_label(key)) for key in keys], rows
    )
    return Block("beyond", "Beyond accuracy", texts=[" ".join(texts)], tables=[table])
