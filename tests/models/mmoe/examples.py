"""Small models with random parameters, the guide's own modules, and data in which two tasks need different inputs.

Shape letters: B rows, I input width, E experts, T tasks.
"""

import torch
from torch import nn
from torch.nn import functional as F

from moerec.models.mmoe import MMoEModel, MMoERecommendationModel

TASKS = ["classification", "regression"]


class SignalExpert(nn.Module):
    """The guide's convolution: it reads channels, [B, channels, length]."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.slide = nn.Conv1d(channels, 6, kernel_size=3)
        self.out = nn.Linear(6, width)

    def forward(self, x):
        return self.out(F.relu(self.slide(x)).mean(2))


class BatchAttentionGate(nn.Module):
    """The guide's attention gate: rows attend to the other rows of the batch."""

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads=8)
        self.score = nn.Linear(width, experts)

    def forward(self, x):
        return torch.softmax(self.score(self.attention(x, x, x)[0]), dim=-1)


def shaken(model):
    """Random parameters everywhere, as after a training: nothing is hidden behind a zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def small(**changes) -> MMoEModel:
    torch.manual_seed(0)
    fields = {"input_dim": 10, "expert_hidden_dims": [12, 8], "tower_hidden_dims": [6, 5]} | changes
    return shaken(MMoEModel(**fields))


def small_recommender(**changes) -> MMoERecommendationModel:
    torch.manual_seed(0)
    fields = {"embedding_dim": 4, "expert_hidden_dims": [8], "tower_hidden_dims": [6]} | changes
    return shaken(MMoERecommendationModel(20, 30, **fields))


def planted(rows: int = 768) -> tuple[torch.Tensor, torch.Tensor]:
    """A yes or no that hangs on the first half of the inputs, a number that hangs on the second; some are unknown."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(rows, 8, generator=generator)  # [B, I]
    like = ((x[:, 0] * x[:, 1] + x[:, 2]) > 0).float()
    number = torch.sin(2 * x[:, 4]) + x[:, 5] * x[:, 6]
    targets = torch.stack([like, number], dim=1)  # [B, T]
    targets[torch.rand(targets.shape, generator=generator) < 0.2] = torch.nan
    return x, targets
