"""Losses of retrieval models: over the whole catalogue, or against negatives that are drawn for each update."""

from moerec.losses.retrieval.action_weights import ActionWeightsConfig
from moerec.losses.retrieval.base import NextItems, RetrievalLossConfig, SampledLossConfig, SoftmaxFamilyConfig
from moerec.losses.retrieval.full_softmax import FullSoftmaxConfig
from moerec.losses.retrieval.negatives import ItemPopulation, Negatives, NegativesConfig
from moerec.losses.retrieval.seen import SeenItems

__all__ = [
    "ActionWeightsConfig",
    "FullSoftmaxConfig",
    "ItemPopulation",
    "Negatives",
    "NegativesConfig",
    "NextItems",
    "RetrievalLossConfig",
    "SampledLossConfig",
    "SeenItems",
    "SoftmaxFamilyConfig",
]
