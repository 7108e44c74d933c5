"""Gates: how much each expert speaks for each row, and what that says about the experts' use.

A gate is a score network with a rule of selection. The score network gives a logit to each expert; the gate divides by
the temperature, keeps all experts or the k best, and takes the softmax over the kept ones.

Shape letters: N rows, E experts, I input width, D width of a head, Q heads.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from moerec.config import Config
from moerec.errors import ConfigError
from moerec.losses.balance import DEFAULT_RATE, BalanceConfig
from moerec.nn.gating import Gating
from moerec.nn.perceptron import perceptron
from moerec.nn.trial import TRIED_ROWS, made_by, shape_of, tried

__all__ = [
    "AttentionGateConfig",
    "DenseGateConfig",
    "Gate",
    "GateConfig",
    "Gating",
    "NoisyTopKGateConfig",
    "TopKGateConfig",
    "Utilisation",
    "utilisation",
]


_SHORT = 16
"""Numbers in a row from which on the CPU's softmax handles several at once."""


class GateConfig(Config):
    """Base of all kinds of gates; a subclass overrides `scores`."""

    temperature: float = Field(default=1.0, gt=0)
    """What logits are divided by; lower is sharper."""
    expert_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of experts that are silent for a row in training, so that no task hangs on one of them."""
    balance: BalanceConfig = BalanceConfig()
    """How the use of the experts is kept even."""

    @model_validator(mode="after")
    def _check_balance(self) -> GateConfig:
        if self.balance.kind == "loss_free" and self.kept is None:
            raise ValueError(
                "balance.kind: loss_free moves a bias on the selection, and this gate selects every expert; "
                "write kind: auxiliary, or a gate that keeps k experts"
            )
        return self

    @property
    def kept(self) -> int | None:
        """How many experts speak for a row; None for all."""
        return None

    @abstractmethod
    def scores(self, width_in: int, experts: int) -> nn.Module:
        """A network [N, I] -> logits [N, E]."""

    def build(self, width_in: int, experts: int) -> Gate:
        """Make the gate.

        Args:
            width_in: I.
            experts: E; at least as many as are kept.

        Raises:
            ConfigError: fewer experts than are kept, or an own `scores` fails or gives no logit for each expert.
        """
        gate = Gate(made_by(self, "scores", lambda: self.scores(width_in, experts)), experts, self)
        name, wanted = f"{type(self).__name__}.scores", f"[{TRIED_ROWS}, {experts}]"
        logits = tried(name, gate.scores, width_in, f"logits [rows, {experts}]")
        if not isinstance(logits, Tensor) or logits.shape != (TRIED_ROWS, experts):
            raise ConfigError(
                f"{name}: it gives {shape_of(logits)} for {TRIED_ROWS} rows, not one logit for each expert, {wanted}"
            )
        return gate


class Gate(nn.Module):
    """Weights of experts from logits."""

    def __init__(self, scores: nn.Module, experts: int, config: GateConfig) -> None:
        super().__init__()
        if config.kept is not None and config.kept > experts:
            raise ConfigError(f"gate.k: {config.kept}, but there are only {experts} experts to choose from; lower k")
        self.scores, self.experts, self.config = scores, experts, config
        self.bias: Tensor | None
        self.load: Tensor | None
        free = config.balance.kind == "loss_free"
        self.register_buffer("bias", torch.zeros(experts) if free else None)
        self.register_buffer("load", torch.zeros(experts) if free else None, persistent=False)

    def extra_repr(self) -> str:
        """What a printed model shows."""
        return f"experts={self.experts}, kept={self.config.kept}, balance={self.config.balance.kind}"

    def forward(self, x: Tensor) -> Gating:
        """What the gate says of rows [N, I]."""
        logits = self.scores(x).float() / self.config.temperature  # [N, E]
        allowed = self._awake(logits) if self.training and self.config.expert_dropout else None
        selected = self._select(logits, allowed)
        speaks = allowed if selected is None else selected
        weights = _softmax(logits if speaks is None else logits.masked_fill(~speaks, -torch.inf))
        if self.training and self.load is not None and selected is not None:
            self.load += selected.detach().sum(0)  # the step hook reads and clears it
        loss = self.config.balance.loss(logits, selected) if self.training else None
        return Gating(weights.to(x.dtype), loss)

    def _awake(self, logits: Tensor) -> Tensor:
        """[N, E] bool, drawn anew: a row of which too few experts would speak keeps all of them."""
        awake = torch.rand_like(logits) >= self.config.expert_dropout
        return awake | (awake.sum(1, keepdim=True) < (self.config.kept or 1))

    def _select(self, logits: Tensor, allowed: Tensor | None) -> Tensor | None:
        """[N, E] bool, the k best; by score and bias where a bias balances."""
        if self.config.kept is None:
            return None
        score = logits.detach()
        if self.bias is not None:
            score = torch.softmax(score, dim=-1) + self.bias
        if allowed is not None:
            score = score.masked_fill(~allowed, -torch.inf)
        best = score.topk(self.config.kept, dim=-1).indices  # [N, k]
        return torch.zeros_like(score, dtype=torch.bool).scatter(1, best, value=True)

    @torch.no_grad()
    def move_bias(self) -> None:
        """Raise the bias of experts with less than the mean load, lower that of the others, and forget the load."""
        if self.bias is not None and self.load is not None:
            rate = self.config.balance.rate or DEFAULT_RATE
            self.bias += rate * torch.sign(self.load.mean() - self.load)
            self.load.zero_()


class DenseGateConfig(GateConfig):
    """Softmax over all experts: every expert speaks, with a weight that depends on the row."""

    hidden: tuple[PositiveInt, ...] = ()
    """Hidden widths of the gate; [] for a linear one."""

    def scores(self, width_in: int, experts: int) -> nn.Module:
        """See `GateConfig`. A gate that starts uniform lets every expert learn before any is preferred."""
        return _logits(width_in, self.hidden, experts, uniform=True)


class TopKGateConfig(DenseGateConfig):
    """Softmax over the k experts with the highest logits; the others are silent."""

    k: int = Field(default=2, ge=1)
    """Experts that speak for a row."""

    @property
    def kept(self) -> int | None:
        """k."""
        return self.k

    def scores(self, width_in: int, experts: int) -> nn.Module:
        """See `GateConfig`. It starts small and not at 0: of equal logits always the first k would be selected."""
        return _logits(width_in, self.hidden, experts, uniform=False)


class NoisyTopKGateConfig(TopKGateConfig):
    """Top-K with learned noise on the logits in training (Shazeer et al. 2017), so that all experts are tried."""

    def scores(self, width_in: int, experts: int) -> nn.Module:
        """See `GateConfig`."""
        return NoisyScores(super().scores(width_in, experts), width_in, experts)


class NoisyScores(nn.Module):
    """Logits with normal noise in training, whose deviation hangs on the row."""

    def __init__(self, clean: nn.Module, width_in: int, experts: int) -> None:
        super().__init__()
        self.clean = clean
        self.noise = nn.Linear(width_in, experts)
        nn.init.zeros_(self.noise.weight)
        nn.init.zeros_(self.noise.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[N, I] -> [N, E]."""
        logits = self.clean(x)
        if not self.training:
            return logits
        return logits + torch.randn_like(logits) * F.softplus(self.noise(x))


class AttentionGateConfig(GateConfig):
    """Scaled dot products (Vaswani et al. 2017) of queries made of the row with learned keys of the experts.

    Each row attends to the experts, never to other rows of the batch. The logits of the heads are averaged.
    """

    heads: int = Field(default=2, ge=1)
    """Heads whose logits are averaged."""
    width: int = Field(default=16, ge=1)
    """Width of queries and keys of a head."""
    k: int | None = Field(default=None, ge=1)
    """Experts that speak for a row; null for all."""

    @property
    def kept(self) -> int | None:
        """k."""
        return self.k

    def scores(self, width_in: int, experts: int) -> nn.Module:
        """See `GateConfig`."""
        return AttentionScores(width_in, experts, self.heads, self.width)


class AttentionScores(nn.Module):
    """See `AttentionGateConfig`."""

    def __init__(self, width_in: int, experts: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.query = nn.Linear(width_in, heads * width)
        self.keys = nn.Parameter(torch.randn(heads, experts, width))  # [Q, E, D]

    def forward(self, x: Tensor) -> Tensor:
        """[N, I] -> [N, E]."""
        queries = self.query(x).unflatten(1, (self.heads, self.width))  # [N, Q, D]
        logits = torch.einsum("nqd,qed->nqe", queries, self.keys)  # [N, Q, E]
        return logits.mean(1) / math.sqrt(self.width)


def _softmax(logits: Tensor) -> Tensor:
    """Over the experts, [N, E]."""
    if logits.device.type != "cpu" or logits.shape[1] >= _SHORT:
        return torch.softmax(logits, dim=1)
    # The CPU's kernel goes row by row, number by number if the row is short; down the columns it takes many at once.
    return torch.softmax(logits.t().contiguous(), dim=0).t()


def _logits(width_in: int, hidden: Sequence[int], experts: int, *, uniform: bool) -> nn.Sequential:
    """A network [N, I] -> [N, E]; logits start at 0, or small."""
    width = hidden[-1] if hidden else width_in
    last = nn.Linear(width, experts)
    nn.init.zeros_(last.bias)
    if uniform:
        nn.init.zeros_(last.weight)
    else:
        nn.init.normal_(last.weight, std=0.1 / math.sqrt(width))
    return nn.Sequential(*perceptron(width_in, hidden, activation=nn.ReLU), last)


@dataclass(frozen=True)
class Utilisation:
    """How the experts are used over a set of rows."""

    mean_weight: list[float]
    """Mean gate weight of each expert."""
    load: list[float]
    """Share of rows in which the expert has the largest weight; of a gate that keeps k, its share of all places."""
    entropy: float
    """Mean entropy of a row's weights in nats; log(E) for a uniform gate, 0 when one expert speaks alone."""
    max_over_mean_load: float
    """Largest load divided by the mean load 1 / E; 1 is perfect balance, E is collapse."""
    dead: int
    """Number of experts whose mean weight is under a tenth of the uniform 1 / E."""
    selected: int
    """Experts with a weight in one row, at most: k of a gate that keeps k, E of a dense one."""


def utilisation(weights: Tensor) -> Utilisation:
    """Summarise gate weights [N, E]; rows must sum to 1."""
    weights = weights.detach()
    experts = weights.shape[1]
    mean_weight = weights.mean(0)  # [E]
    selected = weights > 0  # [N, E]
    most = int(selected.sum(1).max())
    if most == experts:
        selected = weights == weights.amax(1, keepdim=True)
    # Equal weights share their row's place.
    load = (selected / selected.sum(1, keepdim=True)).mean(0)  # [E]
    entropy = torch.special.entr(weights).sum(-1).mean()  # scalar
    return Utilisation(
        mean_weight=mean_weight.tolist(),
        load=load.tolist(),
        entropy=float(entropy),
        max_over_mean_load=float(load.max() * experts),
        dead=int((mean_weight < 0.1 / experts).sum()),
        selected=most,
    )
