"""`moerec inspect`: a user, an item, a run, its experts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moerec.cli.options import AsJson, Count, RunArgument, RunFolder, Runs, model_folder, run_folder
from moerec.cli.output import print_json, progress_console, show

inspect_app = typer.Typer(no_args_is_help=True, help="Look at a user, an item, a run or its experts.")


@inspect_app.command("user")
def inspect_user(
    user: Annotated[str, typer.Argument(help="Id of the user.")],
    k: Count = 10,
    run: RunFolder = None,
    runs: Runs = Path("runs"),
) -> None:
    """A user's history, profile and current list, as JSON."""
    from moerec.run import inspect

    print_json(inspect.inspect_user(model_folder(run, runs), user, k))


@inspect_app.command("item")
def inspect_item(
    item: Annotated[str, typer.Argument(help="Id of the item.")],
    k: Count = 10,
    run: RunFolder = None,
    runs: Runs = Path("runs"),
) -> None:
    """An item's row, its experts' weights and its nearest items, as JSON."""
    from moerec.recommender import Recommender
    from moerec.run import inspect

    print_json(inspect.inspect_item(Recommender.from_pretrained(model_folder(run, runs)), item, k))


@inspect_app.command("run")
def inspect_run(folder: RunArgument = None, run: RunFolder = None, runs: Runs = Path("runs")) -> None:
    """What a run is and what came out, as JSON."""
    from moerec.run import inspect

    print_json(inspect.inspect_run(run_folder(inspect.named_once(folder, run), runs)))


@inspect_app.command("experts")
def inspect_experts(
    folder: RunArgument = None,
    run: RunFolder = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the heat maps: .svg, or .html with sentences and numbers."),
    ] = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """How the experts of a run are used: by each task of a ranker, over the items of a retriever."""
    from moerec.report.expert_plot import check_plot
    from moerec.run import inspect

    if plot is not None:
        check_plot(plot)
    directory = run_folder(inspect.named_once(folder, run), runs)
    experts = inspect.inspect_experts(directory)
    if plot is not None:
        inspect.plot_experts(directory, plot)
        progress_console().print(f"heat maps written to {plot}", soft_wrap=True)
    if as_json:
        print_json(experts)
        return
    from moerec.run.expert_tables import expert_findings, expert_tables

    metrics = inspect.run_metrics(directory)
    for table in expert_tables(metrics):
        show(table)
    show(expert_findings(metrics))
    if plot is None:
        show(f"heat maps: {directory / 'report.html'}, or --plot FILE.svg to write them", wrap=False)
