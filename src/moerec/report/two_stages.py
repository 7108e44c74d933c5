"""The section on both stages together: does ranking the candidates again make the lists better than retrieval alone?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Folded, Row, Table
from moerec.report.finding import Bounds, Comparison, comparison, evidence, intervals, numbers, part
from moerec.report.labels import (
    as_number,
    count,
    interval,
    listed,
    metric,
    metric_label,
    number,
    p_value,
    percent,
    signed,
)
from moerec.report.plots import Estimate, interval_plot

_MOST_METRICS = 6
_RETRIEVAL = "retrieval"
"""The first stage's part of the formula."""
_FIRST, _BOTH = "First stage alone", "Both stages"


@dataclass(frozen=True)
class TwoStages:
    """What was measured of the lists with and without the second stage."""

    on: bool | None
    """Whether the second stage is used; None if not recorded."""
    why: str
    candidates: float | None
    """Items that the first stage hands on."""
    recall: Mapping[str, float]
    """Share of the held-out items that are among them."""
    formula: Mapping[str, float]
    """Weight of each part of the final score."""
    tried: Sequence[Mapping[str, Any]]
    first: Mapping[str, float]
    both: Mapping[str, float]
    first_intervals: Mapping[str, Bounds]
    intervals: Mapping[str, Bounds]
    test: Comparison | None
    """Paired test; the difference is both stages minus first stage."""
    valid_first: Mapping[str, float]
    valid_both: Mapping[str, float]
    main: str
    """The metric of the paired test; without a test the first recorded of NDCG@10, HR@10."""

    @property
    def decimals(self) -> int:
        """As many decimals as the uncertainty allows."""
        found = [self.intervals.get(self.main), self.test.interval if self.test is not None else None]
        widths = [ends[1] - ends[0] for ends in found if ends is not None and ends[1] > ends[0]]
        return 4 if widths and min(widths) < 0.006 else 3


def find_two_stages(metrics: Mapping[str, Any]) -> TwoStages | None:
    """Read `two_stage` of `metrics.json`; None if no test metric of both stages was recorded."""
    recorded = part(metrics, "two_stage")
    both, first = numbers(part(recorded, "test")), numbers(part(recorded, "first_stage"))
    ranked = [key for key in both if metric(key).measure != "mean_rank"]
    if not ranked:
        return None
    test = comparison(part(recorded, "against_first_stage"))
    candidates = [test.metric if test is not None else "", "ndcg@10", "hr@10", *ranked]
    main = next(key for key in candidates if key in ranked)
    tried = recorded.get("tried")
    on = recorded.get("on")
    # The first stage's intervals stand with the retrieval results, if those are of the very same lists.
    alone = numbers(part(metrics, "retrieval", "test"))
    same = {key for key, value in first.items() if abs(alone.get(key, float("inf")) - value) < 1e-9}
    known = intervals(part(metrics, "retrieval", "intervals"))
    return TwoStages(
        on=on if isinstance(on, bool) else None,
        why=str(recorded.get("why") or ""),
        candidates=as_number(recorded.get("candidates")),
        recall=numbers(part(recorded, "recall")),
        formula=numbers(part(recorded, "formula")),
        tried=[entry for entry in tried if isinstance(entry, Mapping)] if isinstance(tried, list) else [],
        first=first,
        both=both,
        first_intervals={key: ends for key, ends in known.items() if key in same},
        intervals=intervals(part(recorded, "intervals")),
        test=test if test is not None and test.metric == main else None,
        valid_first=numbers(part(recorded, "valid", "first_stage")),
        valid_both=numbers(part(recorded, "valid", "two_stage")),
        main=main,
    )


def stages_sentence(found: TwoStages) -> str:
    """Whether the second stage is on, and what it does to the lists, in one plain sentence."""
    main, places = found.main, found.decimals
    value = number(found.both[main], places)
    state = {True: "The second stage is on", False: "The second stage is off", None: "Both stages were measured"}
    text = f"{state[found.on]}: with it, {metric_label(main)} is {value}"
    if main not in found.first:
        return f"{text}; the first stage alone was not measured beside it, so nothing is known of the gain."
    gap = found.both[main] - found.first[main]
    size = "level with" if gap == 0 else f"{number(abs(gap), places)} {'above' if gap > 0 else 'below'}"
    significant = found.test.significant if found.test is not None else None
    proof = evidence(found.test, False, places, with_interval=not significant)
    inside = number(found.first[main], places)
    text = f"{text}, {size} the first stage alone"
    if significant:
        return f"{text} ({inside}; {proof})."
    if significant is None:
        return f"{text} ({inside}); no paired test was recorded, so the difference may be chance."
    if gap == 0:
        return f"{text} ({inside}; {proof})."
    return f"{text} ({inside}), but this difference is not statistically significant ({proof})."


def two_stages(found: TwoStages) -> Block:
    """First stage against both: table, intervals, paired test, formula, recall of the candidates."""
    figures = [_figure(found)]
    figures += [figure] if (figure := _difference_figure(found)) is not None else []
    return Block(
        "two-stages",
        "First stage alone against both stages",
        texts=[stages_sentence(found), *_how(found)],
        notices=_notices(found),
        tables=[_table(found)],
        figures=figures,
        folded=_tried(found),
    )


def _how(found: TwoStages) -> list[str]:
    """Why it is on or off, what reaches the second stage, and by what formula it ranks."""
    state = {True: "Why it is on", False: "Why it is off", None: "Why"}[found.on]
    texts = [f"{state}: {found.why.rstrip('.')}."] if found.why else []
    chosen = f"{count(found.candidates)} candidates" if found.candidates is not None else "its candidates"
    shares = [f"{percent(value)} of the held-out items ({metric_label(key)})" for key, value in found.recall.items()]
    if shares:
        texts.append(
            f"The first stage hands {chosen} to the second. Among them are {listed(shares)}: no order of the "
            "candidates can find more."
        )
    elif found.candidates is not None:
        texts.append(f"The first stage hands {chosen} to the second.")
    if found.formula:
        idle = all(weight == 0 for name, weight in found.formula.items() if name != _RETRIEVAL)
        same = " This formula leaves the candidates in the order of the first stage." if idle else ""
        texts.append(f"Score of a candidate: {formula(found.formula)}.{same}")
    return texts


def formula(weights: Mapping[str, float]) -> str:
    """The final score in one line: `1 × retrieval + 0.3 × interact`; what has no weight is left out."""
    terms = [
        (" − " if weight < 0 else " + ", f"{abs(weight):g} × {name}") for name, weight in weights.items() if weight
    ]
    text = "".join(sign + term for sign, term in terms)
    return text.removeprefix(" + ").lstrip() or "nothing has weight"


def _notices(found: TwoStages) -> list[str]:
    notices = []
    gap = found.both[found.main] - found.first[found.main] if found.main in found.first else None
    if found.on and gap is not None and gap < 0:
        notices.append("The second stage is on although on test its lists are worse than those of the first alone.")
    tested = found.test.difference if found.test is not None else None
    if gap is not None and tested is not None and abs(tested - gap) > 1e-3:
        notices.append(
            f"The tested difference in {metric_label(found.main)} is {number(tested)}, but the values in the table "
            f"differ by {number(gap)}."
        )
    outside = [
        key for key, (low, high) in found.intervals.items() if not low - 1e-3 <= found.both.get(key, low) <= high + 1e-3
    ]
    notices += [f"Both stages: {metric_label(key)} lies outside its own interval." for key in outside]
    return notices


def _keys(found: TwoStages) -> list[str]:
    """The metrics of the table: the main one, the usual ones at its cutoff, hit rates at others; full ranking only."""
    cutoff = metric(found.main).cutoff
    usual = [f"{measure}@{cutoff}" for measure in ("hr", "ndcg", "mrr")]
    others = [key for key in found.both if metric(key).is_hit_rate and not metric(key).protocol]
    return [key for key in dict.fromkeys([found.main, *usual, *others]) if key in found.both][:_MOST_METRICS]


def _table(found: TwoStages) -> Table:
    keys, places = _keys(found), found.decimals
    valid = [key for key in keys if key in found.valid_first or key in found.valid_both][:1]
    columns = [Column(metric_label(key), "Test") for key in keys]
    columns += [Column(metric_label(key), "Validation") for key in valid]
    columns += [Column("Difference", "Paired test"), Column("p", "Paired test")] if found.test is not None else []
    rows = []
    for name, test, known, validation, used in (
        (_FIRST, found.first, found.first_intervals, found.valid_first, found.on is False),
        (_BOTH, found.both, found.intervals, found.valid_both, found.on is True),
    ):
        cells = []
        for key in keys:
            rivals = [values[key] for values in (found.first, found.both) if key in values]
            best = key in test and test[key] == max(rivals) > min(rivals)
            cells.append(
                Cell(number(test.get(key), places), interval(known.get(key), places) if key == found.main else "", best)
            )
        cells += [Cell(number(validation.get(key), places)) for key in valid]
        if found.test is not None:
            test_cells = [
                Cell(signed(found.test.difference, places), interval(found.test.interval, places)),
                Cell(p_value(found.test.p_value)),
            ]
            cells += test_cells if name == _BOTH else [Cell("")] * 2
        rows.append(Row(f"{name} (in use)" if used else name, cells, used))
    notes = ["Lists of the first stage and of both, the better in bold."]
    if found.main in found.intervals:
        notes.append(f"Beside {metric_label(found.main)} stands its 95 % interval.")
    if found.test is not None:
        notes.append(f"Difference in {metric_label(found.main)} is both stages minus first, with its 95 % interval.")
    return Table(" ".join(notes), "Lists", columns, rows)


def _figure(found: TwoStages) -> Figure:
    places, estimates = found.decimals, []
    for key in _keys(found):
        for series, (values, known) in enumerate(((found.both, found.intervals), (found.first, found.first_intervals))):
            text = number(values.get(key), places)
            estimates.append(Estimate(metric_label(key), values.get(key), known.get(key), series, text))
    told = "; ".join(f"{item.label}, {(_BOTH, _FIRST)[item.series].lower()}: {item.text}" for item in estimates)
    chart = interval_plot(
        estimates,
        x_title="Value on the test split",
        description=f"First stage alone and both stages. {told}.",
        names=[_BOTH, _FIRST],
    )
    drawn = " with 95 % intervals where they were recorded" if any(item.interval for item in estimates) else ""
    return Figure(
        chart,
        f"The lists of both stages and of the first alone{drawn}. Overlapping intervals do not decide: the paired "
        "difference does.",
    )


def _difference_figure(found: TwoStages) -> Figure | None:
    if found.test is None or found.test.interval is None:
        return None
    places, label = found.decimals, metric_label(found.main)
    text = signed(found.test.difference, places)
    chart = interval_plot(
        [Estimate(label, found.test.difference, found.test.interval, text=text)],
        x_title=f"Both stages minus first stage, {label}",
        description=f"Paired difference in {label}: {text} {interval(found.test.interval, places)}.",
        reference=0.0,
    )
    return Figure(
        chart,
        f"Paired difference in {label} with its 95 % interval. Right of zero the second stage makes the lists better; "
        "where the interval crosses zero the difference is not significant.",
    )


def _tried(found: TwoStages) -> list[Folded]:
    """The formulas that were compared on the validation split, best first."""
    tried = [(numbers(part(entry, "formula")), numbers(part(entry, "valid"))) for entry in found.tried]
    tried = [(weights, values) for weights, values in tried if weights or values]
    if not tried:
        return []
    keys = list(dict.fromkeys(key for _, values in tried for key in values))
    keys.sort(key=lambda key: key != found.main)
    order = keys[0] if keys else ""
    tried.sort(key=lambda pair: -pair[1].get(order, float("-inf")))
    rows = [
        Row(formula(weights), [Cell(number(values.get(key), 4)) for key in keys], dict(weights) == dict(found.formula))
        for weights, values in tried
    ]
    columns = [Column(metric_label(key), "Validation") for key in keys]
    table = Table("Formulas that were compared on the validation split, best first.", "Score", columns, rows)
    return [
        Folded(f"All {count(len(rows))} formulas that were tried" if len(rows) > 1 else "The formula tried", [table])
    ]
