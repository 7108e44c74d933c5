"""Long series of a training, thinned so that a chart of them stays readable."""

from __future__ import annotations

from collections.abc import Sequence

MOST_POINTS = 240
"""Points of one line of a chart."""


def averaged(points: Sequence[tuple[float, float | None]], group: int) -> list[tuple[float, float | None]]:
    """Means of neighbouring points, so that a long training stays readable; a gap stays a gap."""
    if group <= 1:
        return list(points)
    means: list[tuple[float, float | None]] = []
    for start in range(0, len(points), group):
        members = points[start : start + group]
        values = [loss for _, loss in members if loss is not None]
        mean = sum(values) / len(values) if len(values) == len(members) else None
        means.append((sum(update for update, _ in members) / len(members), mean))
    return means
