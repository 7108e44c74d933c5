"""Evaluation and analysis: over all rows however they are cut into batches, against scikit-learn and plain means."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from moerec.errors import ConfigError, DatasetError
from moerec.models.mmoe import analyze_expert_weights, evaluate_multitask_model
from tests.models.mmoe.examples import TASKS, small, small_recommender


class Given(nn.Module):
    """A model whose predictions and gate weights are its inputs."""

    def forward(self, predictions, weights=None, return_expert_weights=False):
        outputs = [predictions[:, :1], predictions[:, 1:2], predictions[:, 2:]]
        return (outputs, [weights, 1 - weights]) if return_expert_weights else outputs


def judged_batches(rows: int = 103) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Predictions [B, 5] of three tasks (yes or no, number, one of three), and targets with gaps."""
    generator = torch.Generator().manual_seed(5)
    predictions = torch.randn(rows, 5, generator=generator).mul(4).round().div(4)  # ties, too
    yes = torch.randint(0, 2, (rows,), generator=generator).float()
    number = torch.randn(rows, generator=generator)
    choice = torch.randint(0, 3, (rows,), generator=generator)
    yes[::5], number[::7], choice[::9] = torch.nan, torch.nan, -100
    return predictions, [yes, number, choice]


@pytest.mark.parametrize("batch_size", [1, 10, 50, 103])
def test_metrics_are_those_of_all_rows_together(batch_size):
    """However the rows are cut into batches; the guide keeps the last batch's."""
    predictions, targets = judged_batches()
    batches = [
        (predictions[start : start + batch_size], [target[start : start + batch_size] for target in targets])
        for start in range(0, len(predictions), batch_size)
    ]
    found = evaluate_multitask_model(Given(), batches, ["classification", "regression", "classification"])
    yes, number, choice = (target.double().numpy() for target in targets)
    score, known = torch.sigmoid(predictions[:, 0].double()).numpy(), ~np.isnan(yes)
    shares, told = torch.softmax(predictions[:, 2:].double(), 1).numpy(), choice >= 0
    error = (predictions[:, 1].double().numpy() - number)[~np.isnan(number)]
    expected = {
        "task_0_acc": ((score >= 0.5) == (yes == 1))[known].mean(),
        "task_0_auc": sklearn_metrics.roc_auc_score(yes[known], score[known]),
        "task_0_log_loss": sklearn_metrics.log_loss(yes[known], score[known]),
        "task_0_rows": known.sum(),
        "task_1_mse": (error**2).mean(),
        "task_1_rmse": np.sqrt((error**2).mean()),
        "task_1_mae": np.abs(error).mean(),
        "task_1_rows": len(error),
        "task_2_acc": (shares.argmax(1) == choice)[told].mean(),
        "task_2_auc": sklearn_metrics.roc_auc_score(choice[told], shares[told], multi_class="ovr", average="macro"),
        "task_2_log_loss": sklearn_metrics.log_loss(choice[told], shares[told]),
        "task_2_rows": told.sum(),
    }
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_the_rows_do_not_define_is_nan_and_nothing_is_an_error():
    ones = [(torch.zeros(4, 5), [torch.ones(4), torch.full((4,), torch.nan), torch.zeros(4).long()])]
    found = evaluate_multitask_model(Given(), ones, {"yes": "classification", "n": "regression", "c": "classification"})
    assert found["yes_acc"] == 1
    assert np.isnan([found["yes_auc"], found["n_mse"], found["n_mae"], found["c_auc"]]).all()
    assert (found["yes_rows"], found["n_rows"]) == (4, 0)
    for judge in (lambda: evaluate_multitask_model(Given(), [], TASKS), lambda: analyze_expert_weights(Given(), [])):
        with pytest.raises(ConfigError, match="the data loader gives no batch"):
            judge()
    with pytest.raises(ConfigError, match="tasks: they are 2, and the model predicts 3"):
        evaluate_multitask_model(Given(), [(torch.zeros(4, 5), torch.zeros(4, 2))], TASKS)
    with pytest.raises(ConfigError, match="gives no targets"):
        evaluate_multitask_model(Given(), [torch.zeros(4, 5)], TASKS)
    broken = [(torch.full((4, 5), torch.nan), [torch.ones(4), torch.ones(4), torch.ones(4)])]
    with pytest.raises(DatasetError, match="task_0: predictions are NaN or infinite"):
        evaluate_multitask_model(Given(), broken, ["classification", "regression", "classification"])


@pytest.mark.parametrize("parts", [1, 4])
def test_expert_weights_are_joined_by_task_over_all_rows(parts, capsys):
    weights = torch.softmax(torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) * 3, dim=1)
    cut = list(zip(torch.zeros(30, 5).chunk(parts), weights.chunk(parts), torch.zeros(30, 3).chunk(parts), strict=True))
    found = analyze_expert_weights(Given(), cut, print_table=True)
    assert (found.rows, len(found)) == (30, 2)
    assert found[0].mean_weight == pytest.approx(weights.mean(0).tolist())
    assert found[1].mean_weight == pytest.approx((1 - weights).mean(0).tolist())
    assert found[0].load[0] == pytest.approx(float((weights[:, 0] > weights[:, 1]).float().mean()))
    assert found[0].entropy == pytest.approx(float(-(weights * weights.log()).sum(1).mean()), rel=1e-5)
    assert [use.dead for use in found] == [0, 0]
    printed = capsys.readouterr().out
    assert printed == f"{found}\n"
    assert f"{weights.mean(0)[0]:.3f}" in printed.splitlines()[1]


def test_every_form_of_batch_and_the_mode_of_the_model():
    model = small_recommender(num_dense_features=2).train()
    users, items, dense = torch.arange(12), torch.arange(12), torch.randn(12, 2)
    targets = torch.stack([torch.arange(12) % 2, torch.arange(12)], dim=1).float()
    by_task = {"like": targets[:, 0], "number": targets[:, 1]}
    found = [
        evaluate_multitask_model(model, DataLoader(TensorDataset(users, items, dense, targets), batch_size=5), TASKS),
        evaluate_multitask_model(model, [(users, items, dense, list(targets.unbind(1)))], TASKS),
        evaluate_multitask_model(model, [(users[:, None], items[:, None], dense, by_task)], TASKS),
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == found[1]
    assert model.training, "as it was"
    without = small_recommender()
    assert analyze_expert_weights(without, [(users, items, targets)]).rows == 12
    assert analyze_expert_weights(small(), DataLoader(TensorDataset(torch.randn(9, 10)), batch_size=4)).rows == 9
    assert analyze_expert_weights(small(), [torch.randn(9, 10)]).rows == 9
    assert not without.training
