"""Heads start at what the train rows say."""

import math

import pytest
import torch

from moerec.nn.heads import TaskHead, perceptron
from moerec.tasks import TaskConfig, TaskStatistics

LIKE = TaskConfig(name="like", label="like")
RATING = TaskConfig(name="rating", label="rating", type="regression")


@pytest.mark.parametrize(("share", "logit"), [(0.5, 0.0), (0.2, math.log(0.25)), (0.0, -9.21), (1.0, 9.21)])
def test_a_binary_head_of_nothing_says_the_share_of_positives(share, logit):
    head = TaskHead(LIKE, TaskStatistics(share, 1.0), 4, (3,), 0.0)
    torch.nn.init.zeros_(head.out.weight)
    torch.testing.assert_close(head(torch.randn(5, 4)), torch.full((5,), logit), atol=1e-2, rtol=0)


def test_a_regression_head_speaks_in_the_unit_of_the_label():
    torch.manual_seed(0)
    plain = TaskHead(RATING, TaskStatistics(0.0, 1.0), 4, (3,), 0.0)
    scaled = TaskHead(RATING, TaskStatistics(50.0, 7.0), 4, (3,), 0.0)
    scaled.load_state_dict(plain.state_dict() | {"mean": torch.tensor(50.0), "deviation": torch.tensor(7.0)})
    x = torch.randn(5, 4)
    torch.testing.assert_close(scaled(x), 50 + 7 * plain(x))


def test_mean_and_deviation_are_saved_with_the_weights():
    head = TaskHead(RATING, TaskStatistics(50.0, 7.0), 4, (), 0.0)
    assert {name: float(head.state_dict()[name]) for name in ("mean", "deviation")} == {"mean": 50, "deviation": 7}
    assert not {"mean", "deviation"} & dict(head.named_parameters()).keys()


def test_a_perceptron_without_layers_is_the_identity():
    x = torch.randn(2, 3)
    torch.testing.assert_close(perceptron(3, (), 0.5)(x), x)
    assert perceptron(3, (8, 5), 0.0)(x).shape == (2, 5)
