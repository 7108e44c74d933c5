"""The audit of a recipe: its data and split, and, where it ranks, whether an input sees the future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.leak_audit import audit_leaks
from moerec.dataset.audit import AuditReport, Finding, audit
from moerec.recipe import Recipe
from moerec.run.examples import audit_rows
from moerec.run.prepare import SPLIT, prepare
from moerec.run.ranker import fit_builder, vectors_of

NOTHING_COMPUTED = Finding(
    "leaks",
    "ok",
    "No input is computed from events; all are columns and vectors as the tables have them, so whether one was written "
    "down after the fact can only be seen there.",
)


def audit_recipe(recipe: Recipe, artifacts: ArtifactCache, console: Console) -> AuditReport:
    """Look at a recipe's data, its split and the inputs of its ranker.

    Raises:
        MoerecError: the data cannot be prepared.
    """
    if recipe.examples is not None and not recipe.has_model:
        return audit_rows(recipe, artifacts)
    prepared = prepare(recipe, artifacts, console)
    report = audit(prepared.dataset, SPLIT)
    if recipe.ranker is None:
        return report
    builder = fit_builder(recipe, prepared)
    found: tuple[Finding, ...] = (NOTHING_COMPUTED,)
    if builder.looks_back:
        found = audit_leaks(builder, prepared.dataset, SPLIT, vectors_of(prepared)).findings()
    return replace(report, findings=(*report.findings, *found, constant_inputs(builder)))


def constant_inputs(builder: ExampleBuilder) -> Finding:
    """Columns of users and items that have the same value in every train row, such as a number that is always 1."""
    constant = []
    for table, trained in ((builder.users, builder.trained_users), (builder.items, builder.trained_items)):
        used = np.append(False, trained) if table.side == "user" else trained  # row 0 stands for an unknown user
        for spec in table.specs:
            values = table.columns[spec.name][used]
            there = table.present.get(spec.name)
            same = bool((values == values[:1]).all()) and (there is None or len(np.unique(there[used])) == 1)
            constant += [spec.name] if same else []
    if not constant:
        return Finding("constant inputs", "ok", "Every column that the ranker reads differs between train rows.")
    sentence = (
        f"{', '.join(constant)}: the same in every train row, so nothing can be learned from it; leave it out, or "
        "look for what went wrong where it was made."
    )
    return Finding("constant inputs", "warning", sentence, {"inputs": constant})
