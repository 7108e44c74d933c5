"""The first stage of a run: baselines tuned, the retriever trained, both judged on the test part, once."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import kind_of
from moerec.files import atomic_file, write_json
from moerec.models.roles import Scorer
from moerec.recipe import Recipe
from moerec.run.baselines import chosen_baselines, tuned_baselines
from moerec.run.describe import describe_experts, example_users
from moerec.run.judge import Judge, Judged
from moerec.run.prepare import Prepared
from moerec.run.retriever import Trained, check_training, train_retriever


@dataclass
class Retrieval:
    """What the first stage of a run works with and has found so far."""

    recipe: Recipe
    prepared: Prepared
    valid: Judge
    """Judges on the validation part."""
    test: Judge | None
    """Judges on the test part; None where it is not to be looked at."""
    kinds: tuple[str, ...]
    """The plain baselines beside the model."""
    left_out: dict[str, str]
    """Baselines that cannot be fitted here, with the reason."""
    scorers: dict[str, Scorer] = field(default_factory=dict)
    """The fitted baselines."""
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What their tuning found."""

    @classmethod
    def of(cls, recipe: Recipe, prepared: Prepared, *, judged: bool) -> Retrieval:
        """Make the cases, and find out now what cannot work, not after an hour of training.

        Raises:
            MoerecError: something in the recipe does not fit the data, the model or the machine.
        """
        valid, test = Judge(recipe, prepared, "valid"), Judge(recipe, prepared, "test") if judged else None
        check_training(recipe, prepared)
        return cls(recipe, prepared, valid, test, *chosen_baselines(recipe, prepared))

    def train(
        self, directory: Path, artifacts: ArtifactCache, timing: dict[str, float], console: Console, *, resume: bool
    ) -> Trained:
        """Tune the baselines if the run is judged, and train the retriever."""
        recipe, prepared = self.recipe, self.prepared
        if self.test is not None and self.kinds:
            trials = recipe.baselines.trials
            console.print(f"baselines, tuned on validation with {trials} settings each", highlight=False)
            self.scorers, self.details = tuned_baselines(recipe, prepared, self.valid, artifacts, console)
            for kind, reason in self.left_out.items():
                console.print(f"  {kind:<18} left out: {reason}", highlight=False)
            timing["baselines_s"] = round(sum(found["seconds"] for found in self.details.values()), 3)
        trained = train_retriever(recipe, prepared, self.valid, directory, console, resume=resume)
        timing["train_s"] = round(trained.state.seconds, 3)
        timing["targets_per_second"] = round(trained.state.targets / max(trained.state.seconds, 1e-9), 1)
        return trained

    def judge(self, trained: Trained, timing: dict[str, float], directory: Path) -> tuple[Judged, dict[str, Any]]:
        """Score the test part, once, with the selected model and the selected baselines.

        Returns:
            the model's results, and what metrics.json says of the first stage.
        """
        recipe, test = self.recipe, self.test
        assert test is not None
        started = time.perf_counter()
        model = test.judge(trained.model, recipe.name)
        timing["users_per_second"] = round(model.full.users_per_second, 1)
        retrieval = test.summary(model) | {"valid": self.valid.judge(trained.model, recipe.name).metrics}
        retrieval["baselines"], retrieval["baseline_details"] = {}, {}
        per_case = test.per_case(model, "model")
        for kind, scorer in self.scorers.items():
            other = test.judge(scorer, kind)
            per_case = per_case.hstack(test.per_case(other, f"baseline {kind}").drop("user_id"))
            summary = test.summary(other)
            retrieval["baselines"][kind] = summary.pop("test")
            against = test.against(model, other, recipe.training.metric)
            retrieval["baseline_details"][kind] = self.details[kind] | summary | {"against_model": against}
        with atomic_file(directory / "per_case.parquet") as temporary:
            per_case.write_parquet(temporary)
        timing["evaluate_s"] = round(time.perf_counter() - started, 3)
        examples = example_users(self.prepared, model.full, recipe.evaluation.examples, recipe.seed)
        write_json(directory / "examples.json", examples)
        metrics: dict[str, Any] = {
            "model": {
                "kind": kind_of("retriever", trained.model.config),
                "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
                "trials": recipe.model_trials,
                "best_update": trained.state.best_update,
                "updates": trained.state.total_updates,
            },
            "retrieval": retrieval,
            "protocol": test.words(),
        }
        if self.left_out:
            reasons = "; ".join(f"{kind}: {reason}" for kind, reason in self.left_out.items())
            metrics["protocol"]["baselines left out"] = reasons
        experts = describe_experts(trained.model, test.train_counts)
        return model, metrics | ({} if experts is None else {"experts": experts})
