"""Look at a user, an item, a run or its experts; plain data out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moerec.errors import MoerecError
from moerec.models.saved_files import CONFIG
from moerec.ranking_model import FOLDER as RANKER
from moerec.ranking_model import RankingModel
from moerec.recommender import Recommender
from moerec.report.expert_plot import write_expert_plot
from moerec.run.folder import METRICS, MODEL, RECIPE, no_run, recipe_of
from moerec.run.requests import check_known, titled

_SUMMARY: dict[str, tuple[str, ...] | None] = {
    "name": None,
    "dataset": ("name", "users", "items", "events"),
    "model": None,
    "retrieval": ("test", "baselines"),
    "ranking": ("model", "test", "baselines"),
    "two_stage": ("on", "why", "formula", "first_stage", "test"),
    "examples": ("rows", "refused", "shards", "audit"),
    "timing": None,
}
"""What of metrics.json tells the outcome of a run; None for all of a section."""


def latest_run(runs: Path) -> Path:
    """The most recent run of any name.

    Raises:
        MoerecError: there is none.
    """
    found = [link.resolve() for link in runs.glob("*/latest") if (link / RECIPE).is_file()]
    if not found:
        raise MoerecError(f"{runs}: no run here yet; start one with: moerec run RECIPE")
    return max(found, key=lambda directory: (directory / RECIPE).stat().st_mtime)


def model_of(directory: Path) -> Path:
    """The folder whose model answers: the run, or a model folder that was given instead.

    Raises:
        MoerecError: the run has no model yet, or never will.
    """
    if (directory / RECIPE).is_file() and not (directory / MODEL).is_dir():
        check_trains(directory)
        raise MoerecError(
            f"{directory}: this run has no model yet; finish it with --resume, or name another one with --run"
        )
    if not any((directory / name).exists() for name in (MODEL, CONFIG, RANKER)) and (hint := no_run(directory)):
        raise MoerecError(f"{directory}: {hint}")
    return directory


def check_trains(directory: Path) -> None:
    """Refuse a run whose recipe trains nothing, before a model of it is looked for.

    Raises:
        MoerecError: it makes shards alone, or this is no run.
    """
    if not recipe_of(directory).has_model:
        raise MoerecError(
            f"{directory}: this run makes shards alone and has no model; name the run of a model with --run"
        )


def run_metrics(directory: Path) -> dict[str, Any]:
    """metrics.json of a finished run.

    Raises:
        MoerecError: the run is not finished, or this is no run.
    """
    path = directory / METRICS
    if not path.is_file():
        begun = (directory / RECIPE).is_file()
        hint = "it is not finished; continue it with --resume" if begun else "this is no run folder"
        raise MoerecError(f"{directory}: {no_run(directory) or f'no {METRICS}: {hint}'}")
    try:
        metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MoerecError(f"{path}: not valid JSON ({error}); remove it and go on with --resume") from None
    return metrics


def inspect_user(directory: Path, user: str, k: int) -> dict[str, Any]:
    """A user's history, oldest first, the profile that the ranker's features keep, and the list of the moment.

    Args:
        directory: a run or a model folder; what it has no model for is left out.
        user: id of the user.
        k: length of the list.
    """
    if not has_retriever(directory):
        return {"user_id": user, "profile": RankingModel.from_pretrained(directory).profile(user)}
    recommender = Recommender.from_pretrained(directory)
    check_known(recommender, [user], "give an id of the source, or events of a new user to recommend --history")
    history = recommender.history(user)
    listed = recommender.recommend(users=[user], k=k)
    shown: dict[str, Any] = {"user_id": user, "events": len(history), "history": history.to_dicts()}
    if recommender.ranking is not None:
        shown["profile"] = recommender.ranking.profile(user)
    return shown | {"recommended": titled(recommender, listed).to_dicts()}


def has_retriever(directory: Path) -> bool:
    """Whether a run or model folder has lists to give; a recipe may have a ranker alone."""
    model = directory / MODEL if (directory / MODEL).is_dir() else directory
    return (model / CONFIG).is_file() or not (model / RANKER).is_dir()


def inspect_item(recommender: Recommender, item: str, k: int) -> dict[str, Any]:
    """An item's row of the catalogue, its gate weights, and what is most like it.

    Raises:
        MoerecError: the catalogue does not have it.
    """
    if item not in recommender.items["item_id"]:
        raise MoerecError(f"the catalogue has no item '{item}'; give an id of the source, as `recommend` prints them")
    similar = recommender.similar([item], k=k).rename({"item_id": "asked", "similar_item_id": "item_id"})
    row = recommender.items.filter(recommender.items["item_id"] == item).to_dicts()[0]
    return {
        "item": row,
        "experts": recommender.expert_weights([item])[0],
        "similar": titled(recommender, similar.drop("asked")).to_dicts(),
    }


def inspect_run(directory: Path) -> dict[str, Any]:
    """What a run is and what came out: data, model, metrics of test and baselines, shards, timing.

    It is a part of what `moerec run --json` prints: each value stands under the same keys.
    """
    metrics = run_metrics(directory)
    found: dict[str, Any] = {"run": str(directory)}
    for section, keys in _SUMMARY.items():
        if section in metrics:  # a run of shards alone makes no data set and has no model
            values = metrics[section]
            found[section] = values if keys is None else {key: values[key] for key in keys if key in values}
    return found


def named_once(folder: Path | None, run: Path | None) -> Path | None:
    """The run that was named, as an argument or with --run; None if neither.

    Raises:
        MoerecError: both were given.
    """
    if folder is not None and run is not None:
        raise MoerecError(f"the run is named twice, {folder} and --run {run}; name it once")
    return folder if folder is not None else run


def inspect_experts(directory: Path) -> dict[str, Any]:
    """How the item tower of a run weighs its experts or inputs, and under `ranker` its ranker for each task.

    Raises:
        MoerecError: the run is not finished, it has no model, or neither model has a gate.
    """
    if (directory / RECIPE).is_file() and not (directory / MODEL).is_dir():
        check_trains(directory)
    metrics = run_metrics(directory)
    experts: dict[str, Any] = dict(metrics.get("experts", {}))
    ranker = metrics.get("ranking", {}).get("experts")
    if ranker is not None:
        experts["ranker"] = ranker
    if not experts:
        remedies = ["set retriever.item_tower.fusion: mixture"] if "retrieval" in metrics else []
        remedies += ["set ranker.kind: mmoe (or cgc, ple, home, stem)"] if "ranking" in metrics else []
        raise MoerecError(f"{directory}: this model has no mixture; {', or '.join(remedies)}")
    return experts


def plot_experts(directory: Path, path: Path) -> None:
    """Write the heat maps of a run's experts as .svg or .html."""
    write_expert_plot(run_metrics(directory), path)
