"""`moerec stream`: an event log becomes examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from moerec.cli.output import print_json, progress_console, show


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
                progress_console().print(told(opened.summary(counts)), soft_wrap=True)

        opened.run(once, tell)
        if as_json:
            print_json(opened.summary())
        else:
            show(f"in all: {told(opened.summary())}", wrap=False)
