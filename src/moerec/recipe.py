"""A recipe: everything that a run does, as one validated object."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from moerec.config import Config, discover, implementation, implementations, kind_of, near_match, validate
from moerec.dataset.splits import SplitConfig
from moerec.errors import ConfigError
from moerec.evaluation.metrics import METRICS
from moerec.evaluation.protocols import ProtocolConfig
from moerec.features.spec import FeatureSpec, checked_name
from moerec.modalities.recipe import ModalityConfig
from moerec.models.item_tower import ItemTowerConfig
from moerec.overrides import apply_override, read_yaml
from moerec.training.stages import StageConfig


def _discovered(role: str, where: str) -> BeforeValidator:
    return BeforeValidator(lambda values: discover(role, values, where) if isinstance(values, Mapping) else values)


class CandidateListConfig(Config):
    """One fixed list of unseen items for each user, against which the held-out item is ranked."""

    negatives: int = Field(default=100, ge=1)
    """Unseen items in each list."""
    sampling: Literal["uniform", "popularity"] = "uniform"
    """uniform, or popularity: in proportion to train events."""
    seed: int = Field(default=0, ge=0)
    """Seed of the draw; its own, so that runs with other seeds are judged on the same lists."""

    @property
    def name(self) -> str:
        """What follows the slash in the names of its metrics, for instance `uniform100`."""
        return f"{self.sampling}{self.negatives}"


class DatasetConfig(Config):
    """Where the events come from and how they are split."""

    source: Annotated[SerializeAsAny[Config], _discovered("source", "dataset")]
    """The source and its own keys, for instance `source: movielens` with `variant: ml-100k`."""
    split: SplitConfig = SplitConfig(kind="leave_last_out")
    """The rule that makes train, valid and test."""
    candidates: tuple[CandidateListConfig, ...] = (CandidateListConfig(),)
    """Fixed candidate lists of sampled protocols; a number stands for one list of so many, null for none."""

    @field_validator("candidates", mode="before")
    @classmethod
    def _as_lists(cls, value: Any) -> Any:
        """`candidates: 100` stands for one uniform list of 100."""
        if value is None:
            return ()
        return ({"negatives": value},) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("candidates")
    @classmethod
    def _differ(cls, lists: tuple[CandidateListConfig, ...]) -> tuple[CandidateListConfig, ...]:
        names = [entry.name for entry in lists]
        if len(set(names)) != len(names):
            raise ValueError(f"lists need different sizes or sampling, got {', '.join(names)}")
        return lists

    @model_validator(mode="before")
    @classmethod
    def _gather_source(cls, values: Any) -> Any:
        """`source: movielens, variant: x` stands for a source of kind movielens with the key variant."""
        if not isinstance(values, Mapping) or isinstance(values.get("source"), Mapping | Config):
            return values
        if "source" not in values:
            for key in difflib.get_close_matches("source", map(str, values), n=1):
                raise ConfigError(f"dataset.{key}: unknown key; did you mean 'source'?")
        theirs = implementation("source", values.get("source"), "dataset.source").model_fields
        for key in values:
            if key not in cls.model_fields and key not in theirs:
                hint = near_match(str(key), [*cls.model_fields, *theirs], "known keys")
                raise ConfigError(f"dataset.{key}: unknown key; {hint}")
        own = {key: value for key, value in values.items() if key in cls.model_fields and key != "source"}
        others = {key: value for key, value in values.items() if key not in cls.model_fields}
        return own | {"source": {"kind": values["source"]} | others}


class BaselinesConfig(Config):
    """The plain baselines that stand beside the model."""

    kinds: tuple[str, ...] | None = None
    """Which baselines; by default all that can be fitted on a catalogue of this size, [] for none."""
    trials: int = Field(default=30, ge=1)
    """Configurations tried for each on the validation part; at least as many as were tried for the model."""
    seed: int = Field(default=0, ge=0)
    """Seed of the search; its own, so that runs with other seeds stand beside the same baselines."""

    @field_validator("kinds")
    @classmethod
    def _check(cls, kinds: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = implementations("baseline")
        for kind in kinds or ():
            if kind not in known:
                raise ValueError(f"unknown baseline '{kind}'; {near_match(kind, known, 'known kinds')}")
            if kinds is not None and kinds.count(kind) > 1:
                raise ValueError(f"the baseline '{kind}' is named twice")
        return kinds


class TrainingConfig(Config):
    """How the models of the recipe are trained."""

    retriever: tuple[StageConfig, ...] = (StageConfig(epochs=20),)
    """Stages of the retriever's training, in order."""
    metric: str = "ndcg@10"
    """Validation metric that decides the best update and the early stop."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: an accelerator if there is one, else the CPU."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the accelerator has it, else fp32."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; null leaves torch's own choice. Results differ in the last bits between counts."""
    log_every: int = Field(default=20, ge=1)
    """Updates between two lines of the log."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Updates between two checkpoints, besides one at each validation."""
    tensorboard: bool = False
    """Write TensorBoard files beside history.jsonl; needs the extra `track`."""

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if not self.retriever:
            raise ValueError("retriever needs at least one stage")
        names = [stage.name for stage in self.retriever]
        if len(set(names)) != len(names):
            raise ValueError(f"stages need different names, got {', '.join(names)}")
        return self


class EvaluationConfig(Config):
    """How the selected model is judged on the test part, once."""

    cutoffs: tuple[int, ...] = (5, 10, 20)
    """The k of each metric, ascending."""
    filter_seen: bool = True
    """Items of a user's history are not candidates."""
    history: Literal["all", "strict"] = "all"
    """all: every event before the target; strict: without those that share its timestamp."""
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind each interval."""
    examples: int = Field(default=6, ge=0)
    """Users whose history and list the report shows."""

    @field_validator("cutoffs")
    @classmethod
    def _ascending(cls, cutoffs: tuple[int, ...]) -> tuple[int, ...]:
        if not cutoffs or list(cutoffs) != sorted(set(cutoffs)) or cutoffs[0] < 1:
            raise ValueError("cutoffs must be ascending positive numbers, for instance [5, 10, 20]")
        return cutoffs

    def protocol(self, part: Literal["valid", "test"], candidates: str | None = None) -> ProtocolConfig:
        """The protocol of one part: full ranking, or sampled when candidate lists are named."""
        return ProtocolConfig(
            part=part,
            cutoffs=self.cutoffs,
            filter_seen=self.filter_seen,
            history=self.history,
            ranking="full" if candidates is None else "sampled",
            candidates=candidates,
        )


class Recipe(Config):
    """Everything that a run does."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; its folder is runs/<name>/<time>."""
    seed: int = Field(default=42, ge=0)
    """Seed of the model, the order of its data and the drawn examples."""
    model_trials: int = Field(default=1, ge=1)
    """Configurations that were tried on validation before this one was written down; reported beside the table."""
    dataset: DatasetConfig
    """Source, split, candidates."""
    modalities: dict[str, ModalityConfig] = Field(default={})
    """Vectors of the items' texts and images, by name; each becomes an item feature."""
    features: tuple[FeatureSpec, ...] = ()
    """Item features that models may read, besides the modalities."""
    retriever: Annotated[SerializeAsAny[Config], _discovered("retriever", "retriever")]
    """The model that retrieves."""
    baselines: BaselinesConfig = BaselinesConfig()
    """The plain baselines beside it."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How it is judged."""

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        names = [*self.modalities, *(spec.name for spec in self.features)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"features and modalities share the name '{sorted(twice)[0]}'; rename one")
        if "id" in names:
            raise ValueError("'id' is the name of the item's own embedding; rename the feature")
        for name in self.modalities:
            checked_name(name)
        for spec in self.features:
            if spec.side != "item" or spec.kind not in ("categorical", "multi", "dense"):
                raise ValueError(
                    f"feature '{spec.name}': a retriever reads categorical, multi and dense features of items; "
                    "vectors are declared under modalities"
                )
        self._check_item_tower(names)
        self._check_judgement()
        return self

    def _check_item_tower(self, names: list[str]) -> None:
        """What the item tower of a retriever reads must be in the recipe."""
        tower = getattr(self.retriever, "item_tower", None)
        if not isinstance(tower, ItemTowerConfig):
            return
        for name in tower.features or ():
            if name not in names:
                hint = near_match(name, names, "known") if names else "the recipe has no features and no modalities"
                raise ValueError(f"retriever.item_tower.features: no item feature '{name}'; {hint}")
        if not tower.use_id and not names:
            raise ValueError("retriever.item_tower.use_id: false leaves nothing of an item; add features or modalities")

    def _check_judgement(self) -> None:
        """The metric that selects must be one that is computed, and the history one that the split has."""
        metrics = [f"{metric}@{cutoff}" for cutoff in self.evaluation.cutoffs for metric in METRICS]
        if self.training.metric not in metrics:
            hint = near_match(self.training.metric, metrics)
            raise ValueError(f"training.metric: validation gives no '{self.training.metric}' to maximise; {hint}")
        unseen_alone = [stage.name for stage in self.training.retriever if stage.loss.exclude_seen]
        if not self.evaluation.filter_seen and unseen_alone:
            raise ValueError(
                "evaluation.filter_seen: false ranks seen items, but stage "
                f"'{unseen_alone[0]}' never learns to tell them apart; write loss: {{exclude_seen: false}} in it"
            )
        if self.evaluation.history == "strict" and self.dataset.split.kind == "ratio":
            raise ValueError("evaluation.history: strict needs a split in time and this one is random; write all")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from YAML and apply `--set` overrides.

    Raises:
        ConfigError: one line with the file and the key that is wrong.
    """
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        found = sorted(str(other) for other in folder.glob("[!.]*.y*ml")) if folder.is_dir() else []
        hint = f"; recipes there: {', '.join(found[:8])}" if found else ""
        raise ConfigError(f"{path}: {'a folder, not a' if path.is_dir() else 'no such'} recipe{hint}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a UTF-8 text file ({error.reason} at byte {error.start})") from None
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a recipe is a mapping of keys such as name, dataset, retriever")
    for override in overrides:
        apply_override(values, override)
    return parse_recipe(values, str(path))


def parse_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Make a recipe from plain values; the message of a mistake starts with `where`."""
    try:
        return validate(Recipe, values)
    except ConfigError as error:
        # A contradiction between two keys belongs to none of them, so its place is the class.
        raise ConfigError(f"{where}: {str(error).removeprefix('Recipe: ')}") from None


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe as plain data; `parse_recipe` gives the same recipe back."""
    plain = recipe.model_dump(mode="json")
    source = plain["dataset"].pop("source")
    plain["dataset"] = {"source": kind_of("source", recipe.dataset.source)} | source | plain["dataset"]
    plain["retriever"] = {"kind": kind_of("retriever", recipe.retriever)} | plain["retriever"]
    return plain
