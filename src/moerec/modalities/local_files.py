"""Files and folders that a recipe names: where they lie, and texts of items read from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from moerec.dataset.download import MIRROR_VARIABLE, mirror_directory
from moerec.errors import ConfigError, DatasetError


def local_place(path: Path, what: str) -> Path:
    """The file or folder as it is named, else the one of that name below the folder that MOEREC_MIRROR names.

    Args:
        path: what the recipe says.
        what: what it is, for the message.

    Raises:
        ConfigError: it is in neither place.
    """
    place = path.expanduser()
    if place.exists():
        return place
    mirror = mirror_directory()
    if mirror is not None and not place.is_absolute() and (mirror / place).exists():
        return mirror / place
    looked = "" if place.is_absolute() else f", nor below {MIRROR_VARIABLE} ({mirror or 'not set'})"
    raise ConfigError(f"{what} '{path}' does not exist{looked}; correct the path")


def with_texts_of_files(items: pl.DataFrame, files: Mapping[str, Path], where: str) -> pl.DataFrame:
    """The item table with one more column for each file of texts; null where a file has no text for an item.

    Args:
        items: the item table, with item_id.
        files: name of the new column to a JSON file that holds one object, item id to text.
        where: key path for messages.

    Raises:
        ConfigError: a file is missing, or a column of that name is there already.
        DatasetError: a file is no such object, or names no item of the table.
    """
    for name, path in files.items():
        if name in items.columns:
            raise ConfigError(f"{where}.files.{name}: the item table has a column '{name}' already; take another name")
        texts = _read_texts(local_place(path, f"{where}.files.{name}"))
        column = [texts.get(str(item_id)) for item_id in items["item_id"].to_list()]
        if not any(column):
            raise DatasetError(f"{path}: holds no text for any item; its keys must be item ids")
        items = items.with_columns(pl.Series(name, column, dtype=pl.String))
    return items


def _read_texts(path: Path) -> dict[str, str]:
    try:
        texts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path}: is no JSON file that can be read ({error}); mend it") from None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise DatasetError(f"{path}: must hold one object that gives each item id a text")
    return texts
