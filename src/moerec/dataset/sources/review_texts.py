"""Generated product reviews of a few sentences, of which two things can be told: the category and the sentiment.

It is multi-task learning without a recommender: each review is an item of its own, whose text an encoder turns into a
vector, met once by a user of its own. What a right model must find: the category by the thing that is judged (another
thing may be mentioned in passing), the sentiment by an adjective that a negation may turn around. Neutral reviews have
a category and no sentiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from moerec.config import Config
from moerec.dataset.schema import RawTables

THINGS = {
    "electronics": ("headset", "phone charger", "keyboard", "loudspeaker", "tablet", "camera"),
    "kitchen": ("kettle", "frying pan", "blender", "bread knife", "toaster", "saucepan"),
    "books": ("novel", "biography", "thriller", "poetry collection", "travel guide", "short story collection"),
    "garden": ("garden hose", "shovel", "flower pot", "lawn mower", "watering can", "hedge trimmer"),
    "sports": ("football", "skipping rope", "yoga mat", "tennis racket", "dumbbell", "bicycle helmet"),
    "toys": ("jigsaw puzzle", "doll", "toy train", "building set", "teddy bear", "board game"),
}
"""The categories, whose codes are their places, and the things that belong to them."""
GOOD = ("great", "excellent", "wonderful", "lovely", "superb", "perfect")
BAD = ("terrible", "awful", "useless", "disappointing", "dreadful", "poor")
NEUTRAL = ("average", "ordinary", "as described", "of medium size", "like most others")
MOODS = (None, True, False)
"""Neutral, positive, negative."""
JUDGEMENTS = (
    "I find the {thing} {verdict}.",
    "In my opinion the {thing} is {verdict}.",
    "We have had the {thing} for a month now and it is {verdict}.",
    "To be honest, this {thing} is {verdict}.",
)
ASIDES = (
    "It arrived on Tuesday.",
    "I ordered it for my sister.",
    "The parcel was rather big.",
    "The colour is blue.",
    "My neighbour has the same one.",
)
MENTION = "I bought it together with a {other}."


class ReviewTextsConfig(Config):
    """Short product reviews with the labels `category`, one `is_<category>` for each, and `positive`; no times."""

    reviews: int = Field(default=4000, ge=2)
    """Number of reviews; each is an item with the column `text`, met once by a user of its own."""
    negated: float = Field(default=0.3, ge=0, le=1)
    """Share of the judgements that are turned around by a "not"."""
    neutral: float = Field(default=0.2, ge=0, lt=1)
    """Share of the reviews without a sentiment; `positive` is empty there."""
    mentions: float = Field(default=0.3, ge=0, le=1)
    """Share of the reviews that mention a thing of another category."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""

    def describe(self) -> str:
        """One line that says what is made."""
        return f"generated: {self.reviews:,} product reviews of {len(THINGS)} categories, seed {self.seed}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The generator's settings."""
        return self.model_dump(mode="json")

    def read(self) -> RawTables:
        """Draw the tables."""
        draw = np.random.default_rng(self.seed)
        codes = draw.integers(0, len(THINGS), self.reviews).tolist()
        moods = [MOODS[place] for place in draw.choice(len(MOODS), self.reviews, p=self._shares())]
        texts = [self._text(draw, code, mood) for code, mood in zip(codes, moods, strict=True)]
        ids = pl.int_range(self.reviews, eager=True).cast(pl.String)
        category = pl.Series(codes, dtype=pl.Int8)
        one_of = {f"is_{name}": (category == code).cast(pl.Int8) for code, name in enumerate(THINGS)}
        return RawTables(
            events=pl.DataFrame(
                {
                    "user_id": ids,
                    "item_id": ids,
                    "timestamp": pl.Series([None] * self.reviews, dtype=pl.Int64),
                    "category": category,
                    "positive": pl.Series(moods, dtype=pl.Boolean).cast(pl.Int8),
                }
                | one_of
            ),
            items=pl.DataFrame({"item_id": ids, "title": [_beginning(text) for text in texts], "text": texts}),
            labels=("category", "positive", *one_of),
            source={"name": "review-texts", "source": "review_texts", "licence": "generated; no licence needed"},
        )

    def _shares(self) -> tuple[float, float, float]:
        """Of each of MOODS."""
        return self.neutral, (1 - self.neutral) / 2, (1 - self.neutral) / 2

    def _text(self, draw: np.random.Generator, code: int, mood: bool | None) -> str:
        """One review: a judgement, and sentences that say nothing of it, in any order."""
        things = list(THINGS.values())
        if mood is None:
            verdict = _one(draw, NEUTRAL)
        else:
            negated = draw.random() < self.negated
            verdict = ("not " if negated else "") + _one(draw, GOOD if mood is not negated else BAD)
        sentences = [_one(draw, JUDGEMENTS).format(thing=_one(draw, things[code]), verdict=verdict), _one(draw, ASIDES)]
        if draw.random() < self.mentions:
            other = (code + int(draw.integers(1, len(things)))) % len(things)
            sentences.append(MENTION.format(other=_one(draw, things[other])))
        return " ".join(sentences[place] for place in draw.permutation(len(sentences)))


def _one(draw: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(draw.integers(len(words)))]


def _beginning(text: str, words: int = 6) -> str:
    parts = text.split()
    return " ".join(parts[:words]) + (" ..." if len(parts) > words else "")
