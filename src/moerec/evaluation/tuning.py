"""Seeded random search over a baseline's settings; it sees the validation part alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from moerec.batches.histories import TrainHistories
from moerec.errors import ConfigError
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import EvaluationCases, ProtocolConfig
from moerec.models.baselines.base import BaselineConfig, SearchableConfig

B = TypeVar("B", bound=BaselineConfig)
S = TypeVar("S", bound=SearchableConfig)


@dataclass(frozen=True)
class Trial(Generic[S]):
    """One setting and what it reached."""

    config: S
    """The setting."""
    metrics: dict[str, float]
    """Its validation metrics."""
    seconds: float
    """Fitting and evaluation."""


@dataclass(frozen=True)
class TuningResult(Generic[S]):
    """What the search found."""

    best: S
    """The setting with the best value, the earliest among equals."""
    value: float
    """Its value of the metric."""
    metric: str
    """What was maximised, or minimised if it is an error."""
    trials: tuple[Trial[S], ...]
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

    def judge(config: B) -> dict[str, float]:
        return evaluate(config.fit(train), cases, protocol, name=config_type.__name__).metrics

    return random_search(config_type, trials, judge, metric, seed)


def random_search(
    config_type: type[S],
    trials: int,
    judge: Callable[[S], dict[str, float]],
    metric: str,
    seed: int = 0,
    *,
    higher_is_better: bool = True,
) -> TuningResult[S]:
    """Judge the default setting and random ones, and keep the best.

    Args:
        config_type: what to search; without settings it is tried once.
        trials: settings to try.
        judge: fits a setting and gives its validation metrics.
        metric: the one that decides.
        seed: of the search; the same seed gives the same settings.
        higher_is_better: direction of the metric.

    Raises:
        ConfigError: fewer than one trial, or the metric is not among those of the judge.
    """
    if trials < 1:
        raise ConfigError(f"trials: must be at least 1, got {trials}")
    generator = np.random.default_rng(seed)
    done: list[Trial[S]] = []
    for number in range(trials if config_type.search_space() else 1):
        started = time.perf_counter()
        config = config_type() if number == 0 else config_type.sample(generator)
        metrics = judge(config)
        if metric not in metrics:
            raise ConfigError(f"metric '{metric}' is not among {', '.join(metrics)}")
        done.append(Trial(config, metrics, time.perf_counter() - started))
    sign = 1 if higher_is_better else -1
    best = max(done, key=lambda trial: sign * trial.metrics[metric])
    return TuningResult(best.config, best.metrics[metric], metric, tuple(done))
