"""Options and arguments that several commands share, and the folders that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file of the recipe.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key: a.b=c, stages[0].x=1, list[*].x=1."),
]
Artifacts = Annotated[Path, typer.Option(help="Folder of derived data, shared by runs.")]
Runs = Annotated[Path, typer.Option(help="Folder of all runs.")]
Out = Annotated[Path | None, typer.Option(help="Folder of this run, instead of RUNS/<name>/<time>.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the latest run of this name (or --out) stood.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Folder of the run; by default the latest of all.")]
RunArgument = Annotated[Path | None, typer.Argument(metavar="[RUN]", help="The same as --run.", show_default=False)]
Count = Annotated[int, typer.Option("-k", "--k", min=1, help="Length of each list.")]


def run_folder(run: Path | None, runs: Path) -> Path:
    """The folder of a run: the one given, else the latest."""
    from moerec.run.inspect import latest_run

    return run if run is not None else latest_run(runs)


def model_folder(run: Path | None, runs: Path) -> Path:
    """The folder of a run's model."""
    from moerec.run.inspect import model_of

    return model_of(run_folder(run, runs))
