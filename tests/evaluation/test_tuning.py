"""Tuning: seeded, on validation alone, never worse than the default there."""

import numpy as np
import pytest

from moerec.errors import ConfigError
from moerec.evaluation.evaluate import evaluate
from moerec.evaluation.protocols import ProtocolConfig
from moerec.evaluation.tuning import tune
from moerec.models.baselines import ItemTransitionsConfig, PopularityConfig, TrainHistories

from .scorers import random_cases

VALID = ProtocolConfig(part="valid")


def histories_of(cases):
    return TrainHistories(cases.history_items, cases.history_offsets, None, num_indices=42)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    cases = random_cases(protocol=VALID)
    train = histories_of(cases)
    first, again, other = (tune(ItemTransitionsConfig, 4, train, cases, VALID, seed=seed) for seed in (1, 1, 2))
    assert [trial.config for trial in first.trials] == [trial.config for trial in again.trials]
    assert [trial.metrics for trial in first.trials] == [trial.metrics for trial in again.trials]
    assert first.trials[1].config != other.trials[1].config


def test_the_best_trial_is_kept_and_the_first_is_the_default():
    cases = random_cases(protocol=VALID)
    train = histories_of(cases)
    result = tune(ItemTransitionsConfig, 6, train, cases, VALID, metric="hr@5")
    values = [trial.metrics["hr@5"] for trial in result.trials]
    assert result.trials[0].config == ItemTransitionsConfig()
    assert result.value == max(values)
    assert result.best == result.trials[int(np.argmax(values))].config
    assert evaluate(result.best.fit(train), cases, VALID).metrics["hr@5"] == result.value


def test_a_baseline_without_settings_is_tried_once():
    cases = random_cases(protocol=VALID)
    assert len(tune(PopularityConfig, 30, histories_of(cases), cases, VALID).trials) == 1


def test_the_test_part_is_refused():
    cases = random_cases()
    with pytest.raises(ConfigError, match="validation part alone"):
        tune(PopularityConfig, 1, histories_of(cases), cases, ProtocolConfig())


def test_an_unknown_metric_is_refused():
    cases = random_cases(protocol=VALID)
    with pytest.raises(ConfigError, match="'ndcg@11' is not among"):
        tune(PopularityConfig, 1, histories_of(cases), cases, VALID, metric="ndcg@11")
