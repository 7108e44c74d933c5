"""The one trainer: stages, updates, accumulation, clipping, mixed precision, early stop, exact resume."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from moerec.batches.workers import BatchStream
from moerec.config import Config
from moerec.errors import MoerecError
from moerec.memory import keep_freed_memory
from moerec.training.checkpoint import (
    AVERAGE,
    TrainingState,
    load_criterion,
    load_model,
    load_optimizer,
    load_state,
    load_tensors,
    parameter_checksums,
    remove_leftovers,
    save_checkpoint,
)
from moerec.training.hooks import Hook, Moment
from moerec.training.logs import TrainingLog
from moerec.training.objective import Objective, Passes
from moerec.training.optimizer import make_optimizer
from moerec.training.stages import StageConfig, select_trainable

logger = logging.getLogger(__name__)


class TrainerConfig(Config):
    """Settings of the trainer that hold for all stages."""

    metric: str = "ndcg@10"
    """Validation metric that decides the best update and the early stop."""
    higher_is_better: bool = True
    """Whether a larger value of the metric is the better one."""
    shown: tuple[str, ...] = ("hr@10", "ndcg@10")
    """Metrics that the console shows at a validation, beside the one that decides."""
    log_every: int = 20
    """Updates between two lines of the log."""
    checkpoint_every: int = 200
    """Updates between two checkpoints, besides one at each validation."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; parameters stay in fp32."""


@dataclass
class Trainer:
    """Runs the stages of one training; `run` may be called again after an interruption."""

    objective: Objective
    """What is minimised."""
    stages: Sequence[StageConfig]
    """The stages, in order."""
    validate: Callable[[], Mapping[str, float]]
    """Metrics of the model on the validation part."""
    directory: Path
    """The run's folder: checkpoints/ and history.jsonl are written here."""
    identity: str
    """Fingerprint of all that decides the numbers; a checkpoint of another one is refused."""
    seed: int
    """Seed of dropout and of everything else that is drawn in training."""
    config: TrainerConfig
    """Settings for all stages."""
    log: Callable[[int, int], TrainingLog]
    """Opens the log, keeping the given number of bytes and of updates."""
    device: torch.device
    """Where the model is."""
    hooks: Sequence[Hook] = ()
    """What happens around updates."""
    beside: Callable[[], Mapping[str, Any]] = dict
    """What history.jsonl holds of a validation beside its metrics; nothing is selected by it."""
    workers: int = 0
    """Processes that make batches ahead; the numbers do not depend on it."""

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.directory / "checkpoints"

    def run(self, *, resume: bool = False) -> TrainingState:
        """Train all stages, or what is left of them; the model is left as it was at the last stage's best validation.

        A stage's best is not compared with those of earlier stages: the later stage is meant to replace them.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        state = TrainingState(self.identity)
        if resume:
            remove_leftovers(self.checkpoints)
        if resume and (self.checkpoints / "last").exists():
            state = load_state(self.checkpoints / "last", self.identity)
        sources = [self.objective.source(stage) for stage in self.stages]
        with self.log(state.log_bytes, state.total_updates) as log, BatchStream(sources, self.workers) as stream:
            if state.total_updates:
                left = "training is finished" if state.finished else f"epoch {state.epoch + 1}"
                log.say(f"resuming at update {state.total_updates}, {left}")
            while not state.finished:
                _StageRun(self, state, log, stream).run()
        load_model(self.checkpoints / "best", self.objective.model)
        return state


class _StageRun:
    """The work of one stage."""

    def __init__(self, trainer: Trainer, state: TrainingState, log: TrainingLog, stream: BatchStream) -> None:
        self.trainer, self.state, self.log, self.stream = trainer, state, log, stream
        self.config = trainer.config
        self.objective = trainer.objective
        self.model: nn.Module = trainer.objective.model
        self.stage = trainer.stages[state.stage]
        continues = state.update > 0
        if not continues and state.stage > 0:
            source = "best" if self.stage.starts_from == "best" else "last"
            load_model(trainer.checkpoints / source, self.model, averaged=source == "best")
        self.parameters = select_trainable(self.model, self.stage)
        self.last_epoch, self.total = self._plan()
        self.criterion = trainer.objective.criterion(self.stage)
        if self.criterion is not None:
            self.criterion.to(trainer.device)
        self.optimizer = make_optimizer(self.parameters, self.stage, self.criterion)
        self.scaler = torch.amp.GradScaler(trainer.device.type, enabled=self.config.precision == "fp16")
        self.average: dict[str, Tensor] | None = None
        if continues:
            last = trainer.checkpoints / "last"
            load_model(last, self.model, averaged=False)
            load_optimizer(last, self.optimizer, self._optimized())
            if self.criterion is not None:
                load_criterion(last, self.criterion)
            self.scaler.load_state_dict(state.scaler)
            self.average = load_tensors(last / AVERAGE) if self.stage.average else None
        else:
            state.stage_start = parameter_checksums(self.model)
            if self.stage.average:
                self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.average = self.average and {name: value.to(trainer.device) for name, value in self.average.items()}
        self.loss_sum = torch.tensor(state.loss_sum, device=trainer.device)
        self.began = time.monotonic()

    def run(self) -> None:
        """Train until the stage is over, then hand the state to the next one."""
        stage, state = self.stage, self.state
        count = sum(parameter.numel() for parameter in self.parameters.values())
        self.log.say(
            f"stage {stage.name}: {self.total} updates, {count:,} parameters train ({', '.join(stage.trains)})"
        )
        while state.epoch <= self.last_epoch and state.update < self.total and not self._stopped():
            self._epoch()
        self._verify_changes()
        state.stage += 1
        state.finished = state.stage == len(self.trainer.stages)
        state.epoch = state.batch = state.update = state.stale = state.loss_count = 0
        self.loss_sum = torch.zeros_like(self.loss_sum)
        if not state.finished:
            state.best_value = None
        self._save(("last",))

    def _plan(self) -> tuple[int, int]:
        """The last epoch that may be needed, and the number of updates of the stage."""
        if self._updates_of_epoch(0) == 0:
            raise MoerecError(f"stage '{self.stage.name}': there is no train example, so nothing to learn from")
        last, total = self.stage.updates, self.stage.updates  # an epoch has at least one update
        if last is None or total is None:
            epochs = self.stage.epochs or 0
            last, total = epochs - 1, sum(self._updates_of_epoch(epoch) for epoch in range(epochs))
        if self.stage.schedule.warmup >= total:
            logger.warning(
                "stage '%s': a warmup of %d updates is as long as the whole stage of %d, so the learning rate never "
                "reaches its peak; lower schedule.warmup",
                self.stage.name,
                self.stage.schedule.warmup,
                total,
            )
        return last, total

    def _optimized(self) -> dict[str, nn.Parameter]:
        """All that the optimizer moves, by names that checkpoints use."""
        beside = {} if self.criterion is None else dict(self.criterion.named_parameters())
        return self.parameters | {f"criterion:{name}": parameter for name, parameter in beside.items()}

    def _updates_of_epoch(self, epoch: int) -> int:
        return -(-self.objective.batches_per_epoch(self.stage, epoch) // self.stage.accumulation)

    def _stopped(self) -> bool:
        return self.stage.patience is not None and self.state.stale >= self.stage.patience

    def _epoch(self) -> None:
        state, stage = self.state, self.stage
        self.model.train()
        group: list[Any] = []
        size = self.objective.batches_per_epoch(stage, state.epoch)
        batches = self.stream.epoch(state.stage, state.epoch, state.batch)
        for number, batch in enumerate(batches, start=state.batch):
            group.append(batch.to(self.trainer.device))
            if len(group) < stage.accumulation and number + 1 < size:
                continue
            loss, norm, targets = self._update(group)
            self.loss_sum, state.loss_count = self.loss_sum + loss, state.loss_count + targets
            state.batch, group = number + 1, []
            if self._is_logged(state.update):
                self._log_update(float(self.loss_sum) / (state.loss_count or 1), float(norm))
                self.loss_sum, state.loss_count = torch.zeros_like(self.loss_sum), 0
            if state.update >= self.total:
                break
            if state.update % self.config.checkpoint_every == 0 and state.batch < size:
                self._save(("last",))
        self._end_of_epoch()

    def _is_logged(self, update: int) -> bool:
        return update % self.config.log_every == 0 or update == self.total

    def _end_of_epoch(self) -> None:
        state = self.state
        state.epoch, state.batch = state.epoch + 1, 0
        if self.criterion is not None:
            self.criterion.end_of_epoch()
        moment = self._moment()
        for hook in self.trainer.hooks:
            hook.end_of_epoch(moment)
        over = state.epoch > self.last_epoch or state.update >= self.total
        if over or state.epoch % self.stage.validate_every == 0:
            self._validate()

    def _update(self, group: list[Any]) -> tuple[Tensor, Tensor, float]:
        """One optimizer update from the micro-batches of a group; gives summed loss, gradient norm and targets."""
        state, stage = self.state, self.stage
        # Each update draws from its own seed, so a resumed run needs no generator state.
        torch.manual_seed(_seed(self.trainer.seed, state.stage, state.update))
        for group_settings in self.optimizer.param_groups:
            group_settings["lr"] = group_settings["peak"] * stage.schedule.at(state.update, self.total)
        moment = self._moment()
        for hook in self.trainer.hooks:
            hook.before_step(moment)
        self.optimizer.zero_grad(set_to_none=True)
        targets = sum(self.objective.targets(batch) for batch in group)
        passes = Passes(self._autocast, self.scaler.scale, self._is_logged(state.update + 1))
        loss_sum = self.objective.backward(stage, group, self.criterion, passes)
        self.scaler.unscale_(self.optimizer)
        for hook in self.trainer.hooks:
            hook.after_backward(moment)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), stage.clip_norm or math.inf)
        if self.config.precision != "fp16" and not torch.isfinite(norm):
            raise MoerecError(
                f"stage '{stage.name}': the gradient is not finite at update {state.update + 1} "
                f"(loss {float(loss_sum) / (targets or 1):.4g}); lower learning_rate, or set clip_norm"
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.criterion is not None:
            self.criterion.after_step()
        if self.average is not None:
            self._move_average()
        state.update, state.total_updates = state.update + 1, state.total_updates + 1
        state.targets += targets
        moment = self._moment()
        for hook in self.trainer.hooks:
            hook.after_step(moment)
        return loss_sum, norm, targets

    def _move_average(self) -> None:
        assert self.average is not None
        assert self.stage.average is not None
        # The bound keeps the first parameters, which are noise, from weighing for long.
        decay = min(self.stage.average, (1 + self.state.update) / (10 + self.state.update))
        names = list(self.average)
        torch._foreach_lerp_(
            [self.average[name] for name in names], [self.parameters[name].detach() for name in names], 1 - decay
        )

    def _validate(self) -> None:
        state, metric = self.state, self.config.metric
        metrics = self._with_average(self.trainer.validate)
        if metric not in metrics:
            raise MoerecError(f"training.metric: validation gives no '{metric}'; it gives: {', '.join(metrics)}")
        value = metrics[metric]
        sign = 1 if self.config.higher_is_better else -1
        is_best = state.best_value is None or sign * value > sign * state.best_value
        if is_best:
            state.best_value, state.best_update, state.stale = value, state.total_updates, 0
        else:
            state.stale += 1
        shown = {name: round(number, 6) for name, number in metrics.items()}
        beside = dict(self.trainer.beside())
        self.log.record(
            self._place() | {"valid": shown} | beside | {"best": is_best, "seconds": round(self._seconds(), 3)}
        )
        self.log.say(
            f"  epoch {state.epoch:>3}  update {state.update:>6}  valid "
            + "  ".join(f"{name} {metrics[name]:.4f}" for name in _headline(metrics, metric, self.config.shown))
            + ("  best" if is_best else "")
        )
        self._save(("last", "best") if is_best else ("last",))

    def _with_average(self, work: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Do something with the averaged parameters in place, then put the current ones back."""
        if self.average is None:
            return work()
        current = {name: self.parameters[name].detach().clone() for name in self.average}
        self._put(self.average)
        try:
            return work()
        finally:
            self._put(current)

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, value in values.items():
                self.parameters[name].copy_(value)

    def _verify_changes(self) -> None:
        """Compare every parameter with the stage's start; a frozen one that moved is an error."""
        now = parameter_checksums(self.model)
        changed = {name for name, checksum in now.items() if self.state.stage_start.get(name) != checksum}
        strays = sorted(changed - set(self.parameters))
        if strays:
            raise MoerecError(f"stage '{self.stage.name}': frozen parameters changed: {', '.join(strays[:5])}")
        # No gradient is no mistake: nothing was missing, so the vector of a missing value never spoke.
        still = sorted(set(self.parameters) - changed)
        self.log.record(self._place() | {"changed": sorted(changed), "unchanged": still})

    def _log_update(self, loss: float, norm: float) -> None:
        rate = self.optimizer.param_groups[0]["lr"]
        seconds = self._seconds()
        self.log.record(
            self._place()
            | {
                "loss": round(loss, 6),
                "learning_rate": rate,
                "gradient_norm": round(norm, 6),
                "seconds": round(seconds, 3),
            }
            | ({} if self.criterion is None else self.criterion.record())
        )
        note = f"loss {loss:.3f}, {self.state.targets / max(seconds, 1e-9):,.0f} targets/s"
        self.log.advance(f"stage {self.stage.name}", self.state.update, self.total, note)

    def _place(self) -> dict[str, Any]:
        return {"stage": self.stage.name, "update": self.state.total_updates, "epoch": self.state.epoch}

    def _moment(self) -> Moment:
        return Moment(self.model, self.stage, self.state.epoch, self.state.update, self.total)

    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.began

    def _save(self, links: tuple[str, ...]) -> None:
        state = self.state
        state.seconds, self.began = self._seconds(), time.monotonic()
        state.log_bytes = self.log.size
        state.loss_sum = float(self.loss_sum)
        state.scaler = self.scaler.state_dict()
        save_checkpoint(
            self.trainer.checkpoints,
            links,
            replace(state),
            self.model,
            self.optimizer,
            self._optimized(),
            self.average,
            self.criterion,
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float16
        return torch.autocast(self.trainer.device.type, dtype=dtype)


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _headline(metrics: Mapping[str, float], metric: str, shown: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys((metric, *shown)) if name in metrics]
