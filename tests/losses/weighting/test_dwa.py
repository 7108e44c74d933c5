"""Dynamic weight average: the formula, epoch by epoch."""

import math

import pytest
import torch

from tests.losses.weighting.updates import build, tasks, update_of


def see(weighting, losses: dict[str, float], counts: dict[str, int] | None = None) -> None:
    """One update in which each task has this summed loss."""
    sums = {name: torch.tensor(loss, requires_grad=True) * 1 for name, loss in losses.items()}
    weighting.backward(update_of(sums, counts or dict.fromkeys(losses, 1)))


def expected(ratios: list[float], temperature: float) -> list[float]:
    exponentials = [math.exp(ratio / temperature) for ratio in ratios]
    return [len(ratios) * one / sum(exponentials) for one in exponentials]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_factors_are_those_of_the_formula(temperature):
    weighting = build("dwa", tasks("a", "b", "c"), temperature=temperature)
    epochs = [(4.0, 1.0, 2.0), (2.0, 0.9, 2.0), (1.0, 0.9, 3.0), (1.0, 0.3, 3.0)]
    for number, means in enumerate(epochs):
        if number < 2:
            assert weighting.factors().tolist() == [1, 1, 1]
        else:
            ratios = [last / before for last, before in zip(epochs[number - 1], epochs[number - 2], strict=True)]
            assert weighting.factors().tolist() == pytest.approx(expected(ratios, temperature))
        for part in (0.5, 1.5):  # the mean over the epoch counts, not the last update
            see(weighting, {name: part * mean for name, mean in zip("abc", means, strict=True)})
        weighting.end_of_epoch()


def test_a_mean_is_over_rows_and_not_over_updates():
    weighting = build("dwa", tasks("a", "b"))
    see(weighting, {"a": 10.0, "b": 1.0}, {"a": 10, "b": 1})
    see(weighting, {"a": 6.0, "b": 3.0}, {"a": 2, "b": 1})
    weighting.end_of_epoch()
    assert weighting.last.tolist() == pytest.approx([16 / 12, 2])


def test_an_epoch_without_a_row_of_a_task_is_none_for_it():
    weighting = build("dwa", tasks("a", "b"), temperature=1.0)
    for a, b in ((4.0, 2.0), (2.0, 1.0)):
        see(weighting, {"a": a, "b": b})
        weighting.end_of_epoch()
    see(weighting, {"a": 0.5, "b": 0.0}, {"a": 1, "b": 0})
    weighting.end_of_epoch()
    assert weighting.factors().tolist() == pytest.approx(expected([0.25, 0.5], 1.0))


def test_a_loss_of_zero_is_no_nan():
    weighting = build("dwa", tasks("a", "b"))
    for _ in range(3):
        see(weighting, {"a": 0.0, "b": 1.0})
        weighting.end_of_epoch()
    assert weighting.factors().tolist() == [1, 1]
