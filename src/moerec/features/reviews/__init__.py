"""Reviews as causal examples: the same functions in one process, in Apache Beam and on a stream."""

from moerec.features.reviews.config import ReviewExamplesConfig, ReviewNegativesConfig
from moerec.features.reviews.examples import make_examples
from moerec.features.reviews.fold import Review, is_known, read, start, update
from moerec.features.reviews.keys import review_key, with_keys
from moerec.features.reviews.past import Memory
from moerec.features.reviews.schema import EVENT_ORDER, EVENT_SCHEMA, example_schema, share_column
from moerec.features.reviews.state import (
    SUMMARY_SCHEMA,
    ReviewState,
    category_names,
    combine,
    merge,
    summarise,
)

__all__ = [
    "EVENT_ORDER",
    "EVENT_SCHEMA",
    "SUMMARY_SCHEMA",
    "Memory",
    "Review",
    "ReviewExamplesConfig",
    "ReviewNegativesConfig",
    "ReviewState",
    "category_names",
    "combine",
    "example_schema",
    "is_known",
    "make_examples",
    "merge",
    "read",
    "review_key",
    "share_column",
    "start",
    "summarise",
    "update",
    "with_keys",
]
