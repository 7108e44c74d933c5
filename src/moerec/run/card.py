"""The model card: what the model is, what it was trained on, how good it is, what licences it carries."""

from __future__ import annotations

from typing import Any

import yaml

from moerec import __version__
from moerec.recipe import Recipe, plain_recipe


def model_card(recipe: Recipe, metrics: dict[str, Any]) -> str:
    """The card as Markdown."""
    dataset = metrics["dataset"]
    models = {"retriever": metrics.get("model"), "ranker": metrics.get("ranking", {}).get("model")}
    kinds = [
        f"a `{model['kind']}` {role} of {model['parameters']:,} parameters"
        for role, model in models.items()
        if model is not None
    ]
    lines = [
        f"# {recipe.name}",
        "",
        f"{' and '.join(kinds).capitalize()}, trained by moerec {__version__} on {dataset['name']} "
        f"({dataset['events']:,} events of {dataset['users']:,} users on {dataset['items']:,} items).",
        "",
        "```python",
        *_usage(recipe),
        "```",
        "",
    ]
    if "retrieval" in metrics:
        lines += _results("Test results", metrics["retrieval"], metrics["protocol"])
    if "ranking" in metrics:
        lines += _results("Test results of the ranker", metrics["ranking"], metrics["ranking"]["protocol"])
    if "two_stage" in metrics:
        stages = metrics["two_stage"]
        state = "on" if stages["on"] else "off"
        lines += _results("Test results of both stages", stages, {f"the second stage is {state}": stages["why"]})
    lines += ["## Data and licences", "", f"- {dataset['name']}: {dataset['licence'] or 'no licence note'}"]
    for name, modality in dataset["modalities"].items():
        lines.append(f"- modality {name}: vectors by {modality['encoder']}, under that encoder's own licence")
    lines += [
        "- histories.parquet and ranker/events.parquet hold users' events; leave them out "
        "(`save_pretrained(histories=False)`) before sharing.",
        "",
        "## Recipe",
        "",
        "```yaml",
        yaml.safe_dump(plain_recipe(recipe), sort_keys=False, allow_unicode=True).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _usage(recipe: Recipe) -> list[str]:
    if recipe.retriever is None:
        return [
            "from moerec import RankingModel",
            'ranking = RankingModel.from_pretrained("path/to/this/folder")',
            "ranking.predict(pairs)  # a table with user_id, item_id and, if you like, timestamp",
        ]
    return [
        "from moerec import Recommender",
        'recommender = Recommender.from_pretrained("path/to/this/folder")',
        'recommender.recommend(histories=[["item id", "another"]], k=10)',
    ]


def _results(title: str, results: dict[str, Any], protocol: dict[str, str]) -> list[str]:
    lines = [f"## {title}", "", "| metric | value | 95 % interval |", "|---|---|---|"]
    for name, value in results["test"].items():
        interval = results["intervals"].get(name)
        shown = "" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"
        lines.append(f"| {name} | {value:.4f} | {shown} |")
    return [*lines, "", "Protocol:", "", *(f"- {name}: {words}" for name, words in protocol.items()), ""]
