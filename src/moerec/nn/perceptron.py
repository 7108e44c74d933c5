"""Hidden layers, one after another: what bottoms, heads and gates are made of.

Shape letters: N rows, I input width, H width of the last hidden layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from moerec.nn.dropout import Dropout


def perceptron(
    width_in: int,
    hidden: Sequence[int],
    dropout: float | None = None,
    activation: Callable[[], nn.Module] = nn.GELU,
) -> nn.Sequential:
    """Hidden layers [N, I] -> [N, H], each with an activation; no layer at all gives the rows back.

    Args:
        width_in: I.
        hidden: the width of each layer; the last is H.
        dropout: share of hidden values set to 0 in training; None for layers without dropout.
        activation: makes the activation.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(width_in, width), activation()]
        if dropout is not None:
            layers.append(Dropout(dropout))
        width_in = width
    return nn.Sequential(*layers)
