"""Reviews of a micro-batch: parsed as those of files, refused with a reason, folded into their users, made examples.

The rows of a review depend on the reviews that arrived before it, and not on where micro-batches begin and end.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from moerec.dataset.schema import REJECT_COLUMNS, UNKNOWN, Part
from moerec.dataset.sources.amazon_rows import REPEATED_REVIEW, REVIEW_NAMES, Year, json_or_python, review_row
from moerec.dataset.sources.json_lines import Line, RowRefusedError, record_of, shown
from moerec.engines.event_log import Record
from moerec.engines.stream_negatives import Past, with_negatives
from moerec.engines.stream_store import StreamTransaction
from moerec.features.feature import Event
from moerec.features.reviews import (
    EVENT_SCHEMA,
    Memory,
    Review,
    ReviewExamplesConfig,
    ReviewState,
    make_examples,
    review_key,
    start,
    update,
)
from moerec.features.spec import FeatureSpec
from moerec.features.user_state import Features, UserState
from moerec.files import fingerprint

LATE = "earlier than the user's last review"
TEXT_SCHEMA = {"key": pl.String, "title": pl.String, "text": pl.String}


@dataclass(frozen=True, eq=False)
class ReviewRules:
    """What decides the rows that come of a review, besides the log itself."""

    config: ReviewExamplesConfig
    state: ReviewState
    """Fitted on the train part, before the stream began."""
    seed: int = 0
    year: Year = 2023
    """The release whose names the reviews have."""
    features: Features = field(default_factory=dict)
    """Further features, folded by `UserState`; their columns stand behind those of the examples."""

    def settings(self) -> dict[str, Any]:
        """Plain data, equal for rules that give equal rows."""
        states = {"": self.state.to_feature_state()} | {name: state for name, (_, state) in self.features.items()}
        digest = hashlib.blake2b()
        for name, state in states.items():
            digest.update(json.dumps([name, state.values], sort_keys=True).encode())
            for array in state.arrays.values():
                digest.update(array.tobytes())
        return {
            "examples": self.config.model_dump(mode="json"),
            "features": {name: feature.model_dump(mode="json") for name, (feature, _) in self.features.items()},
            "fitted": fingerprint(digest.hexdigest()),
            "seed": self.seed,
            "year": self.year,
        }


@dataclass(frozen=True)
class Product:
    """What a stream knows of a product."""

    category: int = 0
    """Code of the main category; 0 for unknown."""
    price: float | None = None
    index: int = UNKNOWN
    """Item index that the further features were fitted with."""


@dataclass(frozen=True)
class Arrived:
    """A review that could be read, and where it came from."""

    record: Record
    review: Review
    title: str | None
    text: str | None


@dataclass(frozen=True)
class Parsed:
    """What records hold."""

    arrived: list[Arrived]
    rejects: list[tuple[str, int, str, str]]
    """Source (the partition), line (the offset), reason and the record itself."""


@dataclass(frozen=True, eq=False)
class Folded:
    """What becomes of records."""

    tables: dict[str, pl.DataFrame]
    """By kind: examples and texts in the order of arrival, rejects if there are any."""
    counts: Counter[str]


def parse(records: Iterable[Record], year: Year) -> Parsed:
    """Read records as reviews of a release; those that are none go to the rejects."""
    parsed = Parsed([], [])
    names = REVIEW_NAMES[year]
    loads = json_or_python if year == 2014 else json.loads
    for record in records:
        try:
            user, item, time, rating, *_, title, text = review_row(record_of(_line(record), loads), names)
        except RowRefusedError as reason:
            parsed.rejects.append(_reject(record, str(reason)))
            continue
        parsed.arrived.append(Arrived(record, Review(user, item, time, rating), title, text))
    return parsed


def fold(parsed: Parsed, rules: ReviewRules, transaction: StreamTransaction) -> Folded:
    """Make examples, and bring the states of the users up to date; the transaction decides whether it counts."""
    users = list(dict.fromkeys(arrived.review.user_id for arrived in parsed.arrived))
    states = transaction.states(users)
    memories = {user: states[user]["reviews"] if user in states else start() for user in users}
    accepted, refused = _judged(parsed.arrived, memories, transaction)
    products = transaction.items(dict.fromkeys(arrived.review.item_id for arrived in accepted))
    reviews = [_with_product(arrived.review, products) for arrived in accepted]
    examples = _examples(reviews, memories, rules, transaction)
    kept = {user: {"reviews": memory} for user, memory in _updated(reviews, memories, rules).items()}
    if rules.features:
        examples, features = _with_features(examples, reviews, states, rules, transaction)
        for user, state in features.items():
            kept[user]["features"] = state
    for review in reviews:
        transaction.add_review(review.user_id, review.item_id, review.timestamp)
    transaction.put_states(kept)
    tables = {"examples": examples, "texts": _texts(accepted)}
    if rejects := [*parsed.rejects, *refused]:
        tables["rejects"] = pl.DataFrame(rejects, schema=REJECT_COLUMNS, orient="row")
    counts = Counter({"reviews": len(reviews), "without product": sum(r.item_id not in products for r in reviews)})
    counts.update(f"refused: {reason}" for _, _, reason, _ in rejects)
    for part, negative, count in examples.group_by("part", "negative").len().iter_rows():
        counts[f"examples: {Part(part).name.lower()} {'negatives' if negative else 'reviews'}"] += count
    return Folded(tables, counts)


def _line(record: Record) -> Line:
    return Line(1 if record.offset == 0 else 2, record.value, record.problem)


def _reject(record: Record, reason: str) -> tuple[str, int, str, str]:
    return record.partition, record.offset, reason, shown(_line(record))


def _judged(
    arrived: Sequence[Arrived], memories: Mapping[str, Memory], transaction: StreamTransaction
) -> tuple[list[Arrived], list[tuple[str, int, str, str]]]:
    """The reviews that count, and rejects of those that came before or come too late."""
    last = {user: memory["last"] for user, memory in memories.items()}
    accepted, refused = [], []
    here: set[Review] = set()
    for each in arrived:
        review = each.review
        who_what_when = Review(review.user_id, review.item_id, review.timestamp, 0)
        before = last[review.user_id]
        if who_what_when in here or transaction.has_review(review.user_id, review.item_id, review.timestamp):
            refused.append(_reject(each.record, REPEATED_REVIEW))
        elif before is not None and review.timestamp < before:
            refused.append(_reject(each.record, LATE))
        else:
            accepted.append(each)
            here.add(who_what_when)
            last[review.user_id] = review.timestamp
    return accepted, refused


def _with_product(review: Review, products: Mapping[str, Any]) -> Review:
    product = Product(*products.get(review.item_id, ()))
    return Review(review.user_id, review.item_id, review.timestamp, review.rating, product.category, product.price)


def _examples(
    reviews: Sequence[Review], memories: Mapping[str, Memory], rules: ReviewRules, transaction: StreamTransaction
) -> pl.DataFrame:
    """Examples in the order of arrival; the store must not hold the reviews yet."""
    columns = {name: [getattr(review, name) for review in reviews] for name in EVENT_SCHEMA}
    events = pl.DataFrame(columns, schema=EVENT_SCHEMA)
    without = rules.config.model_copy(update={"negatives": None})
    positives = make_examples(events, rules.state, without, rules.seed, memories)
    place = {(review.user_id, review.item_id, review.timestamp): row for row, review in enumerate(reviews)}
    arrivals = [place[names] for names in positives.select("user_id", "item_id", "timestamp").iter_rows()]
    order = np.argsort(arrivals)
    pasts = {user: _past(user, memory, transaction) for user, memory in memories.items()}
    for arrival, review in enumerate(reviews):
        pasts[review.user_id].here.setdefault(review.item_id, (arrival, review.timestamp))
    return with_negatives(
        positives[order], np.array(arrivals, np.int64)[order], pasts, rules.state, rules.config, rules.seed
    )


def _past(user: str, memory: Memory, transaction: StreamTransaction) -> Past:
    return Past(
        memory["count"] + len(memory["pending"]),
        lambda item, before: transaction.has_met(user, item, before),
        lambda before: transaction.met(user, before),
    )


def _updated(reviews: Sequence[Review], memories: Mapping[str, Memory], rules: ReviewRules) -> dict[str, Memory]:
    """The memories after the reviews; the items met are rows of the store instead, so that no memory grows for ever."""
    updated: dict[str, Memory] = {}
    for review in reviews:
        memory = updated.get(review.user_id, memories[review.user_id])
        updated[review.user_id] = update(memory, review, rules.config) | {"items": {}}
    return updated


def _with_features(
    examples: pl.DataFrame,
    reviews: Sequence[Review],
    states: Mapping[str, Any],
    rules: ReviewRules,
    transaction: StreamTransaction,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The examples with the columns of the further features, and the users' states of these after the reviews."""
    products = transaction.items(dict.fromkeys([*examples["item_id"], *(review.item_id for review in reviews)]))
    index = {item: Product(*row).index for item, row in products.items()}
    items = np.array([index.get(item, UNKNOWN) for item in examples["item_id"].to_list()], np.int64)
    rows_of: dict[str, list[int]] = {}
    for row, key in enumerate(examples["positive"].to_list()):
        rows_of.setdefault(key, []).append(row)
    specs = [spec for feature, _ in rules.features.values() for spec in feature.specs]
    columns: dict[str, np.ndarray[Any, Any]] = {spec.name: np.zeros(examples.height, _dtype(spec)) for spec in specs}
    folded: dict[str, UserState] = {}
    for review in reviews:
        user = review.user_id
        if user not in folded:
            known = states.get(user)
            folded[user] = UserState.from_json(known["features"]) if known else UserState.empty(rules.features)
        if rows := rows_of.get(review_key(user, review.item_id, review.timestamp)):
            for name, values in folded[user].read(items[rows], review.timestamp, rules.features).items():
                columns[name][rows] = values
        labels = {"rating": review.rating}
        event = Event(index.get(review.item_id, UNKNOWN), review.timestamp, labels)
        folded[user] = folded[user].update(event, rules.features)
    made = [pl.Series(name, values, nan_to_null=values.dtype.kind == "f") for name, values in columns.items()]
    return examples.hstack(made), {user: state.to_json() for user, state in folded.items()}


def _dtype(spec: FeatureSpec) -> type[np.generic]:
    return np.int32 if spec.kind == "categorical" else np.float64


def _texts(accepted: Sequence[Arrived]) -> pl.DataFrame:
    """Title and text of each review, which later examples of the user refer to by its key."""
    rows = [
        (review_key(each.review.user_id, each.review.item_id, each.review.timestamp), each.title, each.text)
        for each in accepted
    ]
    return pl.DataFrame(rows, schema=TEXT_SCHEMA, orient="row")
