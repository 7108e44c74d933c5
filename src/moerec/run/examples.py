"""Raw reviews to shards: rows by an engine, pictures, tokens, shards of each part, an audit of the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.engines.examples_audit import audit_examples
from moerec.examples_recipe import ExamplesConfig
from moerec.files import write_json
from moerec.recipe import Recipe
from moerec.run.example_pictures import Pictures, prepare_pictures
from moerec.run.example_shards import write_parts
from moerec.run.example_tokens import prepare_tokens
