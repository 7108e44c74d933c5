"""The plain baselines that stand beside every result; each is tuned with as many trials as the model."""

from moerec.batches.histories import TrainHistories
from moerec.models.baselines.base import BaselineConfig
from moerec.models.baselines.ease import EASEConfig, EASERecencyConfig
from moerec.models.baselines.item_knn import ItemKNNConfig
from moerec.models.baselines.popularity import PopularityConfig, RecentPopularityConfig
from moerec.models.baselines.transitions import ItemTransitionsConfig

__all__ = [
    "BaselineConfig",
    "EASEConfig",
    "EASERecencyConfig",
    "ItemKNNConfig",
    "ItemTransitionsConfig",
    "PopularityConfig",
    "RecentPopularityConfig",
    "TrainHistories",
]
