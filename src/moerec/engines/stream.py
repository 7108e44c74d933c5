"""The stream engine: micro-batches of an event log become examples, and what is known of users moves on.

A micro-batch is polled and parsed; then one transaction reads its users, folds its reviews into them, writes its parts
under hidden names, and keeps states, positions and the number of the micro-batch; then the parts are shown. So
`kill -9` at any moment loses no review and counts none twice, see `stream_store` and `stream_parts`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moerec.engines.event_log import EventLog
from moerec.engines.stream_parts import StreamParts
from moerec.engines.stream_reviews import ReviewRules, fold, parse
from moerec.engines.stream_store import PositionsMovedError, StreamStore

logger = logging.getLogger(__name__)

BATCH_RECORDS = 10_000
WAIT_SECONDS, END_SECONDS = 1.0, 0.1
"""How long a poll waits for something new: while the log is followed, and when its end is looked for."""


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
            DatasetError: the output is of another stream.
        """
        with self.store.transaction():  # so no other process is between writing its parts and keeping them
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
        self.parts.show(number, folded.tables)
        self.log.kept(polled.after)
        return counts

    def run(self, once: bool, each: Callable[[Counter[str]], None] = lambda counts: None) -> None:
        """Micro-batches without end.

        Args:
            once: stop at the end of the log.
            each: is told what each micro-batch counted.
        """
        self.recover()
        while True:
            counts = self.step(END_SECONDS if once else WAIT_SECONDS)
            if counts is not None:
                each(counts)
            elif once and self.log.at_end():
                return

    def summary(self) -> dict[str, Any]:
        """What has come of the log so far, over all processes."""
        return summarise_counts(self.store.counts()) | {"batches": self.store.batch()}


def summarise_counts(counts: dict[str, int] | Counter[str]) -> dict[str, Any]:
    """The counts of micro-batches as plain data: records, reviews, examples by part, refused by reason."""
    nested: dict[str, Any] = {"records": 0, "reviews": 0, "examples": {}, "refused": {}}
    for name, count in sorted(counts.items()):
        kind, _, what = name.partition(": ")
        if what:
            nested[kind][what] = count
        else:
            nested[kind] = count
    return nested
