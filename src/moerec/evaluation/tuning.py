"""Seeded random search over a baseline's settings; it sees the validation part alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from moerec.batches.histories import TrainHistories
from moerec.errors import ConfigError
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import EvaluationCases, ProtocolConfig
from moerec.models.baselines.base import BaselineConfig

B = TypeVar("B", bound=BaselineConfig)


@dataclass(frozen=True)
class Trial(Generic[B]):
    """One setting and what it reached."""

    config: B
    """The setting."""
    metrics: dict[str, float]
    """Its validation metrics."""
    seconds: float
    """Fitting and evaluation."""


@dataclass(frozen=True)
class TuningResult(Generic[B]):
    """What the search found."""

    best: B
    """The setting with the highest value, the earliest among equals."""
    value: float
    """Its value of the metric."""
    metric: str
    """What was maximised."""
    trials: tuple[Trial[B], ...]
    """Every trial in order; the first is the default setting."""


def tune(
    config_type: type[B],
    trials: int,
    train: TrainHistories,
    cases: EvaluationCases,
    protocol: ProtocolConfig,
    metric: str = "ndcg@10",
    seed: int = 0,
) -> TuningResult[B]:
    """Fit and judge the default setting and random ones, and keep the best.

    Args:
        config_type: the baseline.
        trials: settings to try; a baseline without settings is tried once.
        train: train events.
        cases: validation cases.
        protocol: full-ranking protocol of the validation part.
        metric: what to maximise, for instance `ndcg@10`.
        seed: of the search; the same seed gives the same settings.

    Raises:
        ConfigError: the cases are not of the validation part, or the metric is not among the protocol's.
    """
    if cases.part != "valid":
        raise ConfigError(f"tuning may see the validation part alone, not {cases.part}; make cases with part: valid")
    if trials < 1:
        raise ConfigError(f"trials: must be at least 1, got {trials}")
    generator = np.random.default_rng(seed)
    done: list[Trial[B]] = []
    for number in range(trials if config_type.search_space() else 1):
        started = time.perf_counter()
        config = config_type() if number == 0 else config_type.sample(generator)
        result = evaluate(config.fit(train), cases, protocol, name=config_type.__name__)
        if metric not in result.metrics:
            raise ConfigError(f"metric '{metric}' is not among {', '.join(result.metrics)}")
        done.append(Trial(config, result.metrics, time.perf_counter() - started))
    best = max(done, key=lambda trial: trial.metrics[metric])
    return TuningResult(best.config, best.metrics[metric], metric, tuple(done))
