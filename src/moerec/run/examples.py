"""Raw reviews to shards: rows by an engine, tokens, pictures, the shards of each part, an audit of the result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import kind_of
from moerec.dataset.audit import AuditReport
from moerec.dataset.rejects import count_rejects
from moerec.dataset.shards.index import INDEX_FILE, ShardIndex
from moerec.dataset.sources.amazon_files import CategoryFiles
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.dataset.storage import Storage
from moerec.engines.example_folder import ExampleFolder
from moerec.engines.examples_audit import audit_examples, described
from moerec.engines.products import PRODUCT_SCHEMA
from moerec.examples_recipe import ExamplesConfig
from moerec.features.tokens import TokensConfig, token_layout, tokenise
from moerec.features.typed_text import item_texts
from moerec.files import write_json
from moerec.modalities.picture_store import PictureStore
from moerec.modalities.token_store import StoreManifest, TokenStore, store_tokens
from moerec.modalities.tokenizer_files import load_tokenizer
from moerec.recipe import Recipe
from moerec.run.example_pictures import prepare_pictures
from moerec.run.example_shards import Content, write_parts
from moerec.run.example_texts import text_parts

AUDIT = "audit.json"


def make_shards(
    recipe: Recipe, directory: Path, artifacts: ArtifactCache, timing: dict[str, float], console: Console
) -> dict[str, Any]:
    """Do the `examples` of a recipe; what earlier runs have made is found again.

    Args:
        recipe: with `examples`.
        directory: folder of the run; it gets the shards, unless the recipe names another place, and the audit.
        artifacts: where rows, tokens and pictures are kept.
        timing: gets the seconds of each step.
        console: told what is done.

    Returns:
        what was made and refused, as it stands in metrics.json.
    """
    config = recipe.examples
    assert config is not None
    source = recipe.dataset.source
    assert isinstance(source, AmazonReviewsConfig)
    tokens: TokenStore | None = None
    pictures: PictureStore | None = None
    outcomes: str | None = None  # which pictures there are: shards that were made with others are not gone on with
    cache = artifacts.root / "pictures"
    with ExitStack() as opened:
        raw = artifacts.path("raw", source.fingerprint_inputs())
        with source.raw_files(raw, pictures=config.pictures is not None) as files:
            with _timed(timing, "rows_s"):
                folder = make_rows(recipe, config, source, files, artifacts)
            console.print(_counted(folder), highlight=False)
            found: dict[str, Any] = {
                "rows": folder.manifest["examples"],
                "refused": count_rejects(folder.rejects),
                "rule": described(config.rule),
            }
            if config.tokens is not None:
                with _timed(timing, "tokens_s"):
                    tokens, found["tokens"] = make_tokens(folder, config, config.tokens, artifacts, console)
            if config.pictures is not None:
                with _timed(timing, "pictures_s"):
                    found["pictures"], outcomes = prepare_pictures(folder, config.pictures, cache, console)
                pictures = opened.enter_context(PictureStore(cache, config.pictures))
        content = Content.of(folder, config, tokens, pictures)
        url = config.shards.url or str(directory / "shards")
        with _timed(timing, "shards_s"):
            parts = write_parts(url, content, _inputs(folder, config) | {"pictures": outcomes})
    found["shards"] = {"url": url} | {part: _described(index) for part, index in parts.items()}
    with _timed(timing, "audit_s"):
        report = audit_examples(folder, recipe.name, config.rule, seed=recipe.seed)
    write_json(directory / AUDIT, report.to_dict())
    found["audit"] = [finding.__dict__ for finding in report.findings]
    for finding in report.warnings:
        console.print(f"audit: {finding.name}: {finding.sentence}", highlight=False)
    return found


def check_examples(recipe: Recipe) -> None:
    """Find out what cannot work before any work, and before the run has a folder.

    Raises:
        MoerecError: a raw file, a column, the tokenizer or the place of the shards is wrong.
    """
    config, source = recipe.examples, recipe.dataset.source
    assert config is not None
    assert isinstance(source, AmazonReviewsConfig)
    source.check()
    item_texts(pl.DataFrame(schema=PRODUCT_SCHEMA), config.item_text, "examples.item_text")
    if config.tokens is not None:
        token_layout(load_tokenizer(config.tokens.tokenizer, config.tokens.marker), config.tokens)
    if config.shards.url is not None:
        Storage(f"{config.shards.url.rstrip('/')}/train").size(INDEX_FILE)


def audit_rows(recipe: Recipe, artifacts: ArtifactCache) -> AuditReport:
    """The audit of a recipe's rows, which are made if they are not there; no text, picture or shard is."""
    config, source = recipe.examples, recipe.dataset.source
    assert config is not None
    assert isinstance(source, AmazonReviewsConfig)
    with source.raw_files(artifacts.path("raw", source.fingerprint_inputs()), pictures=False) as files:
        folder = make_rows(recipe, config, source, files, artifacts)
    return audit_examples(folder, recipe.name, config.rule, seed=recipe.seed)


def make_rows(
    recipe: Recipe,
    config: ExamplesConfig,
    source: AmazonReviewsConfig,
    files: Sequence[CategoryFiles],
    artifacts: ArtifactCache,
) -> ExampleFolder:
    """The rows of the examples, by the engine of the recipe."""
    rule, out = config.rule, rows_folder(recipe, artifacts)
    out.parent.mkdir(parents=True, exist_ok=True)
    config.engine.make(files, source.year, rule, out, recipe.seed)
    return ExampleFolder.open(out)


def rows_folder(recipe: Recipe, artifacts: ArtifactCache) -> Path:
    """Where the rows of a recipe lie, or will."""
    config, source = recipe.examples, recipe.dataset.source
    assert config is not None
    assert isinstance(source, AmazonReviewsConfig)
    inputs = {"source": source.fingerprint_inputs(), "rule": config.rule.model_dump(mode="json")}
    return artifacts.path("examples", inputs | {"engine": kind_of("engine", config.engine), "seed": recipe.seed})


def make_tokens(
    folder: ExampleFolder, config: ExamplesConfig, settings: TokensConfig, artifacts: ArtifactCache, console: Console
) -> tuple[TokenStore, dict[str, Any]]:
    """The token ids of all texts, and how many there are."""
    tokenizer = load_tokenizer(settings.tokenizer, settings.marker)
    manifest = StoreManifest.of(tokenizer, token_layout(tokenizer, settings), settings.model_dump(mode="json"))
    texts = config.model_dump(mode="json", include={"user_text", "item_text", "tokens"})
    made_of = {"rows": folder.manifest["fingerprint"], "texts": texts, "tokenizer": tokenizer.identity}
    place = artifacts.path("tokens", made_of)
    parts = text_parts(folder, config)
    summary = store_tokens(place, parts, manifest, lambda texts: tokenise(texts, tokenizer, settings))
    for kind, counts in summary.items():
        console.print(f"tokens: {counts['tokens']:,} of {counts['texts']:,} {kind} texts", highlight=False)
    return TokenStore(place), summary


def _inputs(folder: ExampleFolder, config: ExamplesConfig) -> dict[str, Any]:
    """What decides texts, tokens, pictures and shards, beside the web."""
    plain = config.model_dump(mode="json", exclude={"engine": True, "shards": True, "pictures": {"fetch"}})
    return {"rows": folder.manifest["fingerprint"], "examples": plain}


def _counted(folder: ExampleFolder) -> str:
    counts = folder.manifest.get("examples", {})
    words = [f"{part} {sum(kinds.values()):,}" for part, kinds in counts.items()]
    return f"examples: {', '.join(words) or 'none'}; {folder.rejects.height:,} rows refused"


def _described(index: ShardIndex) -> dict[str, Any]:
    return {
        "examples": int(index.counts.sum()),
        "shards": len(index.shards),
        "bytes": sum(entry.shard.size for entry in index.shards),
        "members": dict(index.members),
    }


@contextmanager
def _timed(timing: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timing[name] = round(time.perf_counter() - began, 3)
