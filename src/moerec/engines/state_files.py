"""The state of review examples on disk: JSON and plain arrays, which processes map into memory and so share."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from moerec.features.feature import FeatureState
from moerec.features.reviews import ReviewState
from moerec.files import atomic_directory, write_json

VALUES = "state.json"


def save_state(folder: Path, state: ReviewState) -> None:
    """Write a state into a folder, which is replaced as a whole."""
    saved = state.to_feature_state()
    with atomic_directory(folder) as temporary:
        for name, array in saved.arrays.items():
            np.save(temporary / f"{name}.npy", array, allow_pickle=False)
        write_json(temporary / VALUES, saved.values)


def load_state(folder: Path) -> ReviewState:
    """The state that `save_state` wrote; arrays are read as they are needed."""
    values = json.loads((folder / VALUES).read_text())
    arrays = {
        path.stem: np.load(path, mmap_mode="r" if path.stat().st_size else None, allow_pickle=False)
        for path in sorted(folder.glob("*.npy"))
    }
    return ReviewState.from_feature_state(FeatureState(values, arrays))
