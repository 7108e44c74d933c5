"""RecBole's SASRec in its own environment; see sequence_worker.py.

RecBole 1.2.1 asks for no upper bound of NumPy, but works with names that NumPy 2 removed, so its environment has 1.26.
Its trainer writes TensorBoard files and saves checkpoints; both are off here, by its own options or in this process.
Each target is a sequence of its own, with all of its history before it: that is how RecBole augments.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.utils import get_dataloader
from recbole.model.sequential_recommender import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_seed
from sequence_worker import SequenceData, Vectors, Watch, padded, serve


class Watched:
    """Its loader of train batches, which tells the watch of each batch and epoch; all else is passed on."""

    def __init__(self, loader: Any, watch: Watch) -> None:
        self.loader, self.watch = loader, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            yield batch
            self.watch.after_batch(len(batch))  # the step on it was made before the next batch is asked for
        self.watch.after_epoch()


def write_events(data: SequenceData, folder: Path) -> None:
    """Its atomic file; the place in the history stands for the time, so that events of equal times keep their order."""
    home = folder / "events"
    home.mkdir()
    places = np.arange(len(data.items)) - np.repeat(data.offsets[:-1], np.diff(data.offsets))
    with (home / "events.inter").open("w") as stream:
        stream.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for user, item, place in zip(data.rows, data.items, places, strict=True):
            stream.write(f"{user}\t{item}\t{place}\n")


def settings_of(settings: dict[str, Any], seed: int, folder: Path) -> dict[str, Any]:
    """The configuration: what is asked for, no valid part of its own, no files."""
    return {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "TO", "group_by": "user", "mode": "full"},
        "MAX_ITEM_LIST_LENGTH": settings["length"],
        "hidden_size": settings["width"],
        "n_layers": settings["blocks"],
        "n_heads": settings["heads"],
        "train_batch_size": settings["batch"],
        "train_neg_sample_args": None,  # its SASRec takes none with cross-entropy
        "epochs": 1_000_000,
        "seed": seed,
        "use_gpu": False,
        "show_progress": False,
    } | settings["options"]


def train(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """Fit until the watch has seen enough."""
    torch.set_num_threads(settings["threads"])
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_events(data, folder)
        os.chdir(folder)  # its TensorBoard writer makes a folder where it is started
        sys.argv = sys.argv[:1]  # it reads its configuration from the command line too
        try:
            config = Config(model="SASRec", dataset="events", config_dict=settings_of(settings, seed, folder))
            init_seed(config["seed"], config["reproducibility"])
            dataset = create_dataset(config)
            part = dataset.build()[0]
            loader = get_dataloader(config, "train")(config, part, None, shuffle=config["shuffle"])
            torch.set_num_threads(settings["threads"])
            model = SASRec(config, loader._dataset).to(config["device"])
            ids = np.array([-1, *map(int, dataset.field2id_token["item_id"][1:])])  # its item -> ours

            def represent(part: str) -> Vectors:
                return vectors(model, data, part, ids, settings["length"])

            watch.begin(sum(parameter.numel() for parameter in model.parameters()), represent)
            Trainer(config, model).fit(Watched(loader, watch), saved=False, verbose=False, show_progress=False)
        finally:
            os.chdir(here)


def vectors(model: SASRec, data: SequenceData, part: str, ids: np.ndarray, length: int) -> Vectors:
    """Users and items, whose products its `full_sort_predict` ranks; it pads on the right."""
    cases = data.cases[part]
    theirs = np.zeros(len(data.trained), np.int64)
    theirs[ids[1:]] = np.arange(1, len(ids))
    kept = theirs[cases.items] > 0  # events of items that it never met are left out, as for every rival
    offsets = np.concatenate([[0], np.cumsum(kept)])[cases.offsets]
    block, lengths = padded(theirs[cases.items[kept]], offsets, length)
    block = np.stack([np.roll(row, count) for row, count in zip(block, lengths, strict=True)])
    sequences, counts = torch.from_numpy(block), torch.from_numpy(np.maximum(lengths, 1))
    model.eval()
    with torch.no_grad():
        users = torch.cat(
            [
                model.forward(sequences[first : first + 256], counts[first : first + 256])
                for first in range(0, len(sequences), 256)
            ]
        )
    model.train()
    items = np.zeros((len(data.trained), users.shape[1]), np.float32)
    items[ids[1:]] = model.item_embedding.weight.detach().numpy()[1:]
    return users.numpy(), items


if __name__ == "__main__":
    serve(train, "recbole", "torch", "numpy")
