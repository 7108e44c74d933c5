"""The stream engine: micro-batches of an event log become examples, and what is known of users moves on.

A micro-batch is polled and parsed; then one transaction reads its users, folds its reviews into them, writes its parts
under hidden names, and keeps states, positions and the number of the micro-batch; then the parts are shown. So
`kill -9` at any moment loses no review and counts none twice, see `stream_store` and `stream_parts`.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moerec.config import validate
from moerec.engines.event_log import EventLog
from moerec.engines.file_log import FileLog
from moerec.engines.kafka_log import KafkaConfig, KafkaLog
from moerec.engines.stream_parts import StreamParts
from moerec.engines.stream_prepared import open_prepared
from moerec.engines.stream_reviews import ReviewRules, fold, parse
from moerec.engines.stream_store import PositionsMovedError, StreamStore
from moerec.errors import ConfigError, DatasetError

logger = logging.getLogger(__name__)

BATCH_RECORDS = 10_000
WAIT_SECONDS, END_SECONDS = 1.0, 0.1
"""How long a poll waits for something new: while the log is followed, and when its end is looked for."""
SILENCE_SECONDS = 60.0
"""Without records for so long, the end of a log is no longer waited for."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A log, what it is turned into, and where that is kept."""

    log: EventLog
    store: StreamStore
    parts: StreamParts
    rules: ReviewRules
    batch_records: int = BATCH_RECORDS
    """Most records of a micro-batch."""

    def recover(self) -> None:
        """Bring the output to what is kept, as the first thing of a process.

        Raises:
            DatasetError: the output is not that of this stream.
        """
        with self.store.transaction():  # so no other process is between writing its parts and keeping them
            self.parts.claim(self.store.name(), self.store.batch())
            self.parts.recover(self.store.batch())

    def step(self, wait: float) -> Counter[str] | None:
        """One micro-batch: what was counted, or None if nothing new came in that many seconds.

        Raises:
            DatasetError: the log is not what it was, or the store cannot be written.
        """
        polled = self.log.poll(self.batch_records, wait)
        if not polled.after:
            return None
        parsed = parse(polled.records, self.rules.year)
        try:
            with self.store.transaction(polled.before) as transaction:
                folded = fold(parsed, self.rules, transaction)
                number = self.store.batch() + 1
                self.parts.write(number, folded.tables)
                transaction.put_positions(polled.after)
                counts = folded.counts + Counter(records=len(polled.records))
                transaction.put_batch(number, counts)
        except PositionsMovedError:
            logger.info("%s: another process has taken these records; reading on from what is kept", self.log.name)
            self.log.rewind()
            return Counter()
        self.parts.show(number)
        self.log.kept(polled.after)
        return counts

    def run(self, once: bool, each: Callable[[Counter[str]], None] = lambda counts: None) -> None:
        """Micro-batches without end.

        Args:
            once: stop at the end of the log.
            each: is told what each micro-batch counted.

        Raises:
            DatasetError: as of `recover` and `step`; with `once` also if neither records nor the end come.
        """
        self.recover()
        last = time.monotonic()
        while True:
            counts = self.step(END_SECONDS if once else WAIT_SECONDS)
            if counts is not None:
                each(counts)
                last = time.monotonic()
            elif once and self.log.at_end():
                return
            elif once and time.monotonic() - last > SILENCE_SECONDS:
                raise DatasetError(
                    f"{self.log.name}: neither records nor an end for {SILENCE_SECONDS:.0f} seconds; see that the "
                    "brokers can be reached, then start again"
                )

    def summary(self, counts: Mapping[str, int] | None = None) -> dict[str, Any]:
        """What has come of a micro-batch, or by default of the log so far, over all processes: plain data."""
        nested: dict[str, Any] = {
            "batch": self.store.batch(),
            "records": 0,
            "reviews": 0,
            "examples": {},
            "refused": {},
        }
        for name, count in sorted((self.store.counts() if counts is None else counts).items()):
            kind, _, what = name.partition(": ")
            if what:
                nested[kind][what] = count
            else:
                nested[kind] = count
        return nested


@contextmanager
def open_stream(
    source: Path | KafkaConfig,
    prepared: Path,
    state: Path,
    out: Path,
    *,
    users: bool = True,
    batch_records: int = BATCH_RECORDS,
) -> Iterator[Stream]:
    """A stream that begins where the examples of files end, or goes on where it stood.

    Args:
        source: a folder of JSON-lines files that grow, or a topic of Kafka.
        prepared: folder of examples that an engine made: the rule, what was fitted, products, users.
        state: folder of what the stream keeps.
        out: folder for examples/, texts/ and rejects/.
        users: begin with the users of the prepared examples; False if the log holds their reviews too.
        batch_records: most records of a micro-batch.

    Raises:
        DatasetError: something is missing, or is not what it was.
        ConfigError: the state is of other settings.
    """
    begins = open_prepared(prepared)
    store = StreamStore(state, begins.settings(users), lambda transaction: begins.begin(transaction, users))
    with closing(store):
        if isinstance(source, KafkaConfig):
            log: EventLog = KafkaLog(source, store.position)
        else:
            log = FileLog(source, store.position)
        with closing(log):
            yield Stream(log, store, StreamParts(out), begins.rules, batch_records)


def source_of(
    folder: Path | None, brokers: str | None, topic: str | None, group: str, settings: Iterable[str]
) -> Path | KafkaConfig:
    """The log that a command line names.

    Raises:
        ConfigError: none, or two, or half of one.
    """
    if (folder is None) == (brokers is None):
        raise ConfigError("stream: give a folder of files that grow, or --kafka with --topic, and not both")
    if brokers is None:
        assert folder is not None
        if topic is not None or settings:
            raise ConfigError("stream: --topic and --kafka-set are for --kafka; a folder needs neither")
        return folder
    if topic is None:
        raise ConfigError("stream: --kafka needs --topic")
    client = dict(setting.partition("=")[::2] for setting in settings)
    return validate(KafkaConfig, {"brokers": brokers, "topic": topic, "group": group, "client": client}, "kafka")


def told(summary: Mapping[str, Any]) -> str:
    """A summary in one line."""
    counts = (summary["records"], summary["reviews"], sum(summary["examples"].values()), summary["batch"])
    line = "{:,} records, {:,} reviews, {:,} examples up to part {}".format(*counts)
    refused = "".join(f", {count:,} {reason}" for reason, count in summary["refused"].items())
    return f"{line}; refused: {refused[2:]}" if refused else line
