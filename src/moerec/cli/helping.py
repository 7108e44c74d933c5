"""`moerec keys` and `moerec doctor`: what can be written, and what is installed."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from moerec.cli.options import AsJson
from moerec.cli.output import print_json, show


def keys(
    path: Annotated[str, typer.Argument(help="training.retriever, retriever.sasrec, a key; the top by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """The keys that a recipe can hold: type, default, meaning."""
    from dataclasses import asdict

    from moerec.reference import RECIPE, look_up, told

    if as_json:
        print_json([asdict(section) for section in look_up(path or RECIPE)])
    else:
        show(told(path or RECIPE, min(Console().width, 110)), wrap=False)


def doctor(as_json: AsJson = False) -> None:
    """Look over the machine and the installation; exit 2 if something will not work."""
    from dataclasses import asdict

    from moerec.doctor import examine

    checks = examine()
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            show(f"{check.level:<8} {check.name:<24} {check.sentence}", wrap=False)
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)
