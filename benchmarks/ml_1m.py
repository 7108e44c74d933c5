"""ML-1M in the order of SASRec's file, leave-last-out, full ranking: ids alone, with texts and posters, HSTU.

    python benchmarks/ml_1m.py                       the missing rows, then the table
    python benchmarks/ml_1m.py --variants ids --seeds 43

Each row is one `moerec run` of a recipe of this project; the tuned plain baselines are one more. Rows are kept in
results/ml_1m.json with versions, machine and CPU minutes, so that a stopped benchmark goes on and seeds can be added.
The data are looked for under MOEREC_MIRROR. A row takes up to an hour on one thread.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorded_runs import RECIPES, PerUser, difference, environment_of, mean_per_user, paired, recorded, run_recipe
from rich.console import Console

from moerec.artifacts import ArtifactCache
from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json
from moerec.run.folder import recipe_of
from moerec.run.judge import Judge
from moerec.run.prepare import prepare

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "ml_1m.json"
WORK = HERE.parent / "local" / "ml_1m"
VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ids": ("ml-1m-sasrec", ("training.precision=bf16",)),
    "ids, texts, posters": ("ml-1m-multimodal", ("training.precision=bf16",)),
    "ids, seen items in the softmax": (
        "ml-1m-sasrec",
        ("training.precision=bf16", "training.retriever[0].loss={kind: full_softmax, exclude_seen: false}"),
    ),
    "ids, HSTU": ("ml-1m-hstu", ("training.precision=bf16",)),
}
"""A recipe and what is set beside the seed; 16 bits save a third of the time on CPUs that have them."""
METRICS = ("hr@10", "ndcg@10", "mrr@10", "hr@10/uniform100", "ndcg@10/uniform100")
COMPARED = ("hr@10", "ndcg@10")
MAIN = "ids"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--trials", type=int, default=30, help="settings of each plain baseline")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    if not options.table:
        for seed in options.seeds:
            for variant in options.variants:
                if f"{variant}/{seed}" not in recorded(RESULTS, "rows", "baselines")["rows"]:
                    run_row(variant, seed, options.threads)
        if not recorded(RESULTS, "rows", "baselines")["baselines"]:
            run_baselines(options.trials)
        results = recorded(RESULTS, "rows", "baselines")
        compare(results)
        results["targets"] = targets(folder(MAIN, options.seeds[0]))
        write_json(RESULTS, results)
    print(table(recorded(RESULTS, "rows", "baselines")))


def folder(variant: str, seed: int) -> Path:
    """Where a row's run lies."""
    return WORK / f"{variant.replace(', ', '-')}-{seed}"


def run_row(variant: str, seed: int, threads: int) -> None:
    """Do one row and record it at once."""
    recipe, own = VARIANTS[variant]
    settings = [f"seed={seed}", "baselines.kinds=[]", f"training.threads={threads}", *own]
    print(f"{variant}, seed {seed}", flush=True)
    metrics = run_recipe(RECIPES / f"{recipe}.yaml", folder(variant, seed), WORK / "artifacts", settings)
    results = recorded(RESULTS, "rows", "baselines")  # another process may have added rows meanwhile
    results["rows"][f"{variant}/{seed}"] = {
        "variant": variant,
        "recipe": recipe,
        "seed": seed,
        "settings": settings,
        "test": {name: metrics["retrieval"]["test"][name] for name in METRICS},
        "valid": {name: metrics["retrieval"]["valid"][name] for name in COMPARED},
        "intervals": {name: metrics["retrieval"]["intervals"][name] for name in COMPARED},
        "parameters": metrics["model"]["parameters"],
        "train_s": metrics["timing"]["train_s"],
        "environment": environment_of(folder(variant, seed)),
    }
    results["protocol"] = metrics["protocol"]
    results["command"] = "python benchmarks/ml_1m.py"
    write_json(RESULTS, results)


def run_baselines(trials: int) -> None:
    """Tune the plain baselines on validation and judge them on the same cases."""
    # A run has a model; this one is trained for a moment and not looked at.
    moment = ["training.retriever[0].updates=1", "training.retriever[0].epochs=null", "retriever.max_length=10"]
    settings = [*moment, f"baselines.trials={trials}", "training.threads=1"]
    recipe = RECIPES / "ml-1m-sasrec.yaml"
    retrieval = run_recipe(recipe, WORK / "baselines", WORK / "artifacts", settings)["retrieval"]
    results = recorded(RESULTS, "rows", "baselines")
    results["baselines"] = {
        kind: {
            "test": {name: values[name] for name in METRICS},
            "config": retrieval["baseline_details"][kind]["config"],
            "trials": retrieval["baseline_details"][kind]["trials"],
        }
        for kind, values in retrieval["baselines"].items()
    }
    write_json(RESULTS, results)


def targets(directory: Path) -> dict[str, float]:
    """How well the train events know the test targets: the share of targets whose item has at least so many."""
    recipe = recipe_of(directory)
    test = Judge(recipe, prepare(recipe, ArtifactCache(WORK / "artifacts"), Console(quiet=True)), "test")
    counts = test.train_counts[test.cases.target_items]
    return {f"with {least} train events": round(float((counts >= least).mean()), 4) for least in (5, 20, 50, 100)}


def compare(results: dict[str, Any]) -> None:
    """Summaries over seeds, and paired tests over users of a variant's mean over seeds against ids alone."""
    per_user: dict[str, PerUser] = {}
    results["summary"] = {}
    for variant in VARIANTS:
        rows = [row for row in results["rows"].values() if row["variant"] == variant]
        if not rows:
            continue
        results["summary"][variant] = {
            name: vars(summarise_seeds([row["test"][name] for row in rows])) for name in METRICS
        }
        values = mean_per_user([folder(variant, row["seed"]) for row in rows], COMPARED)
        if values is not None:
            per_user[variant] = values
    for kind in results["baselines"]:
        values = mean_per_user([WORK / "baselines"], COMPARED, f"baseline {kind}")
        if values is not None:
            per_user[kind] = values
    if MAIN in per_user:
        results["ahead_of_ids"] = {
            other: paired(values, per_user[MAIN]) for other, values in per_user.items() if other != MAIN
        }


def table(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    ahead = results.get("ahead_of_ids", {})
    lines = [
        "| model | seeds | HR@10 | NDCG@10 | MRR@10 | HR@10, 100 sampled | NDCG@10, 100 sampled "
        "| against ids alone (NDCG@10) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, summary in results.get("summary", {}).items():
        cells = [f"{summary[name]['mean']:.4f}" for name in METRICS]
        lines.append(
            f"| {variant} | {summary['ndcg@10']['seeds']} | {' | '.join(cells)} | {difference(ahead.get(variant))} |"
        )
    for kind, baseline in results["baselines"].items():
        cells = [f"{baseline['test'][name]:.4f}" for name in METRICS]
        lines.append(
            f"| {kind} ({baseline['trials']} settings) | | {' | '.join(cells)} | {difference(ahead.get(kind))} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
