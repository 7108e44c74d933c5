"""Train the recipe's retriever, or go on where a killed run stood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from moerec.batches.histories import TrainHistories
from moerec.devices import choose_device
from moerec.errors import ConfigError, DatasetError, MissingExtraError
from moerec.evaluation.evaluate import evaluate
from moerec.files import fingerprint
from moerec.models.roles import Retriever, missing_times
from moerec.recipe import Recipe, TrainingConfig, plain_recipe
from moerec.run.judge import Judge
from moerec.run.prepare import SPLIT, Prepared
from moerec.training.balance import LossFreeBalance
from moerec.training.checkpoint import TrainingState
from moerec.training.id_dropout import AnnealedIdDropout
from moerec.training.logs import TrainingLog
from moerec.training.objective import RetrievalObjective
from moerec.training.stages import select_trainable
from moerec.training.trainer import Trainer, TrainerConfig


@dataclass(frozen=True)
class Trained:
    """A retriever as it was at its best validation."""

    model: Retriever
    """The model, on the training device, in evaluation mode."""
    state: TrainingState
    """Where the training ended."""


def build_retriever(recipe: Recipe, prepared: Prepared) -> Retriever:
    """The untrained retriever; equal for equal seeds."""
    torch.manual_seed(recipe.seed)
    config: Any = recipe.retriever
    model: Retriever = config.build(torch.from_numpy(prepared.trained), prepared.table)
    return model


def check_training(recipe: Recipe, prepared: Prepared) -> None:
    """Find out before any work whether the training can begin: device, precision, model, what trains in each stage.

    Raises:
        ConfigError: something in the recipe does not fit the data, the model or the machine.
        DatasetError: there is nothing to learn from.
        MissingExtraError: TensorBoard is asked for and not installed.
    """
    choose_precision(recipe.training, choose_device(recipe.training.device))
    objective = retrieval_objective(recipe, prepared, build_retriever(recipe, prepared))
    if objective.model.reads_times and prepared.train.timestamps is None:
        raise missing_times()
    if recipe.training.compile:
        objective.model.compile_for_training()  # refuses here what it would refuse later; nothing is compiled yet
    if int(np.diff(prepared.train.offsets).max(initial=0)) < 2:
        raise DatasetError(
            "no user has two train events, so there is no order to learn; look at the column of users and at the split"
        )
    for stage in recipe.training.retriever:
        select_trainable(objective.model, stage)
        objective.check(stage)
    if recipe.training.tensorboard and find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "track", "training.tensorboard: true")


def train_retriever(
    recipe: Recipe, prepared: Prepared, valid: Judge, directory: Path, console: Console, *, resume: bool
) -> Trained:
    """Run all stages; with `resume` from the last checkpoint of the run folder."""
    settings = recipe.training
    device = choose_device(settings.device)
    model = build_retriever(recipe, prepared).to(device)
    if settings.compile:
        model.compile_for_training()

    def validate() -> Mapping[str, float]:
        return evaluate(model, valid.cases, valid.protocol, name=recipe.name).metrics

    trainer = Trainer(
        objective=retrieval_objective(recipe, prepared, model),
        stages=settings.retriever,
        validate=validate,
        directory=directory,
        identity=training_identity(recipe, prepared),
        seed=recipe.seed,
        config=TrainerConfig(
            metric=settings.metric,
            log_every=settings.log_every,
            checkpoint_every=settings.checkpoint_every,
            precision=choose_precision(settings, device),
        ),
        log=lambda kept_bytes, kept_updates: TrainingLog(
            directory / "history.jsonl",
            console,
            tensorboard=settings.tensorboard,
            keep_bytes=kept_bytes,
            keep_update=kept_updates,
        ),
        device=device,
        hooks=(AnnealedIdDropout(), LossFreeBalance()),
        workers=settings.workers,
    )
    state = trainer.run(resume=resume)
    return Trained(model.eval(), state)


def retrieval_objective(recipe: Recipe, prepared: Prepared, model: Retriever) -> RetrievalObjective:
    """What the training of the retriever minimises."""
    weighed = any(stage.action_weights is not None for stage in recipe.training.retriever)
    train = TrainHistories.of(prepared.dataset, SPLIT, labels=True) if weighed else prepared.train
    return RetrievalObjective(model, train, torch.from_numpy(prepared.trained), recipe.seed)


def training_identity(recipe: Recipe, prepared: Prepared) -> str:
    """Fingerprint of everything that decides the trained parameters."""
    plain = plain_recipe(recipe)
    training = {key: plain["training"][key] for key in ("retriever", "metric", "precision", "compile")}
    return fingerprint(
        {
            "data": prepared.identity,
            "retriever": plain["retriever"],
            "training": training,
            "filter_seen": recipe.evaluation.filter_seen,
            "history": recipe.evaluation.history,
            "cutoffs": list(recipe.evaluation.cutoffs),
            "seed": recipe.seed,
        }
    )


def choose_precision(settings: TrainingConfig, device: torch.device) -> Any:
    """The arithmetic of `training.precision`: on `auto` bf16 where an accelerator has it, else fp32.

    Raises:
        ConfigError: fp16 on the CPU, where gradients would underflow without help.
    """
    if settings.precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if settings.precision == "fp16" and device.type == "cpu":
        raise ConfigError("training.precision: fp16 needs an accelerator; write bf16 or fp32 on the CPU")
    return settings.precision
