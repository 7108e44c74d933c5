"""The step hook of loss-free balance: after each update the selection biases move against the load."""

from __future__ import annotations

import torch.distributed
from torch import nn

from moerec.nn.gates import Gate
from moerec.training.hooks import Hook, Moment


class LossFreeBalance(Hook):
    """Moves the bias of every gate that balances that way (Wang et al. 2024), outside of forward and gradient."""

    def after_step(self, moment: Moment) -> None:
        """Count what all ranks selected in this update, then move the biases of the gates that train."""
        for gate in free_gates(moment.model):
            assert gate.load is not None
            if not any(parameter.requires_grad for parameter in gate.parameters()):
                gate.load.zero_()
                continue
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.all_reduce(gate.load)
            gate.move_bias()


def free_gates(model: nn.Module) -> list[Gate]:
    """The gates of a model that balance without a loss, in the order of the model."""
    return [module for module in model.modules() if isinstance(module, Gate) and module.bias is not None]
