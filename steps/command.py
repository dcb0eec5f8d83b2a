"""What every entry point shares beyond a command: it is the only writer of ``data/``."""

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa

from data import command
from data.console import say
from data.files import sole_writer
from serving.registry import store_errors_told

StepConfig = command.CommandConfig
"""Parameters of a step."""

Config = TypeVar("Config", bound=StepConfig)


def run_command(config_class: type[Config], run: Callable[[Config], object]) -> None:
    """Parse the command line, run a step as the only writer of ``data/``, and end the process if it fails.

    Exit codes are those of `data.command.run_command`.
    """

    def run_alone(config: Config) -> None:
        # Arrow's own allocator keeps tens of megabytes of what it has freed; `main` shares the machine with a server.
        pa.set_memory_pool(pa.system_memory_pool())
        with sole_writer(on_wait=say), store_errors_told():
            run(config)

    command.run_command(config_class, run_alone)
