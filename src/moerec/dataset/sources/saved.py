"""A data set that `Dataset.save` wrote, as a source: from frames in Python to a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moerec.config import Config
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import RawTables


class SavedConfig(Config):
    """A saved data set; its splits and candidate lists are left behind, the recipe makes its own."""

    path: str
    """Folder that holds dataset.json."""

    def describe(self) -> str:
        """One line that says what is read."""
        return f"saved data set {self.path}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The checksums of the tables, so that moving the folder changes nothing."""
        files = self._open().info.files
        return {
            name: files[name].sha256 for name in ("events.parquet", "users.parquet", "items.parquet") if name in files
        }

    def read(self) -> RawTables:
        """The tables in the source's own ids, events in their order."""
        dataset = self._open()
        events = dataset.events.drop("user", "item", "position").with_columns(
            dataset.user_ids(dataset.event_users).alias("user_id"),
            dataset.item_ids(dataset.event_items).alias("item_id"),
        )
        if not dataset.info.timestamps:
            events = events.drop("timestamp")
        return RawTables(
            events=events,
            users=dataset.users.drop("user", "first_event"),
            items=dataset.items.drop("item"),
            rejects=dataset.rejects,
            labels=dataset.info.labels,
            texts=dataset.info.texts,
            source=dataset.info.source | {"name": dataset.info.name, "licence": dataset.info.licence},
        )

    def _open(self) -> Dataset:
        return Dataset.open(Path(self.path).expanduser())
