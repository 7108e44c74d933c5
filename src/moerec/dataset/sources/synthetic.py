"""Generated events with planted structure: tastes, chains of items, texts that carry both, cold items.

What a right model must find: the item that follows in a chain, the user's two genres, and, for items that
appear at the end alone, the genre by title and text. Of ratings: that older users give higher ones, that some users
and items get higher ones, and that a user likes the first of the two genres better than the second. Of devices (1
phone, 2 tablet, 3 television): that they go mostly by the user's age, else by the item's genre.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.dataset.schema import RawTables
from moerec.errors import MissingExtraError
from moerec.files import atomic_file

GENRE_WORDS = {
    "Space": ("comet", "orbit", "rocket", "nebula", "lander", "gravity"),
    "Kitchen": ("butter", "oven", "pepper", "dough", "saucepan", "feast"),
    "Harbour": ("sail", "anchor", "tide", "lighthouse", "captain", "storm"),
    "Forest": ("owl", "moss", "fox", "lantern", "thicket", "river"),
    "Detective": ("clue", "alibi", "shadow", "witness", "verdict", "motive"),
    "Circus": ("trapeze", "clown", "tent", "juggler", "parade", "lion"),
}
FIRST_SECOND = 1_000_000_000
DEVICES = (1.0, 2.0, 3.0)
OLDER, OLDEST = 34, 52
"""Ages from which a user has the second and the third device."""
OWN_DEVICE = 0.7
"""Share of events on the device of the user's age; the others are on that of the item's genre."""


class SyntheticConfig(Config):
    """Events of users who walk along chains of items within the genres they like."""

    users: int = Field(default=200, ge=2)
    """Number of users."""
    items: int = Field(default=240, ge=12)
    """Number of items in the catalogue."""
    events_per_user: int = Field(default=30, ge=3)
    """Mean number of events of a user; each has between half and one and a half times as many."""
    follow: float = Field(default=0.6, ge=0, le=1)
    """Probability that the next item is the successor in the chain; else it is drawn from the user's genres."""
    cold_items: float = Field(default=0.05, ge=0, lt=0.5)
    """Share of items that are met in a user's last event alone, so that a leave-last-out split finds them cold."""
    images: Path | None = None
    """Folder in which a picture of each item is drawn, coloured by genre; null for none. Needs the extra `encoders`."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""

    @model_validator(mode="after")
    def _check(self) -> SyntheticConfig:
        if self.events_per_user * 1.5 > self.items / len(GENRE_WORDS) * 2:
            raise ValueError("events_per_user is too high: users walk two genres and meet an item once")
        return self

    def describe(self) -> str:
        """One line that says what is made."""
        return f"generated: {self.users} users, {self.items} items, seed {self.seed}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The generator's settings."""
        return self.model_dump(mode="json")

    def read(self) -> RawTables:
        """Draw the tables."""
        generator = np.random.default_rng(self.seed)
        genres = np.arange(self.items) % len(GENRE_WORDS)
        cold = np.zeros(self.items, dtype=bool)
        cold[generator.permutation(self.items)[: round(self.cold_items * self.items)]] = True
        successor = self._chains(generator, genres, cold)
        tastes = [generator.choice(len(GENRE_WORDS), size=2, replace=False) for _ in range(self.users)]
        rows = [
            (user, item, FIRST_SECOND + user * 60 + place * 3600)
            for user in range(self.users)
            for place, item in enumerate(self._walk(generator, tastes[user], genres, cold, successor))
        ]
        users, items, seconds = (np.array(column) for column in zip(*rows, strict=True))
        ages = np.random.default_rng([self.seed, 2]).integers(16, 71, size=self.users)
        events = pl.DataFrame(
            {
                "user_id": pl.Series(users).cast(pl.String),
                "item_id": pl.Series(items + 1000).cast(pl.String),
                "timestamp": seconds * 1000,
                "rating": self._ratings(users, items, genres, np.array(tastes), ages),
                "device": self._devices(genres[items], ages[users]),
            }
        )
        people = pl.DataFrame({"user_id": [str(user) for user in range(self.users)], "age": ages})
        catalogue = self._items(generator, genres)
        if self.images is not None:
            names = [f"{item_id}.png" for item_id in catalogue["item_id"]]
            draw_pictures(self.images, names, genres.tolist(), self.seed)
            catalogue = catalogue.with_columns(pl.Series("image", names))
        return RawTables(
            events=events,
            users=people,
            items=catalogue,
            labels=("rating", "device"),
            source={"name": "synthetic", "source": "synthetic", "licence": "generated; no licence needed"},
        )

    def _chains(
        self, generator: np.random.Generator, genres: NDArray[np.int64], cold: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """The successor of each item: the warm items of a genre stand in a circle."""
        successor = np.arange(self.items)
        for genre in range(len(GENRE_WORDS)):
            circle = generator.permutation(np.flatnonzero((genres == genre) & ~cold))
            successor[circle] = np.roll(circle, -1)
        return successor

    def _walk(
        self,
        generator: np.random.Generator,
        tastes: NDArray[np.int64],
        genres: NDArray[np.int64],
        cold: NDArray[np.bool_],
        successor: NDArray[np.int64],
    ) -> list[int]:
        liked = np.isin(genres, tastes)
        length = int(generator.integers(self.events_per_user // 2, self.events_per_user * 3 // 2 + 1))
        walk: list[int] = []
        met = cold.copy()
        while len(walk) < max(3, length):
            follows = int(successor[walk[-1]]) if walk else -1
            if follows < 0 or met[follows] or generator.random() >= self.follow:
                left = np.flatnonzero(liked & ~met)
                if not len(left):
                    break
                follows = int(generator.choice(left))
            walk.append(follows)
            met[follows] = True
        new = np.flatnonzero(cold & liked)
        if not walk:  # every item of the two genres is cold
            return [int(generator.choice(new))]
        if len(new) and generator.random() < self.cold_items * 2:
            walk[-1] = int(generator.choice(new))
        return walk

    def _ratings(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        genres: NDArray[np.int64],
        tastes: NDArray[np.int64],
        ages: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Whole numbers from 1 to 5 that users, items, ages and genres decide, with some noise."""
        generator = np.random.default_rng([self.seed, 3])
        of_user = generator.normal(0, 0.4, self.users) + (ages - 43) / 40
        of_item = generator.normal(0, 0.6, self.items)
        first = np.where(genres[items] == tastes[users, 0], 0.7, -0.7)
        noise = generator.normal(0, 0.5, len(users))
        return np.clip(np.round(3.2 + of_user[users] + of_item[items] + first + noise), 1.0, 5.0)

    def _devices(self, genres: NDArray[np.int64], ages: NDArray[np.int64]) -> NDArray[np.float64]:
        """The device of each event, from its item's genre and its user's age."""
        is_own = np.random.default_rng([self.seed, 4]).random(len(ages)) < OWN_DEVICE
        of_age = np.digitize(ages, (OLDER, OLDEST))
        return np.array(DEVICES)[np.where(is_own, of_age, genres % len(DEVICES))]

    def _items(self, generator: np.random.Generator, genres: NDArray[np.int64]) -> pl.DataFrame:
        names = list(GENRE_WORDS)
        titles = []
        for genre in genres:
            first, second = generator.choice(GENRE_WORDS[names[genre]], size=2, replace=False)
            titles.append(f"The {first.title()} and the {second.title()}")
        return pl.DataFrame(
            {
                "item_id": [str(item + 1000) for item in range(self.items)],
                "title": titles,
                "year": generator.integers(1950, 2020, size=self.items),
                "genres": [names[genre] for genre in genres],
            }
        )


def draw_pictures(folder: Path, names: list[str], genres: list[int], seed: int) -> None:
    """Draw a small picture for each name: the genre decides the hue, chance the shapes.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise MissingExtraError("pillow", "encoders", "dataset.images") from None
    generator = np.random.default_rng([seed, 1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, genre in zip(names, genres, strict=True):
        hue = 360 * genre // len(GENRE_WORDS)
        picture = Image.new("RGB", (64, 64), f"hsl({hue}, 60%, 45%)")
        pen = ImageDraw.Draw(picture)
        for left, top in generator.integers(0, 48, size=(4, 2)).tolist():
            pen.ellipse((left, top, left + 16, top + 16), fill=f"hsl({hue}, 80%, {int(generator.integers(20, 80))}%)")
        with atomic_file(folder / name) as temporary:
            picture.save(temporary, format="PNG")
