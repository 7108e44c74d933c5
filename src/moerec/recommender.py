"""The recommender: a saved model, its catalogue and the users' histories; raw ids in, raw ids out.

Shape letters: B users, N items, D width.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from moerec.asked_histories import AskedHistories, histories_as_lists
from moerec.batches.fitted_split import FittedSplit
from moerec.batches.sequences import SequenceBatch
from moerec.config import validate
from moerec.dataset.dataset import Dataset
from moerec.dataset.frames import ids_as_series, require_columns, to_polars
from moerec.dataset.ids import IdIndex
from moerec.dataset.schema import FIRST_ITEM, UNKNOWN, Part
from moerec.devices import choose_device
from moerec.errors import CheckpointError, ConfigError, MoerecError
from moerec.files import atomic_directory, write_json
from moerec.models.new_items import with_new_items
from moerec.models.packed import encode_packed
from moerec.models.roles import Retriever, missing_times
from moerec.models.saved import ITEM_FEATURES, ROLE, load_retriever, save_retriever
from moerec.models.saved_files import CONFIG, WEIGHTS, read_json, read_table
from moerec.models.saved_place import require_place
from moerec.new_items import ItemModality, encode_new_items, read_new_items
from moerec.ranking_model import FOLDER as RANKER
from moerec.ranking_model import RankingModel
from moerec.second_stage import (
    Request,
    SecondStageConfig,
    check_formula,
    rank_again,
    request_of_histories,
    request_of_known,
)

logger = logging.getLogger(__name__)

ITEMS, HISTORIES, FEATURE_STATE = "items.parquet", "histories.parquet", "feature_state.json"
SPLIT, SECOND_STAGE, MODALITIES = "split.json", "second_stage.json", "modalities.json"
FILES = (CONFIG, WEIGHTS, ITEM_FEATURES, ITEMS, HISTORIES, FEATURE_STATE, SPLIT, SECOND_STAGE, MODALITIES)
"""All that a saved recommender may have next to its card and its ranker."""
RECOMMENDATION_COLUMNS = {"user_id": pl.String, "item_id": pl.String, "score": pl.Float32, "rank": pl.Int32}


@dataclass(frozen=True)
class Recommender:
    """Answers in raw ids: who should see what, and what is like what."""

    model: Retriever
    """The retriever, in evaluation mode."""
    items: pl.DataFrame
    """The catalogue in index order: `item_id` and the data set's columns; row 0 has index FIRST_ITEM."""
    histories: pl.DataFrame
    """`user_id` and `items`, the list of item indices, oldest first; `timestamps`, the list of milliseconds since
    1970, where the model reads them."""
    feature_state: dict[str, Any] = field(default_factory=dict)
    """What was fitted on the train items to make the features: vocabularies, means, the split it was fitted on."""
    ranking: RankingModel | None = None
    """The ranker, where the recipe has one."""
    second_stage: SecondStageConfig | None = None
    """How candidates are ranked again, where both stages were judged together."""
    split: FittedSplit | None = None
    """The split that the retriever was fitted on, where it is known; a ranker must be of the same."""
    modalities: Mapping[str, ItemModality] = field(default_factory=dict)
    """How the vectors of the items' texts and pictures were made, by name."""
    users_per_batch: int = 256
    """Users that are scored at once."""
    scores_in_memory: int = 2**24
    """Scores (users times items) that are held at once; big catalogues get smaller batches."""

    def __post_init__(self) -> None:
        if self.ranking is None:
            return
        if self.split is not None:
            self.ranking.builder.check_split(self.split, "the retriever")
        if not self.ranking.items.equals(self.items["item_id"]):
            raise ConfigError("the ranker's catalogue is not the retriever's; take both from one run")

    @classmethod
    def from_dataset(
        cls,
        model: Retriever,
        dataset: Dataset,
        feature_state: dict[str, Any] | None = None,
        split: str | None = None,
        modalities: Mapping[str, ItemModality] | None = None,
    ) -> Recommender:
        """A recommender that knows every event of a data set: what a split uses, whatever part it is in.

        Args:
            model: the retriever.
            dataset: the data set.
            feature_state: what was fitted to make the item features.
            split: name of the split that the model was fitted on.
            modalities: how the items' vectors were made, by name.

        Raises:
            ConfigError: the model reads times and the data set has none.
        """
        if model.reads_times and dataset.timestamps is None:
            raise missing_times()
        read = {"item": "items"} | ({"timestamp": "timestamps"} if model.reads_times else {})
        events = dataset.events
        if split is not None:
            events = events.filter(pl.Series(dataset.split(split) != Part.UNUSED))
        lists = events.group_by("user", maintain_order=True).agg(
            pl.col(column).alias(name) for column, name in read.items()
        )
        histories = (
            dataset.users.select("user_id", pl.int_range(pl.len(), dtype=pl.Int32).alias("user"))
            .join(lists, on="user", how="left", maintain_order="left")
            .select("user_id", *(pl.col(name).fill_null([]) for name in read.values()))
        )
        fitted = None if split is None else FittedSplit.of(dataset, split)
        return cls(
            model.eval(),
            dataset.items.drop("item", strict=False),
            histories,
            feature_state or {},
            split=fitted,
            modalities=modalities or {},
        )

    @classmethod
    def from_pretrained(cls, directory: str | Path, device: str = "cpu") -> Recommender:
        """Read a recommender that `save_pretrained` or a run wrote.

        Args:
            directory: the model folder, or a run folder with `model/` in it.
            device: where scores are computed.

        Raises:
            CheckpointError: there is no whole model in the folder.
            ConfigError: the device is not to be had.
        """
        path = Path(directory)
        path = path / "model" if (path / "model").is_dir() else path
        if (path / RANKER).is_dir() and not (path / CONFIG).is_file():
            raise CheckpointError(
                f"{path}: a ranker alone has no candidates to list; add retriever: to its recipe, "
                "or predict pairs of users and items with RankingModel"
            )
        model = load_retriever(path).to(choose_device(device))
        if not (path / ITEMS).is_file():
            raise CheckpointError(f"{path}: {ITEMS} is missing, so item ids are unknown; save the model again")
        items = read_table(path / ITEMS)
        if len(items) != model.num_indices - FIRST_ITEM:
            raise CheckpointError(
                f"{path}: {ITEMS} has {len(items):,} items and the model {model.num_indices - FIRST_ITEM:,}; "
                "they are of different models, save it again"
            )
        histories = pl.DataFrame(schema={"user_id": pl.String, "items": pl.List(pl.Int32)})
        if (path / HISTORIES).is_file():
            histories = read_table(path / HISTORIES)
        ranking = RankingModel.from_pretrained(path, device) if (path / RANKER).is_dir() else None
        second, split = read_json(path / SECOND_STAGE), read_json(path / SPLIT)
        return cls(
            model,
            items,
            histories,
            read_json(path / FEATURE_STATE) or {},
            ranking,
            None if second is None else validate(SecondStageConfig, second, str(path / SECOND_STAGE)),
            None if split is None else validate(FittedSplit, split, str(path / SPLIT)),
            {
                name: validate(ItemModality, values, f"{path / MODALITIES}: {name}")
                for name, values in (read_json(path / MODALITIES) or {}).items()
            },
        )

    def save_pretrained(self, directory: str | Path, *, card: str = "", histories: bool = True) -> None:
        """Write everything that `from_pretrained` needs; the folder appears at once and whole.

        Args:
            directory: the model folder: a new one, an empty one, or that of a saved recommender, which is replaced.
            card: text of the model card, README.md.
            histories: write the users' histories too; without them only `histories=[...]` can be asked.

        Raises:
            CheckpointError: something else stands there, or a ranker, and this recommender has none.
        """
        files = FILES if self.ranking is None else (*FILES, RANKER)
        with atomic_directory(require_place(directory, ROLE, files)) as temporary:
            save_retriever(temporary, self.model)
            self.items.write_parquet(temporary / ITEMS)
            if histories:
                self.histories.write_parquet(temporary / HISTORIES)
            if self.feature_state:
                write_json(temporary / FEATURE_STATE, self.feature_state)
            if self.modalities:
                made_by = {name: modality.model_dump(mode="json") for name, modality in self.modalities.items()}
                write_json(temporary / MODALITIES, made_by)
            if self.split is not None:
                write_json(temporary / SPLIT, self.split.model_dump(mode="json"))
            # The ranker's features live on the users' events, so without histories it cannot answer.
            if self.ranking is not None and histories:
                (temporary / RANKER).mkdir()
                self.ranking.write(temporary / RANKER)
                if self.second_stage is not None:
                    write_json(temporary / SECOND_STAGE, self.second_stage.model_dump(mode="json"))
            if card:
                (temporary / "README.md").write_text(card, encoding="utf-8")

    def recommend(
        self,
        users: Any = None,
        *,
        histories: Any = None,
        k: int = 10,
        filter_seen: bool = True,
        candidates: Any = None,
        rank: bool | None = None,
        formula: Mapping[str, float] | None = None,
    ) -> pl.DataFrame:
        """The best k items for users that the model knows, or for new users by their histories.

        Args:
            users: user ids (list, array, Series, or a frame with user_id); their histories come from the saved model.
            histories: instead of users: a list of lists of item ids, oldest first; a mapping from user id to such
                a list; or a frame with user_id, item_id and, if rows are not in time order, timestamp.
                Items that the catalogue does not know count as unknown items.
            k: length of each list; shorter where there are not enough items.
            filter_seen: leave out what is in the history.
            candidates: item ids to choose from; the whole catalogue by default.
            rank: True to rank the retriever's candidates again, False for the retriever's own order; by default what
                was better on validation. New users need a table with times for it (and labels, where known).
            formula: weights of `retrieval` and of tasks, instead of those chosen on validation.

        Returns:
            Frame user_id, item_id, score, rank (1 is best), users in the order given.

        Raises:
            MoerecError: neither or both of users and histories are given, a user or candidate is unknown, k < 1.
        """
        if (users is None) == (histories is None):
            raise MoerecError("recommend: give either users=[...] or histories=[...]")
        _check_length(k, "recommend")
        if users is not None:
            asking = self._known_histories(_user_ids(users))
        else:
            asking = self._given_histories(histories)
        names = asking.names
        request = self._request(names, users is not None, histories, rank, formula)
        allowed = self._allowed(candidates)  # [N]
        vectors = self._item_vectors  # [N, D]
        size = self._batch_size
        known = asking.batch()
        with torch.no_grad():
            encoded = encode_packed(self.model, known, vectors)  # [users, D]
        tables = []
        for start in range(0, len(names), size):
            some = slice(start, start + size)
            part = known.select(torch.arange(start, min(start + size, len(names))))
            scores = self._first_stage(part, encoded[some], vectors, allowed, filter_seen)  # [B, N]
            if request is not None and self.ranking is not None and self.second_stage is not None:
                asked = request.part(start, start + size)
                scores = rank_again(self.model, self.ranking, self.second_stage, scores, asked, k, formula)
            tables.append(self._frame(names[some], scores, k))
        return pl.concat(tables) if tables else pl.DataFrame(schema=RECOMMENDATION_COLUMNS)

    def similar(self, items: Any, *, k: int = 10) -> pl.DataFrame:
        """The k items whose vectors point most nearly the same way (cosine), never the item itself.

        Returns:
            Frame item_id, similar_item_id, score, rank.

        Raises:
            MoerecError: an item is not in the catalogue, k < 1.
        """
        _check_length(k, "similar")
        indices = torch.from_numpy(self._indices(ids_as_series(items, "items"), "similar"))
        vectors = torch.nn.functional.normalize(self._item_vectors, dim=-1)  # [N, D]
        tables = [self._similar_batch(part, vectors, k) for part in torch.split(indices, self._batch_size)]
        return pl.concat(tables).rename({"item_id": "similar_item_id"}).rename({"user_id": "item_id"})

    def _similar_batch(self, indices: Tensor, vectors: Tensor, k: int) -> pl.DataFrame:
        scores = vectors[indices.to(vectors.device)] @ vectors.T  # [B, N]
        scores[:, :FIRST_ITEM] = -torch.inf
        scores[torch.arange(len(indices)), indices] = -torch.inf
        return self._frame(self.items["item_id"].gather(indices.numpy() - FIRST_ITEM).to_list(), scores, k)

    def add_items(
        self, items: Any, *, vectors: Mapping[str, Any] | None = None, cache: str | Path | None = None
    ) -> Recommender:
        """A recommender that knows further items, by their content; without training, and the given one stays as it is.

        A new item is recommended, similar to others, and counts in histories. It has no id vector until a model is
        trained with its events.

        Args:
            items: a pandas, Polars or Arrow table with item_id and the columns that the item features and texts are
                read from; null where nothing is known. Further columns are kept in the catalogue.
            vectors: per modality a matrix with a row for each item, instead of what its encoder would make; a row of
                NaN where there is no vector.
            cache: folder of encoded vectors and fetched pictures, such as `artifacts/vectors`; nothing is kept without.

        Returns:
            another recommender; `save_pretrained` writes it with its new items.

        Raises:
            MoerecError: an id is missing, stands twice or is known, a column, an encoder or vectors are missing or do
                not fit, or the recommender ranks in two stages.
        """
        if self.ranking is not None:
            raise MoerecError(
                "add_items: the ranker's features are made for the items it was trained on; write "
                "recommender.without_ranking().add_items(...) for lists of the retriever"
            )
        rows, tower = read_new_items(items, self.items), self.model.item_tower
        if rows.is_empty():
            return self
        if tower.inputs is None:
            raise MoerecError("add_items: the model knows items by their ids alone; train one with features or texts")
        folder = None if cache is None else Path(cache)
        inputs = encode_new_items(
            rows, tower.specs, tower.sizes, self.feature_state, self.modalities, vectors or {}, folder
        )
        model = with_new_items(self.model, rows.height, inputs.columns, inputs.present)
        return replace(self, model=model, items=pl.concat([self.items, rows], how="diagonal"))

    def without_ranking(self) -> Recommender:
        """The first stage alone: lists in the retriever's own order."""
        return replace(self, ranking=None, second_stage=None)

    def expert_weights(self, items: Any) -> list[list[float]]:
        """The gate's weight of each expert for items; empty lists for a model without a mixture."""
        indices = torch.from_numpy(self._indices(ids_as_series(items, "items"), "items"))
        with torch.no_grad():
            weights = self.model.item_tower.gate_weights(indices.to(self.model.empty_history.device))
        return [[]] * len(indices) if weights is None else weights.tolist()

    def history(self, user: str) -> pl.DataFrame:
        """The rows of the catalogue that a user has met, oldest first."""
        (indices,) = self._known_histories(pl.Series([str(user)])).items
        places = np.array(indices, dtype=np.int64) - FIRST_ITEM
        return self.items[places]

    def _request(
        self,
        names: list[str],
        known: bool,
        histories: Any,
        rank: bool | None,
        formula: Mapping[str, float] | None,
    ) -> Request | None:
        """Who asks the second stage, or None where lists are the first stage's."""
        if self.ranking is None or self.second_stage is None:
            if rank or formula:
                missing = (
                    "the stages of this model were not judged together; finish the run with moerec run --resume"
                    if self.ranking is not None
                    else "this model has no second stage; add ranker: to its recipe"
                )
                raise MoerecError(f"recommend: {missing}, or leave rank and formula out")
            return None
        if rank is False or (rank is None and not formula and not self.second_stage.is_on):
            return None
        check_formula(formula or {}, self.ranking.ranker.tasks)
        if known:
            return request_of_known(self.ranking, names)
        request = request_of_histories(self.ranking, histories, names)
        if request is None and (rank or formula):
            raise MoerecError(
                "recommend: ranking needs to know when things happened; "
                "give histories as a table with user_id, item_id and timestamp"
            )
        if request is None:
            logger.warning(
                "histories without timestamps: these lists are in the retriever's own order; "
                "give a table with user_id, item_id and timestamp to rank them again"
            )
        return request

    def _first_stage(
        self, known: SequenceBatch, users: Tensor, vectors: Tensor, allowed: Tensor, filter_seen: bool
    ) -> Tensor:
        """Scores [B, N] of the retriever for users [B, D] with known histories, -inf for what is not to be listed."""
        with torch.no_grad():
            scores = users @ vectors.T  # [B, N]
        scores.masked_fill_(~allowed, -torch.inf)
        if filter_seen:
            rows, _ = known.padded_index()
            scores[rows.to(scores.device), known.items.to(scores.device)] = -torch.inf
        return scores

    def _frame(self, names: Sequence[str], scores: Tensor, k: int) -> pl.DataFrame:
        best, places = scores.topk(min(k, scores.shape[1]), dim=-1)  # [B, k]
        kept = (best > -torch.inf).flatten().cpu().numpy()
        ranks = np.tile(np.arange(1, best.shape[1] + 1, dtype=np.int32), len(names))
        ids = self.items["item_id"].gather(np.maximum(places.flatten().cpu().numpy() - FIRST_ITEM, 0))
        users = pl.Series(list(names), dtype=pl.String).gather(np.repeat(np.arange(len(names)), best.shape[1]))
        return pl.DataFrame(
            {"user_id": users, "item_id": ids, "score": best.flatten().cpu().numpy(), "rank": ranks},
            schema=RECOMMENDATION_COLUMNS,
        ).filter(pl.Series(kept))

    @cached_property
    def _item_vectors(self) -> Tensor:
        with torch.no_grad():
            return self.model.encode_items()  # [N, D]

    def _known_histories(self, users: pl.Series) -> AskedHistories:
        if self.histories.is_empty():
            raise MoerecError(
                "recommend: this model was saved without histories; give histories=[...] instead of users"
            )
        rows = _found(self._user_index, users)
        if rows.null_count():
            unknown = users.filter(rows.is_null()).to_list()
            raise MoerecError(
                f"recommend: the model knows no user {', '.join(map(repr, unknown[:5]))}"
                f"{f' and {len(unknown) - 5} more' if len(unknown) > 5 else ''}; give their events as histories=[...]"
            )
        times = self.histories["timestamps"].gather(rows).to_list() if "timestamps" in self.histories.columns else None
        return AskedHistories(users.to_list(), self.histories["items"].gather(rows).to_list(), times)

    def _given_histories(self, histories: Any) -> AskedHistories:
        names, ids, times = histories_as_lists(histories, with_times=self.model.reads_times)
        flat = pl.Series([item for items in ids for item in items], dtype=pl.String)
        if flat.null_count():
            raise MoerecError(f"recommend: {flat.null_count()} item ids of the histories are missing; leave them out")
        found = self._look_up(flat)
        if found.null_count():
            unknown = flat.filter(found.is_null())
            logger.warning(
                "%d of %d events in the histories are of items that the catalogue does not know, such as %r",
                len(unknown),
                len(flat),
                unknown[0],
            )
        indices = found.fill_null(UNKNOWN).to_list()
        ends = np.cumsum([0, *map(len, ids)]).tolist()
        return AskedHistories(names, [indices[a:b] for a, b in itertools.pairwise(ends)], times)

    def _allowed(self, candidates: Any) -> Tensor:
        allowed = torch.zeros(self.model.num_indices, dtype=torch.bool)
        if candidates is None:
            allowed[FIRST_ITEM:] = True
        else:
            allowed[self._indices(ids_as_series(candidates, "candidates"), "recommend: candidates")] = True
        return allowed.to(self.model.empty_history.device)

    def _indices(self, ids: pl.Series, where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        indices = self._look_up(ids)
        if indices.null_count():
            unknown = ids.filter(indices.is_null())[:5].to_list()
            raise MoerecError(f"{where}: the catalogue has no item {', '.join(map(repr, unknown))}")
        return indices.to_numpy().astype(np.int64)

    def _look_up(self, ids: pl.Series) -> pl.Series:
        """Item indices of ids, null where unknown."""
        return _found(self._item_index, ids)

    @cached_property
    def _item_index(self) -> IdIndex:
        return IdIndex(self.items["item_id"], FIRST_ITEM)

    @cached_property
    def _user_index(self) -> IdIndex:
        return IdIndex(self.histories["user_id"], 0)

    @property
    def _batch_size(self) -> int:
        return max(1, min(self.users_per_batch, self.scores_in_memory // self.model.num_indices))


def _found(index: IdIndex, ids: pl.Series) -> pl.Series:
    places = pl.Series(index.find(ids, -1))
    return places.to_frame("place").select(pl.when(pl.col("place") >= 0).then("place")).to_series()


def _user_ids(users: Any) -> pl.Series:
    """User ids in any sequence, or the column user_id of a frame."""
    if hasattr(users, "columns"):
        frame = to_polars(users, "users", ("user_id",))
        require_columns(frame, ("user_id",), "users")
        users = frame["user_id"]
    return ids_as_series(users, "users")


def _check_length(k: int, what: str) -> None:
    if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
        raise MoerecError(f"{what}: k must be a whole number of at least 1, got {k!r}")
