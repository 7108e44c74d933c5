"""A recipe: everything that a run does, as one validated object."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from moerec.config import Config, Discovered, gathered, implementations, kind_of, near_match, validate
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.dataset.splits import SplitConfig
from moerec.errors import ConfigError
from moerec.evaluation.metrics import METRICS
from moerec.evaluation.predictions import metric_names
from moerec.evaluation.protocols import ProtocolConfig
from moerec.examples_recipe import ExamplesConfig
from moerec.features.feature import FeatureConfig
from moerec.features.similarity import SimilarityConfig
from moerec.features.spec import FeatureSpec, checked_name
from moerec.modalities.recipe import ModalityConfig
from moerec.models.item_tower import ItemTowerConfig
from moerec.models.two_stage import RETRIEVAL, formula_refusal
from moerec.overrides import apply_override, read_yaml
from moerec.ranking_recipe import RankerConfig, RankingBaselinesConfig, TwoStageConfig
from moerec.training.stages import RankerStageConfig, RetrieverStageConfig


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

    source: Annotated[SerializeAsAny[Config], Discovered("source", "dataset", beside="source")]
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
        return gathered(cls, values)


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

    retriever: tuple[RetrieverStageConfig, ...] = (RetrieverStageConfig(epochs=20),)
    """Stages of the retriever's training, in order."""
    metric: str = "ndcg@10"
    """Validation metric that decides the retriever's best update and its early stop."""
    ranker: tuple[RankerStageConfig, ...] = (RankerStageConfig(epochs=10),)
    """Stages of the ranker's training, in order."""
    ranker_metric: str = "selection"
    """The same for the ranker: `<task>/<metric>`, or `selection`: the mean over the tasks of AUC (binary, multiclass)
    or 1 - RMSE / deviation (regression, ordinal)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: an accelerator if there is one, else the CPU."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the accelerator has it, else fp32."""
    compile: bool = False
    """Compile the retriever's encoder for training with torch.compile, which needs a C++ compiler on the CPU. The first
    updates take a minute; on the CPU later ones are no faster."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads of torch; null leaves torch's own choice. Results differ in the last bits between counts."""
    workers: int = Field(default=0, ge=0)
    """Processes that make batches ahead of the training; 0 makes them in between. It changes no number."""
    log_every: int = Field(default=20, ge=1)
    """Updates between two lines of the log."""
    checkpoint_every: int = Field(default=200, ge=1)
    """Updates between two checkpoints, besides one at each validation."""
    tensorboard: bool = False
    """Write TensorBoard files beside history.jsonl; needs the extra `track`."""

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        for role, stages in (("retriever", self.retriever), ("ranker", self.ranker)):
            if not stages:
                raise ValueError(f"{role} needs at least one stage")
            names = [stage.name for stage in stages]
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
    """Columns of items and users that models may read, besides the modalities; those of users only a ranker reads.
    An entry with `names: [a, b]` instead of `name` stands for one feature of the same settings for each."""
    causal_features: Annotated[dict[str, SerializeAsAny[FeatureConfig]], Discovered("feature", "causal_features")] = (
        Field(default={})
    )
    """Computed inputs of the ranker by name, as they stood just before each event."""
    examples: ExamplesConfig | None = None
    """Shards of training examples, made of raw reviews; null for none. A recipe may have nothing else."""
    retriever: Annotated[SerializeAsAny[Config] | None, Discovered("retriever", "retriever")] = None
    """The model that retrieves; null for none."""
    baselines: BaselinesConfig = BaselinesConfig()
    """The plain baselines beside it."""
    ranker: RankerConfig | None = None
    """The model that ranks; null for none."""
    ranking_baselines: RankingBaselinesConfig = RankingBaselinesConfig()
    """The plain baselines beside the ranker."""
    two_stage: TwoStageConfig = TwoStageConfig()
    """How the retriever's candidates are ranked again, where there are both."""
    training: TrainingConfig = TrainingConfig()
    """How it is trained."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How it is judged."""

    @field_validator("features", mode="before")
    @classmethod
    def _one_for_each_name(cls, entries: Any) -> Any:
        """`{names: [a, b], kind: dense}` stands for two entries."""
        if not isinstance(entries, list | tuple) or not any(_has_names(entry) for entry in entries):
            return entries
        # Checked here, for afterwards the places in the list are no longer those of the recipe.
        return [spec for place, entry in enumerate(entries) for spec in _specs(entry, f"features[{place}]")]

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        names = [*self.modalities, *(spec.name for spec in self.features)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"features and modalities share the name '{sorted(twice)[0]}'; rename one")
        if "id" in names:
            raise ValueError("'id' is the name of the item's own embedding; rename the feature")
        for name in (*self.modalities, *self.causal_features):
            checked_name(name)
        if not self.has_model and self.examples is None:
            raise ValueError("the recipe has no model; add retriever: or ranker:, or examples: for shards alone")
        self._check_examples()
        for spec in self.features:
            if spec.side not in ("item", "user") or spec.kind not in ("categorical", "multi", "dense"):
                raise ValueError(
                    f"feature '{spec.name}': categorical, multi and dense columns of items and users can be read; "
                    "vectors are declared under modalities, computed inputs under causal_features"
                )
            if spec.side == "user" and self.ranker is None:
                raise ValueError(f"feature '{spec.name}': only a ranker reads columns of users, and there is none")
        self._check_item_tower([*self.modalities, *(spec.name for spec in self.features if spec.side == "item")])
        self._check_judgement()
        self._check_ranker(names)
        return self

    @property
    def has_model(self) -> bool:
        """Whether something is trained."""
        return self.retriever is not None or self.ranker is not None

    def _check_examples(self) -> None:
        """Examples are made of the raw files of reviews, and without a model nothing else is."""
        if self.examples is None:
            return
        if not isinstance(self.dataset.source, AmazonReviewsConfig):
            raise ValueError("examples: they are made of raw reviews; write dataset: {source: amazon_reviews}")
        if not self.dataset.source.review_texts:
            raise ValueError("examples: their texts are made of reviews; remove dataset.review_texts: false")
        if self.has_model:
            return
        for key in ("split", "candidates"):
            if getattr(self.dataset, key) != DatasetConfig.model_fields[key].default:
                raise ValueError(
                    f"dataset.{key}: only a model uses this, and the recipe has none; remove it (examples have dates "
                    "of their own)"
                )
        for key in ("modalities", "features", "baselines", "training", "evaluation"):
            if self._differs_from_default(key):
                raise ValueError(f"{key}: only a model uses this, and the recipe has none; remove it, or add a model")

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
        if self.retriever is None:
            return
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

    def _differs_from_default(self, key: str) -> bool:
        return bool(getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True))

    def _check_ranker(self, names: list[str]) -> None:
        """What only a ranker uses needs one, and its inputs need names of their own."""
        if self.ranker is None:
            for key in ("causal_features", "two_stage", "ranking_baselines"):
                if self._differs_from_default(key):
                    raise ValueError(f"{key}: only a ranker uses this, and the recipe has none; add ranker:")
            return
        if self.retriever is None and self._differs_from_default("two_stage"):
            raise ValueError("two_stage: there are no candidates to rank without a retriever; add retriever:")
        for name, feature in self.causal_features.items():
            if isinstance(feature, SimilarityConfig) and feature.modality not in self.modalities:
                hint = near_match(feature.modality, self.modalities) if self.modalities else "the recipe has none"
                raise ValueError(f"causal_features.{name}.modality: no modality '{feature.modality}'; {hint}")
        outputs = [spec.name for feature in self.causal_features.values() for spec in feature.specs]
        taken = [*names, *outputs, "user", "item", "history"]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        if twice:
            raise ValueError(f"two inputs of the ranker have the name '{twice[0]}'; rename one")
        tasks = {task.name: task for task in self.ranker.tasks}
        for name in self.two_stage.formula:
            if name not in (RETRIEVAL, *tasks):
                hint = near_match(name, (RETRIEVAL, *tasks), "known")
                raise ValueError(f"two_stage.formula: no task '{name}'; {hint}")
            if name in tasks and (reason := formula_refusal(tasks[name])) is not None:
                raise ValueError(f"two_stage.formula: {reason}")
        metrics = metric_names(self.ranker.tasks)
        if self.training.ranker_metric not in metrics:
            hint = near_match(self.training.ranker_metric, metrics)
            raise ValueError(f"training.ranker_metric: validation gives no '{self.training.ranker_metric}'; {hint}")
        if self.dataset.split.kind == "ratio" and self.looks_back:
            raise ValueError(
                "dataset.split: kind: ratio mixes earlier and later events, and the past is looked at; "
                "write kind: user_time, global_date or leave_last_out, or for rows without an order leave out "
                f"{' and '.join(self.looks_back)}"
            )

    @property
    def looks_back(self) -> tuple[str, ...]:
        """The keys by which something that goes with a ranker is made of earlier events, as one would leave them out;
        without any of them events need no times."""
        ranker = self.ranker
        if ranker is None:
            return ()
        found = {
            "retriever": self.retriever is not None,
            "causal_features": bool(self.causal_features),
            "ranker.history (write 0)": ranker.history > 0,
            "the population reviews+negatives": ranker.draws_negatives,
        }
        return tuple(name for name, is_there in found.items() if is_there)


def _has_names(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "names" in entry


def _specs(entry: Any, where: str) -> list[FeatureSpec]:
    """The features of one entry of a list.

    Raises:
        ConfigError: the entry is wrong.
    """
    if isinstance(entry, FeatureSpec):
        return [entry]
    if not _has_names(entry):
        return [validate(FeatureSpec, entry, where)]
    names = entry["names"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{where}.names: expected a list of names of columns, got {names!r}")
    for key in ("name", "column"):
        if key in entry:
            raise ConfigError(f"{where}.{key}: names: gives each feature its name and its column; remove {key}")
    shared = {key: value for key, value in entry.items() if key != "names"}
    return [validate(FeatureSpec, {"name": name} | shared, where) for name in names]


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
        try:
            apply_override(values, override)
        except ConfigError:
            _check_key(values, override, str(path))
            raise
    return parse_recipe(values, str(path))


def _check_key(values: Mapping[str, Any], override: str, where: str) -> None:
    """Refuse an override whose key is misspelt; what else is wrong with it has been found out already."""
    keys = override.partition("=")[0].strip().partition("[")[0].split(".")
    tried = copy.deepcopy(dict(values))
    try:
        apply_override(tried, f"{'.'.join(keys)}=[]")
        parse_recipe(tried, where)
    except ConfigError as error:
        if any(f"{where}: {path}: unknown key" in str(error) for path in itertools.accumulate(keys, "{}.{}".format)):
            raise


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
    if recipe.ranker is not None:
        model = plain["ranker"].pop("model")
        plain["ranker"] = {"kind": kind_of("ranker", recipe.ranker.model)} | model | plain["ranker"]
    return plain
