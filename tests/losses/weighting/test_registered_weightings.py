"""One test over every registered weighting: it moves, it takes no part of what is not there, it is no worse than fixed.

Shape letters: N rows, F inputs.
"""

import pytest
import torch
from torch import nn

from moerec.losses.weighting import TaskLosses, Update
from moerec.tasks import TaskConfig
from tests.losses.weighting.updates import BALANCING, EVERY, build, optimise, tasks, update_of

ROWS = {"a": 12, "b": 7, "c": 3}


class Small(nn.Module):
    """One shared layer, and a number of its own for each task."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Linear(5, 4)
        self.heads = nn.ModuleDict({name: nn.Linear(4, 1) for name in ROWS})
        self.x, self.y = torch.randn(12, 5), torch.randn(12)

    def sums(self, start: int, end: int) -> dict[str, torch.Tensor]:
        """Summed losses of some rows; task b has labels on the first 7 only, c on the first 3."""
        vectors = torch.tanh(self.shared(self.x[start:end]))  # [N, 4]
        found = {}
        for name, last in ROWS.items():
            known = torch.arange(start, end) < last
            errors = self.heads[name](vectors).squeeze(1) - self.y[start:end] * (1 + len(found))
            found[name] = (errors.square() * known).sum()
        return found

    def update(self, *borders: int, counts: dict[str, int] | None = None, **fields: object) -> Update:
        passes = [self.sums(start, end) for start, end in zip((0, *borders), (*borders, 12), strict=True)]
        return update_of(passes, counts or ROWS, list(self.parameters()), shared_layer=(self.shared.weight,), **fields)


def gradients(kind: str, of: tuple[TaskConfig, ...], *borders: int, **fields: object) -> dict[str, torch.Tensor | None]:
    """What one update leaves, in the model and in the weighting."""
    torch.manual_seed(3)
    model, weighting = Small(), build(kind, of)
    weighting.backward(model.update(*borders, **fields))
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return found | {f"own.{name}": parameter.grad for name, parameter in weighting.named_parameters()}


@pytest.mark.parametrize("kind", EVERY)
def test_micro_batches_equal_one_large_batch(kind):
    """Although the second and third have no row of some tasks."""
    whole, parts = gradients(kind, tasks(*ROWS)), gradients(kind, tasks(*ROWS), 4, 9)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert all(gradient.abs().sum() > 0 for name, gradient in whole.items() if not name.startswith("own"))


@pytest.mark.parametrize("kind", EVERY)
def test_a_task_of_weight_0_takes_no_part(kind):
    first, second, third = tasks(*ROWS)
    found = gradients(kind, (first, second, third.model_copy(update={"weight": 0.0})))
    for name, gradient in gradients(kind, (first, second)).items():
        if not name.startswith("heads.c"):
            torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("kind", EVERY)
def test_a_task_without_a_row_takes_no_part(kind):
    here = gradients(kind, tasks(*ROWS), counts={"a": 12, "b": 7, "c": 0})
    for name, gradient in gradients(kind, tasks("a", "b")).items():
        if kind != "fixed" and not name.startswith(("own", "heads.c")):
            torch.testing.assert_close(here[name], gradient)
    assert all(gradient is None or torch.isfinite(gradient).all() for gradient in here.values())


@pytest.mark.parametrize("kind", EVERY)
def test_the_weight_of_the_recipe_multiplies_the_loss(kind):
    first, second, third = tasks(*ROWS)
    heavy = gradients(kind, (first, second.model_copy(update={"weight": 5.0}), third))

    torch.manual_seed(3)
    model, weighting = Small(), build(kind, tasks(*ROWS))
    passes = [{name: loss * (5 if name == "b" else 1) for name, loss in model.sums(0, 12).items()}]
    weighting.backward(update_of(passes, ROWS, list(model.parameters()), shared_layer=(model.shared.weight,)))
    expected = {name: parameter.grad for name, parameter in model.named_parameters()}
    torch.testing.assert_close({name: heavy[name] for name in expected}, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", EVERY)
def test_what_belongs_to_no_task_is_added_as_it_is(kind):
    def with_extra(factor: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(3)
        model, weighting = Small(), build(kind, tasks(*ROWS))
        update = model.update()
        (losses,) = update.passes
        extra = factor * model.shared.weight.square().sum()
        weighting.backward(Update(**(vars(update) | {"passes": [TaskLosses(losses.tasks, extra)]})))
        return {name: parameter.grad for name, parameter in model.named_parameters()} | {"w": model.shared.weight.data}

    with_it, without = with_extra(6.0), with_extra(0.0)
    torch.testing.assert_close(
        with_it["shared.weight"], without["shared.weight"] + 6.0 / 12 * 2 * without["w"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("kind", EVERY)
def test_the_log_has_losses_weights_and_cosines(kind):
    model = Small()
    looks = {"log_cosines": True} if kind in ("fixed", "uncertainty", "dwa") else {}
    first, second, third = tasks(*ROWS)
    weighting = build(kind, (first.model_copy(update={"weight": 0.5}), second, third), **looks)
    total = sum(float(weighting.backward(model.update(is_logged=number == 1))) for number in range(2))
    record = weighting.record()
    sums = {name: float(loss.detach()) for name, loss in model.sums(0, 12).items()}
    assert record["losses"] == pytest.approx({name: loss / ROWS[name] for name, loss in sums.items()}, rel=1e-5)
    assert total == pytest.approx(2 * (sums["a"] / 2 + sums["b"] + sums["c"]), rel=1e-5)
    assert set(record["weights"]) == set(ROWS)
    if kind in ("fixed", "dwa", "gradnorm"):
        assert record["weights"] == {"a": 0.5, "b": 1, "c": 1}

    separate = [
        torch.autograd.grad(model.sums(0, 12)[name], model.shared.weight)[0].flatten() for name in ROWS
    ]  # fmt: skip
    for pair, (one, other) in {"a/b": (0, 1), "a/c": (0, 2), "b/c": (1, 2)}.items():
        cosine = torch.cosine_similarity(separate[one], separate[other], dim=0)
        assert record["cosines"][pair] == pytest.approx(float(cosine), abs=1e-5)
    # The next line of the log is about what comes next.
    weighting.backward(model.update())
    assert set(weighting.record()) == {"losses"}


# --- a planted pair: two numbers of the same inputs, which one output has to serve, one loss a hundred times the other


def planted(kind: str, steps: int = 160) -> tuple[float, list[dict[str, float]]]:
    """The mean over the tasks of (error / variance), and the weights on the way."""
    torch.manual_seed(0)
    x, noise = torch.randn(200, 6), torch.randn(200, 2)
    one, other = torch.randn(2, 6)
    one = one / one.norm()
    across = other - (other @ one) * one
    other = -0.6 * one + 0.8 * across / across.norm()
    y = torch.stack([x @ one, x @ other], dim=1) + noise  # [N, 2]
    slope, offsets = nn.Parameter(0.1 * torch.randn(6, 1)), nn.Parameter(torch.zeros(2))
    rate = {"learning_rate": 0.05} if kind in ("uncertainty", "gradnorm") else {}
    weighting, weights = build(kind, tasks("large", "small"), **rate), []

    def errors() -> torch.Tensor:
        return (x @ slope + offsets - y).square().mean(0)  # [2]

    def losses() -> dict[str, torch.Tensor]:
        found = errors()
        weights.append(weighting.record().get("weights", {}))
        return {"large": 100 * found[0], "small": found[1]}

    optimise(weighting, losses, [slope, offsets], steps=steps, learning_rate=0.05)
    return float((errors().detach() / y.var(0)).mean()), weights[1:]


@pytest.fixture(scope="module")
def fixed_error() -> float:
    return planted("fixed")[0]


@pytest.mark.parametrize("kind", BALANCING)
def test_it_moves_its_weights_and_is_no_worse_than_fixed(kind, fixed_error):
    error, weights = planted(kind)
    ratios = [each["small"] / each["large"] for each in weights]
    assert max(ratios) > 1.02 * min(ratios)
    # CAGrad ends at the minimum of the sum, and the factors of DWA where all stands still: they equal fixed.
    assert error <= (1 + 1e-4) * fixed_error
    if kind not in ("cagrad", "dwa"):
        assert error < 0.996 * fixed_error
