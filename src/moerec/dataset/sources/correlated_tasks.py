"""Two regression tasks whose relatedness is set by hand, after Ma et al. (2018), section 3.2.

Both labels are the same function of a linear form of the same numbers, and the angle between the two weight vectors
says how related the tasks are: y_k = w_k.x + sum of sin(alpha_i w_k.x + beta_i) + noise, cos(w_1, w_2) = `correlation`.
The sines keep the correlation of the labels from being that of the weights alone, and a linear model from being enough.

Shape letters: N rows, D dimensions, M sines.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from moerec.config import Config
from moerec.dataset.schema import RawTables

ITEM = "row"
"""The one item; rows are about no items."""

Arrays = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]


def correlated_tasks(
    rows: int,
    dimensions: int = 100,
    correlation: float = 0.5,
    scale: float = 1.0,
    sines: int = 4,
    noise: float = 0.1,
    seed: int = 0,
) -> Arrays:
    """Inputs and labels as arrays; of equal settings, more rows begin with the same ones.

    Args:
        rows: N.
        dimensions: D, at least 2.
        correlation: cosine of the two weight vectors, from -1 to 1.
        scale: length of the weight vectors.
        sines: M; their frequencies and phases are drawn once, for both tasks.
        noise: standard deviation of what is added to each label.
        seed: of everything that is drawn.

    Returns:
        x [N, D], y1 [N], y2 [N].
    """
    shape = np.random.default_rng([seed, 1])
    units = np.linalg.qr(shape.standard_normal((dimensions, 2)))[0].T  # [2, D] orthogonal unit vectors
    frequencies, phases = shape.uniform(0.5, 2.5, sines), shape.uniform(0, 2 * math.pi, sines)  # each [M]
    second = correlation * units[0] + math.sqrt(1 - correlation**2) * units[1]
    weights = scale * np.stack([units[0], second])  # [2, D]
    x = np.random.default_rng([seed, 2]).standard_normal((rows, dimensions)).astype(np.float32)
    linear = x.astype(np.float64) @ weights.T  # [N, 2]
    waves = np.sin(linear[:, :, None] * frequencies + phases).sum(axis=2)  # [N, 2]
    labels = linear + waves + noise * np.random.default_rng([seed, 3]).standard_normal((rows, 2))
    return x, labels[:, 0], labels[:, 1]


class CorrelatedTasksConfig(Config):
    """Two regressions `y1` and `y2` of known relatedness on normal numbers `x1`, `x2`, ... (Ma et al. 2018)."""

    rows: int = Field(default=10_000, ge=1)
    """Number of rows; each is a user with one event, of one item and without a time."""
    dimensions: int = Field(default=100, ge=2)
    """Columns of users: `x1` to `x100`, each drawn from a standard normal. Read them with `transform: none` and
    `squash: false`."""
    correlation: float = Field(default=0.5, ge=-1, le=1)
    """Cosine of the two tasks' weight vectors: 1 for the same function, 0 for unrelated ones."""
    scale: float = Field(default=1.0, gt=0)
    """Length of the weight vectors."""
    sines: int = Field(default=4, ge=0)
    """Sines added to each label; none leaves two linear functions."""
    noise: float = Field(default=0.1, ge=0)
    """Standard deviation of the noise of each label."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything that is drawn."""

    def arrays(self) -> Arrays:
        """x [N, D], y1 [N], y2 [N]; see `correlated_tasks`."""
        return correlated_tasks(**self.model_dump())

    def describe(self) -> str:
        """One line that says what is made."""
        return (
            f"generated: two regressions of correlation {self.correlation:g} on {self.dimensions} numbers, "
            f"{self.rows:,} rows, seed {self.seed}"
        )

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The generator's settings."""
        return self.model_dump(mode="json")

    def read(self) -> RawTables:
        """Draw the tables."""
        x, y1, y2 = self.arrays()
        ids = pl.int_range(self.rows, eager=True).cast(pl.String).alias("user_id")
        columns = [pl.Series(f"x{number + 1}", x[:, number]) for number in range(self.dimensions)]
        return RawTables(
            events=pl.DataFrame([ids]).with_columns(
                pl.lit(ITEM).alias("item_id"),
                pl.lit(None, dtype=pl.Int64).alias("timestamp"),
                pl.Series("y1", y1),
                pl.Series("y2", y2),
            ),
            users=pl.DataFrame([ids, *columns]),
            items=pl.DataFrame({"item_id": [ITEM], "title": ["Row"]}),
            labels=("y1", "y2"),
            source={
                "name": "correlated-tasks",
                "source": "correlated_tasks",
                "licence": "generated; no licence needed",
            },
        )
