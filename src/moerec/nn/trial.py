"""Modules of a user's own, tried once when a model is made, so that what does not fit is told then and in one line.

Shape letters: N rows, I input width.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from moerec.errors import ConfigError, MoerecError
from moerec.nn.gating import Gating

Made = TypeVar("Made")
TRIED_ROWS = 3


def made_by(maker: object, method: str, make: Callable[[], Made]) -> Made:
    """What a method of a user's class makes.

    Raises:
        ConfigError: it raises an error; the message has the line of the user's file.
    """
    try:
        return make()
    except MoerecError:
        raise
    except Exception as error:
        name, module = type(maker).__name__, sys.modules.get(type(maker).__module__)
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == getattr(module, "__file__", None)]
        place = (own or frames)[-1]
        raise ConfigError(
            f"{name}.{method} raises {type(error).__name__}: {first_line(error)} "
            f"({Path(place.filename).name}, line {place.lineno}); mend it there"
        ) from error


@torch.no_grad()
def tried(name: str, module: nn.Module, width_in: int, wanted: str) -> Any:
    """What a module gives for a few rows, in evaluation; a warning if the rows see each other.

    Args:
        name: what messages call it.
        module: reads rows [N, I].
        width_in: I.
        wanted: what it should give, in words.

    Raises:
        ConfigError: it cannot read the rows.
    """
    like = next((parameter for parameter in module.parameters()), torch.zeros(0))
    # Numbers of a formula, so that the global random state stays as it is.
    count = TRIED_ROWS * width_in
    rows = torch.linspace(-1, 1, count, device=like.device).sin().view(width_in, TRIED_ROWS).T.contiguous()  # [N, I]
    training = module.training
    module.eval()
    try:
        together, alone = module(rows), module(rows[:1])
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError, AttributeError, NameError) as error:
        raise ConfigError(
            f"{name}: it cannot read rows [{TRIED_ROWS}, {width_in}] ({first_line(error)}); it must give {wanted}, and "
            "nn.Unflatten(1, (1, -1)) makes a signal of one channel of a row"
        ) from error
    finally:
        module.train(training)
    first, single = (said.weights if isinstance(said, Gating) else said for said in (together, alone))
    comparable = isinstance(first, Tensor) and isinstance(single, Tensor) and first[:1].shape == single.shape
    if comparable and not torch.allclose(first[:1], single, atol=1e-4, rtol=1e-3):
        warnings.warn(
            f"{name} lets the rows of a batch see each other, so a prediction hangs on which other rows are asked "
            "for at the same time; attend within a row, as moerec.nn.gates.AttentionGateConfig does",
            stacklevel=5,
        )
    return together


def shape_of(output: Any) -> str:
    """The shape of what a module gave, or what else it is."""
    return str(list(output.shape)) if isinstance(output, Tensor) else type(output).__name__


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
