"""RankingModel: a saved ranker with its features; ids in, probabilities and numbers out.

Shape letters: N pairs, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moerec.batches.example_builder import ExampleBuilder
from moerec.dataset.dataset import Dataset
from moerec.dataset.frames import ids_as_series, milliseconds, require_columns, to_polars
from moerec.dataset.ids import IdIndex
from moerec.dataset.schema import FIRST_ITEM, LATEST_TIMESTAMP, UNKNOWN
from moerec.devices import choose_device
from moerec.errors import CheckpointError, MoerecError
from moerec.features.feature import Event
from moerec.features.user_state import UserState
from moerec.files import atomic_directory, write_json
from moerec.models.predict import predict_rows
from moerec.models.rankers.saved import ROLE, load_ranker, save_ranker
from moerec.models.roles import Ranker
from moerec.models.saved_files import read_table
from moerec.models.saved_place import require_place
from moerec.tasks import prediction_columns

FOLDER = "ranker"
"""Folder of the ranker within a saved model."""
BUILDER, USERS, ITEMS, EVENTS, DESCRIPTION = (
    "features",
    "users.parquet",
    "items.parquet",
    "events.parquet",
    "ranking.json",
)


@dataclass(frozen=True, eq=False)
class RankingModel:
    """Predicts the tasks of (user, item) pairs at a moment."""

    ranker: Ranker
    """The model, in evaluation mode."""
    builder: ExampleBuilder
    """Makes its inputs; knows the users' events."""
    users: pl.Series
    """Ids of the users, by number."""
    items: pl.Series
    """Ids of the items; row 0 has the index FIRST_ITEM."""

    @classmethod
    def of(cls, ranker: Ranker, builder: ExampleBuilder, dataset: Dataset) -> RankingModel:
        """A model that knows every event of a data set, whatever part of a split it is in."""
        return cls(ranker.eval(), builder, dataset.users["user_id"], dataset.items["item_id"])

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: str = "cpu") -> RankingModel:
        """Read a ranker that a run wrote.

        Args:
            directory: a run, its model folder, or the folder `ranker` in it.
            device: where predictions are computed.

        Raises:
            CheckpointError: there is no whole ranker in the folder.
            ConfigError: the device is not to be had.
        """
        path = Path(directory)
        for inner in ("model", FOLDER):
            path = path / inner if (path / inner).is_dir() else path
        if not (path / DESCRIPTION).is_file():
            raise CheckpointError(f"{path}: no saved ranker here; give a run whose recipe has a ranker")
        builder = ExampleBuilder.load(path / BUILDER, read_table(path / EVENTS))
        return cls(
            load_ranker(path).to(choose_device(device)),
            builder,
            read_table(path / USERS)["user_id"],
            read_table(path / ITEMS)["item_id"],
        )

    def save_pretrained(self, directory: str | Path, *, card: str = "") -> None:
        """Write a model folder with the ranker alone; the folder appears at once and whole.

        Args:
            directory: the model folder: a new one, an empty one, or that of a ranker alone, which is replaced.
            card: text of the model card, README.md.

        Raises:
            CheckpointError: something else stands there, such as a model that has a retriever too.
        """
        with atomic_directory(require_place(directory, ROLE, (FOLDER,), inner=FOLDER)) as temporary:
            (temporary / FOLDER).mkdir()
            self.write(temporary / FOLDER)
            if card:
                (temporary / "README.md").write_text(card, encoding="utf-8")

    def write(self, directory: Path) -> None:
        """Write everything into an existing folder; the caller makes the whole folder appear at once."""
        save_ranker(directory, self.ranker)
        self.builder.save(directory / BUILDER)
        self.users.to_frame("user_id").write_parquet(directory / USERS)
        self.items.to_frame("item_id").write_parquet(directory / ITEMS)
        assert self.builder.events is not None
        self.builder.events.write_parquet(directory / EVENTS)
        write_json(directory / DESCRIPTION, {"split": self.builder.split.model_dump(mode="json")})

    def predict(self, pairs: Any, users: Any = None) -> pl.DataFrame:
        """Predictions for pairs of user and item.

        Args:
            pairs: a pandas, Polars or Arrow table with user_id, item_id and optionally timestamp (milliseconds since
                1970, or datetimes): what was known strictly before that time is used. Without it, everything known of
                the user is.
            users: users that the model does not know: a table with user_id and the columns of users that it reads.

        Returns:
            user_id, item_id, timestamp (null where the model was trained without times and none is given) and one
            column for each task: a probability, a number in the label's unit, the likeliest value of a multiclass task,
            the expected value of an ordinal one. After the column of these two comes one for each value,
            `<task>_<value>`, with its probability.

        Raises:
            MoerecError: a column is missing, a time cannot be read, or the model does not know a user or an item.
        """
        if users is not None:
            return self._with_users(to_polars(users, "users", ("user_id",))).predict(pairs)
        frame = to_polars(pairs, "pairs", ("user_id", "item_id"))
        require_columns(frame, ("user_id", "item_id"), "pairs")
        numbers = self.user_numbers(frame["user_id"])
        items = self._found(self._item_index, frame["item_id"], "item", UNKNOWN)
        if "timestamp" in frame.columns:
            times: NDArray[np.int64] | None = read_times(frame, "pairs").to_numpy()
        else:
            times = self.request_times(numbers) if self.is_timed else None
        predicted = self.predict_indices(numbers, items, times)
        ids = {"user_id": ids_as_series(frame["user_id"], "pairs"), "item_id": ids_as_series(frame["item_id"], "pairs")}
        told = pl.Series([None] * frame.height if times is None else times, dtype=pl.Int64)
        columns: dict[str, Any] = ids | {"timestamp": told}
        for task in self.ranker.tasks:
            columns |= prediction_columns(task, predicted[task.name])
        return pl.DataFrame(columns)

    def predict_indices(
        self, users: NDArray[np.int64], items: NDArray[np.int64], times: NDArray[np.int64] | None
    ) -> dict[str, NDArray[np.float64]]:
        """Predictions by task, [N] or [N, C], for user numbers, item indices and times, all [N].

        Times may be None if not `is_timed`.

        Raises:
            DatasetError: there are no times and an input looks at the past.
        """
        examples = pl.DataFrame({"user": users, "item": items})
        if times is not None:
            examples = examples.with_columns(timestamp=pl.Series(times))
        return predict_rows(self.ranker, self.builder.build(examples))

    @property
    def is_timed(self) -> bool:
        """Whether the events that it was trained on have times."""
        return self._events["timestamp"].null_count() == 0

    def request_times(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """A moment just after the last known event of each user, [N].

        Raises:
            MoerecError: a user has no event, and an input depends on the moment.
        """
        last = self._last_times[users]
        if self.builder.looks_back and (last < 0).any():
            name = self.users[int(users[last < 0][0])]
            raise MoerecError(f"pairs: user {name!r} has no event yet; give the moment in a column timestamp")
        return last + 1

    def profile(self, user: str) -> dict[str, Any]:
        """What the features know of a user now, as plain data.

        `values` are the inputs that describe the user, in their own units, just after the last known event; `state` is
        what serving keeps between events and updates.

        Raises:
            MoerecError: the model does not know the user.
        """
        number = int(self.user_numbers(pl.Series([user]))[0])
        if not self.is_timed:
            raise MoerecError(
                f"the events have no times, so the model keeps no profile of user {user!r}; ask it for predictions"
            )
        features = {name: (fitted.config, fitted.state) for name, fitted in self.builder.features.items()}
        state = UserState.empty(features)
        for row in self._events.filter(pl.col("user") == number).iter_rows(named=True):
            known = {name: float(row[name]) for name in self.label_columns if row[name] is not None}
            state = state.update(Event(row["item"], row["timestamp"], known), features)
        time = int(self.request_times(np.array([number], dtype=np.int64))[0])
        read = state.read(np.array([FIRST_ITEM], dtype=np.int64), time, features)
        of_user = [spec.name for config, _ in features.values() for spec in config.specs if spec.side == "user"]
        values = {name: read[name][0].item() for name in of_user}
        return {
            "time": datetime.fromtimestamp(time / 1000, UTC).isoformat(),
            "values": {name: None if value != value else value for name, value in values.items()},
            "state": state.to_json(),
        }

    @property
    def label_columns(self) -> list[str]:
        """The labels that features may read."""
        return [name for name in self._events.columns if name not in ("user", "item", "timestamp")]

    def user_numbers(self, ids: pl.Series) -> NDArray[np.int64]:
        """The number of each user.

        Raises:
            MoerecError: a user that the model does not know.
        """
        return self._found(self._user_index, ids, "user", -1)

    def item_numbers(self, ids: pl.Series) -> NDArray[np.int64]:
        """The index of each item, `UNKNOWN` for one that the catalogue does not have."""
        return np.asarray(self._item_index.find(ids_as_series(ids, "item ids"), UNKNOWN), dtype=np.int64)

    def _with_users(self, users: pl.DataFrame) -> RankingModel:
        """The same model, which knows further users by their columns."""
        require_columns(users, ("user_id",), "users")
        ids = ids_as_series(users["user_id"], "users")
        known = ids.filter(ids.is_in(self.users.implode()) | ids.is_duplicated() | ids.is_null())
        if len(known):
            raise MoerecError(
                f"users: {known[0]!r} is known already, stands twice, or is empty; give each a new user_id"
            )
        return replace(self, builder=self.builder.with_users(users), users=pl.concat([self.users, ids]))

    @property
    def _events(self) -> pl.DataFrame:
        assert self.builder.events is not None
        return self.builder.events

    @cached_property
    def _last_times(self) -> NDArray[np.int64]:
        last = np.full(len(self.users), -1, dtype=np.int64)  # -1: no event
        np.maximum.at(last, self._events["user"].to_numpy(), self._events["timestamp"].to_numpy())
        return last

    @cached_property
    def _user_index(self) -> IdIndex:
        return IdIndex(self.users, 0)

    @cached_property
    def _item_index(self) -> IdIndex:
        return IdIndex(self.items, FIRST_ITEM)

    def _found(self, index: IdIndex, ids: pl.Series, what: str, missing: int) -> NDArray[np.int64]:
        named = ids_as_series(ids, f"{what} ids")
        places = index.find(named, missing)
        unknown = places == missing
        if unknown.any():
            raise MoerecError(f"the ranker knows no {what} {named.filter(pl.Series(unknown))[0]!r}")
        return np.asarray(places, dtype=np.int64)


def read_times(frame: pl.DataFrame, what: str) -> pl.Series:
    """The column timestamp of a table as milliseconds since 1970.

    Raises:
        MoerecError: a time is missing, is no time, or lies after 2100.
    """
    times = milliseconds(frame["timestamp"], what)
    if times.null_count():
        raise MoerecError(f"{what}: {times.null_count()} rows have no timestamp; leave them out")
    late = times.filter(times > LATEST_TIMESTAMP)
    if len(late):
        raise MoerecError(f"{what}: timestamp {late[0]} is after 2100; give milliseconds since 1970")
    return times
