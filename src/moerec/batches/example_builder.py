"""ExampleBuilder: everything fitted that turns events and examples into the inputs of a ranker.

Shape letters: N examples, U users, I the item index, E events, V width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.batches.example_frames import (
    EXAMPLE_COLUMNS,
    read_keys,
    read_label,
    read_negative,
    read_numbers,
    require_keys,
)
from moerec.batches.example_rows import require_timestamps
from moerec.batches.examples import ExampleSchema, ExampleTable, Gathered
from moerec.batches.fitted_split import FittedSplit
from moerec.batches.lookup_tables import LookupTable, Vectors, fit_table, item_codes
from moerec.batches.recent import recent_codes
from moerec.dataset.dataset import Dataset
from moerec.dataset.schema import Part
from moerec.errors import ConfigError, DatasetError
from moerec.features.feature import Catalogue, FeatureConfig, FeatureState
from moerec.features.spec import FeatureSpec
from moerec.features.transforms import DenseTransform, apply_transform, fit_transform

Ints = NDArray[np.int64]
Columns = dict[str, NDArray[Any] | Gathered]
Presence = dict[str, NDArray[np.bool_] | Gathered]

USER, ITEM, HISTORY = "user", "item", "history"
"""Names of the inputs that every data set can give."""
_KINDS = ("categorical", "multi", "dense", "vector", "sequence")


@dataclass(frozen=True, eq=False)
class FittedFeature:
    """A computed feature with what it learned of the train events."""

    config: FeatureConfig
    """Its definition."""
    state: FeatureState
    """What it learned."""
    transforms: Mapping[str, DenseTransform]
    """Of each dense column."""


@dataclass(frozen=True, eq=False)
class ExampleBuilder:
    """Makes the inputs of examples: the same for training, evaluation and serving."""

    split: FittedSplit
    """What it was fitted on."""
    features: Mapping[str, FittedFeature]
    """Computed features by name."""
    users: LookupTable
    """Inputs of users."""
    items: LookupTable
    """Inputs of items."""
    trained_users: NDArray[np.bool_]  # [U]
    """Users with a train event."""
    trained_items: NDArray[np.bool_]  # [I]
    """Items with a train event; others have the code of the unknown one, as an input and in histories."""
    history_length: int
    """Places of `history`; 0 for none."""
    events: pl.DataFrame | None = None
    """The events that it knows, by user and time: user, item, timestamp and labels. They are not saved."""

    @classmethod
    def fit(
        cls,
        dataset: Dataset,
        split: str,
        causal_features: Mapping[str, FeatureConfig] | None = None,
        specs: Sequence[FeatureSpec] = (),
        vectors: Vectors | None = None,
        history_length: int = 0,
        use_user_id: bool = True,
        use_item_id: bool = True,
    ) -> ExampleBuilder:
        """Learn from the train events alone; valid and test events change nothing that is learned.

        Args:
            dataset: the data set; the builder knows all of its events, of whatever part.
            split: name of its split.
            causal_features: computed features by name.
            specs: columns of users and items; one of kind vector reads the modality that its `column` names.
            vectors: per modality the vectors [I, V] and which are present [I]; computed features may read them too.
            history_length: places of the user's last items; 0 leaves them out.
            use_user_id: whether `user` is an input.
            use_item_id: whether `item` is an input.

        Raises:
            ConfigError: a column or modality is missing, two inputs share a name, or there is no input at all.
            DatasetError: no timestamps where an input looks at the past, no such split, or no train event.
        """
        given, configs = vectors or {}, causal_features or {}
        if configs or history_length:
            require_timestamps(dataset)
        for spec in specs:
            if spec.side not in ("user", "item"):
                raise ConfigError(f"features.{spec.name}: a column belongs to side user or item, not {spec.side}")
        # What users wrote is no input yet, and a model that is handed on must not carry it.
        parts = pl.Series("part", dataset.split(split))
        log = dataset.events.drop("position", *dataset.info.texts)
        train = log.filter(parts == Part.TRAIN)
        if train.is_empty():
            raise DatasetError(f"split '{split}' has no train event; choose another split or a bigger data set")
        catalogue = Catalogue(dataset.items, dataset.num_indices, given)
        trained_users = np.bincount(train["user"].to_numpy(), minlength=dataset.num_users) > 0
        trained_items = dataset.trained_items(split)
        of_users, of_items = ([spec for spec in specs if spec.side == side] for side in ("user", "item"))
        user_id, item_id = USER if use_user_id else None, ITEM if use_item_id else None
        builder = cls(
            split=FittedSplit.of(dataset, split),
            features={name: _fit_feature(name, config, train, catalogue) for name, config in configs.items()},
            users=fit_table("user", of_users, dataset.users, trained_users, split, given, user_id),
            items=fit_table("item", of_items, dataset.items, trained_items, split, given, item_id),
            trained_users=trained_users,
            trained_items=trained_items,
            history_length=history_length,
            # What the split leaves out never happened: a withheld item would have statistics.
            events=log.filter(parts != Part.UNUSED),
        )
        _check_names(builder.schema)
        return builder

    @property
    def looks_back(self) -> bool:
        """Whether an input is made of earlier events; without, examples need no times."""
        return bool(self.features) or self.history_length > 0

    @property
    def schema(self) -> ExampleSchema:
        """The inputs, categorical ones first."""
        specs = [*self.users.specs, *self.items.specs]
        sizes = {**self.users.sizes, **self.items.sizes}
        for feature in self.features.values():
            specs.extend(feature.config.specs)
            dense = {spec.name: 1 for spec in feature.config.specs if spec.kind == "dense"}
            sizes |= dense | feature.config.cardinalities
        if self.history_length:
            specs.append(FeatureSpec(name=HISTORY, kind="sequence", side="user"))
            sizes[HISTORY] = len(self.trained_items)
        return ExampleSchema(tuple(sorted(specs, key=lambda spec: _KINDS.index(spec.kind))), sizes)

    def check_split(self, other: FittedSplit, what: str = "the model") -> None:
        """Refuse to be joined with something that was fitted on another split.

        Raises:
            ConfigError: the splits differ.
        """
        self.split.check(other, "the features", what)

    def build(self, examples: pl.DataFrame, events: pl.DataFrame | None = None) -> ExampleTable:
        """The inputs of examples; each sees the events with a strictly earlier timestamp and no others.

        Args:
            examples: user (any other number than those of the data set for an unknown one), item, timestamp (not
                needed where no input looks back), optionally negative and event; every further column is a label.
            events: what is known of the users, instead of the builder's own events: user, item, timestamp, labels.

        Raises:
            ConfigError: a column is missing, an item is outside the index, or a label is no number.
            DatasetError: no events are known, or a time is missing.
        """
        keys = read_keys(examples, len(self.trained_items), needs_times=self.looks_back)
        users, items = (keys[name].to_numpy().astype(np.int64) for name in ("user", "item"))
        times = None if keys["timestamp"].null_count() else keys["timestamp"].to_numpy()
        known = (users >= 0) & (users < len(self.trained_users))
        columns: Columns = {}
        present: Presence = {}
        for table, rows in ((self.users, np.where(known, users + 1, 0)), (self.items, items)):
            gathered, there = table.gather(rows)
            columns |= gathered
            present |= there
        log = self._log(events) if self.looks_back else None
        if log is not None:
            for name, feature in self.features.items():
                _put_computed(feature, name, log, keys, columns, present)
            if self.history_length:
                columns[HISTORY] = self._histories(log, users, keys["timestamp"].to_numpy())
        negative = read_negative(examples)
        return ExampleTable(
            schema=self.schema,
            users=users,
            items=items,
            timestamps=times,
            negative=negative,
            labels={
                name: read_label(examples[name], negative) for name in examples.columns if name not in EXAMPLE_COLUMNS
            },
            columns=columns,
            present=present,
        )

    def with_users(self, users: pl.DataFrame) -> ExampleBuilder:
        """The same with further users, whose numbers follow those of the data set; they have columns and no events.

        Args:
            users: the columns of users that the inputs are read from.

        Raises:
            ConfigError: a column is missing or of the wrong type.
        """
        trained = np.append(self.trained_users, np.zeros(users.height, np.bool_))
        return replace(self, users=self.users.with_rows(users), trained_users=trained)

    def save(self, directory: Path) -> None:
        """Write everything but the events into a folder."""
        from moerec.batches.builder_files import save_builder  # it needs ExampleBuilder itself

        save_builder(directory, self)

    @classmethod
    def load(cls, directory: Path, events: pl.DataFrame | None = None) -> ExampleBuilder:
        """Read a builder that `save` wrote; it makes exactly the same inputs.

        Args:
            directory: the folder.
            events: what it is to know, by user and time: user, item, timestamp and labels; by default nothing, then
                `build` must be given events.

        Raises:
            CheckpointError: no builder there, a damaged file, or one of another format.
        """
        from moerec.batches.builder_files import load_builder  # it needs ExampleBuilder itself

        return load_builder(directory, events)

    def _log(self, events: pl.DataFrame | None) -> pl.DataFrame:
        """The events to be known, by user and time."""
        log = self.events if events is None else events
        if log is None:
            raise DatasetError("this example builder was loaded without events; give events=... to build examples")
        if events is not None:
            require_keys(log, "events")
            log = log.sort("user", "timestamp", maintain_order=True)
        return log

    def _histories(self, log: pl.DataFrame, users: Ints, times: Ints) -> Gathered:
        codes = item_codes(self.trained_items)[log["item"].to_numpy()]  # [E]
        event_users, event_times = log["user"].to_numpy(), log["timestamp"].to_numpy()
        return recent_codes(event_users, event_times, codes, users, times, self.history_length)


def _fit_feature(name: str, config: FeatureConfig, train: pl.DataFrame, catalogue: Catalogue) -> FittedFeature:
    """Fit a feature and the transforms of its dense columns."""
    for spec in config.specs:
        if spec.kind not in ("dense", "categorical"):
            raise ConfigError(f"causal feature '{name}': column '{spec.name}' is neither dense nor categorical")
        if spec.kind == "categorical" and spec.name not in config.cardinalities:
            raise ConfigError(f"causal feature '{name}': column '{spec.name}' has no number of codes")
    state = config.fit(train, catalogue)
    frame = config.apply(train, train, state)
    dense = [spec for spec in config.specs if spec.kind == "dense"]
    return FittedFeature(
        config, state, {spec.name: fit_transform(spec, read_numbers(frame[spec.name])) for spec in dense}
    )


def _put_computed(
    feature: FittedFeature,
    name: str,
    log: pl.DataFrame,
    keys: pl.DataFrame,
    columns: Columns,
    present: Presence,
) -> None:
    """Compute the columns of one feature and put them beside the others."""
    frame = feature.config.apply(log, keys, feature.state)
    for spec in feature.config.specs:
        if spec.kind == "categorical":
            columns[spec.name] = frame[spec.name].to_numpy().astype(np.int32, copy=False)
        else:
            numbers, transform = read_numbers(frame[spec.name]), feature.transforms[spec.name]
            columns[spec.name], present[spec.name] = apply_transform(transform, numbers, f"causal feature '{name}'")


def _check_names(schema: ExampleSchema) -> None:
    names = [spec.name for spec in schema.specs]
    if not names:
        raise ConfigError("features: there is no input at all; switch an id on, or add a feature")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"features: two inputs are called '{name}'; rename one")
