"""Judge models on one split: cases, full and sampled protocols, intervals, slices, comparisons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from moerec.evaluation.beyond import beyond_accuracy
from moerec.evaluation.candidates import align_candidates
from moerec.evaluation.evaluate import EvaluationResult, evaluate
from moerec.evaluation.metrics import Floats
from moerec.evaluation.protocols import ProtocolConfig, cases_of
from moerec.evaluation.significance import bootstrap_intervals, compare_paired, describe
from moerec.evaluation.slices import evaluate_slices, slice_targets
from moerec.models.roles import Scorer
from moerec.recipe import Recipe
from moerec.run.prepare import SPLIT, Prepared

PartName = Literal["valid", "test"]


@dataclass(frozen=True)
class Judged:
    """One model's results on one part."""

    full: EvaluationResult
    """Full ranking."""
    sampled: tuple[EvaluationResult, ...]
    """Each sampled protocol for which the recipe has candidate lists."""

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of all protocols by name."""
        return dict(item for result in (self.full, *self.sampled) for item in result.metrics.items())

    @property
    def per_case(self) -> dict[str, Floats]:
        """The same of each case."""
        return dict(item for result in (self.full, *self.sampled) for item in result.per_case.items())


class Judge:
    """Makes the cases of a part once, and judges any number of scorers on them."""

    def __init__(self, recipe: Recipe, prepared: Prepared, part: PartName) -> None:
        self.recipe, self.prepared, self.part = recipe, prepared, part
        self.protocol: ProtocolConfig = recipe.evaluation.protocol(part)
        self.cases = cases_of(prepared.dataset, SPLIT, self.protocol)
        self.train_counts = prepared.train.counts
        self.user_train_counts = np.diff(prepared.train.offsets)
        # Candidate lists are fixed for the test part; validation needs none.
        self.candidates = {
            name: align_candidates(prepared.dataset.candidates(name), self.cases, self.protocol.filter_seen)
            for name in (prepared.candidates if part == "test" else ())
        }

    def judge(self, scorer: Scorer, name: str) -> Judged:
        """Full ranking, and each sampled protocol for which there are candidate lists."""
        full = evaluate(scorer, self.cases, self.protocol, name=name)
        sampled = (
            evaluate(scorer, self.cases, self.recipe.evaluation.protocol(self.part, listed), lists, name=name)
            for listed, lists in self.candidates.items()
        )
        return Judged(full, tuple(sampled))

    def summary(self, judged: Judged) -> dict[str, Any]:
        """Metrics, intervals, slices and list statistics of one model, as plain data."""
        intervals = bootstrap_intervals(judged.per_case, self._generator(), resamples=self.recipe.evaluation.resamples)
        slices = slice_targets(self.cases, self.train_counts, self.user_train_counts)
        return {
            self.part: judged.metrics,
            "intervals": {name: list(interval) for name, interval in intervals.items()},
            "slices": evaluate_slices(judged.full, slices),
            "beyond": beyond_accuracy(judged.full.top_items, self.train_counts, self._list_cutoffs()),
        }

    def against(self, model: Judged, other: Judged, metric: str) -> dict[str, Any]:
        """The paired comparison of the model with another, case by case."""
        compared = compare_paired(model.full.per_case[metric], other.full.per_case[metric], self._generator())
        return {"metric": metric} | asdict(compared)

    def per_case(self, judged: Judged, name: str) -> pl.DataFrame:
        """Each user's full-ranking metrics, `<name> <metric>`, so that runs can be compared by paired tests later."""
        users = self.prepared.dataset.users["user_id"].gather(self.cases.users)
        values = {f"{name} {metric}": value.astype(np.float32) for metric, value in judged.full.per_case.items()}
        return pl.DataFrame({"user_id": users} | values)

    def words(self) -> dict[str, str]:
        """The whole protocol in words."""
        words = {"split": self.recipe.dataset.split.describe()} | self.protocol.describe()
        rules = [f"'{name}': {self.prepared.dataset.info.candidates[name].rule}" for name in self.candidates]
        if rules:
            words["sampled"] = "; ".join(rules)
        words |= describe(resamples=self.recipe.evaluation.resamples)
        words["selection"] = (
            f"models and baselines are chosen by validation {self.recipe.training.metric}; "
            "the test part is scored once, after that"
        )
        dropped = self.cases.seen_targets
        words["cases"] = f"{len(self.cases):,} users" + (
            f"; {dropped:,} targets were in the history already and are left out" if dropped else ""
        )
        return words

    def _list_cutoffs(self) -> tuple[int, ...]:
        cutoffs = self.recipe.evaluation.cutoffs
        return (10,) if 10 in cutoffs else cutoffs[-1:]

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng([self.recipe.seed, 7])
