"""Rows for new ids, in the middle of a training; and a training on a stream that is killed and goes on."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from moerec.engines.stream_parts import StreamParts, TrainingPosition, new_examples
from moerec.features.growing_ids import GrowingIds
from moerec.training.growth import grow_rows


def test_ids_keep_their_numbers():
    ids = GrowingIds(["b", "a", "b"])
    assert ids.numbers(["a", "b", "c"]).tolist() == [3, 2, 1]
    assert ids.add(["c", "a", "d", "c"]) == 2
    assert ids.numbers(["d", "c", "a"]).tolist() == [5, 4, 3]
    assert ids.num_indices == 6
    assert GrowingIds(ids.ids).numbers(list("abcd")).tolist() == ids.numbers(list("abcd")).tolist()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
def test_growing_changes_nothing_for_the_rows_that_are_there(kind):
    """A table that grew in between trains its old rows as one that never did."""
    torch.manual_seed(0)
    small, whole = nn.Embedding(5, 3), nn.Embedding(5, 3)
    whole.load_state_dict(small.state_dict())
    extra = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizers = [kind(table.parameters(), lr=0.1, **extra) for table in (small, whole)]
    for step in range(6):
        if step == 3:
            before = small.weight[1].detach().clone()
            grow_rows(small, "weight", 8, optimizers[0])
            assert torch.equal(small.weight[5:], before.expand(3, 3))
            grow_rows(small, "weight", 8, optimizers[0])
            assert small.num_embeddings == len(small.weight) == 8
        for table, optimizer in zip((small, whole), optimizers, strict=True):
            optimizer.zero_grad()
            table(torch.tensor([1, 2, 4, 2])).pow(2).sum().backward()
            optimizer.step()
    assert torch.equal(small.weight[:5], whole.weight)
    optimizers[0].zero_grad()
    small(torch.tensor([7])).sum().backward()
    last = small.weight[7].detach().clone()
    optimizers[0].step()
    assert not torch.equal(small.weight[7], last)


class Training:
    """A factorisation that learns `good` from the examples of a stream; its checkpoint holds all it needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        torch.manual_seed(0)
        self.tables = nn.ModuleDict({"user_id": nn.Embedding(2, 4), "item_id": nn.Embedding(2, 4)})
        self.ids = {name: GrowingIds() for name in self.tables}
        self.position = TrainingPosition()
        self.optimizer = torch.optim.Adam(self.tables.parameters(), lr=0.05)
        if (folder / "checkpoint.json").is_file():
            self._load()

    def take(self, examples: pl.DataFrame) -> None:
        """One update."""
        score = torch.ones(examples.height, 4)
        for name, table in self.tables.items():
            self.ids[name].add(examples[name])
            grow_rows(table, "weight", self.ids[name].num_indices, self.optimizer)
            score = score * table(torch.from_numpy(self.ids[name].numbers(examples[name].to_list())))
        self.optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(score.sum(1), torch.tensor(examples["good"].to_list()).float()).backward()
        self.optimizer.step()

    def save(self) -> None:
        """Weights and the optimizer's moments as tensors, all else as JSON."""
        state = self.optimizer.state_dict()["state"]
        tensors = {f"{k}.{name}": value for k, entry in state.items() for name, value in entry.items()}
        save_file(self.tables.state_dict() | tensors, self.folder / "checkpoint.safetensors")
        told = {"position": self.position.model_dump(), "ids": {name: ids.ids for name, ids in self.ids.items()}}
        (self.folder / "checkpoint.json").write_text(json.dumps(told))

    def _load(self) -> None:
        told = json.loads((self.folder / "checkpoint.json").read_text())
        self.position = TrainingPosition(**told["position"])
        self.ids = {name: GrowingIds(ids) for name, ids in told["ids"].items()}
        for name, table in self.tables.items():
            grow_rows(table, "weight", self.ids[name].num_indices, self.optimizer)
        tensors = load_file(self.folder / "checkpoint.safetensors")
        self.tables.load_state_dict({name: tensors.pop(name) for name in self.tables.state_dict()})
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, value in tensors.items():
            number, _, entry = name.partition(".")
            state.setdefault(int(number), {})[entry] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})


def write_part(out: Path, number: int) -> None:
    """Examples whose ids become more from part to part."""
    generator = torch.Generator().manual_seed(number)
    users, items, good = (torch.randint(high, (11,), generator=generator).tolist() for high in (3 * number, 9, 2))
    frame = pl.DataFrame({"user_id": [f"u{k}" for k in users], "item_id": [f"i{k}" for k in items], "good": good})
    parts = StreamParts(out)
    parts.write(number, {"examples": frame})
    parts.show(number)


def trained(folder: Path, draw: random.Random | None) -> Training:
    """A training that follows a stream; with a draw it dies now and then, before or after its checkpoint."""
    folder.mkdir()
    training = Training(folder)
    for part in range(1, 5):
        write_part(folder / "out", part)
        dead = True
        while dead:
            dead = False
            for new in new_examples(folder / "out", training.position, rows=4):
                training.take(new.frame)
                training.position = new.position
                if draw is None or draw.random() < 0.7:
                    training.save()
                if draw is not None and draw.random() < 0.4:
                    training, dead = Training(folder), True
                    break
    return training


@pytest.mark.parametrize("seed", range(3))
def test_a_training_goes_on_with_a_stream_and_new_ids_wherever_it_was_killed(tmp_path, seed):
    """It ends with the bits of one that was not."""
    whole, killed = trained(tmp_path / "whole", None), trained(tmp_path / "killed", random.Random(seed))
    assert whole.ids["user_id"].num_indices > 10
    assert killed.position == whole.position == TrainingPosition(part=4)
    for name, table in killed.tables.items():
        assert killed.ids[name].ids == whole.ids[name].ids
        assert torch.equal(table.weight, whole.tables[name].weight)
