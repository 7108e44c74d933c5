"""The device that a name stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moerec.errors import ConfigError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ConfigError: torch does not know the name, or the machine has no such device.
    """
    import torch

    if name == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((device for device, usable in available.items() if usable), "cpu")
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"device '{name}' cannot be used ({reason}); try 'auto' or 'cpu'") from None
