"""Create the project's accounts on the tracking server: ``python -m deploy.accounts``, as the server's admin.

The account that trains can write, that of the production server can only read. A second run changes nothing, or sets
the passwords that the files contain now.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from pydantic import Field

from data.cli.config import CommandConfig, run_command
from data.cli.console import info
from deploy.with_secrets import read_secret
from serving.registry import translate_store_errors
from serving.registry.reachability import require_reachable

WRITER, READER = "kobe_shot", "kobe_shot_server"
"""Accounts of the scheduler and the monitor, and of the production server."""


class AccountsConfig(CommandConfig):
    """Create the accounts kobe_shot, which trains and promotes, and kobe_shot_server, which only reads."""

    secrets: Path = Field(
        default=Path("/run/secrets"), description="folder with a file kobe_shot_password and one for kobe_shot_server"
    )


def create_accounts(config: AccountsConfig) -> None:
    """Create each account, or set the password of an existing one.

    Raises
    ------
    SecretError
        If a password cannot be read.
    StoreError
        If the server refuses.
    """
    passwords = {name: read_secret(config.secrets / f"{name}_password", "secrets") for name in (WRITER, READER)}
    client = get_app_client("basic-auth", tracking_uri=mlflow.get_tracking_uri())
    with translate_store_errors():
        require_reachable()
        for name, password in passwords.items():
            with _unless_there():
                client.create_user(name, password)
            client.update_user_password(name, password)
            info("Account", name)
        with _unless_there():
            # `mlflow run` opens its run in the experiment with id 0, which no account has created.
            client.grant_user_permission(WRITER, "experiment", "0", "EDIT")


@contextmanager
def _unless_there() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


if __name__ == "__main__":
    run_command(AccountsConfig, create_accounts)
