"""Multi-gate mixture of experts on rows of numbers (Ma et al. 2018), as a plain torch module.

Shape letters: B rows, I input width, E experts, D width of an expert's output, O outputs of a task, T tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeGuard

from pydantic import Field, PositiveInt, SerializeAsAny, model_validator
from torch import Tensor, nn

from moerec.config import Config, Discovered, validate
from moerec.errors import CheckpointError, ConfigError
from moerec.models.mmoe.blocks import TowerNetwork, perceptron_experts
from moerec.models.mmoe.own_modules import Modules, gating_of, own_experts, own_gates
from moerec.nn.experts import ExpertConfig, Experts, mix_all
from moerec.nn.gates import DenseGateConfig, GateConfig, Gating

Predictions = list[Tensor]
WithWeights = tuple[list[Tensor], list[Tensor]]


class MixtureSettings(Config):
    """What both models share."""

    num_experts: PositiveInt = 3
    """E."""
    num_tasks: PositiveInt = 2
    """T."""
    expert_hidden_dims: tuple[PositiveInt, ...] = Field(default=(128, 64), min_length=1)
    """Hidden widths of each expert; the last is its output."""
    gate_hidden_dims: tuple[PositiveInt, ...] | None = None
    """Hidden widths of each gate; None for linear gates."""
    tower_hidden_dims: tuple[PositiveInt, ...] = (64, 32)
    """Hidden widths of each tower; [] for linear towers."""
    task_output_dims: tuple[PositiveInt, ...] | None = None
    """O of each task; None for 1."""
    dropout_rate: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of the hidden layers of experts and towers."""
    experts: Annotated[SerializeAsAny[ExpertConfig] | None, Discovered("expert", "experts")] = None
    """Another kind of experts, in place of those of `expert_hidden_dims`."""
    gates: Annotated[SerializeAsAny[GateConfig] | None, Discovered("gate", "gates")] = None
    """Another kind of gates, in place of those of `gate_hidden_dims`."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.task_output_dims is not None and len(self.task_output_dims) != self.num_tasks:
            raise ValueError(
                f"task_output_dims: it has {len(self.task_output_dims)} widths, and num_tasks is {self.num_tasks}; "
                f"give num_tasks={len(self.task_output_dims)}"
            )
        return self


class MMoEModelConfig(MixtureSettings):
    """What an `MMoEModel` was built from."""

    input_dim: PositiveInt
    """I."""


class MMoEModel(nn.Module):
    """Experts that all tasks share, a gate for each task that mixes them, and a tower for each task.

    Args:
        input_dim: I.
        num_experts: E.
        num_tasks: T.
        expert_hidden_dims: hidden widths of each expert; the last is its output.
        gate_hidden_dims: hidden widths of each gate; None for linear gates.
        tower_hidden_dims: hidden widths of each tower; [] for linear ones.
        task_output_dims: O of each task, for instance the number of classes; None for 1.
        dropout_rate: dropout of the hidden layers.
        experts: E own modules [B, I] -> [B, D], or a configuration such as `MLPExpertConfig(shared_hidden=(64,))`;
            `expert_hidden_dims` is then not read.
        gates: T own modules [B, I] -> weights [B, E], or a configuration such as `TopKGateConfig(k=2)`;
            `gate_hidden_dims` is then not read.

    Raises:
        ConfigError: numbers or widths contradict each other, or an own module does not fit.
    """

    ROLE: ClassVar[str] = "mmoe_model"
    CONFIG: ClassVar[type[MixtureSettings]] = MMoEModelConfig
    config: MixtureSettings
    """What it was built from, own modules left out."""

    def __init__(
        self,
        input_dim: int,
        num_experts: int = 3,
        num_tasks: int = 2,
        expert_hidden_dims: Sequence[int] = (128, 64),
        gate_hidden_dims: Sequence[int] | None = None,
        tower_hidden_dims: Sequence[int] = (64, 32),
        task_output_dims: Sequence[int] | None = None,
        dropout_rate: float = 0.1,
        *,
        experts: Modules | ExpertConfig | None = None,
        gates: Modules | GateConfig | None = None,
    ) -> None:
        super().__init__()
        given = {"experts": experts, "gates": gates}
        settings = {
            "input_dim": input_dim,
            "num_experts": num_experts,
            "num_tasks": num_tasks,
            "expert_hidden_dims": expert_hidden_dims,
            "gate_hidden_dims": gate_hidden_dims,
            "tower_hidden_dims": tower_hidden_dims,
            "task_output_dims": task_output_dims,
            "dropout_rate": dropout_rate,
        }
        config = validate(MMoEModelConfig, settings | configured(given), type(self).__name__)
        self.config = config
        self.own_modules = tuple(name for name, found in given.items() if is_modules(found))
        """Which of `experts` and `gates` are modules that the caller made."""
        self.experts: Experts
        if is_modules(experts):
            self.experts = own_experts(experts, input_dim, num_experts)
        else:
            kind = config.experts or perceptron_experts(config.expert_hidden_dims)
            self.experts = kind.build(num_experts, input_dim, dropout_rate)
        if is_modules(gates):
            self.gates = own_gates(gates, input_dim, num_tasks, num_experts)
        else:
            rule = config.gates or DenseGateConfig(hidden=config.gate_hidden_dims or ())
            self.gates = nn.ModuleList(rule.build(input_dim, num_experts) for _ in range(num_tasks))
        self.towers = nn.ModuleList(
            TowerNetwork(self.experts.output_width, config.tower_hidden_dims, width, dropout_rate)
            for width in config.task_output_dims or (1,) * num_tasks
        )

    def forward(self, x: Tensor, return_expert_weights: bool = False) -> Predictions | WithWeights:
        """Predictions of rows.

        Args:
            x: [B, I].
            return_expert_weights: also give each gate's weights.

        Returns:
            For each task [B, O], logits or numbers; if asked for, also for each task the weights [B, E].
        """
        return self._answer(x, return_expert_weights)

    def forward_with_gates(self, x: Tensor) -> tuple[Predictions, list[Gating]]:
        """Predictions [B, O] of each task, and what each gate said, its loss of balance among it."""
        return self._mixed(x)

    def _answer(self, x: Tensor, return_expert_weights: bool) -> Predictions | WithWeights:
        predictions, gatings = self._mixed(x)
        return (predictions, [gating.weights for gating in gatings]) if return_expert_weights else predictions

    def _mixed(self, x: Tensor) -> tuple[Predictions, list[Gating]]:
        outputs = self.experts(x)  # [B, E, D]
        gatings = [gating_of(gate(x)) for gate in self.gates]
        vectors = mix_all([gating.weights for gating in gatings], outputs)
        return [tower(vector) for tower, vector in zip(self.towers, vectors, strict=True)], gatings

    def save_pretrained(self, directory: str | Path) -> None:
        """Write the model into a new or empty folder, JSON and safetensors; a saved model of this class is replaced.

        Raises:
            CheckpointError: something else stands there.
            ConfigError: a kind of expert or gate has no name under which it could be found again.
        """
        # These bring Polars; who only trains does not wait for it.
        from moerec.files import atomic_directory
        from moerec.models.saved_files import CONFIG, WEIGHTS, write_model
        from moerec.models.saved_place import require_place

        with atomic_directory(require_place(directory, self.ROLE, (CONFIG, WEIGHTS))) as temporary:
            write_model(temporary, self.ROLE, self, self.config, {"own_modules": list(self.own_modules)})

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, experts: Modules | None = None, gates: Modules | None = None
    ) -> Self:
        """Read a model, in evaluation mode on the CPU.

        Args:
            directory: a folder that `save_pretrained` wrote.
            experts: for a model with own experts, new modules of the same shapes; their weights are read.
            gates: the same for own gates.

        Raises:
            CheckpointError: the folder holds no such model or is damaged, own modules are missing or do not fit, or the
                class of a kind of experts or gates cannot be imported.
        """
        from moerec.models.saved_files import CONFIG, put_weights, read_description

        path = Path(directory)
        description = read_description(path, cls.ROLE)
        given = {"experts": experts, "gates": gates}
        for name, modules in given.items():
            needed = name in description.get("own_modules", ())
            if needed != (modules is not None):
                remedy = f"give {name}=[...], new ones of the same shapes" if needed else f"leave {name}= out"
                raise CheckpointError(f"{path}: saved {'with' if needed else 'without'} own {name}; {remedy}")
        if not isinstance(description.get("config"), Mapping):
            raise CheckpointError(f"{path}: {CONFIG} describes no model; save it again")
        try:
            config = validate(cls.CONFIG, description["config"], CONFIG)
            arguments = {name: getattr(config, name) for name in type(config).model_fields}
            model = cls(**arguments | {name: modules for name, modules in given.items() if modules is not None})
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from error
        put_weights(model, path)
        return model.eval()


def is_modules(found: Any) -> TypeGuard[Modules]:
    """Whether these are modules that the caller made, not a configuration."""
    return found is not None and not isinstance(found, Config | Mapping)


def configured(given: Mapping[str, Any]) -> dict[str, Any]:
    """The configurations among experts and gates."""
    return {name: None if is_modules(found) else found for name, found in given.items()}
