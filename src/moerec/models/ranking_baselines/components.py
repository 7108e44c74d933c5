"""Principal components of a vector feature, for baselines that would drown in its full width.

Shape letters: N examples, K train rows, G rows of the smaller table that a column lies in, R rows to apply to,
V width of the vector, P components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moerec.batches.examples import ExampleTable, Gathered
from moerec.models.ranking_baselines.base import ROWS_AT_ONCE, Floats, Ints


@dataclass(frozen=True, eq=False)
class PrincipalComponents:
    """The directions in which a vector feature differs most among the train rows."""

    name: str
    """The feature."""
    mean: Floats  # [V]
    """Mean over the train rows that have the vector."""
    directions: Floats  # [V, P]
    """Scaled so that the first component has unit variance over the train rows."""

    def apply(self, table: ExampleTable, rows: Ints) -> Floats:
        """The components of some rows, [R, P]; NaN where the vector is missing."""
        values, chosen = _values(table, self.name, rows)
        wanted, places = np.unique(chosen, return_inverse=True)
        found = (values[wanted].astype(np.float64) - self.mean) @ self.directions
        present = np.asarray(table.presence(self.name, rows), dtype=bool)  # [R]
        return np.where(present[:, None], found[places], np.nan)


def fit_components(table: ExampleTable, name: str, rows: Ints, most: int) -> PrincipalComponents:
    """Components of a vector feature over train rows; fewer than `most` where there is no more to tell.

    A vector counts as often as it occurs, and the missing count nowhere.

    Args:
        table: all examples.
        name: the feature.
        rows: [K] train rows.
        most: components wanted.
    """
    known = rows[np.asarray(table.presence(name, rows), dtype=bool)]
    values, chosen = _values(table, name, known)
    wanted, counts = np.unique(chosen, return_counts=True)
    width = values.shape[1]
    total, squares = np.zeros(width), np.zeros((width, width))
    for start in range(0, len(wanted), ROWS_AT_ONCE):
        part = values[wanted[start : start + ROWS_AT_ONCE]].astype(np.float64)
        weighted = part * counts[start : start + ROWS_AT_ONCE, None]
        total += weighted.sum(0)
        squares += weighted.T @ part
    number = max(1, len(known))
    mean = total / number
    variances, directions = np.linalg.eigh(squares / number - np.outer(mean, mean))  # ascending
    variances, directions = variances[::-1][:most], directions[:, ::-1][:, :most]
    telling = variances > max(float(variances.max(initial=0.0)), 1e-12) * 1e-6
    directions = directions[:, telling]
    # The sign of a direction is arbitrary; its largest entry is made positive so that equal data give equal inputs.
    largest = np.abs(directions).argmax(0)
    directions = directions * np.sign(directions[largest, np.arange(directions.shape[1])])
    scale = float(np.sqrt(variances[0])) if telling.any() else 1.0
    return PrincipalComponents(name, mean, directions / scale)


def _values(table: ExampleTable, name: str, rows: Ints) -> tuple[NDArray[np.generic], Ints]:
    """The vectors [N or G, V] of a feature, and which of them each row has, [R]."""
    column = table.columns[name]
    if isinstance(column, Gathered):
        return column.values, column.rows[rows]
    return column, rows
