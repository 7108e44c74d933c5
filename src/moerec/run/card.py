"""The model card: what the model is, what it was trained on, how good it is, what licences it carries."""

from __future__ import annotations

from typing import Any

import yaml

from moerec import __version__
from moerec.recipe import Recipe, plain_recipe


def model_card(recipe: Recipe, metrics: dict[str, Any]) -> str:
    """The card as Markdown."""
    dataset, retrieval, protocol = metrics["dataset"], metrics["retrieval"], metrics["protocol"]
    lines = [
        f"# {recipe.name}",
        "",
        f"A `{metrics['model']['kind']}` retriever of {metrics['model']['parameters']:,} parameters, "
        f"trained by moerec {__version__} on {dataset['name']} ({dataset['events']:,} events of "
        f"{dataset['users']:,} users on {dataset['items']:,} items).",
        "",
        "```python",
        "from moerec import Recommender",
        'recommender = Recommender.from_pretrained("path/to/this/folder")',
        'recommender.recommend(histories=[["item id", "another"]], k=10)',
        "```",
        "",
        "## Test results",
        "",
        "| metric | value | 95 % interval |",
        "|---|---|---|",
    ]
    for name, value in retrieval["test"].items():
        low, high = retrieval["intervals"].get(name, (float("nan"), float("nan")))
        lines.append(f"| {name} | {value:.4f} | {low:.4f} to {high:.4f} |")
    lines += ["", "Protocol:", ""]
    lines += [f"- {name}: {words}" for name, words in protocol.items()]
    lines += ["", "## Data and licences", "", f"- {dataset['name']}: {dataset['licence'] or 'no licence note'}"]
    for name, modality in dataset["modalities"].items():
        lines.append(f"- modality {name}: vectors by {modality['encoder']}, under that encoder's own licence")
    lines += [
        "- histories.parquet holds users' events; leave it out (`save_pretrained(histories=False)`) before sharing.",
        "",
        "## Recipe",
        "",
        "```yaml",
        yaml.safe_dump(plain_recipe(recipe), sort_keys=False, allow_unicode=True).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)
