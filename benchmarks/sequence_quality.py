"""Quality rows of benchmarks/sequences.py: train one model by its own loop, rank its scores by our evaluator.

Shape letters: B cases of a batch, N item indices.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from recorded_runs import PerUser, mean_per_user, paired, run_recipe
from rich.console import Console
from sequence_models import MAIN, MODELS, WORK, recipe_of, settings_of, started_worker, stored_data, without_place
from torch import Tensor

from moerec.artifacts import ArtifactCache
from moerec.batches.sequences import SequenceBatch
from moerec.errors import ConfigError, MoerecError
from moerec.evaluation.protocols import EvaluationCases
from moerec.evaluation.significance import summarise_seeds
from moerec.models.roles import Scorer
from moerec.recipe import plain_recipe
from moerec.run.folder import environment
from moerec.run.judge import Judge
from moerec.run.prepare import prepare

METRICS = ("hr@10", "ndcg@10", "hr@10/uniform100", "ndcg@10/uniform100")
COMPARED = ("hr@10", "ndcg@10")
PATIENCE = 20
"""Validations without a better one after which a rival's training ends before its minutes are over."""


class GivenVectors(Scorer):
    """Scores of a rival: the products of the vectors that its process wrote."""

    def __init__(self, cases: EvaluationCases, users: np.ndarray, items: np.ndarray, trained: np.ndarray) -> None:
        self.rows = torch.full((int(cases.users.max()) + 1,), -1)
        self.rows[torch.from_numpy(cases.users)] = torch.arange(len(cases))
        self.users, self.items = torch.from_numpy(users), torch.from_numpy(items)
        self.trained = torch.from_numpy(trained)

    @property
    def num_indices(self) -> int:
        """See `Scorer`."""
        return len(self.items)

    def score(self, batch: SequenceBatch, candidates: Tensor | None = None) -> Tensor:
        """See `Scorer`; an item without train events has the lowest score, as with the baselines."""
        assert batch.users is not None
        scores = self.users[self.rows[batch.users]] @ self.items.T  # [B, N]
        scores[:, ~self.trained] = torch.finfo(scores.dtype).min
        return scores if candidates is None else scores.gather(1, candidates)


class Quality:
    """Rows of one data set; what all models share is made once."""

    def __init__(self, dataset: str, length: int, minutes: float) -> None:
        self.dataset, self.length, self.minutes = dataset, length, minutes
        recipe = recipe_of(dataset, MAIN, length, 0, 1)
        self.artifacts = WORK / "artifacts"
        self.prepared = prepare(recipe, ArtifactCache(self.artifacts), Console())
        self.judges = {part: Judge(recipe, self.prepared, part) for part in ("valid", "test")}
        cases = {part: judge.cases for part, judge in self.judges.items()}
        self.path = stored_data(self.prepared, cases, WORK / "data" / f"{dataset}.npz")

    def row(self, model: str, seed: int) -> dict[str, Any] | None:
        """One model with one seed; None if it is not there (yet)."""
        print(f"{self.dataset}, {model}, seed {seed}", flush=True)
        common = {
            "command": f"python benchmarks/sequences.py --dataset {self.dataset} --models {model} --seeds {seed} "
            f"--minutes {self.minutes:g} --length {self.length}",
            "dataset": self.dataset,
            "model": model,
            "seed": seed,
            "minutes": self.minutes,
            "length": self.length,
            "environment": environment(),
        }
        if MODELS[model].side == "moerec":
            try:
                recipe_of(self.dataset, model, self.length, seed, 1)
            except ConfigError as error:
                print(f"  skipped: {error}", flush=True)
                return None
            found = self._ours(model, seed)
        else:
            try:
                found = self._rival(model, seed)
            except (RuntimeError, MoerecError) as error:
                found = {"error": without_place(error)}
                print(f"  failed: {error}", flush=True)
        return common | found | {"protocol": self.judges["test"].words()}

    def _rival(self, model: str, seed: int) -> dict[str, Any]:
        out = folder_of(self.dataset, model, seed, self.minutes, self.length)
        out.mkdir(parents=True, exist_ok=True)
        settings = settings_of(model, self.length, MODELS[model].options)
        order = {"path": str(self.path), "settings": settings, "seed": seed, "minutes": self.minutes}
        with closing(started_worker(model)) as worker:
            training = worker.ask("fit", **order, patience=PATIENCE, out=str(out / "vectors.npz"))
        stored = np.load(out / "vectors.npz")
        judged = {
            part: judge.judge(GivenVectors(judge.cases, stored[part], stored["items"], self.prepared.trained), model)
            for part, judge in self.judges.items()
        }
        self.judges["test"].per_case(judged["test"], "model").write_parquet(out / "per_case.parquet")
        # The worker counts the validation metric for itself; it must be what our evaluator says.
        own, theirs = judged["valid"].metrics["ndcg@10"], training.pop("valid_ndcg@10")
        if abs(own - theirs) > 1e-4:
            raise RuntimeError(f"{model}: its process chose by NDCG@10 {theirs:.5f}, but the evaluator finds {own:.5f}")
        return {
            "settings": settings,
            "test": {name: judged["test"].metrics[name] for name in METRICS},
            "valid": {name: judged["valid"].metrics[name] for name in COMPARED},
            "training": training,
        }

    def _ours(self, model: str, seed: int) -> dict[str, Any]:
        out = folder_of(self.dataset, model, seed, self.minutes, self.length)
        path = out.with_suffix(".yaml")
        if not (out / "recipe.yaml").is_file():
            epochs = self._epochs(model, seed)
            plain = recipe_of(self.dataset, model, self.length, seed, epochs)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(plain_recipe(plain), sort_keys=False))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        metrics = run_recipe(path, out, self.artifacts)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        stage = yaml.safe_load((out / "recipe.yaml").read_text())
        return {
            "settings": {"retriever": stage["retriever"], "stages": stage["training"]["retriever"]},
            "test": {name: metrics["retrieval"]["test"][name] for name in METRICS},
            "valid": {name: metrics["retrieval"]["valid"][name] for name in COMPARED},
            "training": {
                "parameters": metrics["model"]["parameters"],
                "train_wall_s": metrics["timing"]["train_s"],
                "run_cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "ended_by": "epochs",
            },
        }

    def _epochs(self, model: str, seed: int) -> int:
        """Epochs that fit into the minutes, by the speed of some seconds of the same training."""
        recipe = recipe_of(self.dataset, model, self.length, seed, 1)
        settings = settings_of(model, self.length, {}) | {"recipe": plain_recipe(recipe)}
        with closing(started_worker(model)) as worker:
            worker.ask("turns", path=str(self.path), settings=settings, seed=seed)
            worker.ask("steps", seconds=2)
            done = worker.ask("steps", seconds=min(20, 60 * self.minutes / 4))
        histories = self.prepared.train
        targets = int(np.maximum(np.diff(histories.offsets) - 1, 0).sum())
        return max(1, int(60 * self.minutes * done["targets"] / done["cpu_s"] / targets))


def folder_of(dataset: str, model: str, seed: int, minutes: float, length: int) -> Path:
    """Where a row's files lie; another budget is another training."""
    return WORK / "rows" / f"{dataset}-{model}-{seed}-{minutes:g}m-{length}"


def summaries(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Of each data set: means over seeds, and paired tests over users of the seeds' mean against our main model."""
    found: dict[str, Any] = {}
    for dataset in dict.fromkeys(row["dataset"] for row in rows.values()):
        per_user: dict[str, PerUser] = {}
        summary: dict[str, Any] = {}
        for model in MODELS:
            done = [row for row in rows.values() if (row["dataset"], row["model"]) == (dataset, model)]
            done = [row for row in done if "test" in row]
            if not done:
                continue
            summary[model] = {name: vars(summarise_seeds([row["test"][name] for row in done])) for name in METRICS}
            folders = [folder_of(dataset, model, row["seed"], row["minutes"], row["length"]) for row in done]
            values = mean_per_user(folders, COMPARED)
            if values is not None:
                per_user[model] = values
        for model, values in per_user.items():
            if model != MAIN and MAIN in per_user:
                summary[model]["behind"] = paired(per_user[MAIN], values)
        found[dataset] = summary
    return found
