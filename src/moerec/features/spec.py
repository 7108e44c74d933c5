"""FeatureSpec: plain data that says what a column is and how a model reads it."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import model_validator

from moerec.config import Config

FeatureKind = Literal["categorical", "multi", "dense", "sequence", "vector", "tokens"]
FeatureSide = Literal["user", "item", "context", "event"]
DenseTransformKind = Literal["none", "standardise", "log", "quantile"]


def checked_name(name: str) -> str:
    """The name of a feature or a modality, if it may be one; the column it is read from may be called anything.

    Raises:
        ValueError: other characters than letters, digits and underscores, or a digit at the start.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"'{name}' cannot name a feature or a modality; use letters, digits and _, a letter first")
    return name


class FeatureSpec(Config):
    """One input of a model: its name, its kind, and whom it describes."""

    name: str
    """Name of the input: letters, digits and underscores; unique within a model."""
    kind: FeatureKind
    """categorical (one value), multi (several), dense (a number), vector (a modality), sequence, tokens."""
    side: FeatureSide = "item"
    """Whom the feature describes: user, item, context of the request, or one event."""
    column: str | None = None
    """Column of the table it is read from; the name itself by default. For `vector`: name of the modality."""
    separator: str = "|"
    """For `multi`: what stands between the values in one cell."""
    minimum_count: int = 1
    """For `categorical` and `multi`: rarer values share the unknown value."""
    transform: DenseTransformKind = "standardise"
    """For `dense`: none; standardise (zero mean, unit variance on train rows); log (log1p, then standardise);
    quantile (by rank among the train rows, to a standard normal)."""
    squash: bool = True
    """For `dense` in a ranker: take the logarithm of what lies far from 0 after the transform, so that no value can
    drown the others; false hands the number on as it is."""
    dim: int | None = None
    """Width of the embedding; by default the model's own width."""

    @property
    def source_column(self) -> str:
        """The column this feature is read from."""
        return self.column or self.name

    @model_validator(mode="after")
    def _check(self) -> FeatureSpec:
        checked_name(self.name)
        if self.minimum_count < 1:
            raise ValueError("minimum_count must be at least 1")
        if self.dim is not None and self.dim < 1:
            raise ValueError("dim must be at least 1")
        return self
