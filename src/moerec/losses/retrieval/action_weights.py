"""Weights of events as targets, by what the user did: a purchase may count more than a view.

Shape letters: T train events, C distinct values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config, near_match
from moerec.errors import ConfigError


class ActionWeightsConfig(Config):
    """How much each event counts as a target, by a column of the events such as a rating or a kind of action."""

    column: str
    """Label column of the events."""
    kind: Literal["fixed", "class_balanced"] = "fixed"
    """fixed: by `weights`; class_balanced: rare values count more, by their effective number (Cui et al. 2019)."""
    weights: dict[str, float] | None = None
    """For fixed: weight by value, such as {5: 2.0, 1: 0.0}; other values have weight 1."""
    beta: float | None = Field(default=None, ge=0, lt=1)
    """For class_balanced: 0 weighs all events alike, near 1 all values alike; 0.999 by default."""

    @model_validator(mode="before")
    @classmethod
    def _plain_keys(cls, values: Any) -> Any:
        """YAML reads keys of `weights` as numbers or truth values; they are kept as text."""
        if isinstance(values, Mapping) and isinstance(values.get("weights"), Mapping):
            return dict(values) | {"weights": {str(key): weight for key, weight in values["weights"].items()}}
        return values

    @model_validator(mode="after")
    def _check(self) -> ActionWeightsConfig:
        if (self.kind == "fixed") != (self.weights is not None):
            raise ValueError("fixed needs weights, and class_balanced computes them; give weights for fixed only")
        if self.kind == "fixed" and self.beta is not None:
            raise ValueError("beta belongs to kind: class_balanced; leave it out")
        if self.weights is not None and (
            min(self.weights.values(), default=-1.0) < 0 or not any(self.weights.values())
        ):
            raise ValueError("weights must name values, with weights of 0 or more, and not all of them 0")
        return self

    def of(self, labels: Mapping[str, NDArray[Any]], where: str) -> NDArray[np.float32]:
        """The weight of each train event, [T].

        Args:
            labels: the label columns of the train events, each [T].
            where: the stage, for messages.

        Raises:
            ConfigError: there is no such column, it has gaps, or a value never occurs.
        """
        place = f"{where}: action_weights"
        if self.column not in labels:
            hint = near_match(self.column, labels, "label columns") if labels else "this data set has no labels"
            raise ConfigError(f"{place}.column: the events have no column '{self.column}'; {hint}")
        column = labels[self.column].astype(np.float64)
        if np.isnan(column).any():
            raise ConfigError(
                f"{place}.column: '{self.column}' is missing in some events; choose a column without gaps"
            )
        values, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)  # [C], [T], [C]
        weights = self._fixed(values, place) if self.kind == "fixed" else self._balanced(counts)
        return weights[inverse].astype(np.float32)

    def _fixed(self, values: NDArray[np.float64], place: str) -> NDArray[np.float64]:
        weights = np.ones(len(values))
        for name, weight in (self.weights or {}).items():
            found = np.flatnonzero(values == _number(name, place))
            if not found.size:
                known = ", ".join(f"{value:g}" for value in values[:20])
                raise ConfigError(f"{place}.weights: no train event has {self.column} {name}; there are: {known}")
            weights[found] = weight
        return weights

    def _balanced(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        beta = 0.999 if self.beta is None else self.beta
        # (1 - beta) / (1 - beta^n), so scaled that the mean over events is 1.
        weights = 1 / -np.expm1(counts * np.log(beta)) if beta else np.ones(len(counts))
        scaled: NDArray[np.float64] = weights * counts.sum() / (weights * counts).sum()
        return scaled


def _number(name: str, place: str) -> float:
    """A value of a label as a recipe writes it."""
    words = {"true": 1.0, "false": 0.0}
    try:
        return words[name.lower()] if name.lower() in words else float(name)
    except ValueError:
        raise ConfigError(f"{place}.weights: labels are numbers or true and false, not '{name}'") from None
