"""Generated impressions with the funnel below them: click, dwell time, purchase, rating, and the truth of each.

What a right model must find: that users click and buy what they are interested in, that loud items are clicked more and
bought less, that loyal users buy more and high prices less, that evenings sell, that some users and items are clicked
more than their columns say, and that items of a liked genre hold users longer.

Selection bias: an intent that no column shows drives clicks and purchases alike. Who clicked is more willing to buy
than who did not, so conversion that is learned on clicks is too high for impressions at large, row by row. Dwell times
are log-normal, so a few long ones make up much of the sum. They are known for clicks alone, ratings for purchases.

Shape letters: N impressions, U users, I items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit

from moerec.config import Config
from moerec.dataset.schema import RawTables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GENRES = ("Comedy", "Crime", "Family", "History", "Nature", "Sport")
SEGMENTS = ("new", "regular", "loyal")
STYLES = ("plain", "loud")
FIRST_SECOND = 1_600_000_000
DAYS = 60
"""All impressions lie within so many days."""
EVENING = (18, 23)
"""Hours (UTC) in which more is bought."""
NODES = 41
"""Nodes of the Gauss-Hermite rule that averages over the hidden intent."""
LABELS = ("click", "purchase", "dwell_seconds", "rating")
TRUTH = ("true_click", "true_conversion", "true_purchase", "true_conversion_of_all", "true_dwell_seconds")
"""P(click), P(purchase | click), P(purchase), P(purchase, had everybody clicked), mean dwell time of a click; each
given all that can be known of an impression, the users' and items' own tendencies among it."""


@dataclass(frozen=True)
class _Drawn:
    """Users, items and impressions, with what stands behind them."""

    users: Mapping[str, NDArray[Any]]
    items: Mapping[str, NDArray[Any]]
    user: Ints  # [N]
    item: Ints  # [N]
    seconds: Ints  # [N]


class FunnelConfig(Config):
    """Impressions with clicks, dwell times, purchases and ratings, under a selection bias; the truth beside them."""

    users: int = Field(default=2000, ge=2)
    """Number of users."""
    items: int = Field(default=400, ge=6)
    """Number of items in the catalogue."""
    impressions_per_user: int = Field(default=50, ge=2)
    """Impressions of each user."""
    bias: float = Field(default=1.0, ge=0)
    """Strength of the hidden intent that drives clicks and purchases alike; 0 for no selection bias."""
    tail: float = Field(default=1.0, gt=0)
    """Standard deviation of the logarithm of a dwell time; 1 makes the mean 1.6 times the median."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""

    def describe(self) -> str:
        """One line that says what is made."""
        impressions = self.users * self.impressions_per_user
        return f"generated: a funnel of {impressions:,} impressions, selection bias {self.bias:g}, seed {self.seed}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The generator's settings."""
        return self.model_dump(mode="json")

    def read(self) -> RawTables:
        """Draw the tables."""
        drawn = self._draw(np.random.default_rng([self.seed, 1]))
        labels = self._labels(drawn, np.random.default_rng([self.seed, 2]))
        users, items = drawn.users, drawn.items
        events = pl.DataFrame(
            {
                "user_id": pl.Series(drawn.user).cast(pl.String),
                "item_id": pl.Series(drawn.item + 1000).cast(pl.String),
                "timestamp": drawn.seconds * 1000,
            }
            | labels
        )
        return RawTables(
            # The dwell time is known of clicks alone, the rating of purchases alone.
            events=events.with_columns(
                pl.when(pl.col("click") == 1).then("dwell_seconds").alias("dwell_seconds"),
                pl.when(pl.col("purchase") == 1).then("rating").alias("rating"),
            ),
            users=pl.DataFrame(
                {
                    "user_id": [str(user) for user in range(self.users)],
                    "age": users["age"],
                    "segment": np.array(SEGMENTS)[users["segment"]],
                    "interest": np.array(GENRES)[users["interest"]],
                }
            ),
            items=pl.DataFrame(
                {
                    "item_id": [str(item + 1000) for item in range(self.items)],
                    "title": [f"{GENRES[genre]} number {item}" for item, genre in enumerate(items["genre"])],
                    "genre": np.array(GENRES)[items["genre"]],
                    "style": np.array(STYLES)[items["loud"]],
                    "price": items["price"],
                }
            ),
            labels=(*LABELS, *TRUTH),
            source={"name": "funnel", "source": "funnel", "licence": "generated; no licence needed"},
        )

    def _draw(self, draw: np.random.Generator) -> _Drawn:
        """Users, items, and who saw what when."""
        users: dict[str, NDArray[Any]] = {
            "age": draw.integers(16, 76, self.users),
            "segment": draw.choice(len(SEGMENTS), self.users, p=(0.3, 0.5, 0.2)),
            "interest": draw.integers(0, len(GENRES), self.users),
            "eager": draw.normal(0, 0.5, self.users),
        }
        items: dict[str, NDArray[Any]] = {
            "genre": np.arange(self.items) % len(GENRES),
            "loud": (draw.random(self.items) < 0.35).astype(np.int64),
            "price": np.round(np.exp(draw.normal(2.5, 0.6, self.items)), 2),
            "appeal": draw.normal(0, 0.5, self.items),
        }
        shape = (self.users, self.impressions_per_user)
        seconds = np.sort(draw.integers(0, DAYS * 86_400, shape), axis=1)
        return _Drawn(
            users=users,
            items=items,
            user=np.repeat(np.arange(self.users), self.impressions_per_user),
            item=draw.integers(0, self.items, shape).ravel(),
            seconds=FIRST_SECOND + seconds.ravel(),
        )

    def _labels(self, drawn: _Drawn, draw: np.random.Generator) -> dict[str, NDArray[Any]]:
        """What happened at each impression, and its probabilities; each [N]."""
        click, conversion, dwell = tendencies(drawn)
        intent = draw.standard_normal(len(click))
        clicked = draw.random(len(click)) < expit(click + self.bias * intent)
        bought = clicked & (draw.random(len(click)) < expit(conversion + self.bias * intent))
        rating = 3.4 + 0.5 * (conversion - conversion.mean()) + draw.normal(0, 0.7, len(click))
        truth = self._truth(click, conversion)
        return {
            "click": clicked.astype(np.int8),
            "purchase": bought.astype(np.int8),
            "dwell_seconds": np.exp(dwell + self.tail * draw.standard_normal(len(click))),
            "rating": np.clip(np.round(rating), 1, 5),
            **truth,
            "true_dwell_seconds": np.exp(dwell + self.tail**2 / 2),
        }

    def _truth(self, click: Floats, conversion: Floats) -> dict[str, Floats]:
        """The probabilities of each impression [N], averaged over the hidden intent."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        found = {name: np.zeros(len(click)) for name in ("click", "purchase", "of_all")}
        for node, weight in zip(nodes * self.bias, weights / weights.sum(), strict=True):
            clicks, conversions = expit(click + node), expit(conversion + node)
            found["click"] += weight * clicks
            found["purchase"] += weight * clicks * conversions
            found["of_all"] += weight * conversions
        return {
            "true_click": found["click"],
            "true_conversion": found["purchase"] / found["click"],
            "true_purchase": found["purchase"],
            "true_conversion_of_all": found["of_all"],
        }


def tendencies(drawn: _Drawn) -> tuple[Floats, Floats, Floats]:
    """Log-odds of a click and of a purchase after it, and the mean logarithm of the dwell time; each [N]."""
    users = {name: values[drawn.user] for name, values in drawn.users.items()}
    items = {name: values[drawn.item] for name, values in drawn.items.items()}
    hour = drawn.seconds // 3600 % 24
    evening = (hour >= EVENING[0]) & (hour <= EVENING[1])
    liked = users["interest"] == items["genre"]
    cheap = (np.log(12.0) - np.log(items["price"])) / 0.6
    click = -2.0 + 1.3 * liked + 0.9 * items["loud"] + users["eager"] + items["appeal"] + 0.3 * evening
    loyalty = np.array([-0.6, 0.0, 0.9])[users["segment"]]
    conversion = -2.0 + 0.8 * liked - 1.2 * items["loud"] + loyalty + 0.6 * cheap + 0.7 * evening
    dwell = 3.2 + 0.8 * liked - 0.5 * items["loud"] + (users["age"] - 45) / 60
    return click, conversion, dwell
