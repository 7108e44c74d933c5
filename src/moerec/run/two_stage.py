"""Both stages together: the formula chosen on validation, the lists judged beside those of the first stage alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console

from moerec.batches.example_builder import ExampleBuilder
from moerec.batches.fitted_split import FittedSplit
from moerec.dataset.schema import PADDING
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import EvaluationCases
from moerec.models.roles import Ranker, Retriever
from moerec.models.two_stage import RETRIEVAL, TwoStage, TwoStageScorer
from moerec.recipe import Recipe
from moerec.recommender import Recommender
from moerec.run.judge import Judge, Judged
from moerec.run.prepare import SPLIT
from moerec.second_stage import SecondStageConfig

LARGEST_P_VALUE = 0.05
"""A gain on validation that is less sure does not switch the second stage on."""


@dataclass(frozen=True)
class ChosenFormula:
    """What validation said of the second stage."""

    stages: TwoStage
    """Both models."""
    formula: Mapping[str, float]
    """The best combination of weights."""
    tried: list[dict[str, Any]]
    """Every combination with its validation metrics."""
    first_stage: Mapping[str, float]
    """Validation metrics of the first stage alone."""
    valid: Mapping[str, float]
    """The same of both stages with the best formula."""
    is_on: bool
    """Whether lists are ranked again by default."""
    why: str
    """The reason in one sentence."""


def choose_formula(
    recipe: Recipe, retriever: Retriever, ranker: Ranker, builder: ExampleBuilder, valid: Judge, console: Console
) -> ChosenFormula:
    """Try every formula of the recipe on validation and keep the best by the retriever's own metric.

    Raises:
        ConfigError: retriever and ranker were fitted on different splits.
    """
    assert recipe.ranker is not None
    builder.check_split(FittedSplit.of(valid.prepared.dataset, SPLIT), "the retriever")
    settings, metric = recipe.two_stage, recipe.training.metric
    stages = TwoStage(retriever, ranker, builder, settings.candidates)
    scorer = TwoStageScorer(stages, {RETRIEVAL: 1.0}, recipe.evaluation.filter_seen)
    first = evaluate(retriever, valid.cases, valid.protocol, name=recipe.name)
    best, formula = first, {RETRIEVAL: 1.0}
    tried: list[dict[str, Any]] = []
    for asked in settings.formulas(recipe.ranker.tasks):
        found = evaluate(scorer.with_formula(asked), valid.cases, valid.protocol, name="two stages")
        # Of equals the one tried first: with the default formula that is the first stage alone.
        if not tried or found.metrics[metric] > best.metrics[metric]:
            best, formula = found, asked
        tried.append({"formula": asked, "valid": {metric: found.metrics[metric]}})
    gain = valid.against(Judged(best, ()), Judged(first, ()), metric)
    is_on, why = decide(settings.use, metric, best.metrics[metric], first.metrics[metric], gain["p_value"])
    console.print(
        f"two stages: {settings.candidates} candidates, best of {len(tried)} formulas has valid {metric} "
        f"{best.metrics[metric]:.4f} (first stage alone {first.metrics[metric]:.4f}, p {gain['p_value']:.2g}); the "
        f"second stage is {'on' if is_on else 'off'}",
        highlight=False,
    )
    return ChosenFormula(stages, formula, tried, first.metrics, best.metrics, is_on, why)


def decide(use: str, metric: str, both: float, first: float, p_value: float) -> tuple[bool, str]:
    """Whether lists are ranked again by default, and why.

    Args:
        use: what the recipe says, auto, always or never.
        metric: what decides.
        both: the metric of both stages on validation.
        first: of the first stage alone.
        p_value: of their paired test. As the formula was chosen on the same users it is somewhat too small, which is
            one more reason not to take any gain at all for one.
    """
    found = f"validation {metric} of both stages is {both:.4f}, of the first alone {first:.4f} (p = {p_value:.4f})"
    if use != "auto":
        return use == "always", f"the recipe says two_stage.use: {use}; {found}"
    if both <= first:
        return False, f"{found}, so the second stage is no gain"
    if p_value > LARGEST_P_VALUE:
        return False, f"{found}, a gain that may be chance"
    return True, f"{found}, so the second stage improves the lists"


def judge_two_stages(recipe: Recipe, chosen: ChosenFormula, first: Judged, test: Judge) -> dict[str, Any]:
    """Both stages on the test part, beside the first stage alone; scored once, with the formula of validation."""
    scorer = TwoStageScorer(chosen.stages, chosen.formula, recipe.evaluation.filter_seen)
    both = test.judge(scorer, "two stages")
    count = recipe.two_stage.candidates
    return {
        "on": chosen.is_on,
        "why": chosen.why,
        "candidates": count,
        "recall": {f"recall@{count}": _candidate_recall(scorer, test.cases)},
        "formula": dict(chosen.formula),
        "tried": chosen.tried,
        "valid": {"first_stage": dict(chosen.first_stage), "two_stage": dict(chosen.valid)},
        "first_stage": first.metrics,
        "against_first_stage": test.against(both, first, recipe.training.metric),
    } | test.summary(both)


def judge_saved(recommender: Recommender, judge: Judge) -> dict[str, Any]:
    """The lists of a saved recommender's two stages, with the formula that was saved."""
    settings, ranking = recommender.second_stage, recommender.ranking
    assert settings is not None
    assert ranking is not None
    stages = TwoStage(recommender.model, ranking.ranker, ranking.builder, settings.candidates)
    scorer = TwoStageScorer(stages, settings.formula, judge.protocol.filter_seen)
    formula = " + ".join(f"{weight:g} * {name}" for name, weight in settings.formula.items())
    words = f"the retriever's best {settings.candidates} by {formula}; {'on' if settings.is_on else 'off'} by default"
    return {"on": settings.is_on} | judge.summary(judge.judge(scorer, "two stages")) | {"protocol": {"lists": words}}


def second_stage_of(recipe: Recipe, chosen: ChosenFormula) -> SecondStageConfig:
    """What a saved recommender needs to know of it."""
    return SecondStageConfig(candidates=recipe.two_stage.candidates, formula=dict(chosen.formula), is_on=chosen.is_on)


def _candidate_recall(scorer: TwoStageScorer, cases: EvaluationCases) -> float:
    """Mean share of a case's targets that are among its candidates: what the second stage can reach at most."""
    shares = []
    for start in range(0, len(cases), 256):
        chosen = np.arange(start, min(start + 256, len(cases)))
        items = scorer.candidates(cases.batch(chosen)).numpy()  # [B, N]
        for row, case in enumerate(chosen):
            targets = cases.target_items[cases.target_offsets[case] : cases.target_offsets[case + 1]]
            shares.append(np.isin(targets, items[row][items[row] != PADDING]).mean())
    return float(np.mean(shares))
