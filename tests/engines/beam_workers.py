"""Beam's own job service with two workers; by itself it asks for one alone, whatever the options say."""

import signal
import sys

from apache_beam.runners.portability import local_job_service_main
from apache_beam.runners.portability.fn_api_runner import fn_runner


class TwoWorkersRunner(fn_runner.FnApiRunner):
    """Cuts each stage in two."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._num_workers = 2


if __name__ == "__main__":
    fn_runner.FnApiRunner = TwoWorkersRunner
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    local_job_service_main.run(sys.argv[1:])
