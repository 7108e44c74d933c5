"""Parts of a stream: seen when they are kept and never taken back; a training goes on where its position says."""

import itertools
import random

import polars as pl
import pytest

from moerec.engines.stream_parts import KINDS, StreamParts, TrainingPosition, new_examples, part_path
from moerec.errors import DatasetError


def table(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame({"number": numbers}, schema={"number": pl.Int64})


def write(parts: StreamParts, sizes: list[int]) -> list[int]:
    """Parts of these sizes; all numbers that they hold."""
    counter = itertools.count()
    for number, size in enumerate(sizes, 1):
        parts.write(number, {"examples": table(*(next(counter) for _ in range(size)))})
        parts.show(number)
    return list(range(sum(sizes)))


def visible(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/part-*.parquet"))


def test_a_part_is_seen_when_it_is_shown(tmp_path):
    parts = StreamParts(tmp_path)
    parts.write(1, {kind: table(1) for kind in KINDS})
    assert visible(tmp_path) == []
    parts.show(1)
    assert visible(tmp_path) == [f"{kind}/part-000000001.parquet" for kind in sorted(KINDS)]


@pytest.mark.parametrize("kept", [False, True])
def test_after_a_crash_what_the_store_knows_is_shown_and_the_rest_removed(tmp_path, kept):
    parts = StreamParts(tmp_path)
    parts.write(1, {kind: table(1) for kind in KINDS})
    parts.show(1)
    parts.write(2, {kind: table(2) for kind in KINDS})
    StreamParts(tmp_path).recover(2 if kept else 1)
    assert len(visible(tmp_path)) == (6 if kept else 3)
    assert not list(tmp_path.rglob("*.pending"))
    StreamParts(tmp_path).recover(2 if kept else 1)
    if kept:
        parts.show(2)  # whoever wrote them finds that another process has shown them


def test_parts_of_another_stream_are_refused(tmp_path):
    parts = StreamParts(tmp_path)
    write(parts, [1, 1])
    with pytest.raises(DatasetError, match="of another stream; choose another output folder"):
        parts.recover(1)


@pytest.mark.parametrize("rows", [None, 1, 3, 100])
def test_a_training_takes_every_example_once_wherever_it_stops(tmp_path, rows):
    """The stream grows while a training takes examples, stops at random, and goes on from its checkpoint."""
    draw = random.Random(rows or 0)
    sizes = [draw.randrange(8) for _ in range(12)]
    parts, position, taken, numbers = StreamParts(tmp_path), TrainingPosition(), [], itertools.count()
    for number, size in enumerate(sizes, 1):
        parts.write(number, {"examples": table(*(next(numbers) for _ in range(size)))})
        parts.show(number)
        for new in new_examples(tmp_path, position, rows):
            if draw.random() < 0.3:
                break  # it dies before the checkpoint: these examples come again
            taken += new.frame["number"].to_list()
            position = TrainingPosition.model_validate_json(new.position.model_dump_json())
    for new in new_examples(tmp_path, position, rows):
        taken += new.frame["number"].to_list()
        position = new.position
    assert taken == list(range(sum(sizes)))
    assert not list(new_examples(tmp_path, position, rows))


def test_what_a_process_that_died_left_is_no_part_of_another_process(tmp_path):
    """It died before its micro-batch was kept; the same number is given to one without rejects."""
    parts = StreamParts(tmp_path)
    parts.write(1, {kind: table(1) for kind in KINDS})
    parts.write(1, {"examples": table(2), "texts": table(2)})
    parts.show(1)
    parts.recover(1)
    assert visible(tmp_path) == ["examples/part-000000001.parquet", "texts/part-000000001.parquet"]
    assert pl.read_parquet(part_path(tmp_path, "examples", 1))["number"].to_list() == [2]


def test_a_part_whose_process_died_is_shown_with_the_next_and_waited_for_until_then(tmp_path):
    parts = StreamParts(tmp_path)
    for number in (1, 2, 3):
        parts.write(number, {"examples": table(number)})
    parts.show(3)
    assert not list(new_examples(tmp_path, TrainingPosition()))  # the first has no name yet
    parts.show(2)
    assert [new.frame["number"].to_list() for new in new_examples(tmp_path, TrainingPosition())] == [[1], [2], [3]]


def test_what_a_training_cannot_go_on_from_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no output of a stream"):
        list(new_examples(tmp_path, TrainingPosition()))
    write(StreamParts(tmp_path), [2, 2, 2])
    with pytest.raises(DatasetError, match="fewer rows than the training took"):
        list(new_examples(tmp_path, TrainingPosition(part=1, rows=3)))
    part_path(tmp_path, "examples", 1).unlink()
    assert len(list(new_examples(tmp_path, TrainingPosition(part=1)))) == 2  # what was taken may go
    with pytest.raises(DatasetError, match="this part is gone, and the training has not taken it"):
        list(new_examples(tmp_path, TrainingPosition()))
