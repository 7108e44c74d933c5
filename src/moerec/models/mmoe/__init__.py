"""MMoE for people who bring tensors: plain torch modules, no data set and no recipe needed.

`MMoEModel` and `MMoERecommendationModel` are made of the same experts, gates and towers as the rankers of a recipe;
`MultiTaskLoss` joins the losses of their tasks, `analyze_expert_weights` and `evaluate_multitask_model` look at them.
"""

from moerec.models.mmoe.analysis import ExpertAnalysis, analyze_expert_weights
from moerec.models.mmoe.blocks import ExpertNetwork, GateNetwork, TowerNetwork
from moerec.models.mmoe.loss import MultiTaskLoss
from moerec.models.mmoe.metrics import evaluate_multitask_model
from moerec.models.mmoe.model import MMoEModel
from moerec.models.mmoe.recommendation import MMoERecommendationModel

__all__ = [
    "ExpertAnalysis",
    "ExpertNetwork",
    "GateNetwork",
    "MMoEModel",
    "MMoERecommendationModel",
    "MultiTaskLoss",
    "TowerNetwork",
    "analyze_expert_weights",
    "evaluate_multitask_model",
]
