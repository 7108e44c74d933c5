"""Commands that take a recipe, or the run that it left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from moerec.cli.options import (
    Artifacts,
    AsJson,
    Count,
    Out,
    Overrides,
    RecipePath,
    Resume,
    RunFolder,
    Runs,
    model_folder,
    run_folder,
)
from moerec.cli.output import print_json, progress_console, show


def run(
    recipe: RecipePath,
    set_: Overrides = None,
    out: Out = None,
    runs: Runs = Path("runs"),
    artifacts: Artifacts = Path("artifacts"),
    resume: Resume = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done, sizes and times.")] = False,
    as_json: AsJson = False,
) -> None:
    """Do everything that a recipe says: data, baselines, training, evaluation, model, report."""
    from moerec.recipe import load_recipe
    from moerec.run import RunOptions, run_recipe
    from moerec.run.inspect import run_metrics

    loaded = load_recipe(recipe, set_ or ())
    if dry_run:
        _show_plan(loaded, artifacts, as_json)
        return
    directory = run_recipe(loaded, RunOptions(runs, artifacts, out, resume), progress_console())
    metrics = run_metrics(directory)
    if as_json:
        print_json({"run": str(directory)} | metrics)
        return
    from moerec.run.tables import results_tables

    for table in results_tables(metrics):
        show(table)
    show(f"report: {directory / 'report.html'}", wrap=False)
    made = directory / "model" if loaded.has_model else metrics["examples"]["shards"]["url"]
    show(f"{'model: ' if loaded.has_model else 'shards:'} {made}", wrap=False)


def _show_plan(recipe: Any, artifacts: Path, as_json: bool) -> None:
    from moerec.artifacts import ArtifactCache
    from moerec.run.plan import plan_run

    plan = plan_run(recipe, ArtifactCache(artifacts), progress_console())
    if as_json:
        print_json(plan)
    else:
        import yaml

        show(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True).rstrip(), wrap=False)


def prepare(
    recipe: RecipePath, set_: Overrides = None, artifacts: Artifacts = Path("artifacts"), as_json: AsJson = False
) -> None:
    """Read and split the events, make texts and images into vectors; nothing is trained."""
    from moerec.artifacts import ArtifactCache
    from moerec.recipe import load_recipe
    from moerec.run.describe import describe_dataset
    from moerec.run.prepare import prepare as prepare_recipe

    prepared = prepare_recipe(load_recipe(recipe, set_ or ()), ArtifactCache(artifacts), progress_console())
    described = describe_dataset(prepared) | {"directory": str(prepared.dataset.directory)}
    if as_json:
        print_json(described)
    else:
        show(f"data set: {prepared.dataset.directory}", wrap=False)


def train(
    recipe: RecipePath,
    set_: Overrides = None,
    out: Out = None,
    runs: Runs = Path("runs"),
    artifacts: Artifacts = Path("artifacts"),
    resume: Resume = False,
) -> None:
    """Prepare and train, without baselines and without a look at the test part."""
    from moerec.recipe import load_recipe
    from moerec.run import RunOptions, train_recipe

    directory = train_recipe(
        load_recipe(recipe, set_ or ()), RunOptions(runs, artifacts, out, resume), progress_console()
    )
    show(f"model: {directory / 'model'}", wrap=False)


def evaluate(
    run: RunFolder = None,
    part: Annotated[Literal["valid", "test"], typer.Option(help="Part of the split to judge on.")] = "test",
    history: Annotated[
        Literal["all", "strict"] | None, typer.Option(help="strict leaves out events of the target's own timestamp.")
    ] = None,
    runs: Runs = Path("runs"),
    artifacts: Artifacts = Path("artifacts"),
    as_json: AsJson = False,
) -> None:
    """Judge the saved model of a run again, on the run's own data; from any folder."""
    from moerec.run.evaluation import evaluate_run

    overrides: dict[str, Any] = {} if history is None else {"history": history}
    result = evaluate_run(run_folder(run, runs), part, artifacts, progress_console(), overrides)
    if as_json:
        print_json(result)
        return
    import polars as pl

    from moerec.run.tables import frame_table

    stages = (("", result), (", ranker", result.get("ranking", {})), (", both stages", result.get("two_stage", {})))
    for stage, found in stages:
        if part not in found:
            continue
        rows = [(name, value, *found["intervals"].get(name, (None, None))) for name, value in found[part].items()]
        columns = ["metric", "value", "95 % from", "to"]
        show(frame_table(pl.DataFrame(rows, schema=columns, orient="row"), f"{result['name']}, {part} part{stage}"))
        show("\n".join(f"{name}: {words}" for name, words in found["protocol"].items()))


def recommend(
    users: Annotated[
        list[str] | None,
        typer.Option(metavar="ID,ID,...", help="Users: a row of CSV, an id with a comma in double quotes; repeatable."),
    ] = None,
    users_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Users: the column user_id of .csv, .tsv or .parquet; else an id a line."),
    ] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="All users that the model knows.")] = False,
    history: Annotated[
        list[str] | None,
        typer.Option(metavar="ID,ID,...", help="Items of one new user, oldest first: a row of CSV; repeatable."),
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="New users: CSV, TSV or Parquet with user_id, item_id and, if rows are not in order, timestamp "
            "(milliseconds since 1970, or ISO dates).",
        ),
    ] = None,
    k: Count = 10,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Recommend items of the history too.")] = False,
    run: RunFolder = None,
    output: Annotated[Path | None, typer.Option(help="Write a .csv or .parquet file instead of printing.")] = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Top-k lists in raw ids, for known users or for new users by their histories."""
    from moerec.recommender import Recommender
    from moerec.run.requests import Asked, answers, check_output, write_frames

    check_output(output)
    asked = Asked.of(users, users_file, all_users, history, histories)
    recommender = Recommender.from_pretrained(model_folder(run, runs))
    found = answers(recommender, asked, k, not keep_seen)
    if as_json or output is None:
        frames = list(found)
        found = iter(frames)
    if output is not None:
        rows = write_frames(found, output)
        progress_console().print(f"{rows:,} rows written to {output}", soft_wrap=True)
    if as_json:
        print_json([row for frame in frames for row in frame.iter_rows(named=True)])
    elif output is None:
        import polars as pl

        from moerec.run.tables import frame_table

        show(frame_table(pl.concat(frames)))


def audit(
    recipe: RecipePath, set_: Overrides = None, artifacts: Artifacts = Path("artifacts"), as_json: AsJson = False
) -> None:
    """Look over a recipe's data: ties, leaks, cold items, missing values, rejects, inputs that see the future."""
    from moerec.artifacts import ArtifactCache
    from moerec.recipe import load_recipe
    from moerec.run.auditing import audit_recipe

    report = audit_recipe(load_recipe(recipe, set_ or ()), ArtifactCache(artifacts), progress_console())
    if as_json:
        print_json(report.to_dict())
    else:
        show(report.to_text())
