"""What stands behind generated reviews: tastes of users, qualities of products, and who buys and rates what when.

What a right model must find: that users like some categories more than others, that each has a price that suits him,
that some products are better than others, which their texts say, and that some users are kinder than others. Of these
things the utility of a product for a user is the sum, and the rating is an ordered logit of it, so the probabilities of
a good and of the best rating are known.

Shape letters: N reviews of a block, U users of a block, I products, C categories.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from moerec.dataset.generators import amazon_words as words
from moerec.errors import DatasetError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIRST_TIME, LAST_TIME = 1_500_000_000_000, 1_693_526_400_000
"""Of the reviews, in milliseconds: July 2017 to August 2023."""
CUTPOINTS = (-3.1, -2.4, -1.6, -0.5)
"""Between the ratings on the scale of the utility; they give the many five stars of the published data."""
PRICE_SPREAD = 0.7
"""Standard deviation of the logarithm of a price within a category."""


@dataclass(frozen=True)
class GeneratedReviews:
    """How much is generated."""

    users: int
    """Number of users."""
    items: int
    """Number of products."""
    seed: int = 0
    """Seed of everything that is drawn."""
    reviews_per_user: float = 12.0
    """Mean number of reviews before those of the same product are left out."""
    dirt: float = 0.0
    """Share of lines beside which a broken copy is written; each file then also ends cut off."""
    compressed: bool = True
    """Whether the files are gzipped."""
    image_address: str | None = None
    """Where the pictures will be served, for instance http://127.0.0.1:8765; None writes no pictures, and addresses
    that lead nowhere."""

    def __post_init__(self) -> None:
        if self.users < 1 or self.items < len(self.categories):
            raise DatasetError(f"generate: at least 1 user and {len(self.categories)} items, one for each category")
        if not 0 <= self.dirt <= 1 or self.reviews_per_user < 1:
            raise DatasetError("generate: dirt is a share from 0 to 1, and a user has at least 1 review")

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, one pair of files each."""
        return tuple(words.THINGS)


@dataclass(frozen=True)
class Products:
    """What stands behind each product; all [I]."""

    category: Ints
    thing: Ints
    quality: Floats
    price: Floats
    price_level: Floats
    """The logarithm of the price, standardised within the category."""
    release: Ints
    weight: Floats


@dataclass(frozen=True)
class Reviews:
    """The reviews of a block, by user and time; all [N]."""

    user: Ints
    item: Ints
    time: Ints
    rating: Ints
    good: Floats
    best: Floats
    fondness: Floats
    """The user's taste for the category."""
    dearness: Floats
    """How far the price level is above the one that suits the user."""


def draw_products(shape: GeneratedReviews) -> Products:
    """All products."""
    draw = np.random.default_rng([shape.seed, 1])
    count = shape.items
    category = np.arange(count) % len(shape.categories)
    quality, level = draw.normal(size=count), draw.normal(size=count)
    base = 2.3 + 0.4 * np.arange(len(shape.categories))
    return Products(
        category=category,
        thing=draw.integers(0, 6, count),
        quality=quality,
        price=np.asarray(np.exp(base[category] + PRICE_SPREAD * level), dtype=np.float64).round(2),
        price_level=level,
        release=draw.integers(FIRST_TIME, FIRST_TIME + (LAST_TIME - FIRST_TIME) * 6 // 10, count),
        weight=np.exp(draw.normal(size=count) + 0.3 * quality),
    )


def draw_block(shape: GeneratedReviews, products: Products, first: int, users: int) -> Reviews:
    """The reviews of so many users from `first` on."""
    draw = np.random.default_rng([shape.seed, 2, first])
    taste = draw.normal(0, 1.0, (users, len(shape.categories)))  # [U, C]
    suits, kindness = draw.normal(0, 1.0, users), draw.normal(0, 0.6, users)  # [U]
    user = np.repeat(np.arange(users), 1 + draw.poisson(shape.reviews_per_user - 1, users))  # [N]
    odds = np.cumsum(np.exp(taste), axis=1)
    category = (draw.random(len(user))[:, None] * odds[user, -1:] > odds[user]).sum(axis=1)  # [N]
    # Of two products that come by, the one of the better price is bought.
    one, other = _by_weight(products, category, draw), _by_weight(products, category, draw)
    nearer = np.abs(products.price_level[other] - suits[user]) < np.abs(products.price_level[one] - suits[user])
    item = np.where(nearer, other, one)
    _, kept = np.unique(user * shape.items + item, return_index=True)
    user, item, category = user[kept], item[kept], category[kept]
    dearness = products.price_level[item] - suits[user]
    utility = taste[user, category] + products.quality[item] - 0.7 * np.abs(dearness) + kindness[user]
    felt = utility + draw.logistic(size=len(user))
    release = products.release[item]
    time = release + (draw.random(len(user)) * (LAST_TIME - release)).astype(np.int64)
    order = np.lexsort((time, user))
    return Reviews(
        user=(user + first)[order],
        item=item[order],
        time=time[order],
        rating=1 + np.searchsorted(CUTPOINTS, felt)[order],
        good=expit(utility - CUTPOINTS[2])[order],
        best=expit(utility - CUTPOINTS[3])[order],
        fondness=taste[user, category][order],
        dearness=dearness[order],
    )


def _by_weight(products: Products, category: Ints, draw: np.random.Generator) -> Ints:
    """A product of each category [N], popular ones more often."""
    chosen = np.empty(len(category), dtype=np.int64)
    for number in range(int(products.category.max()) + 1):
        own, asked = np.flatnonzero(products.category == number), category == number
        heap = np.cumsum(products.weight[own])
        chosen[asked] = own[np.searchsorted(heap, draw.random(int(asked.sum())) * heap[-1])]
    return chosen
