"""Checkpoints on disk: whoever may read the run may read them."""

import os
from pathlib import Path

import torch
from torch import nn

from moerec.training.checkpoint import TrainingState, save_checkpoint


def test_no_file_of_a_checkpoint_is_private(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    names = dict(model.named_parameters())
    former = os.umask(0o022)
    try:
        average = dict(model.state_dict())
        save_checkpoint(tmp_path, ("last",), TrainingState("one"), model, optimizer, names, average, nn.Linear(1, 1))
    finally:
        os.umask(former)
    files = list((tmp_path / "last").resolve().iterdir())
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
