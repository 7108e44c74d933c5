"""Where a model may be saved: in a new or empty folder, or in place of a model of the same kind and nothing else."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from moerec.errors import CheckpointError
from moerec.models.saved_files import CONFIG

CARD = "README.md"
"""The model card, which any saved model may have."""


def require_place(directory: str | Path, role: str, files: Collection[str], inner: str = "") -> Path:
    """The folder to write to, links followed, if nothing is lost when a new model takes its place.

    Args:
        directory: what the caller named.
        role: what is about to be written, for instance `retriever`.
        files: names of all files and folders that such a model may have, next to its card.
        inner: the folder within `directory` that holds the description, where it is not at the top.

    Raises:
        CheckpointError: a file stands there, or the folder holds something that the new model does not replace.
    """
    target = Path(directory).resolve()
    if not target.exists():
        return target
    if not target.is_dir():
        raise CheckpointError(f"{directory}: a file stands there; choose a folder")
    found = sorted(path.name for path in target.iterdir())
    if not found:
        return target
    at_top, held = _role_in(target), _role_in(target / inner)
    if held != role or (inner and at_top is not None):
        found_there = f"holds a saved {at_top}, which would be lost" if at_top else f"is not empty and holds no {role}"
        raise CheckpointError(f"{directory}: the folder {found_there}; choose another folder")
    strangers = [name for name in found if name not in (*files, CARD)]
    if strangers:
        raise CheckpointError(
            f"{directory}: the folder also holds '{strangers[0]}', which is not of this model and would be lost; "
            "choose another folder, or move it away"
        )
    return target


def _role_in(folder: Path) -> str | None:
    """What kind of model of ours the folder describes; None where it describes none."""
    try:
        found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # Other libraries call their file config.json too.
    return str(found.get("role")) if isinstance(found, dict) and "moerec" in found else None
