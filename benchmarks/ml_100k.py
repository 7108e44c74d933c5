"""ML-100K, leave-last-out, full ranking: id only, text only, id + text, five seeds, against tuned plain baselines.

    python benchmarks/ml_100k.py            the missing rows, then the table
    python benchmarks/ml_100k.py --seeds 0 1 --variants id

Each row is one `moerec run` of recipes/quickstart.yaml with other item inputs and seed. Rows are kept in
results/ml_100k.json with versions and machine, so that a stopped benchmark goes on and seeds can be added.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorded_runs import PerUser, difference, environment_of, mean_per_user, paired, recorded, run_recipe

from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "quickstart.yaml"
RESULTS = HERE / "results" / "ml_100k.json"
WORK = HERE.parent / "local" / "ml_100k"
VARIANTS = {
    "id only": ["retriever.item_tower.features=[]"],
    "text only": ["retriever.item_tower.use_id=false", "retriever.item_tower.features=[text]"],
    "id + text": [],
}
METRICS = ("hr@10", "ndcg@10", "mrr@10", "hr@10/uniform100", "ndcg@10/uniform100")
COMPARED = ("hr@10", "ndcg@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=2, help="torch threads of each run")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    results = recorded(RESULTS, "rows", "baselines")
    if not options.table:
        for seed in options.seeds:
            for variant in options.variants:
                if f"{variant}/{seed}" not in results["rows"]:
                    run_row(results, variant, seed, options.threads)
        results.update(recorded(RESULTS, "rows", "baselines"))
        compare(results)
        write_json(RESULTS, results)
    print(table(results))


def folder(variant: str, seed: int) -> Path:
    """Where a row's run lies."""
    return WORK / f"{variant.replace(' ', '')}-{seed}"


def run_row(results: dict[str, Any], variant: str, seed: int, threads: int) -> None:
    """Do one row and record it at once."""
    out = folder(variant, seed)
    # The split, the candidate lists and the tuned baselines depend on the data alone: only the model's seed changes.
    settings = [*VARIANTS[variant], f"seed={seed}", f"training.threads={threads}", "training.tensorboard=false"]
    print(f"{variant}, seed {seed}", flush=True)
    metrics = run_recipe(RECIPE, out, WORK / "artifacts", settings)
    retrieval = metrics["retrieval"]
    results.update(recorded(RESULTS, "rows", "baselines"))  # another process may have added rows meanwhile
    results["rows"][f"{variant}/{seed}"] = {
        "variant": variant,
        "seed": seed,
        "settings": settings,
        "test": {name: retrieval["test"][name] for name in METRICS},
        "valid": {name: retrieval["valid"][name] for name in COMPARED},
        "slices": retrieval["slices"],
        "parameters": metrics["model"]["parameters"],
        "train_s": metrics["timing"]["train_s"],
        "environment": environment_of(out),
    }
    for kind, values in retrieval["baselines"].items():
        details = retrieval["baseline_details"][kind]
        results["baselines"][kind] = {
            "test": {name: values[name] for name in METRICS},
            "intervals": {name: details["intervals"][name] for name in COMPARED},
            "valid": {name: details["valid"][name] for name in COMPARED},
            "config": details["config"],
            "trials": details["trials"],
        }
    results["protocol"] = metrics["protocol"]
    results["command"] = "python benchmarks/ml_100k.py"
    write_json(RESULTS, results)


def compare(results: dict[str, Any]) -> None:
    """Summaries over seeds, and paired tests over users of the seeds' mean against each baseline and variant."""
    per_user: dict[str, PerUser] = {}
    results["summary"] = {}
    for variant in VARIANTS:
        rows = [row for row in results["rows"].values() if row["variant"] == variant]
        if not rows:
            continue
        results["summary"][variant] = {
            name: vars(summarise_seeds([row["test"][name] for row in rows])) for name in METRICS
        }
        folders = [folder(variant, row["seed"]) for row in rows]
        values = {variant: mean_per_user(folders, COMPARED)} | {
            kind: mean_per_user(folders[:1], COMPARED, f"baseline {kind}") for kind in results["baselines"]
        }
        per_user |= {name: found for name, found in values.items() if found is not None}
    main_variant = "id + text"
    if main_variant in per_user:
        results["against_id_text"] = {
            other: paired(per_user[main_variant], values) for other, values in per_user.items() if other != main_variant
        }


def table(results: dict[str, Any]) -> str:
    """The table as Markdown."""
    against = results.get("against_id_text", {})
    lines = [
        "| model | seeds | HR@10 | NDCG@10 | MRR@10 | HR@10, 100 sampled | NDCG@10, 100 sampled "
        "| id + text ahead by (NDCG@10) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant, summary in results.get("summary", {}).items():
        cells = [f"{summary[name]['mean']:.4f} ± {summary[name]['deviation']:.4f}" for name in METRICS]
        seeds = summary["ndcg@10"]["seeds"]
        lines.append(f"| {variant} | {seeds} | {' | '.join(cells)} | {difference(against.get(variant))} |")
    for kind, baseline in results["baselines"].items():
        cells = [f"{baseline['test'][name]:.4f}" for name in METRICS]
        lines.append(
            f"| {kind} ({baseline['trials']} settings) | | {' | '.join(cells)} | {difference(against.get(kind))} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
