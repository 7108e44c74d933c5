"""Sections on where it comes from: the data that went in, and how to make the run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moerec.report.content import Block, Cell, Column, Figure, Folded, Row, Table
from moerec.report.finding import part
from moerec.report.labels import MISSING, as_number, count, duration, number, percent, plain, plural
from moerec.report.plots import Bar, Estimate, bar_chart, interval_plot


def data(metrics: Mapping[str, Any]) -> Block | None:
    """Counts, activity of users, rejected rows, ties, and how much of each modality is missing."""
    dataset = part(metrics, "dataset")
    if not dataset:
        return None
    counts = _counts(dataset)
    tables = [counts] if counts.rows else []
    reasons = part(dataset, "reject_reasons")
    if reasons:
        rows = [Row(plain(reason), [Cell(count(times))]) for reason, times in sorted(reasons.items(), key=_by_count)]
        tables.append(Table("Rejected rows of the source, by reason.", "Reason", [Column("Rows")], rows))
    modalities = part(dataset, "modalities")
    if modalities:
        tables.append(_modalities(modalities))
    activity = _activity(part(dataset, "events_per_user"))
    notes = [f"Source: {dataset['source']}."] if dataset.get("source") else []
    notes += [f"Licence: {dataset['licence']}."] if dataset.get("licence") else []
    if not (tables or activity or notes):
        return None
    return Block("data", "Data", texts=[" ".join(notes)] if notes else [], tables=tables, figures=activity)


def _by_count(pair: tuple[str, Any]) -> tuple[float, str]:
    return -(as_number(pair[1]) or 0.0), pair[0]


def _counts(dataset: Mapping[str, Any]) -> Table:
    users, items, events = (as_number(dataset.get(key)) for key in ("users", "items", "events"))
    rows = [Row(plain(key), [Cell(count(dataset[key]))]) for key in ("users", "items", "events") if key in dataset]
    if "cold_items" in dataset:
        rows.append(Row("Items without a training event", [Cell(count(dataset["cold_items"]))]))
    if users and items and events:
        rows.append(Row("Density", [Cell(percent(events / (users * items), 2))]))
    if dataset.get("first") and dataset.get("last"):
        rows.append(Row("Period", [Cell(f"{dataset['first']} to {dataset['last']}")]))
    ties = as_number(dataset.get("tie_share"))
    if ties is not None:
        rows.append(Row("Events with the timestamp of the one before", [Cell(percent(ties))]))
    if "rejected" in dataset:
        rejected = as_number(dataset["rejected"]) or 0.0
        share = percent(rejected / (rejected + events)) if rejected and events else ""
        rows.append(Row("Rejected rows", [Cell(count(rejected), share)]))
    return Table("The data set after reading.", "Quantity", [Column("Value")], rows)


def _modalities(modalities: Mapping[str, Any]) -> Table:
    rows = []
    for name, values in modalities.items():
        found = values if isinstance(values, Mapping) else {}
        present, missing = as_number(found.get("present")), as_number(found.get("missing"))
        total = (present or 0.0) + (missing or 0.0)
        rate = percent(missing / total) if missing is not None and total else MISSING
        cells = [str(found.get("encoder") or MISSING), count(found.get("dim")), count(present), count(missing), rate]
        rows.append(Row(plain(str(name)), [Cell(text) for text in cells]))
    columns = [Column("Encoder", is_text=True), Column("Width"), Column("Present"), Column("Missing"), Column("Rate")]
    return Table("Modalities of the items; what is missing is masked, not replaced.", "Modality", columns, rows)


def _activity(events_per_user: Mapping[str, Any]) -> list[Figure]:
    """How active users are: the histogram if it was recorded, otherwise the range with median and mean."""
    if not events_per_user:
        return []
    known = [(key, as_number(events_per_user.get(key))) for key in ("min", "median", "mean", "max")]
    told = ", ".join(f"{key} {count(value)}" for key, value in known if value is not None)
    histogram = part(events_per_user, "histogram")
    edges, counts = histogram.get("edges") or [], histogram.get("counts") or []
    if counts and len(edges) == len(counts) + 1:
        bars = [
            Bar(f"{count(low)} to <{count(high)}", [as_number(users)])
            for low, high, users in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
        listed = "; ".join(f"{bar.label}: {count(bar.values[0])} users" for bar in bars)
        chart = bar_chart(
            bars, x_title="Users", description=f"Users by their number of events. {listed}.", value_format=count
        )
        return [Figure(chart, f"Users by their number of events ({told}).")]
    low, median, mean, high = (value for _, value in known)
    if median is None and mean is None:
        return []
    whole = None if low is None or high is None else (low, high)
    positive = low is not None and low > 0
    chart = interval_plot(
        [
            Estimate("Events per user", median, whole, 0, count(median)),
            Estimate("Events per user", mean, None, 1, count(mean)),
        ],
        x_title="Events per user (logarithmic)" if positive else "Events per user",
        description=f"Events per user: {told}.",
        names=["median, with range", "mean"],
        logarithmic=positive,
    )
    skewed = median is not None and mean is not None and mean > 1.3 * median
    remark = " The mean lies far above the median: a few users give much of the data." if skewed else ""
    return [Figure(chart, f"Events per user: {told}.{remark}")]


def reproduce(metrics: Mapping[str, Any], environment: Mapping[str, Any], recipe: str) -> Block | None:
    """Command, seed, versions, machine, timing and the resolved recipe."""
    rows = [Row(label, [Cell(text)]) for label, text in _machine(metrics, environment) if text]
    libraries = environment.get("libraries")
    of_ranker = {f"{step.removesuffix('_s')}_s": took for step, took in part(metrics, "ranking", "seconds").items()}
    timing = _timing(part(metrics, "timing"), "") + _timing(of_ranker, " of the ranker")
    folded = []
    if isinstance(libraries, Mapping) and libraries:
        listed = [Row(str(name), [Cell(str(version))]) for name, version in sorted(libraries.items())]
        folded.append(
            Folded("Versions of all libraries", [Table("Libraries.", "Library", [Column("Version")], listed)])
        )
    if recipe:
        folded.append(Folded("The resolved recipe (recipe.yaml)", verbatim=recipe))
    if not rows and not folded and not timing:
        return None
    table = Table("Seed, versions and machine.", "What", [Column("Value", is_text=True)], rows)
    return Block(
        "reproduce",
        "Reproduce",
        texts=[
            ("The file recipe.yaml beside this page is the recipe with everything resolved. " if recipe else "")
            + "Seed, versions and number of threads belong to the result; another machine may change the last digits."
        ],
        commands=[str(environment.get("command") or "moerec run recipe.yaml")] if recipe else [],
        tables=[table] if rows else [],
        figures=timing,
        folded=folded,
    )


def _machine(metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    model = part(metrics, "model")
    cores, threads, memory = (environment.get(key) for key in ("cores", "threads", "memory_gib"))
    size = [plural(cores, "core")] if cores is not None else []
    size += [plural(threads, "thread")] if threads is not None else []
    size += [f"{number(memory, 1)} GiB memory"] if memory is not None else []
    parameters, of_ranker = model.get("parameters"), part(metrics, "ranking", "model").get("parameters")
    return [
        ("Seed", "" if metrics.get("seed") is None else str(metrics["seed"])),
        ("Parameters of the model", "" if parameters is None else count(parameters)),
        ("Parameters of the ranker", "" if of_ranker is None else count(of_ranker)),
        *(
            (name, str(environment.get(key) or ""))
            for name, key in (("moerec", "moerec"), ("Python", "python"), ("torch", "torch"))
        ),
        ("Platform", str(environment.get("platform") or "")),
        ("Processor", str(environment.get("cpu") or "")),
        ("Accelerator", str(environment.get("accelerator") or "")),
        ("Machine", ", ".join(size)),
    ]


def _timing(timing: Mapping[str, Any], whose: str) -> list[Figure]:
    """A bar for each step; rates stand in the caption."""
    stages = [
        (plain(key.removesuffix("_s")), found)
        for key, value in timing.items()
        if key.endswith("_s") and (found := as_number(value)) is not None
    ]
    if not stages:
        return []
    rates = [
        f"{count(round(found))} {plain(key).lower()}"
        for key, value in timing.items()
        if key.endswith("_per_second") and (found := as_number(value)) is not None
    ]
    told = "; ".join(f"{name} {duration(seconds)}" for name, seconds in stages)
    total = duration(sum(seconds for _, seconds in stages))
    chart = bar_chart(
        [Bar(name, [seconds]) for name, seconds in stages],
        x_title="Seconds",
        description=f"Time of each step{whose}. {told}.",
        value_format=duration,
    )
    rate = f" Rates: {', '.join(rates)}." if rates else ""
    return [Figure(chart, f"Where the time{whose} went; {total} in all.{rate}")]


def facts(metrics: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    """The line under the title: data, model, seed."""
    dataset, model = part(metrics, "dataset"), part(metrics, "model")
    line = [f"{count(dataset[key])} {key}" for key in ("users", "items", "events") if key in dataset]
    if model.get("parameters") is not None:
        line.append(f"{count(model['parameters'])} parameters")
    if (of_ranker := part(metrics, "ranking", "model").get("parameters")) is not None:
        line.append(f"{count(of_ranker)} parameters of the ranker")
    if metrics.get("seed") is not None:
        line.append(f"seed {metrics['seed']}")
    if environment.get("moerec"):
        line.append(f"moerec {environment['moerec']}")
    return line
