"""Ranking on MovieLens: will it be liked, and which rating; MMoE beside single-task, shared bottom and tuned baselines.

    python benchmarks/ranking.py            the missing rows, then the table
    python benchmarks/ranking.py --datasets ml-100k --splits user_time --seeds 0 1

Each row is one `moerec run` of recipes/movielens-mmoe.yaml with another data set, split and seed. Rows are kept in
results/ranking.json with versions and machine, so that a stopped benchmark goes on and seeds can be added.
ml-1m-users-2999 are the users 1 to 2999 of ML-1M; the source looks for its file under MOEREC_MIRROR.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from recorded_runs import environment_of, recorded, run_recipe

from moerec.evaluation.predictions import is_higher_better
from moerec.evaluation.significance import summarise_seeds
from moerec.files import write_json

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "movielens-mmoe.yaml"
RESULTS = HERE / "results" / "ranking.json"
WORK = HERE.parent / "local" / "ranking"
DATASETS = ("ml-100k", "ml-1m-users-2999")
TRIALS = {"ml-100k": 26, "ml-1m-users-2999": 8}
"""Settings of each baseline and task; those of our model were chosen on ml-100k alone."""
BASELINE_SEEDS = {"ml-100k": 5, "ml-1m-users-2999": 1}
"""How many seeds of ours are compared row by row with the baselines, which have no seed; fitting takes ten minutes."""
SPLITS = ("user_time", "global_date")
SIBLINGS = {"ml-100k": ("single_task", "shared_bottom"), "ml-1m-users-2999": ()}
"""Other kinds of rankers beside ours; on the larger data the baselines alone."""
METRICS = ("like/auc", "like/gauc", "like/log_loss", "like/ece", "rating/rmse", "rating/mae")
MAIN = ("like/auc", "rating/rmse")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each run")
    parser.add_argument("--table", action="store_true", help="only print what is recorded")
    options = parser.parse_args()
    if not options.table:
        for dataset in options.datasets:
            for split in options.splits:
                for seed in options.seeds:
                    if f"{dataset}/{split}/{seed}" not in recorded(RESULTS, "rows", "baselines", "protocol")["rows"]:
                        run_row(dataset, split, seed, options.threads)
        results = recorded(RESULTS, "rows", "baselines", "protocol")
        results["summary"] = {
            f"{dataset}/{split}": summarise(results, dataset, split) for dataset, split in done(results)
        }
        write_json(RESULTS, results)
    print(table(recorded(RESULTS, "rows", "baselines", "protocol")))


def done(results: dict[str, Any]) -> list[tuple[str, str]]:
    """The data sets and splits with a recorded row."""
    return list(dict.fromkeys((row["dataset"], row["split"]) for row in results["rows"].values()))


def run_row(dataset: str, split: str, seed: int, threads: int) -> None:
    """Do one row and record it at once."""
    out = WORK / f"{dataset}-{split}-{seed}"
    settings = [
        f"dataset.variant={dataset}",
        f"dataset.split={{kind: {split}, valid: 0.1, test: 0.2}}",
        f"seed={seed}",
        f"training.threads={threads}",
        f"ranking_baselines.trials={TRIALS[dataset]}",
        f"ranking_baselines.siblings=[{', '.join(SIBLINGS[dataset])}]",
    ]
    if seed >= BASELINE_SEEDS[dataset]:
        settings.append("ranking_baselines.kinds=[]")
    print(f"{dataset}, {split}, seed {seed}", flush=True)
    metrics = run_recipe(RECIPE, out, WORK / "artifacts", settings)
    ranking = metrics["ranking"]
    results = recorded(RESULTS, "rows", "baselines", "protocol")  # another process may have added rows meanwhile
    results["rows"][f"{dataset}/{split}/{seed}"] = {
        "dataset": dataset,
        "split": split,
        "seed": seed,
        "settings": settings,
        "test": {name: ranking["test"][name] for name in METRICS},
        "siblings": {kind: {name: values[name] for name in METRICS} for kind, values in ranking["siblings"].items()},
        "against": against(ranking),
        "parameters": ranking["model"]["parameters"],
        "train_s": metrics["timing"]["train_ranker_s"],
        "rows_per_second": metrics["timing"]["rows_per_second"],
        "environment": environment_of(out),
    }
    found = {
        kind: {
            "test": {name: values[name] for name in METRICS},
            "intervals": {name: ranking["baseline_details"][kind]["intervals"][name] for name in MAIN},
            "trials": ranking["baseline_details"][kind]["trials"],
            "config": ranking["baseline_details"][kind]["config"],
        }
        for kind, values in ranking["baselines"].items()
    }
    if found:
        results["baselines"][f"{dataset}/{split}"] = found
    results["protocol"][f"{dataset}/{split}"] = ranking["protocol"] | {
        "rows": {task: values["rows"] for task, values in ranking["tasks"].items()},
        "trials of the model": str(ranking["model"]["trials"]),
    }
    results["command"] = "python benchmarks/ranking.py"
    write_json(RESULTS, results)


def against(ranking: dict[str, Any]) -> dict[str, Any]:
    """The paired comparison of the ranker with everything beside it, by bootstrap over users."""
    found = {}
    for group in ("baseline", "sibling"):
        for kind, details in ranking[f"{group}_details"].items():
            found[kind] = {name: details["against_model"][name] for name in MAIN}
    return found


def summarise(results: dict[str, Any], dataset: str, split: str) -> dict[str, Any]:
    """Means over seeds of every model, and of the differences from the ranker."""
    rows = [row for row in results["rows"].values() if (row["dataset"], row["split"]) == (dataset, split)]
    summary: dict[str, Any] = {"mmoe": {name: seeds([row["test"][name] for row in rows]) for name in METRICS}}
    for kind in SIBLINGS[dataset]:
        summary[kind] = {name: seeds([row["siblings"][kind][name] for row in rows]) for name in METRICS}
    compared = [row for row in rows if row["against"]]
    summary["differences"] = {
        kind: {
            name: seeds([row["against"][kind][name]["difference"] for row in compared])
            | {
                "interval of each seed over users": [row["against"][kind][name]["interval"] for row in compared],
                "p of each seed": [row["against"][kind][name]["p_value"] for row in compared],
            }
            for name in MAIN
        }
        for kind in compared[0]["against"]
    }
    return summary


def seeds(values: list[float]) -> dict[str, Any]:
    """Mean, deviation and interval over seeds."""
    return dict(vars(summarise_seeds(values)))


def table(results: dict[str, Any]) -> str:
    """The tables as Markdown."""
    lines = []
    for key, summary in results.get("summary", {}).items():
        lines += ["", f"**{key}**", "", "| model | seeds | like AUC | GAUC | log-loss | ECE | rating RMSE | MAE "]
        lines[-1] += "| ahead by, like AUC | ahead by, RMSE |"
        lines.append("|---|---|---|---|---|---|---|---|---|---|")
        for kind in ("mmoe", *SIBLINGS[key.split("/")[0]]):
            cells = [f"{summary[kind][name]['mean']:.4f} ± {summary[kind][name]['deviation']:.4f}" for name in METRICS]
            lines.append(
                f"| {kind} | {summary[kind][MAIN[0]]['seeds']} | {' | '.join(cells)} | {ahead(summary, kind)} |"
            )
        for kind, baseline in results["baselines"][key].items():
            cells = [f"{baseline['test'][name]:.4f}" for name in METRICS]
            lines.append(f"| {kind} ({baseline['trials']} settings) | | {' | '.join(cells)} | {ahead(summary, kind)} |")
    return "\n".join(lines).strip()


def ahead(summary: dict[str, Any], kind: str) -> str:
    """By how much the ranker is better than another model, mean over seeds, with the range of p over the seeds."""
    if kind not in summary["differences"]:
        return " | "
    cells = []
    for name in MAIN:
        found = summary["differences"][kind][name]
        sign = 1 if is_higher_better(name) else -1
        p_values = found["p of each seed"]
        cells.append(f"{sign * found['mean']:+.4f}, p {min(p_values):.3f} to {max(p_values):.3f}")
    return " | ".join(cells)


if __name__ == "__main__":
    main()
