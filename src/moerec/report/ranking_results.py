"""The section on what a ranker predicts: each task against the baselines, populations kept apart."""

from __future__ import annotations

from moerec.report.content import Block, Cell, Column, Figure, Folded, Part, Row, Table
from moerec.report.finding import setting
from moerec.report.labels import MISSING, count, interval, number, p_value, signed
from moerec.report.plots import Estimate, interval_plot
from moerec.report.ranking_finding import (
    POPULATIONS,
    PredictedTask,
    Predictor,
    RankingFinding,
    arrow,
    direction,
    measure_label,
)
from moerec.report.ranking_sentences import ahead, ahead_elsewhere, contradictions, facts_of, siblings_ahead

_MOST_MEASURES = 7


def ranking_results(finding: RankingFinding) -> Block:
    """A table for each task, with intervals and paired differences drawn beside it."""
    texts = [
        "Each task is measured on the rows of its own population; numbers of different populations say different "
        "things and are never compared."
    ]
    if finding.baselines:
        texts.append(
            "The best plain baseline of a task is the one with the best test value; choosing it by its test value "
            "favours the baseline, not the model."
        )
    return Block(
        key="ranking-results",
        title="Predictions against baselines",
        texts=texts,
        parts=[_population(finding, population) for population in finding.populations],
        folded=_settings(finding),
    )


def population_title(population: str) -> str:
    """A population as a heading: its name and what it holds."""
    words = POPULATIONS.get(population, "")
    return f"Population: {population}{f' – {words}' if words else ''}"


def _population(finding: RankingFinding, population: str) -> Part:
    tasks = finding.tasks_on(population)
    figures = []
    for task in tasks:
        figures += [_interval_figure(finding, task)]
        figures += [figure] if (figure := _difference_figure(finding, task)) is not None else []
    return Part(
        population_title(population),
        texts=[text for task in tasks for text in (*ahead_elsewhere(finding, task), *siblings_ahead(finding, task))],
        notices=[text for task in tasks for text in (*ahead(finding, task), *contradictions(finding, task))],
        tables=[_table(finding, task) for task in tasks],
        figures=figures,
        folded=[_everything(finding, task) for task in tasks],
    )


def _table(finding: RankingFinding, task: PredictedTask) -> Table:
    main, key = task.main, task.key(task.main)
    measures = [main, *(measure for measure in task.measures if measure != main)][:_MOST_MEASURES]
    systems = finding.systems_of(task)
    tuned = any(system.trials is not None for system in systems)
    tested = any(key in system.against_model for system in systems)
    group = f"Paired test in {measure_label(main)}"
    columns = [Column(arrow(measure)) for measure in measures]
    columns += [Column("Trials")] if tuned else []
    columns += [Column("Difference", group), Column("p", group)] if tested else []
    rows = []
    for system in systems:
        cells = [_cell(finding, task, system, measure) for measure in measures]
        cells += [Cell(count(system.trials) if system.role != "sibling" else "")] if tuned else []
        cells += _test_cells(finding, task, system) if tested else []
        rows.append(Row(_row_name(system), cells, system.role == "model"))
    notes = [f"{task.described}. Test results", "best in bold" if len(systems) > 1 else ""]
    notes = [f"{', '.join(note for note in notes if note)}; ↑ more is better, ↓ less is better. {facts_of(task)}"]
    if any(key in system.intervals for system in systems):
        notes.append(f"Under {measure_label(main)} stands its 95 % interval.")
    if tested:
        better = "positive" if direction(main) > 0 else "negative"
        notes.append(
            f"Difference is model minus the row's system, with its 95 % interval: {better} is better for the model."
        )
    return Table(" ".join(notes), "System", columns, rows, notes_below=True)


def _row_name(system: Predictor) -> str:
    return f"{system.name} (sibling)" if system.role == "sibling" else system.name


def _cell(finding: RankingFinding, task: PredictedTask, system: Predictor, measure: str) -> Cell:
    key, sign = task.key(measure), direction(measure)
    value, places = system.test.get(key), finding.decimals(task, measure)
    rivals = [sign * other.test[key] for other in finding.systems if key in other.test]
    best = value is not None and sign != 0 and sign * value == max(rivals) > min(rivals)
    return Cell(
        number(value, places), interval(system.intervals.get(key), places) if measure == task.main else "", best
    )


def _test_cells(finding: RankingFinding, task: PredictedTask, system: Predictor) -> list[Cell]:
    test = system.against_model.get(task.key(task.main))
    if test is None:
        return [Cell(MISSING if system.role == "baseline" else "")] * 2
    places = finding.decimals(task, task.main)
    return [Cell(signed(test.difference, places), interval(test.interval, places)), Cell(p_value(test.p_value))]


def _interval_figure(finding: RankingFinding, task: PredictedTask) -> Figure:
    key, name, places = task.key(task.main), measure_label(task.main), finding.decimals(task, task.main)
    estimates = [
        Estimate(
            _row_name(system),
            system.test.get(key),
            system.intervals.get(key),
            series=("model", "baseline", "sibling").index(system.role),
            text=number(system.test.get(key), places),
        )
        for system in finding.systems_of(task)
        if key in system.test
    ]
    told = "; ".join(f"{item.label} {item.text} {interval(item.interval, places)}" for item in estimates)
    side = "right" if direction(task.main) > 0 else "left"
    chart = interval_plot(
        estimates,
        x_title=f"{name} of {task.name} on test, {task.population}",
        description=f"{name} of {task.name}, {task.where}. {told}.",
        emphasised=[finding.model.name],
    )
    with_intervals = " with 95 % intervals" if any(item.interval for item in estimates) else ""
    return Figure(chart, f"{name} of {task.name} ({task.where}){with_intervals}; the better stand further {side}.")


def _difference_figure(finding: RankingFinding, task: PredictedTask) -> Figure | None:
    """The paired differences with a line at zero; None where no test of the main measure was recorded."""
    key, name, places = task.key(task.main), measure_label(task.main), finding.decimals(task, task.main)
    tests = [(one.name, one.against_model[key]) for one in finding.systems_of(task) if key in one.against_model]
    estimates = [
        Estimate(system, test.difference, test.interval, text=signed(test.difference, places))
        for system, test in tests
        if test.interval is not None
    ]
    if not estimates:
        return None
    told = "; ".join(f"{item.label} {item.text} {interval(item.interval, places)}" for item in estimates)
    side = "Right" if direction(task.main) > 0 else "Left"
    chart = interval_plot(
        estimates,
        x_title=f"{finding.model.name} minus the other, {name} of {task.name}",
        description=f"Paired difference in {name} of {task.name}, {task.where}. {told}.",
        reference=0.0,
    )
    return Figure(
        chart,
        f"Paired difference in {name} of {task.name} ({task.where}) with 95 % intervals. {side} of zero the model is "
        "better; where the interval crosses zero the difference is not significant.",
    )


def _everything(finding: RankingFinding, task: PredictedTask) -> Folded:
    """All measures of a task with their intervals, and all paired tests."""
    systems = finding.systems_of(task)
    columns = [Column(f"{finding.model.name}, valid"), Column(f"{finding.model.name}, test")]
    columns += [Column(_row_name(system)) for system in systems[1:]]
    rows = []
    for measure in task.measures:
        key = task.key(measure)
        cells = [Cell(number(finding.model.valid.get(key), 4))]
        cells += [Cell(number(one.test.get(key), 4), interval(one.intervals.get(key), 4)) for one in systems]
        rows.append(Row(arrow(measure), cells))
    tables = [Table(f"All measures of {task.described}, with 95 % intervals.", "Measure", columns, rows)]
    tested = [(system, test) for system in systems for key, test in system.against_model.items() if _of(task, key)]
    if tested:
        rows = [
            Row(
                f"{arrow(test.metric.split('/')[1])} against {system.name}",
                [
                    Cell(signed(test.difference, 4), interval(test.interval, 4)),
                    Cell(p_value(test.p_value)),
                ],
            )
            for system, test in tested
        ]
        caption = f"All paired tests of {task.described}; the difference is model minus the other."
        tables.append(Table(caption, "Measure", [Column("Difference"), Column("p")], rows))
    return Folded(f"Every recorded measure of {task.name} ({task.where})", tables)


def _of(task: PredictedTask, key: str) -> bool:
    return key in {task.key(measure) for measure in task.measures}


def _settings(finding: RankingFinding) -> list[Folded]:
    tuned = [system for system in finding.baselines if system.config or system.trials is not None]
    if not tuned:
        return []
    rows = [Row(one.name, [Cell(_by_task(one)), Cell(count(one.trials))]) for one in tuned]
    columns = [Column("Chosen settings", is_text=True), Column("Trials")]
    table = Table("What tuning on the validation split chose for each baseline.", "Baseline", columns, rows)
    return [Folded("Tuned settings of the ranking baselines", [table])]


def _by_task(system: Predictor) -> str:
    """The settings; those that differ by task stand behind its name."""
    nested = {key: value for key, value in system.config.items() if isinstance(value, dict)}
    shared = {key: value for key, value in system.config.items() if key not in nested}
    parts = [setting(shared)] if shared else []
    parts += [f"{key}: {setting(value) or 'nothing to choose'}" for key, value in nested.items()]
    return "; ".join(parts) or "nothing to choose"
