"""A topic of Kafka as an event log, against the mock broker of librdkafka, and with a consumer made by hand."""

import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from moerec.engines import kafka_log
from moerec.engines.event_log import Position, Record
from moerec.engines.kafka_log import KafkaConfig, KafkaLog
from moerec.errors import ConfigError, DatasetError, MissingExtraError

confluent_kafka = pytest.importorskip("confluent_kafka")
PARTITIONS = 4  # of a topic that the mock broker makes by itself
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 100, "topic.metadata.refresh.interval.ms": 500}


@pytest.fixture(scope="module")
def brokers():
    """The address of a broker that lives within this process, as long as its client."""
    host = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 3})
    yield ",".join(f"{broker.host}:{broker.port}" for broker in host.list_topics(timeout=10).brokers.values())
    del host


def produce(brokers: str, topic: str, first: int, count: int) -> None:
    """Messages `user number`, by the user as key."""
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "linger.ms": 0})
    for number in range(first, first + count):
        user = f"u{number % 7}"
        producer.produce(topic, f"{user} {number}".encode(), key=user.encode())
    assert producer.flush(20) == 0


def drain(log: KafkaLog, kept: dict[str, Position], maximum: int = 10) -> list[Record]:
    """All that is there, each poll kept."""
    records: list[Record] = []
    for _ in range(200):
        polled = log.poll(maximum, 0.2)
        assert {name: kept.get(name) for name in polled.before} == polled.before
        assert len(polled.records) <= maximum
        records += polled.records
        kept.update(polled.after)
        log.kept(polled.after)
        if log.at_end():
            return records
    raise AssertionError("the end was not found")


def assert_each_once_in_order(records: list[Record], count: int) -> None:
    values = [record.value.decode().split() for record in records]
    assert sorted(int(number) for _, number in values) == list(range(count))
    for user in {user for user, _ in values}:
        numbers = [int(number) for name, number in values if name == user]
        assert numbers == sorted(numbers)


def test_a_group_reads_a_topic_and_tells_monitors_how_far_it_is(brokers):
    produce(brokers, "once", 0, 60)
    kept: dict[str, Position] = {}
    log = KafkaLog(KafkaConfig(brokers=brokers, topic="once", client=QUICK), kept.get)
    records = drain(log, kept)
    assert_each_once_in_order(records, 60)
    assert {record.partition for record in records} == kept.keys()
    assert not log.poll(10, 0).records
    places = [confluent_kafka.TopicPartition("once", number) for number in range(PARTITIONS)]
    told = {
        f"once-{place.partition}": place.offset for place in log._consumer.committed(places, 5) if place.offset >= 0
    }
    assert told == {name: position.offset for name, position in kept.items()}

    # What was polled and came to nothing comes again.
    produce(brokers, "once", 60, 10)
    lost: list[Record] = []
    while len(lost) < 10:
        lost += log.poll(10, 0.5).records
    log.rewind()
    assert sorted(drain(log, kept), key=str) == sorted(lost, key=str)
    log.close()


@pytest.mark.slow
def test_the_kept_positions_count_and_not_those_in_kafka(brokers):
    """Kafka is told wrong offsets: a new reader goes on from what is kept."""
    produce(brokers, "kept", 0, 40)
    kept: dict[str, Position] = {}
    config = KafkaConfig(brokers=brokers, topic="kept", group="kept", client=QUICK)
    log = KafkaLog(config, kept.get)
    records = log.poll(15, 10).records
    while not records:
        records = log.poll(15, 10).records
    for record in records:
        kept[record.partition] = Position(record.offset + 1, log._cluster)
    log.kept({f"kept-{number}": Position(1000) for number in range(PARTITIONS)})
    log.close()
    log = KafkaLog(config, kept.get)
    assert_each_once_in_order(records + drain(log, kept), 40)
    log.close()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_members_that_come_and_go_read_each_message_once(brokers):
    """A second member joins and leaves while the first reads; a poll counts only where it began at what is kept."""
    produce(brokers, "group", 0, 300)
    kept: dict[str, Position] = {}
    lock, records, refused = threading.Lock(), [], []
    ends = threading.Event()
    config = KafkaConfig(brokers=brokers, topic="group", group="group", client=QUICK)

    def read(log: KafkaLog, polls: int | None) -> None:
        while not ends.is_set() and (polls is None or polls > 0):
            polled = log.poll(7, 0.2)
            with lock:
                fits = {name: kept.get(name) for name in polled.before} == polled.before
                if fits:
                    kept.update(polled.after)
                    records.extend(polled.records)
                else:
                    refused.append(polled)
            if fits:
                log.kept(polled.after)
            else:
                log.rewind()
            polls = polls if polls is None or not polled.records else polls - 1
        log.close()

    stays = threading.Thread(target=read, args=(KafkaLog(config, kept.get), None))
    stays.start()
    for joined in range(2):
        leaves = threading.Thread(target=read, args=(KafkaLog(config, kept.get), 4))
        leaves.start()
        produce(brokers, "group", 300 + 100 * joined, 100)
        leaves.join(40)
        assert not leaves.is_alive()
    for _ in range(400):
        with lock:
            if len(records) >= 500:
                break
        ends.wait(0.1)
    ends.set()
    stays.join()
    assert_each_once_in_order(records, 500)


@pytest.mark.slow
def test_messages_that_kafka_deleted_are_an_error(brokers):
    produce(brokers, "short", 0, 5)
    config = KafkaConfig(brokers=brokers, topic="short", group="short", client=QUICK)
    with pytest.raises(DatasetError, match="is another cluster than the one that was read"):
        KafkaLog(config, lambda name: Position(1000, "another"))
    cluster = confluent_kafka.Producer({"bootstrap.servers": brokers}).list_topics(timeout=5).cluster_id
    assert cluster
    log = KafkaLog(config, lambda name: Position(1000, cluster))
    with pytest.raises(DatasetError, match=r"short-\d: what follows the kept position was deleted") as error:
        drain(log, {})
    assert "\n" not in str(error.value)
    log.close()


def test_no_broker_and_wrong_settings_are_errors_of_one_line(monkeypatch):
    monkeypatch.setattr(kafka_log, "CONNECT_SECONDS", 0.2)
    with pytest.raises(DatasetError, match=r"no broker answers at 127\.0\.0\.1:1 ") as error:
        KafkaLog(KafkaConfig(brokers="127.0.0.1:1", topic="reviews"), lambda name: None)
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=r'No such configuration property: "no\.such\.setting"'):
        KafkaLog(KafkaConfig(brokers="x:1", topic="reviews", client={"no.such.setting": 1}), lambda name: None)
    with pytest.raises(ValueError, match=r"auto\.offset\.reset is set by the stream itself"):
        KafkaConfig(brokers="x:1", topic="reviews", client={"auto.offset.reset": "latest"})


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'moerec\[kafka\]'"):
        KafkaLog(KafkaConfig(brokers="x:1", topic="reviews"), lambda name: None)


# --- a consumer made by hand: moments that a broker does not show on demand


@dataclass
class Message:
    number: int
    place: int
    content: bytes | None = b"x"
    problem: Any = None

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes | None:
        return self.content

    def error(self) -> Any:
        return self.problem


class Consumer:
    """Plays a list: messages are given out one at a time, functions are called on the way."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.assigned: dict[int, int] = {}

    def subscribe(self, topics: list[str], on_assign: Any, on_revoke: Any) -> None:
        self.on_assign, self.on_revoke = on_assign, on_revoke

    def assign(self, places: list[Any]) -> None:
        self.assigned = {place.partition: place.offset for place in places}

    def gives(self, *numbers: int) -> Any:
        return lambda: self.on_assign(self, [confluent_kafka.TopicPartition("t", number) for number in numbers])

    def takes(self, *numbers: int) -> Any:
        return lambda: self.on_revoke(self, [confluent_kafka.TopicPartition("t", number) for number in numbers])

    def consume(self, count: int, timeout: float) -> list[Message]:
        messages: list[Message] = []
        while self.script and len(messages) < count:
            step = self.script.pop(0)
            if isinstance(step, Message):
                messages.append(step)
            else:
                step()
        return messages

    def poll(self, timeout: float) -> Message | None:
        return next(iter(self.consume(1, timeout)), None)


@pytest.fixture
def consumer():
    return Consumer()


def places(polled: Any) -> list[tuple[str, int]]:
    return [(record.partition, record.offset) for record in polled.records]


def test_partitions_are_read_from_what_is_kept_when_they_are_given(consumer):
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), {"t-1": Position(5)}.get, consumer)
    consumer.script = [consumer.gives(0, 1), Message(0, 3), Message(1, 5), Message(1, 8)]
    polled = log.poll(10, 0)
    assert consumer.assigned == {0: confluent_kafka.OFFSET_BEGINNING, 1: 5}
    assert polled.before == {"t-0": None, "t-1": Position(5)}
    assert polled.after == {"t-0": Position(4), "t-1": Position(9)}  # a log that was compacted has gaps


def test_what_a_rebalance_takes_away_within_a_poll_does_not_count(consumer):
    kept = {"t-0": Position(2), "t-1": Position(2)}
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), kept.get, consumer)
    moved = [consumer.takes(0, 1), lambda: kept.update({"t-1": Position(4)}), consumer.gives(1)]
    consumer.script = [consumer.gives(0, 1), Message(0, 2), Message(1, 2), Message(1, 3), *moved, Message(1, 4)]
    polled = log.poll(10, 0)
    assert places(polled) == [("t-1", 4)]
    assert polled.before == {"t-1": Position(4)}


def test_what_is_fetched_again_after_a_rebalance_comes_once(consumer):
    kept = {"t-0": Position(2)}
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), kept.get, consumer)
    twice = [Message(0, 2), Message(0, 3)]
    consumer.script = [consumer.gives(0), *twice, consumer.takes(0), consumer.gives(0), *twice, Message(0, 4)]
    assert places(log.poll(10, 0)) == [("t-0", 2), ("t-0", 3), ("t-0", 4)]


def test_the_end_is_that_of_every_partition(consumer):
    end = confluent_kafka.KafkaError(confluent_kafka.KafkaError._PARTITION_EOF)
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), {}.get, consumer)
    log.poll(10, 0)
    assert not log.at_end()  # the group has not answered yet
    consumer.script = [consumer.gives(0, 1), Message(0, 0, problem=end)]
    log.poll(10, 0)
    assert not log.at_end()
    consumer.script = [Message(1, 0), Message(1, 1, problem=end)]
    log.poll(10, 0)
    assert not log.at_end()  # there was something new
    log.poll(10, 0)
    assert log.at_end()
    consumer.script = [consumer.takes(0, 1), consumer.gives()]
    log.poll(10, 0)
    assert log.at_end()  # other members have all partitions


def test_a_message_without_value_is_a_record_with_a_problem(consumer):
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), {}.get, consumer)
    consumer.script = [consumer.gives(0), Message(0, 0, content=None)]
    assert log.poll(10, 0).records == [Record("t-0", 0, b"", kafka_log.EMPTY_VALUE)]


def test_errors_that_do_not_pass_are_told(consumer):
    denied = confluent_kafka.KafkaError(confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED)
    log = KafkaLog(KafkaConfig(brokers="x", topic="t"), {}.get, consumer)
    consumer.script = [consumer.gives(0), Message(0, 0, problem=denied)]
    with pytest.raises(DatasetError, match="authorization"):
        log.poll(10, 0)
