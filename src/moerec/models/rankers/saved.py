"""A saved ranker: what it reads, what it predicts, its configuration and weights in a folder, nothing pickled."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from moerec.batches.examples import ExampleSchema
from moerec.config import discover, validate
from moerec.errors import CheckpointError, ConfigError
from moerec.features.spec import FeatureSpec
from moerec.models.roles import Ranker
from moerec.models.saved_files import CONFIG, put_weights, read_description, write_model
from moerec.tasks import TaskConfig, TaskStatistics

ROLE = "ranker"


def save_ranker(directory: Path, model: Ranker) -> None:
    """Write a ranker into an existing folder; the caller makes the whole folder appear at once."""
    schema = model.schema
    more = {
        "schema": {"specs": [spec.model_dump(mode="json") for spec in schema.specs], "sizes": dict(schema.sizes)},
        "tasks": [task.model_dump(mode="json") for task in model.tasks],
        "statistics": {task.name: asdict(model.statistics[task.name]) for task in model.tasks},
    }
    write_model(directory, ROLE, model, model.config, more)


def load_ranker(directory: Path) -> Ranker:
    """Read a ranker, in evaluation mode on the CPU.

    Raises:
        CheckpointError: the folder is not a saved ranker, a file is damaged, the format is newer, or the class of an
            own expert or gate cannot be imported here.
    """
    description = read_description(directory, ROLE)
    try:
        schema = ExampleSchema(
            tuple(validate(FeatureSpec, values, "schema.specs") for values in description["schema"]["specs"]),
            description["schema"]["sizes"],
        )
        tasks = tuple(validate(TaskConfig, values, "tasks") for values in description["tasks"])
        statistics = {name: TaskStatistics(**values) for name, values in description["statistics"].items()}
        config: Any = discover(ROLE, description["config"] | {"kind": description["kind"]})
        model: Ranker = config.build(schema, tasks, statistics)
    except ConfigError as error:
        raise CheckpointError(f"{directory}: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(f"{directory}: {CONFIG} describes no whole ranker ({error}); save it again") from None
    put_weights(model, directory)
    return model.eval()
