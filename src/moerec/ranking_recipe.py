"""The part of a recipe that ranks: the ranker with its tasks and inputs, its baselines, the two stages joined."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from moerec.config import Config, Discovered, gathered, implementations, near_match
from moerec.features.negatives import NegativesConfig
from moerec.models.two_stage import RETRIEVAL
from moerec.tasks import TaskConfig, check_tasks

MOST_FORMULAS = 500
TAKEN = (RETRIEVAL, "user_id", "item_id", "timestamp")
"""Names that stand beside those of tasks: in a formula, and in a table of predictions."""


class RankerConfig(Config):
    """The ranker: its kind with that kind's own keys, what it predicts, what it reads."""

    model: Annotated[SerializeAsAny[Config], Discovered("ranker", "ranker", beside="kind")]
    """The model and its own keys, for instance `kind: mmoe` with `experts: 4`."""
    tasks: tuple[TaskConfig, ...]
    """What is predicted."""
    use_user_id: bool = True
    """Give each user of the train split a vector of its own."""
    use_item_id: bool = True
    """Give each item of the train split a vector of its own."""
    history: int = Field(default=20, ge=0)
    """Most recent items of the user that the model reads, of strictly earlier events; 0 for none."""
    negatives: NegativesConfig = NegativesConfig()
    """Items drawn for tasks of the population reviews+negatives."""
    trials: int = Field(default=1, ge=1)
    """Configurations that were tried on validation before this one was written down; reported beside the table."""

    @model_validator(mode="before")
    @classmethod
    def _gather_model(cls, values: Any) -> Any:
        """`kind: mmoe, experts: 4` stands for a model of kind mmoe with the key experts."""
        return gathered(cls, values)

    @model_validator(mode="after")
    def _check(self) -> RankerConfig:
        check_tasks(self.tasks)
        for task in self.tasks:
            if task.name in TAKEN:
                raise ValueError(f"a task cannot be called '{task.name}', a name that results have already; rename it")
        if not any(task.weight for task in self.tasks):
            raise ValueError("every task has the weight 0, so nothing would be learned; raise one")
        return self

    @property
    def draws_negatives(self) -> bool:
        """Whether a task needs drawn items."""
        return any(task.population == "reviews+negatives" for task in self.tasks)


class RankingBaselinesConfig(Config):
    """What stands beside the ranker."""

    kinds: tuple[str, ...] | None = None
    """Which plain baselines; by default all, [] for none."""
    siblings: tuple[str, ...] = ()
    """Other kinds of rankers, for instance single_task, trained with the same stages and the keys that they share."""
    trials: int = Field(default=20, ge=1)
    """Configurations tried for each baseline and task on the validation part; at least as many as for the model."""
    seed: int = Field(default=0, ge=0)
    """Seed of the search; its own, so that runs with other seeds stand beside the same baselines."""

    @field_validator("kinds", "siblings")
    @classmethod
    def _check(cls, kinds: tuple[str, ...] | None, info: Any) -> tuple[str, ...] | None:
        role = "ranking_baseline" if info.field_name == "kinds" else "ranker"
        known = implementations(role)
        for kind in kinds or ():
            if kind not in known:
                raise ValueError(f"unknown {role.replace('_', ' ')} '{kind}'; {near_match(kind, known, 'known kinds')}")
            if kinds is not None and kinds.count(kind) > 1:
                raise ValueError(f"'{kind}' is named twice")
        return kinds


class TwoStageConfig(Config):
    """How the retriever's candidates are ranked again."""

    candidates: int = Field(default=100, ge=1)
    """Items that the retriever hands over for each user."""
    formula: dict[str, tuple[float, ...]] = Field(default={})
    """Weight of each part of the score: `retrieval` (log-probability of the first stage) and tasks: the log-probability
    of a binary one, the number of a regression, the expected value of an ordinal one; a multiclass task has no part.
    Several weights are tried on validation and the best combination is kept. By default `retrieval` has the weight 1,
    and each binary task is tried with several."""
    use: Literal["auto", "always", "never"] = "auto"
    """auto: lists are ranked again only if validation gets better by it in a paired test (p of at most 0.05); always;
    never (it is judged all the same)."""

    @field_validator("formula", mode="before")
    @classmethod
    def _as_choices(cls, value: Any) -> Any:
        """A single weight stands for a list of one."""
        if not isinstance(value, dict):
            return value
        return {name: (weight,) if isinstance(weight, int | float) else weight for name, weight in value.items()}

    @model_validator(mode="after")
    def _check(self) -> TwoStageConfig:
        if any(not weights for weights in self.formula.values()):
            raise ValueError("formula: each part needs at least one weight")
        count = math.prod(len(weights) for weights in self.formula.values())
        if count > MOST_FORMULAS:
            raise ValueError(f"formula: {count:,} combinations of weights are too many; name at most {MOST_FORMULAS}")
        return self

    def formulas(self, tasks: tuple[TaskConfig, ...]) -> list[dict[str, float]]:
        """All combinations of weights to try; the default trusts both stages alike in several proportions."""
        parts = self.formula or default_formula(tasks)
        combinations = itertools.product(*parts.values())
        return [dict(zip(parts, weights, strict=True)) for weights in combinations]


def default_formula(tasks: tuple[TaskConfig, ...]) -> dict[str, tuple[float, ...]]:
    """The first stage with each binary task added in several strengths, fewer where the tasks are many."""
    names = [task.name for task in tasks if task.type == "binary"]
    ladders = ((0.0, 0.1, 0.3, 1.0), (0.0, 0.3), (0.3,))
    strengths = next(ladder for ladder in ladders if len(ladder) ** len(names) <= MOST_FORMULAS)
    return {RETRIEVAL: (1.0,)} | dict.fromkeys(names, strengths)
