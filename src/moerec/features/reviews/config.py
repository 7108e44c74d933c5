"""How reviews become examples: dates of the parts, down-sampling, negatives, profile."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.dataset.schema import Part
from moerec.features.negatives import NegativesConfig

MILLISECONDS_OF_A_SECOND = 1000


class ReviewNegativesConfig(NegativesConfig):
    """Negatives of reviews: five for each positive, never an item that the user reviews at any time."""

    count: int = Field(default=5, ge=1)
    """Negatives of each positive."""
    exclude: Literal["train", "ever", "past"] = "ever"
    """For train rows: train: items that the user reviews in the train part; ever: at any time, which tells a little of
    the later parts. Valid and test rows never get an item that the user reviews at any time. For all rows: past: the
    row's own item and what the user reviewed strictly before, which is all that a stream can know."""


class ReviewExamplesConfig(Config):
    """Examples of reviews: labels, parts by date, down-sampling, time-aligned negatives, causal profile."""

    train_until: date = date(2023, 6, 30)
    """Last day (UTC) of the train part."""
    valid_until: date = date(2023, 9, 30)
    """Last day (UTC) of the validation part; what is later is test."""
    keep_five_stars: float = Field(default=0.2, ge=0, le=1)
    """Share of the five-star reviews of the train part that become examples; histories, profiles, valid and test keep
    all of them."""
    negatives: ReviewNegativesConfig | None = ReviewNegativesConfig()
    """Items drawn beside each review, at its time; null for none."""
    history: int = Field(default=3, ge=0)
    """How many last reviews of the user an example refers to."""
    most_categories: int = Field(default=64, ge=1)
    """Main categories with a share in the profile: those of the most products; the others count as unknown."""
    highest_price: float = Field(default=10_000.0, gt=0, le=100_000.0)
    """Higher prices count as this one; so the sums of squares stay exact for millions of reviews of one user."""

    @model_validator(mode="after")
    def _check(self) -> ReviewExamplesConfig:
        if self.valid_until <= self.train_until:
            raise ValueError("valid_until must be after train_until")
        return self

    def parts(self, times: NDArray[np.int64]) -> NDArray[np.int8]:
        """The part of each time in milliseconds, [N]."""
        ends = [_end(self.train_until), _end(self.valid_until)]
        codes = np.array([Part.TRAIN, Part.VALID, Part.TEST], np.int8)
        return codes[np.searchsorted(ends, times, side="right")]

    @property
    def train_end(self) -> int:
        """The first millisecond that is not of the train part."""
        return _end(self.train_until)


def _end(day: date) -> int:
    """The first millisecond after a day (UTC)."""
    following = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return int(following.timestamp()) * MILLISECONDS_OF_A_SECOND
