"""Run a command with secrets from files: ``python -m deploy.with_secrets COMMAND …``.

For each secret of ``SECRETS`` with a file (``PGPASSWORD_FILE=/run/secrets/…``), the command gets its content in the
variable. So no image, compose file or command line contains a secret.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from data.cli import console
from data.errors import KobeShotError

SECRETS = (
    "PGPASSWORD",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
)
"""Environment variables that a file can set."""

_FILE = "_FILE"


class SecretError(KobeShotError):
    """The file of a secret is missing or invalid."""


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """Replace the variables that name a file with the file's content.

    Raises
    ------
    SecretError
        If a file cannot be read, is not text, or is empty.

    Examples
    --------
    >>> with_secrets({"PGPASSWORD_FILE": "/nowhere"})
    Traceback (most recent call last):
    ...
    deploy.with_secrets.SecretError: PGPASSWORD_FILE: expected a file that holds the secret; /nowhere: No such file or \
directory. Make the secrets: deploy/make-secrets.sh
    """
    found = dict(environment)
    for name in SECRETS:
        if path := found.pop(name + _FILE, ""):
            found[name] = read_secret(Path(path), name + _FILE)
    return found


def read_secret(path: Path, required_by: str) -> str:
    """Read the secret in a file.

    Parameters
    ----------
    path : pathlib.Path
    required_by : str
        Variable or parameter that names the file.

    Raises
    ------
    SecretError
        If it cannot be read, is not text, or is empty.
    """
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        problem = error.strerror or str(error)
    except UnicodeDecodeError:
        problem = "it is no text in UTF-8"
    else:
        if secret and "\0" not in secret:
            return secret
        problem = "it holds a NUL" if secret else "it is empty"
    message = (
        f"{required_by}: expected a file that holds the secret; {path}: {problem}. "
        "Make the secrets: deploy/make-secrets.sh"
    )
    raise SecretError(message)


def main(command: list[str]) -> None:
    """Replace this process with the command, or exit with code 1 or 2."""
    if not command:
        console.error("deploy.with_secrets:", "expected a command; found none.")
        sys.exit(2)
    try:
        os.execvpe(command[0], command, with_secrets(os.environ))  # noqa: S606 the command comes from the command line
    except (KobeShotError, OSError) as error:
        console.error("deploy.with_secrets failed:", error)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
