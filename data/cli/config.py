"""Base of every command: a strict configuration, its command line, and the reporting of errors."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from data.cli import console
from data.errors import FileError, KobeShotError, is_of_file_system
from data.masking import mask_log_records, mask_tracebacks

Config = TypeVar("Config", bound="CommandConfig")

_CONNECT_SECONDS = "5"
_USAGE_EXIT_CODE, _FAILURE_EXIT_CODE = 2, 1


class CommandConfig(BaseSettings):
    """Parameters of a command: frozen, typed, read from the command line only; unknown names raise."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, cli_implicit_flags=True, cli_avoid_json=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Ignore environment variables, so that a stray ``SEED`` does not change a result."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)


def run_command(config_class: type[Config], run: Callable[[Config], object]) -> None:
    """Parse the command line, run the command, and end the process if it fails.

    Exit codes: 0 success, 1 the command failed, 2 a parameter is invalid (nothing was done), 130 interrupted.
    """
    # Without a handler, SIGTERM skips every `finally`, and a server keeps running.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    mask_log_records()
    mask_tracebacks()
    set_connect_timeout()
    config = parse_args(config_class, sys.argv[1:])
    freeze_imports()
    try:
        run(config)
    except KobeShotError as error:
        console.error(f"{_program()} failed:", error)
        sys.exit(_FAILURE_EXIT_CODE)
    except OSError as error:
        reason = FileError.of(error) if is_of_file_system(error) else f"{type(error).__name__}: {error}"
        console.error(f"{_program()} failed:", reason)
        sys.exit(_FAILURE_EXIT_CODE)
    except KeyboardInterrupt:
        console.error(f"{_program()} was interrupted.")
        sys.exit(128 + signal.SIGINT)


def freeze_imports() -> None:
    """Keep the garbage collector from visiting what has been imported, which stays: 0.1 s each time, with MLflow.

    The end of the process reverts it, or DuckDB would print its objects as leaks.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)


def set_connect_timeout() -> None:
    """Set the default connection timeout of PostgreSQL; the environment and URLs override it."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", _CONNECT_SECONDS)


def parse_args(config_class: type[Config], arguments: Sequence[str]) -> Config:
    """Parse command-line arguments into a configuration.

    Raises
    ------
    SystemExit
        With code 2, after an error message per invalid parameter.
    """
    try:
        return CliApp.run(config_class, cli_args=list(arguments))
    except ValidationError as error:
        problems = error.errors(include_context=False)
    except SettingsError as error:
        problems = []
        console.error(f"{_program()}:", error)
    for problem in problems:
        console.error(_message(config_class, problem["loc"], problem["msg"], problem["input"]))
    console.error("Nothing was done.", f"All parameters: python -m {_program()} --help")
    sys.exit(_USAGE_EXIT_CODE)


def _message(config_class: type[CommandConfig], location: tuple[int | str, ...], message: str, found: object) -> str:
    name = str(location[0]) if location else "parameters"
    if message.startswith("Value error, "):
        return f"{name}: {message.removeprefix('Value error, ')}"
    text = message.replace("Input should be", "expected").rstrip(".")
    field = config_class.model_fields.get(name)
    meaning = f" ({field.description})" if field else ""
    return f"{name}{meaning}: {text}; found {found!r}"


def _program() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else "this command"
