"""The state of review examples on disk: JSON and plain arrays, which processes map into memory and so share."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from moerec.features.feature import FeatureState
from moerec.features.reviews import ReviewState
from moerec.files import atomic_directory

VALUES = "state.json"


def state_contents(state: ReviewState) -> dict[str, bytes]:
    """The files of a state by name."""
    saved = state.to_feature_state()
    contents = {VALUES: (json.dumps(saved.values, indent=2, ensure_ascii=False) + "\n").encode()}
    for name, array in saved.arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        contents[f"{name}.npy"] = buffer.getvalue()
    return contents


def save_state(folder: Path, state: ReviewState) -> None:
    """Write a state into a folder, which is replaced as a whole."""
    with atomic_directory(folder) as temporary:
        for name, content in state_contents(state).items():
            (temporary / name).write_bytes(content)


def load_state(folder: Path) -> ReviewState:
    """The state that `save_state` wrote; arrays are read as they are needed."""
    values = json.loads((folder / VALUES).read_text())
    arrays = {
        path.stem: np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
        for path in sorted(folder.glob("*.npy"))
    }
    return ReviewState.from_feature_state(FeatureState(values, arrays))
