"""Every encoder with every loss of the retrievers on ML-100K, by ids alone, trained alike: what ships has a number.

    python benchmarks/encoder_losses.py            the missing rows, then the table
    python benchmarks/encoder_losses.py --encoders hstu --losses bpr --seeds 1

Each row is one `moerec run` of recipes/ml-100k-sasrec.yaml with another encoder and loss, and nothing tuned for it: the
learning rate and the number of epochs are those of the full softmax with SASRec. So a row says that a pair works, and
not how good it can be. Leave-last-out, full ranking. Rows are kept in results/encoder_losses.json with versions and
machine, so that a stopped benchmark goes on and seeds can be added.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorded_runs import environment_of, recorded, run_recipe

from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "ml-100k-sasrec.yaml"
RESULTS = HERE / "results" / "encoder_losses.json"
WORK = HERE.parent / "local" / "encoder_losses"
EPOCHS = 15
ENCODERS = {
    "sasrec": "{kind: sasrec, width: 64, blocks: 2, heads: 2, dropout: 0.3, item_tower: {features: []}}",
    "ligr": "{kind: ligr, width: 64, blocks: 2, heads: 2, dropout: 0.3, item_tower: {features: []}}",
    "hstu": "{kind: hstu, width: 64, blocks: 2, heads: 2, dropout: 0.3, item_tower: {features: []}}",
    "hstu, softmax": "{kind: hstu, attention: softmax, width: 64, blocks: 2, heads: 2, dropout: 0.3, "
    "item_tower: {features: []}}",
}
LOSSES = {
    "full_softmax": "{kind: full_softmax}",
    "sampled_softmax": "{kind: sampled_softmax, negatives: {kind: uniform, count: 256}}",
    "sampled_softmax, popularity": "{kind: sampled_softmax, negatives: {kind: popularity, count: 256}}",
    "info_nce, in_batch": "{kind: info_nce, negatives: {kind: in_batch}}",
    "info_nce, mixed": "{kind: info_nce, negatives: {kind: mixed, count: 256}}",
    "gbce": "{kind: gbce}",
    "bce": "{kind: bce}",
    "bpr": "{kind: bpr}",
}
METRICS = ("hr@10", "ndcg@10", "mrr@10", "hr@10/uniform100", "ndcg@10/uniform100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    if not options.table:
        for seed in options.seeds:
            for encoder in options.encoders:
                for loss in options.losses:
                    if f"{encoder} / {loss} / {seed}" not in recorded(RESULTS, "rows")["rows"]:
                        run_row(encoder, loss, seed, options.threads)
    print(table(recorded(RESULTS, "rows")))


def run_row(encoder: str, loss: str, seed: int, threads: int) -> None:
    """Do one row and record it at once."""
    out = WORK / f"{encoder}-{loss}-{seed}".replace(", ", "-")
    settings = [
        "modalities={}",
        "features=[]",
        f"retriever={ENCODERS[encoder]}",
        f"training.retriever[0].loss={LOSSES[loss]}",
        f"training.retriever[0].epochs={EPOCHS}",
        f"training.threads={threads}",
        "baselines.kinds=[]",
        f"seed={seed}",
    ]
    print(f"{encoder}, {loss}, seed {seed}", flush=True)
    metrics = run_recipe(RECIPE, out, WORK / "artifacts", settings)
    results = recorded(RESULTS, "rows")  # another process may have added rows meanwhile
    results["rows"][f"{encoder} / {loss} / {seed}"] = {
        "encoder": encoder,
        "loss": loss,
        "seed": seed,
        "settings": settings,
        "test": {name: metrics["retrieval"]["test"][name] for name in METRICS},
        "valid": {name: metrics["retrieval"]["valid"][name] for name in METRICS[:2]},
        "parameters": metrics["model"]["parameters"],
        "train_s": metrics["timing"]["train_s"],
        "environment": environment_of(out),
    }
    results["protocol"] = metrics["protocol"]
    results["command"] = "python benchmarks/encoder_losses.py"
    write_json(RESULTS, results)


def table(results: dict[str, Any]) -> str:
    """NDCG@10 of the test part as Markdown, encoders in columns; HR@10 behind the stroke."""
    rows = list(results["rows"].values())
    lines = [f"| loss | {' | '.join(ENCODERS)} |", "|---" * (len(ENCODERS) + 1) + "|"]
    for loss in LOSSES:
        cells = []
        for encoder in ENCODERS:
            found = [row["test"] for row in rows if row["encoder"] == encoder and row["loss"] == loss]
            means = [summarise_seeds([test[name] for test in found]).mean for name in ("ndcg@10", "hr@10") if found]
            cells.append(" / ".join(f"{mean:.4f}" for mean in means))
        lines.append(f"| {loss} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
