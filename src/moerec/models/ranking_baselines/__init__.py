"""The plain baselines of ranking; one is fitted for each task, tuned with as many trials as the ranker."""

from moerec.models.ranking_baselines.base import RankingBaselineConfig, RankingPredictor
from moerec.models.ranking_baselines.boosting import GradientBoostingConfig
from moerec.models.ranking_baselines.linear import LogisticRegressionConfig
from moerec.models.ranking_baselines.means import MeansConfig

__all__ = [
    "GradientBoostingConfig",
    "LogisticRegressionConfig",
    "MeansConfig",
    "RankingBaselineConfig",
    "RankingPredictor",
]
