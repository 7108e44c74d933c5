"""Options of Apache Beam, checked before anything runs: Beam itself passes over one that it does not know."""

from __future__ import annotations

import argparse
import difflib
import logging
from collections.abc import Sequence
from typing import Any

from moerec.errors import ConfigError

logger = logging.getLogger(__name__)


def make_pipeline(options: Sequence[str]) -> Any:
    """An empty pipeline with these options.

    Raises:
        ConfigError: Beam does not take an option, or lacks one.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
    from apache_beam.runners.portability.portable_runner import PortableRunner

    unknown = _unknown(options)
    # Beam's own default would first try to download a runner.
    default = () if any(option.split("=")[0] == "--runner" for option in options) else ("--runner=FnApiRunner",)
    parsed = PipelineOptions([*default, *options])
    try:
        pipeline = beam.Pipeline(options=parsed)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"options of Beam: {' '.join(str(error).split())}; correct them in 'options'") from error
    is_portable = isinstance(pipeline.runner, PortableRunner)
    if type(pipeline.runner) is PortableRunner and not parsed.view_as(PortableOptions).job_endpoint:
        raise ConfigError("options of Beam: --runner=PortableRunner needs a job service; add --job_endpoint=host:port")
    for option, advice in unknown.items():
        if not is_portable:
            raise ConfigError(f"options of Beam: there is no {option}; {advice}")
        # A job service has options of its own, and only it knows them.
        logger.warning("options of Beam: %s is none of Beam itself; it is handed to the job service", option)
    return pipeline


def _unknown(options: Sequence[str]) -> dict[str, str]:
    """Options that no class of options declares, each with what to do.

    Raises:
        ConfigError: an option lacks a value, or has a wrong one.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    (parser,) = parsers
    parser.exit_on_error = False
    if {"-h", "--help"} & set(options):
        raise ConfigError("options of Beam: --help starts nothing; remove it from 'options'")
    try:
        _, unknown = parser.parse_known_args(list(options))
    except argparse.ArgumentError as error:
        raise ConfigError(f"options of Beam: {error}; correct it in 'options'") from error
    known = sorted(parser._option_string_actions)
    advice = {}
    for option in unknown:
        name = option.split("=")[0]
        near = difflib.get_close_matches(name, known, 1, cutoff=0.85)
        advice[name] = f"did you mean {near[0]}?" if near else "remove it from 'options'"
    return advice
