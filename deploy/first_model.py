"""Train the first model if there is no champion: ``python -m deploy.first_model``.

The parameters are those of ``steps.main``.
"""

import os
import sys

from data.cli import console
from data.cli.console import info
from data.errors import KobeShotError
from serving import registry
from serving.registry import reachability


def main() -> None:
    """Replace this process with ``steps.main``, unless the registry has a champion."""
    try:
        registry.model()
        with registry.translate_store_errors():
            reachability.require_reachable()
            champion = registry.champion()
    except KobeShotError as error:
        console.error("deploy.first_model failed:", error)
        sys.exit(1)
    if champion is not None:
        info("There is a champion:", f"version {registry.number(champion)} of {registry.model()}; nothing is trained")
        return
    os.execv(sys.executable, [sys.executable, "-m", "steps.main", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    main()
