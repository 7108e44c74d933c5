"""Raw reviews to shards: rows by an engine, tokens, pictures, the shards of each part, an audit of the result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.config import kind_of
from moerec.dataset.audit import AuditReport
from moerec.dataset.rejects import count_rejects
from moerec.dataset.shards.index import ShardIndex
from moerec.dataset.sources.amazon_files import CategoryFiles
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.engines.example_folder import ExampleFolder
from moerec.engines.examples_audit import audit_examples
from moerec.examples_recipe import ExamplesConfig
from moerec.features.tokens import TokensConfig, token_layout, tokenise
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
    cache = artifacts.root / "pictures"
    with ExitStack() as opened:
        with source.raw_files(artifacts.path("raw", source.fingerprint_inputs())) as files:
            with _timed(timing, "rows_s"):
                folder = make_rows(recipe, config, source, files, artifacts)
            console.print(_counted(folder), highlight=False)
            found: dict[str, Any] = {
                "rows": folder.manifest["examples"],
                "refused": count_rejects(folder.rejects),
                "rule": _rule(config),
            }
            if config.tokens is not None:
                with _timed(timing, "tokens_s"):
                    tokens, found["tokens"] = make_tokens(folder, config, config.tokens, artifacts, console)
            if config.pictures is not None:
                with _timed(timing, "pictures_s"):
                    found["pictures"] = prepare_pictures(folder, config.pictures, cache, console)
                pictures = opened.enter_context(PictureStore(cache, config.pictures))
        content = Content.of(folder, config, tokens, pictures)
        url = config.shards.url or str(directory / "shards")
        with _timed(timing, "shards_s"):
            parts = write_parts(url, content, _inputs(folder, config))
    found["shards"] = {"url": url} | {part: _described(index) for part, index in parts.items()}
    with _timed(timing, "audit_s"):
        report = audit_examples(folder, recipe.name, _rule(config), seed=recipe.seed)
    write_json(directory / AUDIT, report.to_dict())
    found["audit"] = [finding.__dict__ for finding in report.findings]
    for finding in report.warnings:
        console.print(f"audit: {finding.name}: {finding.sentence}", highlight=False)
    return found


def audit_rows(recipe: Recipe, artifacts: ArtifactCache) -> AuditReport:
    """The audit of a recipe's rows, which are made if they are not there; no text, picture or shard is."""
    config, source = recipe.examples, recipe.dataset.source
    assert config is not None
    assert isinstance(source, AmazonReviewsConfig)
    with source.raw_files(artifacts.path("raw", source.fingerprint_inputs())) as files:
        folder = make_rows(recipe, config, source, files, artifacts)
    return audit_examples(folder, recipe.name, _rule(config), seed=recipe.seed)


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
    place = artifacts.path("tokens", _inputs(folder, config) | {"tokenizer": tokenizer.identity})
    parts = text_parts(folder, config)
    summary = store_tokens(place, parts, manifest, lambda texts: tokenise(texts, tokenizer, settings))
    for kind, counts in summary.items():
        console.print(f"tokens: {counts['tokens']:,} of {counts['texts']:,} {kind} texts", highlight=False)
    return TokenStore(place), summary


def _inputs(folder: ExampleFolder, config: ExamplesConfig) -> dict[str, Any]:
    """What decides texts, tokens, pictures and shards, beside the web."""
    plain = config.model_dump(mode="json", exclude={"engine", "shards"})
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


def _rule(config: ExamplesConfig) -> str:
    return (
        f"train until {config.train_until}, valid until {config.valid_until}, test after it (UTC days); "
        f"{config.keep_five_stars:.0%} of the five-star train reviews are kept as examples"
    )


@contextmanager
def _timed(timing: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    timing[name] = round(time.perf_counter() - began, 3)
