"""A topic of Kafka as an event log: partitions come and go with the consumer group, positions are ours.

What counts is the position that the stream keeps with its state. When the group gives a partition to this process, it
is read from there. The offsets that are committed to Kafka afterwards only tell monitors how far the stream is.

All reviews of a user must lie in one partition, so that they arrive in the order of time: use the user as the key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import Field, field_validator

from moerec.config import Config
from moerec.engines.event_log import Polled, Position, Positions, Record
from moerec.errors import ConfigError, DatasetError, MissingExtraError

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
EMPTY_VALUE = "the message has no value"
_OURS = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # An offset that Kafka no longer has means lost events; going on elsewhere would hide it.
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    # The callbacks are given whole assignments; the cooperative protocol would give changes.
    "partition.assignment.strategy": "range,roundrobin",
}
"""Settings of librdkafka without which events could be lost or read twice."""


class KafkaConfig(Config):
    """A topic, and the consumer group that shares its partitions."""

    brokers: str
    """host:port of one broker or more, separated by commas."""
    topic: str
    """Name of the topic; a message is a review as JSON, its key the user."""
    group: str = "moerec"
    """Consumer group; processes of one group share the partitions and must share the state folder."""
    client: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """Further settings of librdkafka, for instance security.protocol."""

    @field_validator("client")
    @classmethod
    def _leaves_ours(cls, client: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(client.keys() & {*_OURS, "bootstrap.servers", "group.id"})
        if taken:
            raise ValueError(f"{taken[0]} is set by the stream itself; leave it out")
        return client


class KafkaLog:
    """The messages of a topic."""

    def __init__(self, config: KafkaConfig, positions: Positions, consumer: Any = None) -> None:
        """Join the group; partitions arrive during polls.

        Args:
            config: what to read.
            positions: where each partition is to be read from; asked whenever the group gives it to this process.
            consumer: a consumer of confluent-kafka to use instead of one made from the configuration.

        Raises:
            MissingExtraError: confluent-kafka is not installed.
            ConfigError: librdkafka does not know a setting of `client`.
            DatasetError: no broker answers, or there is no such topic.
        """
        try:
            import confluent_kafka
        except ImportError:
            raise MissingExtraError("confluent-kafka", "kafka", "reading a topic of Kafka") from None
        self._kafka = confluent_kafka
        self._config = config
        self._positions = positions
        self._read: dict[str, Position | None] = {}
        """Per partition that is assigned: the position after what was polled."""
        self._ended: set[str] = set()
        self._joined = self._at_end = False
        self._cluster = ""
        self._consumer = self._connected() if consumer is None else consumer
        self._consumer.subscribe([config.topic], on_assign=self._assigned, on_revoke=self._revoked)

    @property
    def name(self) -> str:
        """Topic and brokers."""
        return f"topic {self._config.topic} at {self._config.brokers}"

    def poll(self, maximum: int, wait: float) -> Polled:
        """The messages that have arrived; a rebalance of the group happens here.

        Raises:
            DatasetError: Kafka has deleted messages before they were read, or does not let us read them.
        """
        first = self._consumer.poll(wait)
        messages = [] if first is None else [first]
        if first is not None and maximum > 1:
            messages += self._consumer.consume(maximum - 1, 0)  # what has been fetched already
        # All calls that may rebalance are over, so from here on the assignment stands still.
        before: dict[str, Position | None] = {}
        records = [record for message in messages if (record := self._record(message, before)) is not None]
        self._at_end = not records and self._joined and self._read.keys() <= self._ended
        after = {partition: position for partition in before if (position := self._read[partition]) is not None}
        return Polled(sorted(records, key=lambda record: (record.partition, record.offset)), before, after)

    def at_end(self) -> bool:
        """Whether every assigned partition is read to its end; False before the group has answered."""
        return self._at_end

    def rewind(self) -> None:
        """Read every assigned partition from the position that is kept."""
        self._begin(list(self._read))

    def kept(self, after: Mapping[str, Position]) -> None:
        """Commit the offsets to Kafka too, for monitors of the lag; nothing depends on it."""
        places = [self._place(partition, position.offset) for partition, position in after.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except self._kafka.KafkaException as error:
            # After a rebalance the group takes no offsets of ours; the new owner will commit its own.
            logger.info("%s: offsets are kept here and not in Kafka: %s", self.name, error.args[0].str())

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _connected(self) -> Any:
        fixed = {**_OURS, "bootstrap.servers": self._config.brokers, "group.id": self._config.group}
        settings = {"client.id": "moerec", "isolation.level": "read_committed"} | self._config.client | fixed
        try:
            consumer = self._kafka.Consumer(settings, logger=logging.getLogger(f"{__name__}.client"))
        except self._kafka.KafkaException as error:
            raise ConfigError(f"kafka: {error.args[0].str()}; see the settings of librdkafka") from None
        try:
            cluster = consumer.list_topics(self._config.topic, timeout=CONNECT_SECONDS)
        except self._kafka.KafkaException as error:
            consumer.close()
            raise DatasetError(
                f"kafka: no broker answers at {self._config.brokers} ({error.args[0].str()}); start one, or name others"
            ) from None
        found = cluster.topics[self._config.topic]
        self._cluster = cluster.cluster_id or ""
        kept = (self._positions(self._partition(number)) for number in found.partitions)
        if found.error is not None or not found.partitions:
            problem = f"there is no topic '{self._config.topic}' at {self._config.brokers}; make it"
        elif any(position is not None and position.mark != self._cluster for position in kept):
            problem = f"{self._config.brokers} is another cluster than the one that was read; name that one"
        else:
            return consumer
        consumer.close()
        raise DatasetError(f"kafka: {problem}")

    def _assigned(self, consumer: Any, places: list[Any]) -> None:
        self._joined = True
        self._begin([self._partition(place.partition) for place in places])

    def _revoked(self, consumer: Any, places: list[Any]) -> None:
        """What was polled of them is kept by now, or will be refused: the new owner reads from the kept positions."""
        for place in places:
            self._read.pop(self._partition(place.partition), None)
        self._at_end = False

    def _begin(self, partitions: list[str]) -> None:
        self._read = {partition: self._positions(partition) for partition in partitions}
        self._ended.clear()
        self._at_end = False
        beginning = self._kafka.OFFSET_BEGINNING
        self._consumer.assign(
            [self._place(name, beginning if at is None else at.offset) for name, at in self._read.items()]
        )

    def _record(self, message: Any, before: dict[str, Position | None]) -> Record | None:
        """The record of a message that counts; notes the end of partitions."""
        partition, offset, error = self._partition(message.partition()), message.offset(), message.error()
        if error is not None:
            self._note(partition, error)
            return None
        if partition not in self._read:
            return None  # of an assignment that is over
        at = self._read[partition]
        if at is not None and offset < at.offset:
            return None  # fetched before a rebalance, and once more after it
        before.setdefault(partition, at)
        self._ended.discard(partition)
        self._read[partition] = Position(offset + 1, self._cluster)
        value = message.value()
        return Record(partition, offset, value or b"", EMPTY_VALUE if value is None else None)

    def _note(self, partition: str, error: Any) -> None:
        codes = self._kafka.KafkaError
        if error.code() == codes._PARTITION_EOF:
            self._ended.add(partition)
        elif error.code() == codes._AUTO_OFFSET_RESET:
            raise DatasetError(
                f"kafka: {partition}: what follows the kept position was deleted before it was read; raise the topic's "
                "retention, and start anew in another state folder and another output folder"
            )
        elif not error.retriable() and error.code() != codes._MAX_POLL_EXCEEDED:  # of that, a rebalance comes
            raise DatasetError(f"kafka: {self.name}: {error.str()}; mend it and start again")

    def _partition(self, number: int) -> str:
        return f"{self._config.topic}-{number}"

    def _place(self, partition: str, offset: int) -> Any:
        return self._kafka.TopicPartition(self._config.topic, int(partition.rpartition("-")[2]), offset)
