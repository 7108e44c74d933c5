"""How a gate uses its experts, in words, and whether they are a mixture at all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from moerec.report.labels import as_number, listed, percent

_UNIFORM = 0.98
"""From this entropy, relative to its maximum, a gate counts as uniform."""
_COLLAPSED = 0.9
"""From this mean weight of one expert a mixture counts as collapsed."""
_UNROUTED = 0.95
"""From this load of one expert a gate counts as mixing without routing."""
_NAMED = 4
"""Up to so many dead experts are named."""

Fault = Literal["none", "uniform", "collapsed", "dead"]


@dataclass(frozen=True)
class Mixture:
    """How a gate uses its experts."""

    names: Sequence[str]
    weights: Sequence[float | None]
    """Mean weight of each expert; empty if not recorded."""
    load: Sequence[float | None]
    """Share of the items for which the expert weighs most; empty if not recorded."""
    entropy: float | None
    """Mean entropy of an item's weights in nats."""
    dead: int
    """Experts whose mean weight is under a tenth of an equal share."""
    selected: int = 0
    """Experts that speak for one row at most; 0 for all."""
    largest: float | None = None
    """Largest load over the mean load."""
    unit: str = "item"
    """What the gate weighs the experts for."""

    @property
    def spoken(self) -> int:
        """How many experts speak for one row."""
        return min(self.selected or len(self.names), len(self.names))

    @property
    def selects(self) -> bool:
        """Whether some experts are silent in every row."""
        return self.spoken < len(self.names)

    @property
    def evenness(self) -> float | None:
        """Entropy over its maximum."""
        return None if self.entropy is None or self.spoken < 2 else self.entropy / math.log(self.spoken)

    @property
    def dead_names(self) -> list[str]:
        """The dead experts by name, as far as the mean weights were recorded."""
        limit = 0.1 / max(len(self.names), 1)
        return [name for name, w in zip(self.names, self.weights, strict=False) if w is not None and w < limit]

    @property
    def fault(self) -> Fault:
        """What makes this no mixture, or not a whole one; none if nothing speaks against it.

        Uniform comes first: where all weights are nearly equal, load and its maximum say nothing. It is no fault of a
        gate that selects, for there the choice of the experts is what it says.
        """
        size = len(self.names)
        if size < 2:
            return "none"
        if not self.selects and self.evenness is not None and self.evenness >= _UNIFORM:
            return "uniform"
        if max(self._shares, default=0.0) >= _COLLAPSED or self.dead >= size - (self.spoken if self.selects else 1):
            return "collapsed"
        return "dead" if self.dead else "none"

    @property
    def problem(self) -> str:
        """The fault in one plain statement; empty if nothing speaks against the mixture."""
        size, fault = len(self.names), self.fault
        if fault == "uniform":
            return (
                f"The mixture is uniform: every {self.unit} gets nearly the same weights (entropy "
                f"{percent(self.evenness)} of its maximum), so the gate averages the experts and routes nothing; load "
                "says little then."
            )
        if fault == "collapsed" and self.spoken > 1 and self.selects:
            return (
                f"The mixture is collapsed: the gate selects {self.spoken} of {size} experts and nearly always the "
                "same ones."
            )
        if fault == "collapsed":
            top = max(self._shares, default=0.0)
            who = self.names[self._shares.index(top)] if self._shares else "one expert"
            return (
                f"The mixture is collapsed: {who} carries {percent(top, 0)} of the weight, so this is in effect a "
                "single expert."
            )
        if fault == "dead":
            verb = "is" if self.dead == 1 else "are"
            who = f" ({listed(self.dead_names)})" if len(self.dead_names) == self.dead <= _NAMED else ""
            return f"{self.dead} of {size} experts {verb} dead{who}: mean weight under a tenth of an equal share."
        return ""

    @property
    def _shares(self) -> list[float]:
        return [value if value is not None else 0.0 for value in self.weights]

    @property
    def statement(self) -> str:
        """How a sound mixture is used; empty for a single expert."""
        size = len(self.names)
        if size < 2:
            return ""
        busiest = max((value for value in self.load if value is not None), default=None)
        text = f"All {size} experts are in use"
        if self.selects:
            text += f", {self.spoken} for each {self.unit}"
            # The loads of a gate that selects are shares of all places, of which each row has several.
            often = None if busiest is None else min(busiest * self.spoken, 1.0)
            return (
                f"{text}."
                if often is None
                else f"{text}; the busiest is among them for {percent(often, 0)} of the {self.unit}s."
            )
        if busiest is not None and busiest >= _UNROUTED:
            who = self.names[self.load.index(busiest)]
            return (
                f"{text}, but {who} weighs most for {percent(busiest, 0)} of the {self.unit}s: the gate mixes and "
                "hardly routes."
            )
        text += "." if busiest is None else f"; the busiest weighs most for {percent(busiest, 0)} of the {self.unit}s."
        if self.evenness is None:
            return text
        choice = "leans only slightly" if self.evenness >= 0.9 else "does choose"
        return f"{text} Entropy is {percent(self.evenness, 0)} of its maximum: the gate {choice}."


def mixture(recorded: Mapping[str, Any], unit: str = "item") -> Mixture:
    """Read how a gate uses its experts; `unit` is what it weighs them for."""
    weights, load = vector(recorded.get("mean_weight")), vector(recorded.get("load"))
    return Mixture(
        names=numbered(recorded.get("names"), max(len(weights), len(load)), "expert"),
        weights=weights,
        load=load,
        entropy=as_number(recorded.get("entropy")),
        dead=int(as_number(recorded.get("dead")) or 0),
        selected=int(as_number(recorded.get("selected")) or 0),
        largest=as_number(recorded.get("max_over_mean_load")),
        unit=unit,
    )


def vector(value: Any) -> list[float | None]:
    """A recorded list of numbers; empty if there is none."""
    return [as_number(item) for item in value] if isinstance(value, list) else []


def numbered(value: Any, size: int, kind: str) -> list[str]:
    """The recorded names, continued by numbers where there are too few."""
    recorded = [str(item) for item in value][:size] if isinstance(value, list) else []
    return recorded + [f"{kind} {index + 1}" for index in range(len(recorded), size)]
