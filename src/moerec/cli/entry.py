"""The entry point: which commands there are, and how a command ends."""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
from typing import Annotated, NoReturn

import click
import typer
from rich.text import Text

from moerec import __version__
from moerec.cli.generating import generate_app
from moerec.cli.helping import doctor, keys
from moerec.cli.inspecting import inspect_app
from moerec.cli.output import progress_console, show_notes
from moerec.cli.recipes import audit, evaluate, prepare, recommend, run, train
from moerec.cli.streaming import stream
from moerec.errors import MoerecError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multimodal mixture-of-experts recommendation: from raw logs, texts and images to top-k lists.",
)
for command in (run, prepare, train, evaluate, recommend, audit, stream, keys, doctor):
    app.command()(command)
app.add_typer(inspect_app, name="inspect")
app.add_typer(generate_app, name="generate")
INTERRUPTED = 130
GO_ON = "give the same command again, with --resume if a run had begun"


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
    show_notes()
    try:
        status = _outcome()
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        # The outcome stands: Ctrl-C while Python shuts down would turn it into a death by signal.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    if status == INTERRUPTED:
        progress_console().print(f"interrupted; what was finished is kept: {GO_ON}", soft_wrap=True)
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


def _stop(message: str, status: int = 2) -> NoReturn:
    """Print one line of error and leave; what could not be seen, or would move the cursor, is shown as an escape."""
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in " ".join(message.split()))
    progress_console().print(Text.assemble(("error:", "bold red"), f" {line}"), soft_wrap=True)
    sys.exit(status)


def _once(message: str) -> str:
    """A message without sentences that stand there twice: typer and click both say what may be meant."""
    return " ".join(dict.fromkeys(re.split(r"(?<=[.?]) ", message)))
