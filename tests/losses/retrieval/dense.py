"""The losses as plain formulas, event by event, for autograd."""

from torch import Tensor
from torch.nn import functional as F

from moerec.losses.retrieval import NextItems, RetrievalLossConfig
from moerec.losses.retrieval.binary import BCEConfig, BPRConfig, GBCEConfig
from moerec.losses.retrieval.sampled_softmax import InfoNCEConfig


def dense_loss(loss: RetrievalLossConfig, events: NextItems) -> Tensor:
    """The sum over events of what the documentation says the loss is."""
    users, items = events.users, events.items
    if getattr(loss, "normalize", False):
        users, items = F.normalize(users, dim=1), F.normalize(items, dim=1)
    total = users.new_zeros(())
    for event in range(len(users)):
        weight = 1.0 if events.weights is None else events.weights[event]
        total = total + weight * _of_event(loss, events, event, items @ users[event])
    return total


def _of_event(loss: RetrievalLossConfig, events: NextItems, event: int, scores: Tensor) -> Tensor:
    positive = int(events.positives[event])
    met = set()
    if (seen := events.seen) is not None:
        row = int(seen.rows[event])
        meetings = range(int(seen.offsets[row]), int(seen.offsets[row + 1]))
        met = {int(seen.items[meeting]) for meeting in meetings if seen.met_at[meeting] <= seen.places[event]}
    if events.negatives is None:
        kept = [item for item in range(len(scores)) if item == positive or item not in met]
        logits = scores / loss.temperature
        return _cross_entropy(logits[positive], logits[kept].exp().sum() - logits[positive].exp(), loss.focal_gamma)
    negatives = events.negatives
    drawn = (negatives.items if negatives.shared else negatives.items[event]).tolist()
    expected = (negatives.log_expected if negatives.shared else negatives.log_expected[event]).exp().tolist()
    counts = [1.0] * len(drawn) if negatives.counts is None else negatives.counts.tolist()
    nothing = scores.sum() * 0
    columns = [
        (scores[item], often, count)
        for item, often, count in zip(drawn, expected, counts, strict=True)
        if item != positive and item not in met
    ]
    if isinstance(loss, BPRConfig):
        margins = ((scores[positive] - score, count) for score, _, count in columns)
        return -sum((F.logsigmoid(margin) * count for margin, count in margins), nothing) / sum(counts)
    if isinstance(loss, (BCEConfig, GBCEConfig)):
        weight = 1.0
        if isinstance(loss, GBCEConfig):
            alpha = min(1.0, sum(counts) / (negatives.population - 1))
            weight = alpha * (loss.calibration * (1 - 1 / alpha) + 1 / alpha)
        pushed = sum((F.logsigmoid(-score) * count for score, _, count in columns), nothing)
        return -(weight * F.logsigmoid(scores[positive]) + pushed) / (1 + sum(counts))
    cooler = loss.temperature
    if isinstance(loss, InfoNCEConfig) and loss.negative_temperature:
        cooler = loss.negative_temperature
    if not columns:
        return nothing
    others = sum((score / cooler).exp() * count / (often if loss.log_q else 1.0) for score, often, count in columns)
    return _cross_entropy(scores[positive] / loss.temperature, others, loss.focal_gamma)


def _cross_entropy(positive: Tensor, others: Tensor, gamma: float) -> Tensor:
    p = positive.exp() / (positive.exp() + others)
    return -((1 - p) ** gamma) * p.log()
