"""Multimodal Amazon reviews as they were published in archives: a source of examples with labels, but without times.

What can be learned from it is bounded by how it was made. The user's text sums up all of the user's reviews, the one
to be predicted among them, so it stands beside the events as a text that no event may read. There are no times, so no
split by time and no features of the past.
"""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path
from typing import Any

import polars as pl

from moerec.config import Config
from moerec.dataset.schema import REJECT_COLUMNS, RawTables
from moerec.dataset.shards.published import RefusedExample, read_published
from moerec.dataset.sources.source_files import SourceFile
from moerec.errors import DatasetError

LICENCE = "Amazon reviews, collected by the McAuley Lab (UC San Diego); published for research without a licence text"
EVENT_SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "timestamp": pl.Int64,
    "good": pl.Int8,
    "best": pl.Int8,
    "user_text": pl.String,
}


ITEM_SCHEMA = {"item_id": pl.String, "text": pl.String}


class PublishedShardsConfig(Config):
    """Archives `data-*-*.tar.gz` of multimodal Amazon reviews: labels good and best, texts of items; without times."""

    path: str
    """Folder that holds the archives."""
    pattern: str = "data-*-*.tar*"
    """Names of the archives; each gzipped or plain."""

    def read(self) -> RawTables:
        """Read all archives; broken ones and broken members are rejects.

        Raises:
            DatasetError: no archive is there, or no example is whole.
        """
        rows: list[tuple[Any, ...]] = []
        items: dict[str, str] = {}
        refused: list[tuple[str, int, str, str]] = []
        for file in self._files():
            for found in read_published(file, with_patches=False):
                if isinstance(found, RefusedExample):
                    refused.append((file.name, found.line, found.reason, json.dumps({"name": found.name})))
                    continue
                rows.append((found.user_id, found.item_id, None, found.good, found.best, found.user_text))
                items.setdefault(found.item_id, found.item_text)
        rejects = pl.DataFrame(refused, schema=REJECT_COLUMNS, orient="row")
        if not rows:
            first = f"; the first: {refused[0][0]}, member {refused[0][1]}: {refused[0][2]}" if refused else ""
            raise DatasetError(f"{self.path}: no example of any archive is whole{first}")
        return RawTables(
            events=pl.DataFrame(rows, schema=EVENT_SCHEMA, orient="row"),
            items=pl.DataFrame({"item_id": list(items), "text": list(items.values())}, schema_overrides=ITEM_SCHEMA),
            rejects=rejects,
            labels=("good", "best"),
            texts=("user_text",),
            source={
                "name": "published-shards",
                "source": "published_shards",
                "licence": LICENCE,
                "files": [file.identity() for file in self._files()],
            },
        )

    def describe(self) -> str:
        """One line that says what is read."""
        return f"published archives of multimodal Amazon reviews in {self.path}"

    def fingerprint_inputs(self) -> dict[str, Any]:
        """The content of the archives."""
        return {"source": "published_shards", "files": [file.identity() for file in self._files()]}

    def _files(self) -> list[SourceFile]:
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise DatasetError(f"{self.path} (key `path`): there is no such folder")
        names = sorted(path.name for path in folder.iterdir() if fnmatch.fnmatch(path.name, self.pattern))
        if not names:
            raise DatasetError(f"{self.path}: no archive is called {self.pattern}; put the archives there")
        return [SourceFile(folder / name) for name in names]
