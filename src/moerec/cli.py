"""The commands; each calls one function and holds no logic."""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import signal
import sys
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import click
import typer
from rich.console import Console
from rich.text import Text

from moerec import __version__
from moerec.errors import MoerecError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multimodal mixture-of-experts recommendation: from raw logs, texts and images to top-k lists.",
)
inspect_app = typer.Typer(no_args_is_help=True, help="Look at a user, an item, a run or its experts.")
app.add_typer(inspect_app, name="inspect")
generate_app = typer.Typer(no_args_is_help=True, help="Write files of generated data with planted structure.")
app.add_typer(generate_app, name="generate")

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


PIPE_WIDTH = 10_000
"""Columns where no terminal sets a limit: whoever reads a pipe wants whole lines."""


@cache
def _console() -> Console:
    """Progress goes to standard error, so that standard output holds results alone.

    It is one object, so that a note appears above a progress bar and not within.
    """
    return _plain_console(stderr=True)


def _plain_console(*, stderr: bool = False) -> Console:
    """A console that takes brackets and colons in names for what they are."""
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    return console


def _show(result: Any, *, wrap: bool = True) -> None:
    """Print a result for people; without `wrap`, paths and commands stay in one piece for copying."""
    _plain_console().print(result, soft_wrap=not wrap)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def _run_folder(run: Path | None, runs: Path) -> Path:
    from moerec.run.inspect import latest_run

    return run if run is not None else latest_run(runs)


def _model_folder(run: Path | None, runs: Path) -> Path:
    from moerec.run.inspect import model_of

    return model_of(_run_folder(run, runs))


@app.command()
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
    directory = run_recipe(loaded, RunOptions(runs, artifacts, out, resume), _console())
    metrics = run_metrics(directory)
    if as_json:
        _print_json({"run": str(directory)} | metrics)
        return
    from moerec.run.tables import results_tables

    for table in results_tables(metrics):
        _show(table)
    _show(f"report: {directory / 'report.html'}", wrap=False)
    made = directory / "model" if loaded.has_model else metrics["examples"]["shards"]["url"]
    _show(f"{'model: ' if loaded.has_model else 'shards:'} {made}", wrap=False)


def _show_plan(recipe: Any, artifacts: Path, as_json: bool) -> None:
    from moerec.artifacts import ArtifactCache
    from moerec.run.plan import plan_run

    plan = plan_run(recipe, ArtifactCache(artifacts), _console())
    if as_json:
        _print_json(plan)
    else:
        import yaml

        _show(yaml.safe_dump(plan, sort_keys=False, allow_unicode=True).rstrip(), wrap=False)


@app.command()
def prepare(
    recipe: RecipePath, set_: Overrides = None, artifacts: Artifacts = Path("artifacts"), as_json: AsJson = False
) -> None:
    """Read and split the events, make texts and images into vectors; nothing is trained."""
    from moerec.artifacts import ArtifactCache
    from moerec.recipe import load_recipe
    from moerec.run.describe import describe_dataset
    from moerec.run.prepare import prepare as prepare_recipe

    prepared = prepare_recipe(load_recipe(recipe, set_ or ()), ArtifactCache(artifacts), _console())
    described = describe_dataset(prepared) | {"directory": str(prepared.dataset.directory)}
    if as_json:
        _print_json(described)
    else:
        _show(f"data set: {prepared.dataset.directory}", wrap=False)


@app.command()
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

    directory = train_recipe(load_recipe(recipe, set_ or ()), RunOptions(runs, artifacts, out, resume), _console())
    _show(f"model: {directory / 'model'}", wrap=False)


@app.command()
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
    """Judge the saved model of a run again, from its own files."""
    from moerec.run.evaluation import evaluate_run

    overrides: dict[str, Any] = {} if history is None else {"history": history}
    result = evaluate_run(_run_folder(run, runs), part, artifacts, _console(), overrides)
    if as_json:
        _print_json(result)
        return
    import polars as pl

    from moerec.run.tables import frame_table

    stages = (("", result), (", ranker", result.get("ranking", {})), (", both stages", result.get("two_stage", {})))
    for stage, found in stages:
        if part not in found:
            continue
        rows = [(name, value, *found["intervals"].get(name, (None, None))) for name, value in found[part].items()]
        columns = ["metric", "value", "95 % from", "to"]
        _show(frame_table(pl.DataFrame(rows, schema=columns, orient="row"), f"{result['name']}, {part} part{stage}"))
        _show("\n".join(f"{name}: {words}" for name, words in found["protocol"].items()))


@app.command()
def recommend(
    users: Annotated[str | None, typer.Option(help="User ids, separated by commas.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(help="Item ids of one new user, oldest first; repeatable.")
    ] = None,
    histories: Annotated[Path | None, typer.Option(help="CSV or Parquet with user_id, item_id[, timestamp].")] = None,
    k: Count = 10,
    keep_seen: Annotated[bool, typer.Option("--keep-seen", help="Recommend items of the history too.")] = False,
    run: RunFolder = None,
    output: Annotated[Path | None, typer.Option(help="Write a .csv or .parquet file instead of printing.")] = None,
    runs: Runs = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Top-k lists in raw ids, for known users or for new users by their histories."""
    from moerec.recommender import Recommender
    from moerec.run.requests import answer, check_output, write_frame

    check_output(output)
    recommender = Recommender.from_pretrained(_model_folder(run, runs))
    frame = answer(recommender, users, history, histories, k, not keep_seen)
    if output is not None:
        write_frame(frame, output)
        _console().print(f"{len(frame):,} rows written to {output}", soft_wrap=True)
    if as_json:
        _print_json(frame.to_dicts())
    elif output is None:
        from moerec.run.tables import frame_table

        _show(frame_table(frame))


@app.command()
def audit(
    recipe: RecipePath, set_: Overrides = None, artifacts: Artifacts = Path("artifacts"), as_json: AsJson = False
) -> None:
    """Look over a recipe's data: ties, leaks, cold items, missing values, rejects, inputs that see the future."""
    from moerec.artifacts import ArtifactCache
    from moerec.recipe import load_recipe
    from moerec.run.auditing import audit_recipe

    report = audit_recipe(load_recipe(recipe, set_ or ()), ArtifactCache(artifacts), _console())
    if as_json:
        _print_json(report.to_dict())
    else:
        _show(report.to_text())


@inspect_app.command("user")
def inspect_user(
    user: Annotated[str, typer.Argument(help="Id of the user.")],
    k: Count = 10,
    run: RunFolder = None,
    runs: Runs = Path("runs"),
) -> None:
    """A user's history, profile and current list, as JSON."""
    from moerec.run import inspect

    _print_json(inspect.inspect_user(_model_folder(run, runs), user, k))


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

    _print_json(inspect.inspect_item(Recommender.from_pretrained(_model_folder(run, runs)), item, k))


@inspect_app.command("run")
def inspect_run(folder: RunArgument = None, run: RunFolder = None, runs: Runs = Path("runs")) -> None:
    """What a run is and what came out, as JSON."""
    from moerec.run import inspect

    _print_json(inspect.inspect_run(_run_folder(inspect.named_once(folder, run), runs)))


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
    directory = _run_folder(inspect.named_once(folder, run), runs)
    experts = inspect.inspect_experts(directory)
    if plot is not None:
        inspect.plot_experts(directory, plot)
        _console().print(f"heat maps written to {plot}", soft_wrap=True)
    if as_json:
        _print_json(experts)
        return
    from moerec.run.expert_tables import expert_findings, expert_tables

    metrics = inspect.run_metrics(directory)
    for table in expert_tables(metrics):
        _show(table)
    _show(expert_findings(metrics))
    if plot is None:
        _show(f"heat maps: {directory / 'report.html'}, or --plot FILE.svg to write them", wrap=False)


@generate_app.command("amazon-reviews")
def generate_amazon(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the files.")],
    users: Annotated[int, typer.Option(min=1, help="Number of users.")] = 1000,
    items: Annotated[int, typer.Option(min=4, help="Number of products, over four categories.")] = 400,
    reviews_per_user: Annotated[float, typer.Option(min=1, help="Mean number of reviews of a user.")] = 12,
    dirt: Annotated[
        float, typer.Option(min=0, max=1, help="Share of lines with a broken copy beside them, counted in dirt.json.")
    ] = 0,
    plain: Annotated[bool, typer.Option("--plain", help="Write plain files instead of gzipped ones.")] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Write a picture of each product too, for `moerec generate image-server`.")
    ] = False,
    image_address: Annotated[
        str, typer.Option(help="With --images: where the pictures will be served; it stands in the files of products.")
    ] = "http://127.0.0.1:8765",
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Reviews and products in the files of Amazon Reviews 2023, with the true probabilities beside them."""
    from moerec.dataset.generators.amazon_reviews import generate_amazon_reviews
    from moerec.dataset.generators.amazon_tastes import GeneratedReviews

    address = image_address if images else None
    shape = GeneratedReviews(users, items, seed, reviews_per_user, dirt, not plain, address)
    made = generate_amazon_reviews(out, shape)
    if as_json:
        _print_json(made | {"categories": shape.categories})
        return
    broken = f" and {made['broken_lines']:,} broken lines" if dirt else ""
    pictures = f" and {made['pictures']:,} pictures" if images else ""
    _show(f"{made['reviews']:,} reviews{broken}{pictures} in {out}", wrap=False)
    _show(f"dataset: {{source: amazon_reviews, path: {out}, categories: [{', '.join(shape.categories)}]}}", wrap=False)


@generate_app.command("image-server")
def image_server(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `generate amazon-reviews --images` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    faults: Annotated[float, typer.Option(min=0, max=1, help="Share of addresses that fail.")] = 0,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="A fault to be drawn; repeat for several; by default all.")
    ] = None,
    recover_after: Annotated[
        int | None, typer.Option(min=0, help="Requests after which a fault that may pass is over; never by default.")
    ] = None,
    retry_after: Annotated[int, typer.Option(min=0, help="Seconds that a busy answer asks to wait.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides which addresses fail, and how.")] = 0,
) -> None:
    """Serve generated pictures on this machine, and fail on purpose, until Ctrl-C."""
    import asyncio

    from moerec.dataset.generators.image_server import ImageServer, ImageServerConfig

    config = ImageServerConfig(faults, tuple(kind or ()), recover_after, retry_after, seed=seed)
    server = ImageServer(folder, config, port)
    asyncio.run(server.serve(lambda: _show(f"{server.address} serves {folder}; Ctrl-C ends it", wrap=False)))


@app.command()
def stream(
    log: Annotated[
        Path | None, typer.Argument(metavar="[LOG]", help="Folder of JSON-lines files that grow.", show_default=False)
    ] = None,
    prepared: Annotated[
        Path, typer.Option(help="Folder of examples made of files: the rule, the products, the users to begin with.")
    ] = Path("examples"),
    state: Annotated[Path, typer.Option(help="Folder of what the stream keeps.")] = Path("stream-state"),
    out: Annotated[Path, typer.Option(help="Folder for the new examples, texts and rejects.")] = Path("stream"),
    kafka: Annotated[
        str | None, typer.Option(metavar="HOST:PORT,...", help="Read a topic of these brokers instead of LOG.")
    ] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of Kafka; messages are reviews, keys are users.")] = None,
    group: Annotated[str, typer.Option(help="Consumer group of Kafka.")] = "moerec",
    kafka_set: Annotated[
        list[str] | None, typer.Option("--kafka-set", metavar="KEY=VALUE", help="Setting of librdkafka; repeatable.")
    ] = None,
    batch_records: Annotated[int, typer.Option(min=1, help="Most records of a micro-batch.")] = 10_000,
    replay: Annotated[
        bool, typer.Option("--replay", help="Begin with no users: the log holds the reviews of PREPARED too.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop at the end of the log instead of following it.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --once the total as JSON; else a line for each micro-batch.")
    ] = False,
) -> None:
    """Turn new reviews of an event log into examples; it may be killed at any moment and goes on."""
    from moerec.engines.stream import open_stream, source_of, told

    source = source_of(log, kafka, topic, group, kafka_set or ())
    with open_stream(source, prepared, state, out, users=not replay, batch_records=batch_records) as opened:

        def tell(counts: Any) -> None:
            if as_json and not once:
                print(json.dumps(opened.summary(counts)), flush=True)  # noqa: T201
            else:
                _console().print(told(opened.summary(counts)), soft_wrap=True)

        opened.run(once, tell)
        if as_json:
            _print_json(opened.summary())
        else:
            _show(f"in all: {told(opened.summary())}", wrap=False)


@app.command()
def keys(
    path: Annotated[str, typer.Argument(help="training.retriever, retriever.sasrec, a key; the top by default.")] = "",
    as_json: AsJson = False,
) -> None:
    """The keys that a recipe can hold: type, default, meaning."""
    from dataclasses import asdict

    from moerec.reference import RECIPE, look_up, told

    if as_json:
        _print_json([asdict(section) for section in look_up(path or RECIPE)])
    else:
        _show(told(path or RECIPE, min(Console().width, 110)), wrap=False)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Look over the machine and the installation; exit 2 if something will not work."""
    from dataclasses import asdict

    from moerec.doctor import examine

    checks = examine()
    if as_json:
        _print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            _show(f"{check.level:<8} {check.name:<24} {check.sentence}", wrap=False)
    if any(check.level == "problem" for check in checks):
        raise typer.Exit(2)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Multimodal mixture-of-experts recommendation: from raw logs, texts and images to top-k lists."""
    if show:
        print(__version__)  # noqa: T201
        raise typer.Exit()


def main() -> None:
    """Run a command; a mistake of the user is one line and exit status 2, Ctrl-C is 130."""
    _show_notes()
    try:
        status = _outcome()
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        # The outcome stands: Ctrl-C while Python shuts down would turn it into a death by signal.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    if status == INTERRUPTED:
        _console().print(f"interrupted; what was finished is kept: {GO_ON}", soft_wrap=True)
    sys.exit(status)


def _outcome() -> int:
    try:
        status = app(prog_name="moerec", standalone_mode=False) or 0
        sys.stdout.flush()
        return int(status)
    except MoerecError as error:
        _stop(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        sys.exit(error.exit_code)  # the help has been printed already
    except click.UsageError as error:
        command = "moerec" if error.ctx is None else error.ctx.command_path
        _stop(f"{_once(error.format_message())} (see {command} --help)", error.exit_code)
    except click.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe has gone, as with `| head`; what is left is not wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # A full disk, a folder that may not be written to: nothing that a traceback would explain.
        _stop(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))


INTERRUPTED = 130
GO_ON = "give the same command again, with --resume if a run had begun"


def _stop(message: str, status: int = 2) -> NoReturn:
    """Print one line of error and leave; what could not be seen, or would move the cursor, is shown as an escape."""
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in " ".join(message.split()))
    _console().print(Text.assemble(("error:", "bold red"), f" {line}"), soft_wrap=True)
    sys.exit(status)


def _once(message: str) -> str:
    """A message without sentences that stand there twice: typer and click both say what may be meant."""
    return " ".join(dict.fromkeys(re.split(r"(?<=[.?]) ", message)))


class _NoteHandler(logging.Handler):
    """Shows a record of the package's loggers as one line on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        _console().print(f"note: {' '.join(record.getMessage().split())}", soft_wrap=True)


def _show_notes() -> None:
    logger = logging.getLogger("moerec")
    if not any(isinstance(handler, _NoteHandler) for handler in logger.handlers):
        logger.addHandler(_NoteHandler(logging.WARNING))


if __name__ == "__main__":
    main()
