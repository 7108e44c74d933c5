"""RecTools' SASRec and eSASRec (LiGR layers, sampled softmax) in their own environment; see sequence_worker.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from sequence_worker import SequenceData, Vectors, Watch, serve

VARIANTS: dict[str, dict[str, Any]] = {
    "sasrec": {"loss": "softmax"},
    "esasrec": {"transformer_layers_type": LiGRLayers, "loss": "sampled_softmax"},
}


class Watching(Callback):
    """Tells the watch of each batch and epoch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def __deepcopy__(self, memo: dict[int, Any]) -> Watching:
        return self  # RecTools copies its trainer before each fit

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """A step was made."""
        self.watch.after_batch(int((batch["y"] != 0).sum()))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """The loop has been through its data."""
        self.watch.after_epoch()


class Beginning(Watching):
    """The same, and tells the watch when the loop starts, with the model that RecTools built meanwhile."""

    def __init__(self, watch: Watch, data: SequenceData) -> None:
        super().__init__(watch)
        self.data = data
        self.model: SASRecModel | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """The model is built; RecTools draws its weights after this, before the first batch."""
        self.watch.begin(sum(p.numel() for p in module.parameters()), self.represent)

    def represent(self, part: str) -> Vectors:
        """The vectors whose products its `recommend` ranks, by the steps that it takes for them."""
        cases, model = self.data.cases[part], self.model
        assert model is not None
        # A history without any item that the model knows has no vector; zeros rank nothing before anything.
        known = Dataset.construct(frame(cases.items, cases.rows, cases.offsets))
        processed = model.data_preparator.transform_dataset_u2i(known, np.arange(len(cases)))
        loader = model.data_preparator.get_dataloader_recommend(processed, model.recommend_batch_size)
        found, vectors = model.lightning_model._get_user_item_embeddings(loader, "cpu")
        model.lightning_model.train()
        users = np.zeros((len(cases), found.shape[1]), np.float32)
        users[processed.user_id_map.get_external_sorted_by_internal().astype(np.int64)] = found.numpy()
        items = np.zeros((len(self.data.trained), found.shape[1]), np.float32)
        ids = model.data_preparator.get_known_item_ids().astype(np.int64)
        items[ids] = vectors.numpy()[model.data_preparator.get_known_items_sorted_internal_ids()]
        return users, items


def frame(items: np.ndarray, rows: np.ndarray, offsets: np.ndarray) -> pd.DataFrame:
    """Events as RecTools takes them; the place in the history stands for the time, so that equal times keep order."""
    places = np.arange(len(items)) - np.repeat(offsets[:-1], np.diff(offsets))
    times = pd.to_datetime(places, unit="s")
    return pd.DataFrame({Columns.User: rows, Columns.Item: items, Columns.Weight: 1.0, Columns.Datetime: times})


def train(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """Fit until the watch has seen enough."""
    torch.set_num_threads(settings["threads"])
    seed_everything(seed)
    watching = Beginning(watch, data)

    def trainer() -> Trainer:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, enable_model_summary=False, callbacks=[watching], **quiet
        )

    options = VARIANTS[settings["variant"]] | settings["options"]
    watching.model = SASRecModel(
        n_factors=settings["width"],
        n_blocks=settings["blocks"],
        n_heads=settings["heads"],
        session_max_len=settings["length"],
        batch_size=settings["batch"],
        get_trainer_func=trainer,
        **options,
    )
    watching.model.fit(Dataset.construct(frame(data.items, data.rows, data.offsets)))


if __name__ == "__main__":
    serve(train, "rectools", "torch", "pytorch-lightning", "numpy")
