"""moerec: multimodal mixture-of-experts recommendation, from raw logs to a served recommender."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moerec.dataset.dataset import Dataset
    from moerec.ranking_model import RankingModel
    from moerec.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Dataset", "RankingModel", "Recommender", "__version__"]

_LAZY = {
    "Dataset": "moerec.dataset.dataset",
    "RankingModel": "moerec.ranking_model",
    "Recommender": "moerec.recommender",
}


def __getattr__(name: str) -> Any:
    """Import the public classes when they are asked for, so that `import moerec` stays quick."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'moerec' has no attribute '{name}'")
