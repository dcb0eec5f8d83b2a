"""Run a command with the secrets that lie in files: ``python -m deploy.with_secrets COMMAND …``.

For each secret of ``SECRETS`` whose file is named (``PGPASSWORD_FILE=/run/secrets/…``), the command finds its content
in the variable. So a secret stands in no image, no compose file and no command line.
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
"""Environment variables that may be given as files."""

_FILE = "_FILE"


class SecretError(KobeShotError):
    """A secret is not where it is said to be."""


def with_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with the content of the files that it names.

    Raises
    ------
    SecretError
        If a file cannot be read, is no text, or is empty.

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


def read_secret(path: Path, asked_by: str) -> str:
    """The secret that a file holds.

    Parameters
    ----------
    path : pathlib.Path
    asked_by : str
        Variable or parameter that names the file.

    Raises
    ------
    SecretError
        If it cannot be read, is no text, or is empty.
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
        f"{asked_by}: expected a file that holds the secret; {path}: {problem}. "
        "Make the secrets: deploy/make-secrets.sh"
    )
    raise SecretError(message)


def main(command: list[str]) -> None:
    """Become the command; the process ends with exit code 1 or 2 where it cannot."""
    if not command:
        console.error("deploy.with_secrets:", "expected a command; found none.")
        sys.exit(2)
    try:
        os.execvpe(command[0], command, with_secrets(os.environ))  # noqa: S606 the command is whoever's that calls
    except (KobeShotError, OSError) as error:
        console.error("deploy.with_secrets failed:", error)
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
