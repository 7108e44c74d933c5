"""The section on training: loss and validation metrics against updates, with stages and the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moerec.report.content import Block, Figure, Part
from moerec.report.finding import Finding
from moerec.report.gate_learning import gate_figures
from moerec.report.labels import as_number, count, duration, listed, metric_label, number, plain, plural
from moerec.report.plots import Callout, Line, line_chart
from moerec.report.ranking_finding import RankingFinding, measure_label
from moerec.report.series import MOST_POINTS, averaged
from moerec.report.task_balance import balance_figures


@dataclass
class _Stage:
    """The records of a stage by update; a resumed run may have written one twice, then the later holds."""

    name: str
    start: float = 0.0
    """Where the stage before ended, in updates of the whole training."""
    offset: float = 0.0
    """What turns the recorded updates into updates of the whole training."""
    losses: dict[float, float | None] = field(default_factory=dict)
    balance: dict[float, Mapping[str, Any]] = field(default_factory=dict)
    """Records with weights of tasks."""
    validations: dict[float, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def updates(self) -> list[float]:
        return [*self.losses, *self.validations]


@dataclass(frozen=True)
class Watched:
    """The validation metrics to show; those of one figure share an axis."""

    figures: Sequence[Sequence[str]]
    """Wanted metrics of each figure; what the history does not hold is left out."""
    label: Callable[[str], str]
    """The name of a metric as a reader sees it."""
    test: Mapping[str, float]
    """What the model reached on test."""
    summary: Sequence[str] = ()
    """Metrics that the text gives for the best checkpoint."""
    decimals: int = 3


def learning(history: Sequence[Mapping[str, Any]], unreadable: int, finding: Finding | None) -> Block | None:
    """The learning curves of the retriever; None without any record.

    Args:
        history: the records of `history.jsonl` in order.
        unreadable: how many of its lines could not be read.
        finding: decides which validation metrics are shown.
    """
    shown = list(dict.fromkeys([*([finding.main] if finding is not None else []), "hr@10", "ndcg@10"]))
    if finding is None:
        watched = Watched([shown], metric_label, {})
    else:
        watched = Watched([shown], metric_label, finding.model.test, [finding.main], finding.decimals)
    return _learning("learning", "Training", "history.jsonl", history, unreadable, watched)


def ranker_learning(
    history: Sequence[Mapping[str, Any]], unreadable: int, finding: RankingFinding | None
) -> Block | None:
    """The learning curves of the ranker, one validation figure for each task; None without any record."""
    tasks = finding.tasks if finding is not None else []
    labels = {
        task.key(measure): f"{measure_label(measure)} of {task.name} ({task.population})"
        for task in tasks
        for measure in task.measures
    }
    mains = [task.key(task.main) for task in tasks]
    test = finding.model.test if finding is not None else {}
    watched = Watched([[key] for key in mains], lambda key: labels.get(key, plain(key)), test, mains)
    name = "ranker/history.jsonl"
    block = _learning("ranking-learning", "Training of the ranker", name, history, unreadable, watched)
    if block is None:
        return None
    stages = _stages(history)
    boundaries = [(stage.start, plain(stage.name)) for stage in stages] if len(stages) > 1 else []
    validations = [
        [(update + stage.offset, record) for update, record in sorted(stage.validations.items())] for stage in stages
    ]
    gates = gate_figures(validations, boundaries, list(dict.fromkeys(task.name for task in tasks)))
    return replace(block, parts=[Part("What the gates did meanwhile", figures=gates)]) if gates else block


def _learning(
    key: str, title: str, file: str, history: Sequence[Mapping[str, Any]], unreadable: int, watched: Watched
) -> Block | None:
    stages = _stages(history)
    if not stages:
        return None
    boundaries = [(stage.start, plain(stage.name)) for stage in stages] if len(stages) > 1 else []
    known = dict.fromkeys(name for stage in stages for record in stage.validations.values() for name in record["valid"])
    # At most two metrics on one axis; where nothing wanted was recorded, the first that was.
    shown = [found for wanted in watched.figures if (found := [name for name in wanted if name in known][:2])]
    figures = [_loss_figure(stages, boundaries)]
    figures += [_validation_figure(stages, boundaries, names, watched) for names in shown or [list(known)[:1]]]
    stretches = [
        [(update + stage.offset, record) for update, record in sorted(stage.balance.items())] for stage in stages
    ]
    figures += balance_figures(stretches, boundaries)
    notices = [f"Left out: {plural(unreadable, 'line')} of {file} that could not be read."] if unreadable else []
    return Block(
        key,
        title,
        texts=_summary(stages, history, watched),
        notices=notices,
        figures=[figure for figure in figures if figure is not None],
    )


def _stages(history: Sequence[Mapping[str, Any]]) -> list[_Stage]:
    found: dict[str, _Stage] = {}
    for record in history:
        update = as_number(record.get("update"))
        if update is None:
            continue
        name = str(record.get("stage", "main"))
        stage = found.setdefault(name, _Stage(name))
        if "loss" in record:
            stage.losses[update] = as_number(record["loss"])
            stage.balance[update] = record
        if isinstance(record.get("valid"), Mapping):
            stage.validations[update] = record
    stages, end = list(found.values()), 0.0
    for stage in stages:
        # Stages may count on or start anew; on the chart they follow one another.
        stage.start, stage.offset = end, 0.0 if min(stage.updates, default=end) >= end else end
        end = stage.offset + max(stage.updates, default=0.0)
    return [stage for stage in stages if stage.updates]


def _loss_figure(stages: Sequence[_Stage], boundaries: Sequence[tuple[float, str]]) -> Figure | None:
    lines, group = [], 1
    for index, stage in enumerate(stages):
        points = [(update + stage.offset, loss) for update, loss in sorted(stage.losses.items())]
        group = max(group, -(-len(points) // MOST_POINTS))
        if points:
            lines.append(Line(plain(stage.name), averaged(points, -(-len(points) // MOST_POINTS)), index))
    finite = [loss for line in lines for _, loss in line.points if loss is not None]
    if not finite:
        return None
    chart = line_chart(
        lines,
        x_title="Updates",
        y_title="Training loss",
        description=f"Training loss against updates: from {number(finite[0])} to {number(finite[-1])}.",
        boundaries=boundaries,
        include_x=[0.0],
    )
    smoothed = f" Each point is the mean of up to {group} records." if group > 1 else ""
    parted = " Losses of different stages may be different functions." if len(lines) > 1 else ""
    return Figure(chart, f"Training loss against optimizer updates.{smoothed}{parted}")


def _best(stages: Sequence[_Stage]) -> tuple[_Stage, float, Mapping[str, Any]] | None:
    """The last validation that was the best so far, with its stage and update."""
    for stage in reversed(stages):
        marked = [(update, record) for update, record in sorted(stage.validations.items()) if record.get("best")]
        if marked:
            return stage, *marked[-1]
    return None


def _validation_figure(
    stages: Sequence[_Stage], boundaries: Sequence[tuple[float, str]], shown: Sequence[str], watched: Watched
) -> Figure | None:
    lines = []
    for index, key in enumerate(shown):
        points: list[tuple[float, float | None]] = []
        for stage in stages:
            # A gap between stages: what happened there is no progress of one training.
            points += [(points[-1][0], None)] if points else []
            points += [
                (update + stage.offset, as_number(record["valid"].get(key)))
                for update, record in sorted(stage.validations.items())
            ]
        lines.append(Line(watched.label(key), points, index))
    values = [value for line in lines for _, value in line.points if value is not None]
    if not values:
        return None
    callouts, caption = [], ""
    best = _best(stages)
    if best is not None:
        stage, update, record = best
        for index, key in enumerate(shown):
            value = as_number(record["valid"].get(key))
            if value is not None:
                callouts.append(Callout(update + stage.offset, value, number(value), index))
        caption = f" Ringed: the best checkpoint, at update {count(update + stage.offset)}."
    name = " and ".join(line.name for line in lines)
    chart = line_chart(
        lines,
        x_title="Updates",
        y_title="Validation" if len(lines) > 1 else f"{name}, validation",
        description=f"{name} on the validation split against updates.{caption}",
        names=[line.name for line in lines],
        callouts=callouts,
        boundaries=boundaries,
        include_x=[0.0],
    )
    return Figure(chart, f"{name} on the validation split against optimizer updates.{caption}")


def _summary(stages: Sequence[_Stage], history: Sequence[Mapping[str, Any]], watched: Watched) -> list[str]:
    """How long it trained, and how validation and test compare."""
    last = stages[-1]
    total = last.offset + max(last.updates, default=0.0)
    stage_names = f" in {len(stages)} stages ({', '.join(stage.name for stage in stages)})" if len(stages) > 1 else ""
    seconds = [found for record in history if (found := as_number(record.get("seconds"))) is not None]
    text = f"{plural(total, 'optimizer update')}{stage_names}"
    text += f", {duration(max(seconds))}" if seconds else ""
    text += "."
    best = _best(stages)
    if best is None:
        return [text]
    stage, update, record = best
    reached = [(key, value) for key in watched.summary if (value := as_number(record["valid"].get(key))) is not None]
    if reached:
        places = watched.decimals
        valid = ", ".join(f"{watched.label(key)} {number(value, places)}" for key, value in reached)
        test = listed([number(watched.test.get(key), places) for key, _ in reached])
        text += (
            f" The best checkpoint came at update {count(update + stage.offset)}: {valid} on validation; on test the "
            f"model reaches {test}."
        )
    return [text]
