"""RePlay's SASRec in its own environment; see sequence_worker.py.

Its module, Parquet loader and default transforms, as its documentation shows them. The variant `buckets` adds its
encoder for sequences of like length, which is not the default.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from replay.data import FeatureHint, FeatureSource, FeatureType
from replay.data.nn import TensorFeatureInfo, TensorFeatureSource, TensorSchema
from replay.data.nn.parquet import ParquetModule
from replay.nn.lightning import LightningModule
from replay.nn.lightning.optimizer import OptimizerFactory
from replay.nn.sequential import SasRec
from replay.nn.sequential.length_bucket import LengthBucketedQueryEncoder
from replay.nn.transform.template import make_default_sasrec_transforms
from sequence_worker import SequenceData, Vectors, Watch, padded, serve

FIRST = 2
"""Our first item; its items start at 0, and the index after the last is padding."""


class Watching(lightning.Callback):
    """Tells the watch of each batch and epoch."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """A step was made."""
        # A place without an item before it is no target, though its transform counts the first item of a short
        # history as one; it is predicted from padding alone.
        self.watch.after_batch(int((batch["padding_mask"] & batch["target_padding_mask"][..., 0]).sum()))

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """The loop has been through its data."""
        self.watch.after_epoch()


def schema_of(count: int, width: int) -> TensorSchema:
    """One sequence of items."""
    source = [TensorFeatureSource(FeatureSource.INTERACTIONS, "item_id")]
    return TensorSchema(
        [
            TensorFeatureInfo(
                "item_id",
                is_seq=True,
                feature_type=FeatureType.CATEGORICAL,
                embedding_dim=width,
                padding_value=count,
                cardinality=count,
                feature_hint=FeatureHint.ITEM_ID,
                feature_sources=source,
            )
        ]
    )


def train(data: SequenceData, settings: dict[str, Any], seed: int, watch: Watch) -> None:
    """Fit until the watch has seen enough."""
    torch.set_num_threads(settings["threads"])
    lightning.seed_everything(seed)
    count, length = len(data.trained) - FIRST, settings["length"]
    schema = schema_of(count, settings["width"])
    model = SasRec.from_params(
        schema,
        embedding_dim=settings["width"],
        num_heads=settings["heads"],
        num_blocks=settings["blocks"],
        max_sequence_length=length,
        **settings["options"],
    )
    if settings["variant"] == "buckets":
        model.body.encoder = LengthBucketedQueryEncoder(model.body.encoder, bucket_size=32)

    def represent(part: str) -> Vectors:
        cases = data.cases[part]
        block, lengths = padded(cases.items, cases.offsets, length)
        real = np.arange(length) >= length - lengths[:, None]
        ids, mask = torch.from_numpy(np.where(real, block - FIRST, count)), torch.from_numpy(real)
        model.eval()
        with torch.no_grad():
            users = torch.cat(
                [
                    model({"item_id": ids[first : first + 256]}, mask[first : first + 256])["hidden_states"][0][:, -1]
                    for first in range(0, len(ids), 256)
                ]
            )
            items = np.zeros((count + FIRST, users.shape[1]), np.float32)
            items[FIRST:] = model.get_logits(torch.eye(users.shape[1])).T.numpy()
        model.train()
        return users.numpy(), items

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "limit_val_batches": 0}
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, enable_model_summary=False, callbacks=[Watching(watch)], **quiet
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.parquet"
        # One event more than the model reads: the transform shifts the positives out of the same list.
        recent = [history[-length - 1 :] - FIRST for history in data.histories()]
        pq.write_table(pa.table({"item_id": pa.array(recent, pa.list_(pa.int64()))}), path)
        module = ParquetModule(
            batch_size=settings["batch"],
            metadata={"train": {"item_id": {"shape": length + 1, "padding": count}}},
            transforms={"train": make_default_sasrec_transforms(schema)["train"]},
            train_path=str(path),
        )
        watch.begin(sum(parameter.numel() for parameter in model.parameters()), represent)
        trainer.fit(LightningModule(model, OptimizerFactory()), datamodule=module)


if __name__ == "__main__":
    serve(train, "replay-rec", "torch", "lightning", "numpy")
