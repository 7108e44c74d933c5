"""The audit of a recipe: its data and split, and, where it ranks, whether an input sees the future."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.batches.leak_audit import audit_leaks
from moerec.dataset.audit import AuditReport, audit
from moerec.recipe import Recipe
from moerec.run.prepare import SPLIT, prepare
from moerec.run.ranker import fit_builder, vectors_of


def audit_recipe(recipe: Recipe, artifacts: ArtifactCache, console: Console) -> AuditReport:
    """Look at a recipe's data, its split and the inputs of its ranker.

    Raises:
        MoerecError: the data cannot be prepared.
    """
    prepared = prepare(recipe, artifacts, console)
    report = audit(prepared.dataset, SPLIT)
    if recipe.ranker is None:
        return report
    leaks = audit_leaks(fit_builder(recipe, prepared), prepared.dataset, SPLIT, vectors_of(prepared))
    return replace(report, findings=(*report.findings, *leaks.findings()))
