"""Census-Income: our rankers beside torch-rechub's MMoE and PLE and gradient boosting, on the same rows and inputs.

    python benchmarks/census.py [--trials 4] [--seeds 0 1 2 3 4] [--write]

Test half of Census-Income (99,762 people), a random split of 70 / 10 / 20 % that is fixed; the tasks are income over
50,000 dollars and never married. Every model reads the same encoded columns and is tuned by the mean AUC of both tasks
on validation, with as many settings of a random search as any other; the best setting is trained with every seed, each
stops at its best validation epoch, and the test part is scored once. The rival is trained by its own trainer in its own
environment; no side has products of embeddings as inputs. Differences are paired: test rows are drawn again with
replacement, and the mean AUC over tasks and seeds is compared. `--write` records results/census.json.

Shape letters: N rows of a part, S seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rivals.conversation import Worker
from rivals.environments import PACKAGES, python_of

from moerec.artifacts import ArtifactCache
from moerec.config import discover
from moerec.evaluation.prediction_metrics import RankedScores, area_under_roc, auc
from moerec.evaluation.ranking_tuning import tune_ranking
from moerec.files import write_json
from moerec.models.ranking_baselines import GradientBoostingConfig
from moerec.recipe import load_recipe
from moerec.run.folder import environment
from moerec.run.prepare import prepare
from moerec.run.ranker import RankingData, predict, ranker_of, ranking_data, train_ranker

HERE = Path(__file__).parent
RECIPE = HERE.parent / "recipes" / "census-ple.yaml"
RESULTS = HERE / "results" / "census.json"
WORK = HERE.parent / "local" / "census"
OURS = ("single_task", "shared_bottom", "mmoe", "ple")
RIVALS = {"torch-rechub mmoe": "mmoe", "torch-rechub ple": "ple"}
EPOCHS, RESAMPLES = 5, 1000
SPACE: dict[str, tuple[Any, ...]] = {
    "width": (8, 16),
    "dropout": (0.1, 0.3),
    "learning_rate": (0.001, 0.002, 0.004),
    "weight_decay": (0.0, 1e-5, 1e-4),
    "expert": ((64, 32), (128, 64)),
}
"""Settings of every model. The decay is that of each library: ours is decoupled, so its values are times 1,000."""
FIXED = {"head": [32], "experts": 6, "levels": 2, "own_experts": 2, "shared_experts": 2}

Floats = NDArray[np.float64]
Scores = dict[str, Floats]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", default=[*OURS, *RIVALS])
    parser.add_argument("--write", action="store_true", help="record the result")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe = load_recipe(RECIPE)
    prepared = prepare(recipe, ArtifactCache(WORK / "artifacts"), Console(quiet=True))
    data = ranking_data(recipe, prepared, Console(quiet=True))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        worker = rival_worker(path, data) if set(options.models) & set(RIVALS) else None
        fits: dict[str, Callable[[dict[str, Any], int], dict[str, Scores]]] = {
            name: partial(fit_own, name, prepared, data)
            if name in OURS
            else partial(fit_rival, worker, RIVALS[name], path)
            for name in options.models
        }
        judged = {name: judge(name, fit, data, options.trials, options.seeds) for name, fit in fits.items()}
    if worker is not None:
        worker.close()
    judged["gradient_boosting"] = boosting(data, options.trials)
    result = {
        "command": f"python benchmarks/census.py --trials {options.trials} --seeds {' '.join(map(str, options.seeds))}",
        "environment": environment(),
        "rivals": PACKAGES,
        "protocol": " ".join(" ".join(__doc__.split("\n\n")[2:3]).split()),
        "rows": {part: len(rows) for part, rows in data.rows.items()},
        "models": {
            name: {key: value for key, value in found.items() if key != "scores"} for name, found in judged.items()
        },
        "differences": differences(judged, data),
    }
    if options.write:
        write_json(RESULTS, result)
    print(table(result))


def settings(trials: int) -> list[dict[str, Any]]:
    """The same random settings for every model, all different."""
    generator = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    while len(found) < trials:
        setting = {name: values[int(generator.integers(len(values)))] for name, values in SPACE.items()}
        if setting not in found:
            found.append(setting)
    return found


def judge(
    name: str,
    fit: Callable[[dict[str, Any], int], dict[str, Scores]],
    data: RankingData,
    trials: int,
    seeds: list[int],
) -> dict[str, Any]:
    """Tune on validation, train the best setting with every seed, score the test part."""
    tried = []
    for setting in settings(trials):
        value = mean_auc(fit(setting, 1000)["valid"], data, "valid")
        tried.append((value, setting))
        print(f"{name}: {value:.5f} {setting}", flush=True)
    best = max(tried, key=lambda pair: pair[0])
    scores = [fit(best[1], seed)["test"] for seed in seeds]
    found = summary(scores, data) | {"trials": trials, "setting": best[1], "valid": best[0], "scores": scores}
    print(f"{name}: test {found['mean_auc']}", flush=True)
    return found


def labels_of(data: RankingData, part: str) -> Scores:
    """The labels of a part by task; every row has all of them."""
    return {name: target.values[data.rows[part]].astype(np.float64) for name, target in data.targets.items()}


def mean_auc(scores: Scores, data: RankingData, part: str) -> float:
    """The mean over tasks."""
    return float(np.mean([auc(labels, scores[name]) for name, labels in labels_of(data, part).items()]))


def summary(scores: list[Scores], data: RankingData) -> dict[str, Any]:
    """AUC of each task and of their mean, of every seed."""
    labels = labels_of(data, "test")
    by_task = {name: [auc(labels[name], of_seed[name]) for of_seed in scores] for name in labels}
    return {"auc": by_task, "mean_auc": [float(np.mean(values)) for values in zip(*by_task.values(), strict=True)]}


def fit_own(kind: str, prepared: Any, data: RankingData, setting: dict[str, Any], seed: int) -> dict[str, Scores]:
    """One training through the project's trainer."""
    *hidden, width = setting["expert"]
    inputs = {
        "interactions": False,
        "width": setting["width"],
        "dropout": setting["dropout"],
        "head_hidden": FIXED["head"],
    }
    expert = {"kind": "mlp", "hidden": hidden, "width": width, "activation": "relu", "activate_output": True}
    own: dict[str, dict[str, Any]] = {
        "single_task": {"hidden": setting["expert"]},
        "shared_bottom": {"hidden": setting["expert"]},
        "mmoe": {"experts": FIXED["experts"], "expert": expert},
        "ple": {key: FIXED[key] for key in ("levels", "own_experts", "shared_experts")} | {"expert": expert},
    }
    stage = {
        "epochs": EPOCHS,
        "batch_size": 512,
        "learning_rate": setting["learning_rate"] * 2,  # the average below forgives larger steps
        "weight_decay": setting["weight_decay"] * 1000,
        "average": 0.99,
        "schedule": {"kind": "cosine", "warmup": 50},
    }
    recipe = load_recipe(RECIPE, [f"seed={seed}", f"training.ranker=[{stage!r}]".replace("'", "")])
    config = discover("ranker", {"kind": kind, **inputs, **own[kind]})
    with tempfile.TemporaryDirectory() as folder:
        trained = train_ranker(
            recipe, prepared, data, Path(folder), Console(quiet=True), resume=False, model_config=config
        )
    return {
        part: {found.task.name: found.scores for found in predict(trained.model, data, part)}
        for part in ("valid", "test")
    }


def rival_worker(folder: Path, data: RankingData) -> Worker:
    """Give the encoded columns to the rival's environment."""
    table = data.table
    coded, dense = table.names(("categorical",)), table.names(("dense",))
    everything = np.arange(len(table))
    numbers = [np.asarray(table.column(name, everything), np.float32) for name in dense]
    # Our input layer squashes numbers; the rival gets them squashed alike.
    numbers = [np.copysign(np.log1p(np.abs(values)), values) for values in numbers]
    labels = {name: target.values for name, target in data.targets.items()}
    np.savez(
        folder / "data.npz",
        codes=np.stack([np.asarray(table.column(name, everything), np.int64) for name in coded], axis=1),
        sizes=np.array([table.schema.sizes[name] for name in coded]),
        numbers=np.stack(numbers, axis=1),
        labels=np.stack([labels[task.name] for task in ranker_of(load_recipe(RECIPE)).tasks], axis=1),
        **data.rows,
    )
    return Worker(python_of("torch-rechub"), HERE / "rivals" / "torch_rechub_worker.py", threads=1)


def fit_rival(worker: Worker, kind: str, folder: Path, setting: dict[str, Any], seed: int) -> dict[str, Scores]:
    """One training of the rival."""
    shape = FIXED | {key: setting[key] for key in ("width", "dropout", "expert")}
    rates = {"lr": setting["learning_rate"], "weight_decay": setting["weight_decay"]}
    order = {"path": str(folder / "data.npz"), "kind": kind, "shape": shape, "rates": rates, "seed": seed}
    worker.ask("fit", **order, epochs=EPOCHS, batch=512, out=str(folder / "scores.npz"))
    scores = np.load(folder / "scores.npz")
    names = [task.name for task in ranker_of(load_recipe(RECIPE)).tasks]
    return {
        part: {name: scores[part][:, place].astype(np.float64) for place, name in enumerate(names)}
        for part in ("valid", "test")
    }


def boosting(data: RankingData, trials: int) -> dict[str, Any]:
    """Gradient boosting, tuned for each task; it has no seeds."""
    scores: Scores = {}
    for task in ranker_of(load_recipe(RECIPE)).tasks:
        target, train = data.targets[task.name], data.rows["train"]
        found = tune_ranking(GradientBoostingConfig, trials, data.table, train, data.rows["valid"], task, target)
        fitted = found.best.fit(data.table, train, task, target, data.statistics[task.name])
        scores[task.name] = fitted.predict(data.table, data.rows["test"])
    return summary([scores], data) | {"trials": trials, "scores": [scores]}


def differences(judged: dict[str, dict[str, Any]], data: RankingData) -> dict[str, Any]:
    """The best of ours by validation against every other model, paired over test rows."""
    best = max((name for name in judged if name in OURS), key=lambda name: judged[name]["valid"])
    labels = labels_of(data, "test")
    generator = np.random.default_rng(0)
    count = len(data.rows["test"])
    ranked = {
        name: [RankedScores.of(labels[task], scores[task]) for scores in found["scores"] for task in labels]
        for name, found in judged.items()
    }
    drawn: dict[str, list[float]] = {name: [] for name in judged}
    for _ in range(RESAMPLES):
        weights = np.bincount(generator.integers(0, count, count), minlength=count).astype(np.float64)  # [N]
        for name, parts in ranked.items():
            areas = [
                area_under_roc(scores.cumulate(drawn_of), scores.cumulate(drawn_of * scores.labels))
                for scores in parts
                for drawn_of in (weights[scores.order],)
            ]
            drawn[name].append(float(np.mean(areas)))
    found = {}
    for name in judged:
        if name == best:
            continue
        apart = np.array(drawn[best]) - np.array(drawn[name])  # one for each resample
        low, high = np.quantile(apart, [0.025, 0.975])
        side = min((apart <= 0).mean(), (apart >= 0).mean())
        found[name] = {
            "difference": float(np.mean(judged[best]["mean_auc"]) - np.mean(judged[name]["mean_auc"])),
            "interval": [float(low), float(high)],
            "p": float(min(1.0, 2 * max(side, 1 / RESAMPLES))),
        }
    return {"model": best, "against": found}


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    best, against = result["differences"]["model"], result["differences"]["against"]
    lines = [f"| model | income AUC | never married AUC | mean AUC | {best} ahead by |", "|---|---|---|---|---|"]
    for name, found in result["models"].items():
        cells = [spread(values) for values in (*found["auc"].values(), found["mean_auc"])]
        told = ""
        if name in against:
            low, high = against[name]["interval"]
            told = f"{against[name]['difference']:+.5f} [{low:+.5f}, {high:+.5f}], p = {against[name]['p']:.3f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {told} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean and deviation over seeds."""
    return f"{np.mean(values):.5f}" + (f" ± {np.std(values, ddof=1):.5f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
