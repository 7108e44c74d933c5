"""Settings that several features have."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from moerec.features.spec import checked_name


def _labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(labels)) != len(labels):
        raise ValueError("name each label once")
    return tuple(checked_name(label) for label in labels)


def _days(days: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(days)) != len(days) or min(days, default=1) < 1:
        raise ValueError("give each number of days once, from 1 on")
    return days


Labels = Annotated[tuple[str, ...], AfterValidator(_labels)]
"""Label columns of the events; their names become part of the names of features."""

Days = Annotated[tuple[int, ...], AfterValidator(_days)]
"""Lengths of windows that end at the moment."""
