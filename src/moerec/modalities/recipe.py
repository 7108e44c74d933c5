"""Modalities as they stand in a recipe; `build` makes the store of one for a catalogue.

modalities:
  text:   {kind: text, fields: [title, {column: genres, separator: "|"}], encoder: all-MiniLM-L6-v2}
  poster: {kind: image, folder: posters, encoder: efficientnet-lite0}
  given:  {kind: vectors, path: vectors.npy, ids: ids.csv}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from moerec.config import Config
from moerec.errors import ConfigError, DatasetError
from moerec.files import fingerprint, sha256_of_file
from moerec.modalities.cache import Vectors
from moerec.modalities.cells import require_columns, single_values
from moerec.modalities.encode import TextEncoderConfig, encode_texts
from moerec.modalities.encoders import Progress
from moerec.modalities.fetch_config import FetchConfig
from moerec.modalities.given import align, read_item_ids, read_matrix
from moerec.modalities.image_encoders import ImageEncoderConfig, encode_images
from moerec.modalities.images import Location, by_cell, by_item_id, fetch_locations
from moerec.modalities.local_files import local_place, with_texts_of_files
from moerec.modalities.store import ModalityStore, catalogue_ids, store_from_rows
from moerec.modalities.text import TextConfig, compose_texts

Encoded = tuple[Vectors, list[str | None]]
"""A vector for each item, [n, D], and why it has none; None where it has one."""


class TextModalityConfig(TextConfig):
    """Texts composed from columns of the item table, encoded into vectors."""

    kind: Literal["text"] = "text"
    """The kind of modality."""
    files: dict[str, Path] = Field(default_factory=dict)
    """More columns for the fields, each from a JSON file: one object of item ids and texts. A relative path that is not
    there is looked for under MOEREC_MIRROR."""
    encoder: TextEncoderConfig = TextEncoderConfig()
    """Name of the encoder, or its settings."""

    def inputs(self) -> dict[str, Any]:
        """What decides the vectors beside the item table, as plain data.

        Raises:
            ConfigError: a file of texts is missing.
        """
        files = {
            name: sha256_of_file(local_place(path, f"modalities.text.files.{name}"))
            for name, path in self.files.items()
        }
        return {
            "kind": self.kind,
            "fields": self.model_dump(mode="json")["fields"],
            "encoder": self.encoder.fingerprint(),
        } | ({"files": files} if files else {})

    def build(self, items: pl.DataFrame, cache: Path, progress: Progress | None = None) -> ModalityStore:
        """Compose, encode what the cache lacks, and align with the catalogue.

        Args:
            items: the item table, in the order of the item index.
            cache: folder of vectors by content; it may serve any number of data sets.
            progress: called with the number of distinct texts done and their total.

        Raises:
            ConfigError: a column or the encoder is not to be had.
            DatasetError: no item has a text, or the table is not in order.
        """
        item_ids = catalogue_ids(items)
        vectors, reasons = self.encode(items, cache, progress)
        metadata = {"encoder": self.encoder.name, "inputs": self.inputs()}
        return store_from_rows(vectors, reasons, item_ids, metadata)

    def encode(self, items: pl.DataFrame, cache: Path, progress: Progress | None = None) -> Encoded:
        """The vectors of any items, and why one has none; see `build`."""
        texts = compose_texts(with_texts_of_files(items, self.files, "modalities.text"), self)
        reasons = ["no text" if text is None else None for text in texts.to_list()]
        encoded = encode_texts(texts.drop_nulls().to_list(), self.encoder, cache, progress)
        vectors = np.zeros((items.height, encoded.shape[1]), np.float32)
        vectors[texts.is_not_null().to_numpy()] = encoded
        return vectors, reasons


class ImageModalityConfig(Config):
    """Pictures from a folder or from the web, encoded into vectors."""

    kind: Literal["image"] = "image"
    """The kind of modality."""
    column: str | None = None
    """Column with a path below the folder or a web address; without it the files are named by item id."""
    folder: Path | None = None
    """Folder of the pictures; a relative one that is not there is looked for under MOEREC_MIRROR."""
    encoder: ImageEncoderConfig = ImageEncoderConfig()
    """Name of the encoder, or its settings."""
    fetch: FetchConfig = FetchConfig()
    """Limits for web addresses."""

    @model_validator(mode="after")
    def _somewhere(self) -> ImageModalityConfig:
        if self.column is None and self.folder is None:
            raise ValueError("give a column, a folder, or both")
        return self

    def inputs(self) -> dict[str, Any]:
        """What decides the vectors beside the item table, as plain data.

        Files count by name, size and time of change. What the web answers is not known beforehand: after a fetch
        that failed for a while, change a key of `fetch` (for instance `retry_failed: true`), which builds anew.
        """
        folder = self._place()
        files = None if folder is None else _listing(folder)
        return {
            "kind": self.kind,
            "column": self.column,
            "files": files,
            "fetch": None if self.column is None else self.fetch.model_dump(mode="json"),
            "encoder": self.encoder.fingerprint(),
        }

    def build(self, items: pl.DataFrame, cache: Path, progress: Progress | None = None) -> ModalityStore:
        """Find, fetch, encode what the cache lacks, and align with the catalogue.

        Args:
            items: the item table, in the order of the item index.
            cache: folder of fetched files and of vectors by content; it may serve any number of data sets.
            progress: called with what is done and the total, first for addresses, then for pictures.

        Raises:
            ConfigError: a column, the folder or the encoder is not to be had.
            DatasetError: no item has a picture, or the table is not in order.
        """
        item_ids = catalogue_ids(items)
        vectors, reasons = self.encode(items, cache, progress)
        metadata = {"encoder": self.encoder.name, "inputs": self.inputs()}
        return store_from_rows(vectors, reasons, item_ids, metadata)

    def encode(self, items: pl.DataFrame, cache: Path, progress: Progress | None = None) -> Encoded:
        """The vectors of any items, and why one has none; see `build`."""
        places = self._locations(items, catalogue_ids(items))
        locations = fetch_locations(places, cache / "fetched", self.fetch, progress)
        return encode_images(locations, self.encoder, cache, progress)

    def _place(self) -> Path | None:
        return None if self.folder is None else local_place(self.folder, "image folder")

    def _locations(self, items: pl.DataFrame, item_ids: list[str]) -> list[Location]:
        folder = self._place()
        if self.column is not None:
            require_columns(items, [self.column], "modalities.image")
            return by_cell(single_values(items[self.column], "modalities.image").to_list(), folder)
        if folder is None:
            raise ConfigError("modalities.image: give a column, a folder, or both")
        return by_item_id(item_ids, folder)


class VectorModalityConfig(Config):
    """Vectors that exist already: a matrix and the item id of each of its rows."""

    kind: Literal["vectors"] = "vectors"
    """The kind of modality."""
    path: Path
    """The matrix [rows, D]: .npy, or one tensor in .pt."""
    ids: Path
    """The item id of each row: a JSON list, or a Parquet, CSV or TSV file."""
    id_column: str = "item_id"
    """Column of the item ids, if the table has several columns."""
    zero_rows: Literal["absent", "present"] = "absent"
    """Whether a row of zeros means that there is no vector, or is one."""

    def inputs(self) -> dict[str, Any]:
        """What decides the vectors beside the item table, as plain data.

        Raises:
            DatasetError: a file is missing.
        """
        hashes: dict[str, str] = {}
        for key, path in (("path", self.path.expanduser()), ("ids", self.ids.expanduser())):
            if not path.is_file():
                raise DatasetError(f"{path}: no such file ({key} of the modality); correct the path")
            hashes[key] = sha256_of_file(path)
        return {"kind": self.kind, "id_column": self.id_column, "zero_rows": self.zero_rows, **hashes}

    def build(self, items: pl.DataFrame, cache: Path, progress: Progress | None = None) -> ModalityStore:
        """Align the rows with the catalogue.

        Args:
            items: the item table, in the order of the item index.
            cache: not needed: nothing is computed.
            progress: called once, with the number of items.

        Raises:
            DatasetError: a file is missing or damaged, the ids do not match the rows, or no item of the catalogue.
        """
        item_ids = catalogue_ids(items)
        path = self.path.expanduser()
        row_ids = read_item_ids(self.ids.expanduser(), self.id_column)
        vectors, reasons, unused = align(read_matrix(path), row_ids, item_ids, self.zero_rows, str(path))
        if progress is not None:
            progress(len(item_ids), len(item_ids))
        metadata = {"encoder": str(self.path), "inputs": self.inputs(), "rows_without_item": unused}
        return store_from_rows(vectors, reasons, item_ids, metadata)


ModalityConfig = Annotated[TextModalityConfig | ImageModalityConfig | VectorModalityConfig, Field(discriminator="kind")]
"""Any of the three, told apart by `kind`."""


def _listing(folder: Path) -> str:
    """A fingerprint of the files below a folder: name, size, time of change.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"image folder '{folder}' does not exist; correct the path")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint([[str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in files])
