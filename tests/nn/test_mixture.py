"""Mixture fusion: what a gate and experts add to a sum."""

import torch
from torch.nn import functional as F

from moerec.nn.fusion import MixtureFusion


def test_fusion_learns_what_a_sum_cannot():
    """The target is one input or the other, depending on a third: a gate and experts fit it, a sum does not."""
    torch.manual_seed(0)
    inputs = torch.randn(512, 3, 4)
    target = torch.where(inputs[:, 2, :1] > 0, inputs[:, 0], inputs[:, 1])
    fusion = MixtureFusion(inputs=3, width=4, experts=3, hidden=32, dropout=0.0, temperature=1.0)
    optimizer = torch.optim.Adam(fusion.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss = F.mse_loss(fusion(inputs), target)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.25 * F.mse_loss(inputs.sum(1), target).item()
    assert fusion.gate_weights(inputs).std(0).max() > 0.05
