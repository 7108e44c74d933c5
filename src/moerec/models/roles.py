"""The roles of a model; evaluation, training and serving know only these.

Shape letters: B sequences or examples, T events of all sequences together, N items, D width of the shared vector
space, E experts, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from moerec.batches.examples import ExampleBatch, ExampleSchema
from moerec.batches.sequences import SequenceBatch
from moerec.config import Config
from moerec.errors import ConfigError
from moerec.losses.ordinal import ordinal_log_probabilities
from moerec.models.item_tower import ItemTower
from moerec.nn.gates import Gating
from moerec.tasks import TaskConfig, TaskStatistics


class Scorer(ABC):
    """Gives a score to candidates for each user; higher is better, only the order within a user matters."""

    @property
    @abstractmethod
    def num_indices(self) -> int:
        """Size of the item index: the catalogue and the two reserved indices."""

    @abstractmethod
    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """Scores of candidates.

        Args:
            batch: the users' histories; an empty history is allowed.
            candidates: [B, N] int64 item indices, or None for the whole index.

        Returns:
            [B, N] scores; for the whole index [B, num_indices], where the two reserved indices are meaningless.
        """


class Retriever(nn.Module, Scorer):
    """A scorer that factorises: one vector for a user, one for an item, their dot product is the score."""

    config: Config
    """What the model was built from; `config.build(trained, table)` makes another of the same shape."""
    item_tower: ItemTower
    """Makes an item's vector wherever one is needed."""
    empty_history: Tensor
    """The learned vector [D] of a user without any event."""

    @property
    def num_indices(self) -> int:
        """Size of the item index."""
        return len(self.item_tower.trained)

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Most recent events that the model sees."""

    @property
    def reads_times(self) -> bool:
        """Whether histories need timestamps."""
        return False

    @abstractmethod
    def encode_events(self, batch: SequenceBatch, item_vectors: Tensor | None = None) -> Tensor:
        """The user's vector after each event, [T, D]; event t sees events up to and including itself.

        Args:
            batch: histories of at most `max_length` events.
            item_vectors: [num_indices, D] what `encode_items()` gives, if the caller has it at hand.
        """

    def compile_for_training(self) -> None:
        """Compile what `encode_events` spends its time in; parameters and their names stay as they are.

        Raises:
            ConfigError: the model has no such part.
        """
        raise ConfigError(f"training.compile: {type(self).__name__} has no part that compiles; write compile: false")

    def encode_items(self, items: Tensor | None = None) -> Tensor:
        """Vectors [N, D] of item indices [N]; of the whole index when None."""
        return self.encode_items_with_gate(items)[0]

    def encode_items_with_gate(self, items: Tensor | None = None) -> tuple[Tensor, Gating | None]:
        """What `encode_items` gives, and what the item tower's gate said meanwhile; None without experts.

        Training and everything else ask here: a model that makes items in another way overrides this.
        """
        return self.item_tower.forward_with_gate(items)

    @abstractmethod
    def encode_padded(
        self, items: Tensor, lengths: Tensor, item_vectors: Tensor | None = None, timestamps: Tensor | None = None
    ) -> Tensor:
        """The user's vector after the last event, [B, D], from dense tensors alone (this form can be exported).

        Args:
            items: [B, L] int64 histories padded on the right, L at most `max_length`.
            lengths: [B] int64 numbers of real events; 0 gives `empty_history`.
            item_vectors: [num_indices, D] what `encode_items()` gives, if the caller has it at hand.
            timestamps: [B, L] int64 milliseconds, padded like the items; needed where `reads_times`.

        Raises:
            ConfigError: the model reads times and there are none.
        """

    def encode_users(self, batch: SequenceBatch, item_vectors: Tensor | None = None) -> Tensor:
        """The user's vector after the last event, [B, D]; only the most recent `max_length` events count."""
        batch = batch.last(self.max_length)
        times = self.padded_times(batch)  # [B, L]
        return self.encode_padded(batch.padded_items(), batch.lengths, item_vectors, times)

    def padded_times(self, batch: SequenceBatch) -> Tensor | None:
        """The times of a batch [B, L], where the model reads them; else None.

        Raises:
            ConfigError: the model reads times and the batch has none.
        """
        if not self.reads_times:
            return None
        if batch.timestamps is None:
            raise missing_times()
        return batch.padded(batch.timestamps)

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """Dot products of users and candidates; see `Scorer.score`."""
        vectors = self.encode_items()  # [num_indices, D]
        users = self.encode_users(batch, vectors)  # [B, D]
        if candidates is None:
            return users @ vectors.T  # [B, num_indices]
        return torch.einsum("bd,bnd->bn", users, vectors[candidates])


def missing_times() -> ConfigError:
    """The error of a model that reads times and gets none."""
    return ConfigError(
        "retriever.time_bias: this model reads when events happened, and these histories have no timestamps; "
        "give timestamps, or train with time_bias: false"
    )


class Ranker(nn.Module, ABC):
    """Predicts several tasks of an example: one user, one item, one moment."""

    config: Config
    """What the model was built from; `config.build(schema, tasks, statistics)` makes another of the same shape."""
    schema: ExampleSchema
    """The inputs that it reads."""
    tasks: tuple[TaskConfig, ...]
    """What it predicts."""
    statistics: Mapping[str, TaskStatistics]
    """What the train rows say of each task; the heads start there, and losses are on its scale."""

    @abstractmethod
    def forward(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """Per task: the logit [B] of a binary task, the number [B] of a regression in the label's own unit, or
        log(1 + label) with the transform log1p, the logits [B, C] of a multiclass task, the cumulative logits
        [B, C - 1] of an ordinal one: P(class > k) = sigmoid(logit k) with logits that fall from left to right.
        """

    def forward_with_gates(self, batch: ExampleBatch) -> tuple[dict[str, Tensor], dict[str, Gating]]:
        """What `forward` gives, and what each gate said meanwhile; the gate of a task has the task's name."""
        return self(batch), {}

    def gate_weights(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """Per gate the weights [B, E] of its experts; empty for a model without gates."""
        return {name: gating.weights for name, gating in self.forward_with_gates(batch)[1].items()}

    def expert_names(self) -> dict[str, tuple[str, ...]]:
        """Per gate the names of its experts, in the order of its weights.

        An inner gate is named `group, level`. Experts of one name are the same one where their gates are of one level,
        and so are those of one name among the gates of the tasks.
        """
        return {}

    def shared_layer(self) -> tuple[nn.Parameter, ...]:
        """The weights of the last layer that all tasks share; empty for a model that shares nothing or names none.

        Weightings of tasks that compare gradients look at it, and so does the log of their cosines.
        """
        return ()

    def predict(self, batch: ExampleBatch) -> dict[str, Tensor]:
        """Per task [B]: a probability, or a number in the label's own unit; [B, C] the probability of each class."""
        return self.predictions(self(batch))

    def predictions(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the outputs of `forward` mean; see `predict`."""
        return {task.name: _prediction(task, outputs[task.name]) for task in self.tasks}


def _prediction(task: TaskConfig, output: Tensor) -> Tensor:
    if task.type == "binary":
        return torch.sigmoid(output)
    if task.type == "multiclass":
        return torch.softmax(output, dim=1)
    if task.type == "ordinal":
        return ordinal_log_probabilities(output).exp()
    return torch.expm1(output).clamp(min=0) if task.transform == "log1p" else output
