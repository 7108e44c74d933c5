"""New items on ML-100K: a tenth of the items loses its train events, and is to be found by content alone.

    python benchmarks/new_items.py            the missing rows, then the table
    python benchmarks/new_items.py --seeds 5 6

Leave-last-out, full ranking over all unseen items, new ones among them. Each row is one `moerec run` of
recipes/ml-100k-sasrec.yaml with `dataset.split.withheld_items=0.1` and other item inputs; each seed withholds other
items. Beside them stand text neighbours: the items whose texts are most like those of the user's last events, how many
of these chosen on validation. Rows are kept in results/new_items.json with versions and machine, so that a stopped
benchmark goes on and seeds can be added.

Shape letters: B users, L padded length, N items of the index, V width of a text vector, C cases.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recorded_runs import PerUser, difference, environment_of, mean_per_user, paired, recorded, run_recipe
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from moerec.artifacts import ArtifactCache
from moerec.batches.sequences import SequenceBatch
from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json
from moerec.models.roles import Scorer
from moerec.run.folder import recipe_of
from moerec.run.judge import Judge, Judged
from moerec.run.prepare import prepare

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "ml-100k-sasrec.yaml"
RESULTS = HERE / "results" / "new_items.json"
WORK = HERE.parent / "local" / "new_items"
SHARE = 0.1
VARIANTS = {
    "ids": ["retriever.item_tower.features=[]"],
    "text, genres, year": ["retriever.item_tower.use_id=false"],
    "ids, text, genres, year": [],
    "ids, text, genres, year; id dropout 0.2": ["retriever.item_tower.id_dropout=0.2"],
}
MAIN = "ids, text, genres, year"
NEIGHBOURS = "text neighbours"
LAST = (1, 3, 10, 50)
"""Settings of the text neighbours: how many of the last events they are like."""
METRICS = ("hr@10", "ndcg@10")
SLICES = ("new items", "head", "tail")


class TextNeighbours(Scorer):
    """The cosine between an item's text vector and the mean of those of the user's last events."""

    def __init__(self, vectors: Tensor, last: int) -> None:
        self.vectors = F.normalize(vectors, dim=1)  # [N, V]
        self.last = last

    @property
    def num_indices(self) -> int:
        """See `Scorer`."""
        return len(self.vectors)

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """See `Scorer`; the index as a whole is what is ranked here."""
        if candidates is not None:
            raise NotImplementedError("text neighbours rank the whole catalogue")
        recent = batch.last(self.last)
        users = self.vectors.new_zeros(len(batch), self.vectors.shape[1])  # [B, V]
        owners = torch.arange(len(batch)).repeat_interleave(recent.lengths)
        users.index_add_(0, owners, self.vectors[recent.items])
        return users @ self.vectors.T  # [B, N]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    if not options.table:
        torch.set_num_threads(options.threads)
        for seed in options.seeds:
            for variant in options.variants:
                if f"{variant}/{seed}" not in recorded(RESULTS, "rows")["rows"]:
                    run_row(variant, seed, options.threads)
            if f"{NEIGHBOURS}/{seed}" not in recorded(RESULTS, "rows")["rows"]:
                neighbours_row(seed)
        results = recorded(RESULTS, "rows")
        compare(results)
        write_json(RESULTS, results)
    print(table(recorded(RESULTS, "rows")))


def keep(name: str, seed: int, row: dict[str, Any]) -> None:
    """Record a row at once; another process may have added rows meanwhile."""
    results = recorded(RESULTS, "rows") | {"command": "python benchmarks/new_items.py"}
    results["rows"][f"{name}/{seed}"] = {"variant": name, "seed": seed} | row
    write_json(RESULTS, results)


def folder(name: str, seed: int) -> Path:
    """Where a row's run lies."""
    return WORK / f"{name.replace(', ', '-').replace('; ', '-').replace(' ', '-')}-{seed}"


def run_row(variant: str, seed: int, threads: int) -> None:
    """Do one row and record it."""
    settings = [
        f"seed={seed}",
        f"dataset.split.withheld_items={SHARE}",
        f"dataset.split.seed={seed}",
        f"training.threads={threads}",
        "baselines.kinds=[]",
        *VARIANTS[variant],
    ]
    out = folder(variant, seed)
    print(f"{variant}, seed {seed}", flush=True)
    metrics = run_recipe(RECIPE, out, WORK / "artifacts", settings)
    row = chosen(metrics["retrieval"], metrics["retrieval"]["valid"]) | {
        "settings": settings,
        "protocol": metrics["protocol"],
        "train_s": metrics["timing"]["train_s"],
        "environment": environment_of(out),
    }
    keep(variant, seed, row)


def neighbours_row(seed: int) -> None:
    """Choose the number of last events on validation, then judge once; the rule, split and texts are the runs'."""
    recipe = recipe_of(folder("ids", seed))
    prepared = prepare(recipe, ArtifactCache(WORK / "artifacts"), Console(quiet=True))
    vectors = torch.from_numpy(np.asarray(prepared.stores["text"].vectors))  # [items, V]
    vectors = F.pad(vectors, (0, 0, prepared.dataset.num_indices - len(vectors), 0))  # [N, V]
    valid = Judge(recipe, prepared, "valid")
    tried = {last: valid.judge(TextNeighbours(vectors, last), NEIGHBOURS).metrics for last in LAST}
    best = max(LAST, key=lambda last: tried[last]["ndcg@10"])
    test = Judge(recipe, replace(prepared, candidates=()), "test")
    judged: Judged = test.judge(TextNeighbours(vectors, best), NEIGHBOURS)
    folder(NEIGHBOURS, seed).mkdir(parents=True, exist_ok=True)
    test.per_case(judged, "model").write_parquet(folder(NEIGHBOURS, seed) / "per_case.parquet")
    keep(NEIGHBOURS, seed, chosen(test.summary(judged), tried[best]) | {"last": best, "trials": len(LAST)})


def chosen(summary: dict[str, Any], valid: dict[str, float]) -> dict[str, Any]:
    """What a row keeps of a model's results."""
    return {
        "test": {name: summary["test"][name] for name in METRICS},
        "valid": {name: valid[name] for name in METRICS},
        "slices": {name: {key: summary["slices"][name][key] for key in ("cases", *METRICS)} for name in SLICES},
    }


def compare(results: dict[str, Any]) -> None:
    """Summaries over seeds, and paired tests over users of the mean over seeds."""
    results["summary"] = {}
    per_user: dict[str, PerUser] = {}
    for name in (*VARIANTS, NEIGHBOURS):
        rows = [row for row in results["rows"].values() if row["variant"] == name]
        if not rows:
            continue
        parts = {"all": [row["test"] for row in rows]} | {
            part: [row["slices"][part] for row in rows] for part in SLICES
        }
        results["summary"][name] = {
            part: {metric: vars(summarise_seeds([values[metric] for values in found])) for metric in METRICS}
            for part, found in parts.items()
        }
        values = mean_per_user([folder(name, row["seed"]) for row in rows], METRICS)
        if values is not None:
            per_user[name] = values
    if MAIN in per_user:
        results["behind_main"] = {
            other: paired(per_user[MAIN], values) for other, values in per_user.items() if other != MAIN
        }


def table(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    behind = results.get("behind_main", {})
    lines = [
        "| model | seeds | new items: HR@10 | new items: NDCG@10 | all: HR@10 | all: NDCG@10 "
        "| ids, text, genres, year ahead by (NDCG@10, all) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, summary in results.get("summary", {}).items():
        cells = [
            f"{summary[part][metric]['mean']:.4f} ± {summary[part][metric]['deviation']:.4f}"
            for part in ("new items", "all")
            for metric in METRICS
        ]
        lines.append(
            f"| {name} | {summary['all']['hr@10']['seeds']} | {' | '.join(cells)} | {difference(behind.get(name))} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
